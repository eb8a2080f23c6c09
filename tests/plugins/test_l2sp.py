"""L2-SP against equation 4 written out: sums over single weights, and the derivative that one finds with a pencil."""

import pytest
import torch
from regkit_plugins.freeze import Freeze
from regkit_plugins.l2sp import L2SP
from regkit_plugins.mixout import Mixout
from regkit_plugins.reinit_top import ReinitTop
from torch import Tensor, nn

from regkit import Task
from regkit.testing import Snapshot, gradients_of, tiny_tasks, tiny_trainer
from regkit.testing.tiny import unscored
from regkit.training.loop import Trainer
from regkit.training.stages import make_optimizer, prepare
from tests.helpers import stages_of

KEYS = [11, 12, 13]


def prepared(trainer: Trainer) -> Trainer:
    """The trainer as it is when the optimizer is about to be built."""
    ((stage, tasks),) = stages_of(trainer)
    with trainer.streams.at(stage.name):
        prepare(trainer.hook, trainer.model, stage, tasks)
    return trainer


def copied(model: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def held(trainer: Trainer) -> dict[str, Tensor]:
    """What the plugin holds the encoder to, by parameter."""
    return {name.removeprefix("encoder."): anchor for name, anchor in trainer.state.plugins["l2sp"].anchors.items()}


def move(model: nn.Module) -> None:
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, dtype=parameter.dtype, generator=generator)


def terms(trainer: Trainer, task: Task) -> dict[str, Tensor]:
    """The plugin's terms of the loss."""
    losses = trainer.passes.losses(task, task.splits["train"].batch([0, 1, 2], KEYS))
    return {name: loss for name, loss in losses.items() if name.startswith("l2sp")}


def squares(tensors: list[Tensor]) -> float:
    return sum(number**2 for tensor in tensors for number in tensor.flatten().tolist())


@pytest.mark.parametrize("task", tiny_tasks(), ids=lambda task: task.name)
def test_the_penalty_and_its_gradient_are_those_of_the_paper(task: Task) -> None:
    """alpha / 2 |w - w0|^2 over every parameter of the encoder, and beta / 2 |w|^2 over the matrix of the head."""
    alpha, beta = 0.3, 0.7
    trainer = tiny_trainer({"l2sp": L2SP(weight=alpha, head=beta / alpha)})
    model = trainer.model.double()
    start = copied(prepared(trainer).model)
    move(model)
    now = copied(model)
    head = [name for name in now if name.startswith(f"heads.{task.name}.") and now[name].dim() == 2]
    encoder = [name for name in now if name.startswith("encoder.")]
    assert bool(head) == (task.name != "cosine")

    found = terms(trainer, task)
    expected = {"l2sp": alpha / 2 * squares([now[name] - start[name] for name in encoder])}
    if head:
        expected["l2sp head"] = beta / 2 * squares([now[name] for name in head])
    assert {name: float(term.detach()) for name, term in found.items()} == pytest.approx(expected, rel=1e-9)

    torch.autograd.backward(sum(found.values()))
    for name, parameter in model.named_parameters():
        if name in encoder:
            wanted = alpha * (now[name] - start[name])
        elif name in head:
            wanted = beta * now[name]
        else:
            assert parameter.grad is None, name
            continue
        torch.testing.assert_close(parameter.grad, wanted, rtol=1e-9, atol=1e-14, msg=(name + ": {}").format)


def test_biases_layer_norms_and_embeddings_of_the_encoder_are_held_too() -> None:
    trainer = prepared(tiny_trainer({"l2sp": L2SP(weight=1.0)}))
    task = tiny_tasks()[0]
    for name in ("norm.bias", "layers.0.norm.weight", "layers.1.up.bias", "word.weight", "position.weight"):
        parameter = trainer.model.encoder.get_parameter(name)
        with torch.no_grad():
            before = float(terms(trainer, task)["l2sp"])
            parameter.flatten()[0] += 1.0
            assert float(terms(trainer, task)["l2sp"]) == pytest.approx(before + 0.5), name


def test_before_the_first_update_nothing_pulls_at_the_encoder() -> None:
    trainer = prepared(tiny_trainer({"l2sp": L2SP(weight=10.0)}))
    for task in tiny_tasks():
        assert float(terms(trainer, task)["l2sp"].detach()) == 0.0


def test_anchors_are_copies_that_stay_while_the_weights_move() -> None:
    trainer = tiny_trainer({"l2sp": L2SP()})
    start = copied(trainer.model.encoder)
    trainer.train()
    anchors = held(trainer)
    assert anchors.keys() == start.keys()
    for name, parameter in trainer.model.encoder.named_parameters():
        assert torch.equal(anchors[name], start[name]), name
        assert not torch.equal(anchors[name], parameter), name
        assert not anchors[name].requires_grad


