"""Mixout against equation 4 with an explicit mask, by way of the weights that the layers' forward passes really use."""

import itertools
from collections.abc import Iterator, Mapping, Sequence

import pytest
import torch
from regkit_plugins.l2sp import L2SP
from regkit_plugins.mixout import Mixout
from regkit_plugins.r3f import R3F
from regkit_plugins.reinit_top import ReinitTop
from regkit_plugins.sam import SAM
from torch import Tensor, nn
from torch.func import functional_call

from regkit import Batch, Dropout, MultitaskModel, Predict, Task, hookimpl
from regkit.model import save_encoder
from regkit.model.attention import SelfAttention
from regkit.testing import STEPS, Snapshot, tiny_tasks, tiny_trainer
from regkit.testing.tiny import unscored
from regkit.training.loop import Trainer
from regkit.training.stages import make_optimizer, prepare
from tests.helpers import stages_of

KEYS = [11, 12, 13, 14]


def prepared(trainer: Trainer) -> Trainer:
    """The trainer as it is when the optimizer is about to be built."""
    ((stage, tasks),) = stages_of(trainer)
    with trainer.streams.at(stage.name):
        prepare(trainer.hook, trainer.model, stage, tasks)
    return trainer


def begin(trainer: Trainer, step: int) -> None:
    """Begin an update."""
    with trainer.streams.at("finetune", step):
        trainer.hook.choose_tasks(tasks=tiny_tasks(), step=step, total_steps=STEPS)


def linear(model: nn.Module) -> Iterator[tuple[str, nn.Linear]]:
    return ((name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear))


def used(layer: nn.Linear) -> Tensor:
    """The weight that the layer's forward pass uses: what comes out for the identity matrix, without the bias."""
    identity = torch.eye(layer.in_features, dtype=layer.weight.dtype)
    found: Tensor = functional_call(layer, {"bias": torch.zeros_like(layer.bias)}, (identity,))
    return found.detach().T.clone()


def all_used(model: nn.Module) -> dict[str, Tensor]:
    return {name: used(layer) for name, layer in linear(model)}


def pretrained(model: nn.Module) -> dict[str, Tensor]:
    """What each layer is to mix towards: where its weight is now, and 0 for a head."""
    return {
        name: torch.zeros_like(layer.weight) if "heads" in name else layer.weight.detach().clone()
        for name, layer in linear(model)
    }


