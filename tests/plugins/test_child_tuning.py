"""Child-Tuning: which weights move, how far, and which the Fisher information chooses."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from regkit_plugins.child_tuning import ChildTuning, largest
from torch import Tensor

from regkit import MultitaskModel, PluginError, Task, hookimpl
from regkit.runs import checkpoint
from regkit.tasks.objectives import Binary, Classification
from regkit.testing import PROMISES, tiny_task, tiny_trainer
from regkit.testing.tiny import unscored
from regkit.training.stages import prepare
from tests.helpers import stages_of


def two() -> list[Task]:
    return unscored(
        [tiny_task("classes", Classification(3), size=7), tiny_task("binary", Binary(), "bi_encoder", size=4)]
    )


@dataclass
class Gradients:
    """Keeps the gradient of each step before and after the plugins between, which come in the order of their names."""

    found: list[dict[str, Tensor]] = field(default_factory=list)

    @hookimpl
    def clipped(self, model: MultitaskModel) -> None:
        named = model.named_parameters()
        self.found.append({name: each.grad.clone() for name, each in named if each.grad is not None})


def masked(plugin: ChildTuning, steps: int = 2) -> tuple[Gradients, Gradients]:
    """The clipped gradients of a run before and after the masks."""
    before, after = Gradients(), Gradients()
    tiny_trainer({"before": before, "child_tuning": plugin, "after": after}, tasks=two(), steps=steps).train()
    return before, after


def test_a_random_part_of_the_encoders_gradient_is_left_and_scaled_up() -> None:
    before, after = masked(ChildTuning(share=0.3))
    kept = []
    for was, now in zip(before.found, after.found, strict=True):
        for name in was:
            if not name.startswith("encoder."):
                assert torch.equal(now[name], was[name]), name
                continue
            left = now[name] != 0
            torch.testing.assert_close(now[name][left], was[name][left] / 0.3)
            kept.append(left[was[name] != 0])
    assert float(torch.cat(kept).float().mean()) == pytest.approx(0.3, abs=0.02)


def test_the_random_part_is_another_in_each_update() -> None:
    _, after = masked(ChildTuning(share=0.5))
    name = max(after.found[0], key=lambda name: after.found[0][name].numel())
    one, other = (found[name] != 0 for found in after.found)
    assert not torch.equal(one, other)


def fisher(model: MultitaskModel, tasks: list[Task]) -> dict[str, Tensor]:
    """The mean over tasks of the mean over examples of the squared gradient, by backward passes."""
    model = copy.deepcopy(model).eval()
    found: dict[str, Tensor] = {}
    for task in tasks:
        examples = task.splits["train"]
        for row in range(len(examples)):
            model.zero_grad()
            batch = examples.batch([row])
            torch.autograd.backward(task.objective.loss(model.predict(task, batch, model.embed(batch)), batch.labels))
            for name, parameter in model.named_parameters():
                if name.startswith("encoder."):
                    square = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad**2
                    found[name] = found.get(name, 0) + square / len(examples) / len(tasks)
    return found


def begun(plugin: ChildTuning) -> MultitaskModel:
    trainer = tiny_trainer({"child_tuning": plugin}, tasks=two())
    ((stage, tasks),) = stages_of(trainer)
    trainer.model.train()
    prepare(trainer.hook, trainer.model, stage, tasks)
    return trainer.model


def test_the_fisher_information_of_the_tasks_chooses_the_weights() -> None:
    plugin = ChildTuning("task_driven", share=0.2)
    model = begun(plugin)
    assert all(module.training for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())
    wanted = fisher(model, two())
    masks = torch.cat([plugin.masks[name].flatten() for name in wanted])
    values = torch.cat([value.flatten() for value in wanted.values()])
    assert int(masks.sum()) == round(0.2 * len(masks))
    assert values[masks].min() >= values[~masks].max() * (1 - 1e-4)


def test_what_is_chosen_moves_with_its_whole_gradient_and_nothing_else_does() -> None:
    plugin = ChildTuning("task_driven", share=0.2)
    before, after = masked(plugin)
    for was, now in zip(before.found, after.found, strict=True):
        for name in was:
            expected = was[name] * plugin.masks[name] if name.startswith("encoder.") else was[name]
            assert torch.equal(now[name], expected), name


def test_fewer_examples_are_drawn_and_not_the_first_ones() -> None:
    some, others = (ChildTuning("task_driven", share=0.2, examples=count) for count in (2, 7))
    for plugin in (some, others):
        begun(plugin)
    assert any(not torch.equal(some.masks[name], others.masks[name]) for name in some.masks)


def test_masks_pass_through_a_checkpoint(tmp_path: Path) -> None:
    plugin, fresh = (ChildTuning("task_driven", share=share) for share in (0.2, 0.4))
    for each in (plugin, fresh):
        begun(each)
    checkpoint.save_training(tmp_path, {"plugins": {"child_tuning": plugin.state_dict()}})
    fresh.load_state_dict(checkpoint.load_training(tmp_path)["plugins"]["child_tuning"])
    assert plugin.masks.keys() == fresh.masks.keys()
    assert all(torch.equal(fresh.masks[name], mask) for name, mask in plugin.masks.items())


def test_the_largest_are_counted_exactly_also_where_all_are_equal() -> None:
    found = largest({"a": torch.tensor([[1.0, 5.0], [3.0, 0.0]]), "b": torch.tensor([4.0])}, 0.6)
    assert found["a"].tolist() == [[False, True], [True, False]]
    assert found["b"].tolist() == [True]
    assert int(largest({"a": torch.zeros(10)}, 0.3)["a"].sum()) == 3


def test_a_frozen_encoder_and_a_task_without_examples_are_refused() -> None:
    trainer = tiny_trainer({"child_tuning": ChildTuning("task_driven")}, tasks=two())
    ((stage, tasks),) = stages_of(trainer)
    bare = [Task("classes", Classification(3), {})]
    with pytest.raises(PluginError, match="finds no training examples of task 'classes' for network=task_driven"):
        trainer.hook.prepare(model=trainer.model, stage=stage, tasks=bare)
    trainer.model.encoder.requires_grad_(False)
    with pytest.raises(PluginError, match="but the encoder is frozen; leave it out, or what freezes the encoder"):
        trainer.hook.prepare(model=trainer.model, stage=stage, tasks=tasks)


@pytest.mark.slow
@pytest.mark.parametrize("promise", PROMISES)
def test_the_network_of_the_tasks_keeps_every_promise(promise: Callable[..., None]) -> None:
    promise(lambda: {"child_tuning": ChildTuning("task_driven", share=0.2, examples=5)})