@pytest.mark.parametrize("order", [("l2sp", "reinit_top"), ("reinit_top", "l2sp")])
def test_anchors_are_the_weights_that_other_plugins_have_prepared(order: tuple[str, str]) -> None:
    made = {"l2sp": L2SP(), "reinit_top": ReinitTop(layers=1)}
    pretrained = copied(tiny_trainer({}).model.encoder)
    trainer = prepared(tiny_trainer({name: made[name] for name in order}))
    fresh = copied(trainer.model.encoder)
    assert not torch.equal(fresh["layers.1.up.weight"], pretrained["layers.1.up.weight"])
    for name, anchor in held(trainer).items():
        assert torch.equal(anchor, fresh[name]), name


@pytest.mark.parametrize("order", [("l2sp", "mixout"), ("mixout", "l2sp")])
def test_beside_mixout_it_holds_the_weights_that_are_trained_and_not_the_mixed_ones(order: tuple[str, str]) -> None:
    made = {"l2sp": L2SP(weight=2.0), "mixout": Mixout(p=0.5)}
    trainer = prepared(tiny_trainer({name: made[name] for name in order}))
    trainer.model.train()
    start = copied(trainer.model.encoder)
    move(trainer.model)
    now = copied(trainer.model.encoder)
    found = float(terms(trainer, tiny_tasks()[0])["l2sp"].detach())
    assert found == pytest.approx(squares([now[name] - start[name] for name in now]), rel=1e-4)


def test_a_resumed_run_holds_to_the_original_weights_and_not_to_those_at_resume() -> None:
    original = copied(tiny_trainer({}).model.encoder)
    stop = Snapshot(after=3)
    first = stop.trainer = tiny_trainer({"l2sp": L2SP()}, observers=[stop])
    first.train()
    second = tiny_trainer({"l2sp": L2SP()})
    second.model.load_state_dict(stop.model)  # what reading a checkpoint does, before plugins prepare
    second.state.load(stop.training)
    prepared(second)
    ((stage, _),) = stages_of(second)
    second.state.optimizer = make_optimizer(second.hook, second.model, stage)
    second.state.restore()
    for name, anchor in held(second).items():
        assert torch.equal(anchor, original[name]), name
        assert not torch.equal(anchor, stop.model[f"encoder.{name}"]), name


def test_a_frozen_encoder_is_not_held_and_the_head_still_is() -> None:
    tasks = [task for task in tiny_tasks() if task.name != "cosine"]
    trainer = prepared(tiny_trainer({"l2sp": L2SP(), "freeze": Freeze()}, tasks=tasks))
    assert held(trainer) == {}
    for task in tasks:
        assert terms(trainer, task).keys() == {"l2sp head"}


def test_the_bias_of_a_head_is_free_to_stay_in_the_middle_of_a_scores_range() -> None:
    """A regression begins there, at 2.5 of 0 to 5, and not at 0."""
    trainer, task = prepared(tiny_trainer({"l2sp": L2SP(weight=10.0)})), tiny_tasks()[2]
    head = trainer.model.heads["score"].linear
    assert float(head.bias.detach()) == 2.5
    torch.autograd.backward(terms(trainer, task)["l2sp head"])
    assert head.bias.grad is None
    assert head.weight.grad is not None


def test_the_head_of_another_task_is_left_to_its_own_updates() -> None:
    trainer = prepared(tiny_trainer({"l2sp": L2SP(weight=1.0)}))
    task = tiny_tasks()[0]
    before = float(terms(trainer, task)["l2sp head"].detach())
    with torch.no_grad():
        trainer.model.heads["binary"].linear.weight += 1.0
    assert float(terms(trainer, task)["l2sp head"].detach()) == before


def test_the_pull_is_counted_once_an_update_however_the_batch_is_cut() -> None:
    task, found = tiny_tasks()[0], []
    for budget in (10_000, 12):
        trainer = tiny_trainer({"l2sp": L2SP(weight=100.0)}, dropout=0.0)
        found.append(gradients_of(trainer, task, budget))
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, rtol=1e-4, atol=1e-5, msg=(name + ": {}").format)


def test_the_stronger_it_is_the_nearer_the_weights_stay() -> None:
    far = []
    for weight in (0.0, 1.0, 100.0):
        trainer = tiny_trainer({"l2sp": L2SP(weight=weight)}, tasks=unscored(tiny_tasks()))
        start = copied(trainer.model.encoder)
        trainer.train()
        far.append(squares([each.detach() - start[name] for name, each in trainer.model.encoder.named_parameters()]))
    assert far[0] > far[1] > far[2]