def move(model: nn.Module) -> None:
    """Training, in a word: every parameter is elsewhere."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, dtype=parameter.dtype, generator=generator)


def without_attention_dropout(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, SelfAttention):
            module.rate = 0.0


@pytest.mark.parametrize("p", [0.25, 0.75])  # shares that the 16 bits of `dropout` hold exactly
@pytest.mark.parametrize("rows", [False, True])
def test_outputs_and_gradients_are_those_of_equation_4_with_an_explicit_mask(rows: bool, p: float) -> None:
    """In training mode, with a hidden dropout of 0.5 in the configuration that must not show."""
    plain = tiny_trainer({}, dropout=0.5).model.double().eval()
    anchors = pretrained(plain)
    trainer = tiny_trainer({"mixout": Mixout(p=p, rows=rows)}, dropout=0.5)
    model = trainer.model.double().train()
    prepared(trainer)
    move(model)
    without_attention_dropout(model)
    begin(trainer, step=0)

    plain.load_state_dict(model.state_dict())
    slopes = {}
    for name, layer in linear(model):
        anchor, weight, found = anchors[name], layer.weight.detach(), used(layer)
        mask = torch.isclose(found, anchor, rtol=0, atol=1e-9).double()
        if rows:  # one draw for each column, the weights of an input
            assert torch.equal(mask, mask[:1].expand_as(mask)), name
        by_hand = (mask * anchor + (1 - mask) * weight - p * anchor) / (1 - p)
        torch.testing.assert_close(found, by_hand, rtol=1e-12, atol=1e-12, msg=(name + ": {}").format)
        plain.get_submodule(name).weight.data = by_hand
        slopes[f"{name}.weight"] = (1 - mask) / (1 - p)  # of W' over W

    for task in tiny_tasks():
        batch = task.splits["train"].batch([0, 3, 5, 6], KEYS)
        outputs = []
        for each in (model, plain):
            each.zero_grad()
            outputs.append(each.predict(task, batch, each.embed(batch)))
            task.objective.loss(outputs[-1], batch.labels).backward()
        torch.testing.assert_close(*outputs, rtol=1e-10, atol=1e-12)
        wanted = dict(plain.named_parameters())
        for name, parameter in model.named_parameters():
            gradient = wanted[name].grad
            if gradient is None:
                assert parameter.grad is None, name
                continue
            expected = slopes.get(name, 1.0) * gradient
            torch.testing.assert_close(parameter.grad, expected, rtol=1e-8, atol=1e-12, msg=(name + ": {}").format)


def test_masking_the_neurons_of_a_new_layer_is_dropout_of_its_inputs() -> None:
    """Which is how the authors explain it: a layer that mixes with 0 is a layer after dropout."""
    trainer = prepared(tiny_trainer({"mixout": Mixout(p=0.5, rows=True)}))
    layer = trainer.model.train().heads["features"].linear
    values = torch.randn(7, layer.in_features, generator=torch.Generator().manual_seed(3))
    begin(trainer, step=0)
    dropped = (used(layer) == 0).all(0)
    assert 0.25 < float(dropped.double().mean()) < 0.75
    after_dropout = nn.functional.linear(values.masked_fill(dropped, 0.0) * 2, layer.weight, layer.bias)
    torch.testing.assert_close(layer(values), after_dropout)


@pytest.mark.parametrize("p", [0.1, 0.7])
def test_p_is_the_share_of_pretrained_weights(p: float) -> None:
    trainer = prepared(tiny_trainer({"mixout": Mixout(p=p)}))
    anchors = pretrained(trainer.model)
    move(trainer.model)
    begin(trainer, step=0)
    trainer.model.train()
    same = torch.cat([(used(layer) == anchors[name]).flatten() for name, layer in linear(trainer.model)])
    assert len(same) > 4000
    assert float(same.double().mean()) == pytest.approx(p, abs=0.04)


def test_the_mean_over_many_updates_is_the_weight_itself() -> None:
    trainer = prepared(tiny_trainer({"mixout": Mixout(p=0.5)}))
    layer = trainer.model.encoder.layers[0].up
    with torch.no_grad():
        layer.weight += 1.0  # one from the pretrained weight, so that W' has a standard deviation of 1
    trainer.model.train()
    total = torch.zeros_like(layer.weight)
    updates = 200
    for step in range(updates):
        begin(trainer, step)
        total += used(trainer.model.encoder.layers[0].up)
    off = total / updates - layer.weight.detach()
    assert abs(float(off.mean())) < 0.015  # standard error 0.003
    assert float(off.abs().max()) < 0.4  # 0.07 each


def test_new_heads_mix_towards_0_and_the_encoder_towards_its_pretrained_weights() -> None:
    trainer = prepared(tiny_trainer({"mixout": Mixout(p=0.5)}))
    anchors = {name: layer.weight.detach().clone() for name, layer in linear(trainer.model)}
    move(trainer.model)
    begin(trainer, step=0)
    trainer.model.train()
    for name, layer in linear(trainer.model):
        found = used(layer)
        if name.startswith("heads."):
            assert (found == 0).any(), name
            assert not (found == anchors[name]).any(), name
        else:
            assert (found == anchors[name]).any(), name
            assert not (found == 0).any(), name


def test_it_takes_the_place_of_the_dropout_before_layers_and_leaves_that_of_the_attention_weights() -> None:
    trainer = prepared(tiny_trainer({"mixout": Mixout(p=0.5)}, dropout=0.3))
    model, task = trainer.model.train(), tiny_tasks()[0]
    assert {module.rate for module in model.modules() if isinstance(module, Dropout)} == {0.0}
    assert {module.rate for module in model.modules() if isinstance(module, SelfAttention)} == {0.3}
    batch = task.splits["train"].batch([0, 1, 2, 3], KEYS)
    embeddings = model.embed(batch)
    assert not torch.equal(model.predict(task, batch, embeddings), model.predict(task, batch, embeddings))
    without_attention_dropout(model)
    assert torch.equal(model.predict(task, batch, embeddings), model.predict(task, batch, embeddings))


def test_the_optimizer_holds_the_very_parameters_that_the_forward_pass_uses() -> None:
    tasks = [task for task in tiny_tasks() if task.name != "cosine"]
    trainer = tiny_trainer({"mixout": Mixout(p=0.5)}, tasks=tasks, steps=len(tasks))
    original = {name: id(parameter) for name, parameter in trainer.model.named_parameters()}
    start = {name: parameter.detach().clone() for name, parameter in trainer.model.named_parameters()}
    trainer.train()
    held = [parameter for group in trainer.state.optimizer.param_groups for parameter in group["params"]]
    assert {name: id(parameter) for name, parameter in trainer.model.named_parameters()} == original
    assert {id(parameter) for parameter in held} == set(original.values())
    trainer.model.eval()
    for name, layer in linear(trainer.model):
        assert torch.equal(used(layer), layer.weight), name
        assert not torch.equal(used(layer), start[f"{name}.weight"]), f"{name} was not trained"


def test_every_linear_layer_is_mixed() -> None:
    trainer = prepared(tiny_trainer({"mixout": Mixout(p=0.5)}))
    move(trainer.model)
    begin(trainer, step=0)
    trainer.model.train()
    found = {name for name, layer in linear(trainer.model) if not torch.equal(used(layer), layer.weight)}
    assert found == {name for name, _ in linear(tiny_trainer({}).model)}
    assert len(found) == 2 * 6 + 1 + 4  # layers, pooler, the heads that have weights


def test_names_and_checkpoints_are_those_of_a_run_without_it() -> None:
    mixed, plain = tiny_trainer({"mixout": Mixout(p=0.5)}), tiny_trainer({})
    mixed.train()
    names = [name for name, _ in plain.model.named_parameters()]
    assert [name for name, _ in mixed.model.named_parameters()] == names
    assert mixed.model.state_dict().keys() == plain.model.state_dict().keys()
    plain.model.load_state_dict(mixed.model.state_dict())
    ours, theirs = save_encoder(mixed.model.encoder)[1], save_encoder(plain.model.encoder)[1]
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_evaluation_uses_the_weights_themselves() -> None:
    trainer, plain = prepared(tiny_trainer({"mixout": Mixout(p=0.5)}, dropout=0.3)), tiny_trainer({}).model
    move(trainer.model)
    begin(trainer, step=0)
    plain.load_state_dict(trainer.model.state_dict())
    plain.eval()
    for task in tiny_tasks():
        batch = task.splits["train"].batch([0, 1, 2, 3], KEYS)
        embeddings = plain.embed(batch)
        wanted = plain.predict(task, batch, embeddings)
        trainer.model.train()
        output = trainer.model.predict(task, batch, embeddings)
        asked = trainer.passes.predict_again(task, batch, embeddings, output)
        # Attention from [CLS] calls layers that were put in, and rounds otherwise.
        torch.testing.assert_close(asked(embeddings, dropout="off"), wanted, rtol=1e-5, atol=1e-6)
        assert not torch.allclose(output, wanted, rtol=1e-3)
        trainer.model.eval()
        torch.testing.assert_close(trainer.model.predict(task, batch, embeddings), wanted, rtol=1e-5, atol=1e-6)


class Spy:
    """Trains every task in every update, and notes the weights that layers use, at many moments of the update."""

    def __init__(self) -> None:
        self.seen: list[list[dict[str, Tensor]]] = [[]]  # by update

    @hookimpl
    def choose_tasks(self, tasks: Sequence[Task]) -> Sequence[Task]:
        return tasks

    @hookimpl
    def extra_losses(
        self, model: MultitaskModel, batch: Batch, embeddings: Tensor, predict: Predict
    ) -> Mapping[str, Tensor]:
        self.seen[-1].append(all_used(model))
        predict(embeddings + 0.1, dropout="fresh")
        self.seen[-1].append(all_used(model))
        return {}

    @hookimpl
    def after_step(self) -> None:
        self.seen.append([])


@pytest.fixture(scope="module")
def updates() -> list[list[dict[str, Tensor]]]:
    """The weights that layers used, by update and moment, in a run of several tasks, micro-batches and second passes."""
    spy = Spy()
    tiny_trainer(
        {"spy": spy, "mixout": Mixout(p=0.5), "sam": SAM(rho=1e-12)},
        tasks=unscored(tiny_tasks()),
        steps=2,
        micro_batch_tokens=40,
    ).train()
    return spy.seen[:-1]


def chosen(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Of the heads, which mix towards 0, the mask."""
    return {name: weight == 0 for name, weight in weights.items() if name.startswith("heads.")}


