"""R4F against torch's singular values: what holds of every head after every update, and what is left alone."""

import math
from collections.abc import Mapping

import pytest
import torch
from regkit_plugins.ema import EMA
from regkit_plugins.mixout import Mixout
from regkit_plugins.r3f import R3F
from regkit_plugins.r4f import R4F
from torch import Tensor

from regkit import MultitaskModel, PluginError, Task, hookimpl
from regkit.testing import tiny_tasks, tiny_trainer
from regkit.training.loop import Trainer
from regkit.training.stages import prepare
from tests.helpers import stages_of


def tasks() -> list[Task]:
    """All but the cosine, which has no weights."""
    return [task for task in tiny_tasks() if task.name != "cosine"]


def prepared(trainer: Trainer) -> Trainer:
    ((stage, found),) = stages_of(trainer)
    prepare(trainer.hook, trainer.model, stage, found)
    return trainer


def weights(model: MultitaskModel) -> dict[str, Tensor]:
    return {name: head.linear.weight.detach().clone() for name, head in model.heads.items() if hasattr(head, "linear")}


def largest(weight: Tensor) -> float:
    return float(torch.linalg.svdvals(weight.double())[0])


def stretched(trainer: Trainer, factor: float) -> dict[str, Tensor]:
    """Give the heads' weights, and all else, other sizes; the heads' weights."""
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            parameter *= factor
    return weights(trainer.model)


def step(trainer: Trainer) -> None:
    trainer.hook.after_step(model=trainer.model, step=0, total_steps=1, losses={}, reevaluate=None)


@pytest.mark.parametrize("bound", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("factor", [0.01, 1.0, 30.0])
def test_a_heads_spectral_norm_becomes_the_smaller_of_its_own_and_the_bound(factor: float, bound: float) -> None:
    trainer = tiny_trainer({"r4f": R4F(bound=bound)}, tasks=tasks())
    before = stretched(trainer, factor)
    step(trainer)
    for name, weight in weights(trainer.model).items():
        own = largest(before[name])
        assert largest(weight) == pytest.approx(min(own, bound), rel=1e-5), name
        torch.testing.assert_close(weight, before[name] * min(1.0, bound / own), rtol=1e-5, atol=0)


def test_with_several_singular_values_it_is_the_largest_that_is_bounded_and_not_their_root_sum_square() -> None:
    trainer = tiny_trainer({"r4f": R4F(bound=1.0)}, tasks=tasks())
    weight = trainer.model.heads["classes"].linear.weight
    with torch.no_grad():
        weight.zero_()
        weight[0, 0], weight[1, 1], weight[2, 2] = 0.9, 0.9, 0.9  # Frobenius norm 1.56, spectral norm 0.9
        before = weight.clone()
        step(trainer)
        assert torch.equal(weight, before)
        weight[1, 1] = 2.0
        step(trainer)
    torch.testing.assert_close(torch.linalg.svdvals(weight.detach()), torch.tensor([1.0, 0.45, 0.45]))


def test_weights_that_keep_the_bound_are_not_touched_by_a_single_bit() -> None:
    trainer = tiny_trainer({"r4f": R4F(bound=100.0)}, tasks=tasks())
    before = {name: parameter.detach().clone() for name, parameter in trainer.model.named_parameters()}
    prepared(trainer)
    step(trainer)
    for name, parameter in trainer.model.named_parameters():
        assert torch.equal(parameter, before[name]), name


def test_the_encoder_and_the_heads_biases_are_not_touched() -> None:
    trainer = tiny_trainer({"r4f": R4F(bound=0.1)}, tasks=tasks())
    stretched(trainer, 30.0)
    before = {name: parameter.detach().clone() for name, parameter in trainer.model.named_parameters()}
    step(trainer)
    changed = {name for name, parameter in trainer.model.named_parameters() if not torch.equal(parameter, before[name])}
    assert changed == {f"heads.{task.name}.linear.weight" for task in tasks()}


def test_a_weight_of_0_stays_0() -> None:
    trainer = tiny_trainer({"r4f": R4F()}, tasks=tasks())
    stretched(trainer, 0.0)
    step(trainer)
    assert all(not weight.any() for weight in weights(trainer.model).values())


class Norms:
    """Notes the heads' spectral norms where losses are computed, and after every update."""

    def __init__(self) -> None:
        self.before: list[float] = []
        self.after: list[float] = []

    @hookimpl
    def extra_losses(self, model: MultitaskModel) -> Mapping[str, Tensor]:
        self.before += map(largest, weights(model).values())
        return {}

    @hookimpl(trylast=True)
    def after_step(self, model: MultitaskModel) -> None:
        self.after += map(largest, weights(model).values())


def test_every_head_keeps_the_bound_from_before_the_first_update_to_after_the_last() -> None:
    bounded, free = Norms(), Norms()
    tiny_trainer({"r4f": R4F(bound=0.05), "norms": bounded}, tasks=tasks()).train()
    tiny_trainer({"norms": free}, tasks=tasks()).train()
    assert max(bounded.before) <= 0.05 * (1 + 1e-5)
    assert max(bounded.after) <= 0.05 * (1 + 1e-5)
    assert max(bounded.after) == pytest.approx(0.05, rel=1e-5)  # and is not merely small
    assert max(free.after) > 0.1


def test_checkpoints_hold_plain_weights_under_their_usual_names() -> None:
    trainer, plain = tiny_trainer({"r4f": R4F(bound=0.05)}, tasks=tasks()), tiny_trainer({}, tasks=tasks())
    trainer.train()
    plain.model.load_state_dict(trainer.model.state_dict())
    assert all(largest(weight) <= 0.05 * (1 + 1e-5) for weight in weights(plain.model).values())


def test_a_cosine_is_refused_in_a_sentence() -> None:
    trainer = tiny_trainer({"r4f": R4F()})
    with pytest.raises(PluginError) as caught:
        prepared(trainer)
    assert str(caught.value) == (
        "'r4f' cannot bound the head of task 'cosine', a cosine without weights. "
        "Read its pairs as cross_encoder, or leave 'r4f' out."
    )


def test_r3f_and_r4f_together_are_trained_with_both() -> None:
    told = []

    class Told:
        @hookimpl
        def after_step(self, losses: Mapping[str, Mapping[str, Tensor]]) -> None:
            told.extend(losses.values())

    trainer = tiny_trainer({"r3f": R3F(), "r4f": R4F(bound=0.05), "told": Told()}, tasks=tasks())
    trainer.train()
    assert all(float(terms["r3f"]) > 0 for terms in told)
    assert all(largest(weight) <= 0.05 * (1 + 1e-5) for weight in weights(trainer.model).values())


@pytest.mark.parametrize("order", [("r4f", "mixout"), ("mixout", "r4f"), ("r4f", "ema"), ("ema", "r4f")], ids="-".join)
def test_the_model_that_is_kept_has_the_bound_beside_other_plugins_whoever_is_named_first(
    order: tuple[str, str],
) -> None:
    made = {"r4f": R4F(bound=0.05), "ema": EMA(decay=0.5), "mixout": Mixout(p=0.5)}
    trainer = tiny_trainer({name: made[name] for name in order}, tasks=tasks(), steps=3)
    trainer.train()
    assert all(largest(weight) <= 0.05 * (1 + 1e-4) for weight in weights(trainer.state.evaluated_model()).values())


def test_an_infinite_bound_is_no_bound() -> None:
    trainer = tiny_trainer({"r4f": R4F(bound=math.inf)}, tasks=tasks())
    before = stretched(trainer, 30.0)
    step(trainer)
    assert all(torch.equal(weight, before[name]) for name, weight in weights(trainer.model).items())