def test_one_update_has_one_mask_in_every_pass_task_micro_batch_and_recomputed_gradient(updates) -> None:
    for moments in updates:
        assert len(moments) > 2 * 2 * len(tiny_tasks())  # more than one micro-batch a task
        for moment in moments[1:]:
            for name, weight in moment.items():
                torch.testing.assert_close(weight, moments[0][name], rtol=0, atol=1e-6, msg=(name + ": {}").format)


def test_the_next_update_has_another_mask(updates) -> None:
    masks = [chosen(moments[0]) for moments in updates]
    for one, other in itertools.pairwise(masks):
        for name in one:
            assert 0.2 < float((one[name] == other[name]).double().mean()) < 0.8, name


def test_a_run_of_another_seed_has_other_masks() -> None:
    found = []
    for seed in (0, 1):
        trainer = prepared(tiny_trainer({"mixout": Mixout(p=0.5)}, seed=seed))
        begin(trainer, step=0)
        trainer.model.train()
        found.append(used(trainer.model.heads["features"].linear) == 0)
    assert not torch.equal(*found)


def test_layers_of_one_shape_have_masks_that_know_nothing_of_each_other() -> None:
    trainer = prepared(tiny_trainer({"mixout": Mixout(p=0.5)}))
    anchors = pretrained(trainer.model)
    move(trainer.model)
    begin(trainer, step=0)
    trainer.model.train()
    masks = {name: used(layer) == anchors[name] for name, layer in linear(trainer.model)}
    square = [name for name, mask in masks.items() if mask.shape == (16, 16)]
    assert len(square) == 2 * 4 + 1
    for name in square:
        for part in (masks[name], masks[name].T):  # and within a layer, no row or column is mixed as one
            assert int(part.all(1).sum() + (~part).all(1).sum()) < 3, name
    for number, one in enumerate(square):
        for other in square[number + 1 :]:
            agree = float((masks[one] == masks[other]).double().mean())
            assert 0.35 < agree < 0.65, (one, other)  # standard deviation 0.03


def test_replayed_passes_are_equal_to_the_last_bit_with_its_masks_and_those_of_attention_dropout() -> None:
    """So that a divergence between two passes is 0 where nothing but the pass differs."""
    trainer = prepared(tiny_trainer({"mixout": Mixout(p=0.7), "r3f": R3F(sigma=1e-7)}, dropout=0.3))
    trainer.model.train()
    for task in tiny_tasks():
        begin(trainer, step=0)
        term = trainer.passes.losses(task, task.splits["train"].batch([0, 1, 2, 3], KEYS))["r3f"]
        assert abs(float(term.detach())) < 1e-8


def test_a_resumed_run_mixes_towards_the_original_weights_and_not_those_at_resume() -> None:
    original = pretrained(tiny_trainer({}).model)
    stop = Snapshot(after=3)
    first = stop.trainer = tiny_trainer({"mixout": Mixout(p=0.5)}, observers=[stop])
    first.train()
    second = tiny_trainer({"mixout": Mixout(p=0.5)})
    second.model.load_state_dict(stop.model)  # what reading a checkpoint does, before plugins prepare
    second.state.load(stop.training)
    prepared(second)
    ((stage, _),) = stages_of(second)
    second.state.optimizer = make_optimizer(second.hook, second.model, stage)
    second.state.restore()
    begin(second, step=3)
    second.model.train()
    for name, layer in linear(second.model):
        found = used(layer)
        assert not torch.equal(layer.weight, original[name])
        assert (found == original[name]).any(), name
        torch.testing.assert_close(  # where it is not the original, it is twice as far from it as W
            torch.where(found == original[name], 2 * layer.weight - original[name], found),
            2 * layer.weight - original[name],
            rtol=1e-4,
            atol=1e-6,
            msg=(name + ": {}").format,
        )


def test_at_p_0_nothing_is_touched() -> None:
    trainer = prepared(tiny_trainer({"mixout": Mixout(p=0.0)}, dropout=0.3))
    plain = tiny_trainer({}, dropout=0.3)
    assert [type(module) for module in trainer.model.modules()] == [type(module) for module in plain.model.modules()]
    assert {module.rate for module in trainer.model.modules() if isinstance(module, Dropout)} == {0.3}
    assert trainer.state.plugins["mixout"].state_dict() == {}


@pytest.mark.parametrize("order", [("mixout", "reinit_top"), ("reinit_top", "mixout")])
def test_it_mixes_towards_the_weights_that_other_plugins_have_prepared(order: tuple[str, str]) -> None:
    made = {"mixout": Mixout(p=0.5), "reinit_top": ReinitTop(layers=1)}
    before = pretrained(tiny_trainer({}).model)
    trainer = prepared(tiny_trainer({name: made[name] for name in order}))
    anchors = pretrained(trainer.model)
    assert not torch.equal(before["encoder.layers.1.up"], anchors["encoder.layers.1.up"])
    move(trainer.model)
    begin(trainer, step=0)
    trainer.model.train()
    for name, layer in linear(trainer.model):
        assert (used(layer) == anchors[name]).any(), name


@pytest.mark.parametrize("order", [("mixout", "l2sp"), ("l2sp", "mixout")])
def test_beside_l2sp_each_anchors_at_the_same_weights_whoever_is_named_first(order: tuple[str, str]) -> None:
    made = {"mixout": Mixout(p=0.5), "l2sp": L2SP()}
    trainer = prepared(tiny_trainer({name: made[name] for name in order}))
    held = {name.removeprefix("encoder."): anchor for name, anchor in made["l2sp"].anchors.items()}
    assert held.keys() == {name for name, _ in trainer.model.encoder.named_parameters()}
    mixed = {name.removeprefix("encoder."): anchor for name, anchor in made["mixout"].state_dict().items()}
    for name, anchor in mixed.items():
        assert name.startswith("heads.") or torch.equal(anchor, held[f"{name}.weight"]), name
