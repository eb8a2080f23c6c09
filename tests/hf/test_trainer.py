"""The Trainer: regkit's promises hold inside it, and without a plugin that does something it is transformers' own."""

import io
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from regkit import Batch, Predict, TaskLoss, hookimpl
from regkit.hf import RegularizedTrainer
from regkit.hooks import catalog, traits
from regkit.model.modes import mode
from tests.helpers import slow_but
from tests.hf.tiny import (
    CLASSES,
    FAMILIES,
    WITHOUT_DROPOUT,
    Stop,
    classifier,
    collate,
    make,
    same_weights,
    texts,
    train,
)

ACTING = ["bregman", "ema", "fixed_weights", "freelb", "l2sp", "label_smoothing", "layerwise_lr", "mixout"]
ACTING += [
    "neftune",
    "r3f",
    "r4f",
    "rdrop",
    "reinit_top",
    "sam",
    "smart",
    "uncertainty",
    "focal",
    "child_tuning",
    "vat",
]


def neutral(family: str = "distilbert") -> list[Any]:
    """Every plugin that acts here, with a strength at which it does nothing."""
    found = []
    by_layer = ("layerwise_lr", "reinit_top") if family == "albert" else ()  # it has one layer, used several times
    for name in (name for name in ACTING if name not in by_layer):
        if name not in (
            "fixed_weights",
            "focal",
            "label_smoothing",
            "uncertainty",
        ):  # these compute another loss, or have no strength
            plugin = catalog.make(name, {})
            option, value = next(iter(traits.strengths(plugin).items()))
            setattr(plugin, option, min(value, 1e9))  # a bound of no size is no option
            found.append(plugin)
    return found


@pytest.mark.parametrize("family", slow_but(FAMILIES, ["roberta"]))
def test_strength_zero_is_a_plain_trainer_bit_for_bit_with_dropout(family: str, tmp_path: Path) -> None:
    for options in ({}, {"gradient_accumulation_steps": 3}):
        plain, ours = (train(make(each, tmp_path, classifier(family), **options)) for each in (None, neutral(family)))
        same_run(plain, ours)


def same_run(one: Any, other: Any) -> None:
    """Raise AssertionError if a loss or a weight of two runs differs in a single bit."""
    losses = [[each["loss"] for each in trainer.state.log_history if "loss" in each] for trainer in (one, other)]
    assert losses[0] == losses[1]
    same_weights(one, other)


def mean_of_update(outputs: Any, labels: Tensor, num_items_in_batch: Any = None) -> Tensor:
    """A loss that a Trainer scales right for an update of several micro-batches."""
    return F.cross_entropy(outputs.logits, labels, reduction="sum") / num_items_in_batch


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"bf16": True}, id="bf16"),
        pytest.param({"label_smoothing_factor": 0.1, "gradient_accumulation_steps": 6}, id="label smoothing"),
        pytest.param({"compute_loss_func": mean_of_update, "gradient_accumulation_steps": 6}, id="function"),
        pytest.param({"activation_checkpointing": True}, id="checkpointing"),
    ],
)
def test_strength_zero_is_a_plain_trainer_whatever_its_loss_and_precision(options: Any, tmp_path: Path) -> None:
    same_run(train(make(None, tmp_path, **options)), train(make(neutral(), tmp_path, **options)))


class Watch:
    """A plugin that runs a check in `extra_losses`, and adds nothing."""

    def __init__(self, check: Callable[..., None]) -> None:
        self.check, self.called = check, 0

    @hookimpl
    def extra_losses(
        self,
        model: Any,
        batch: Batch,
        embeddings: Tensor,
        output: Tensor,
        loss: Tensor,
        predict: Predict,
        task_loss: TaskLoss,
    ) -> Mapping[str, Tensor]:
        self.check(model, batch, embeddings, output, loss, predict, task_loss)
        self.called += 1
        return {}


def watched(check: Callable[..., None], folder: Path, **options: Any) -> Any:
    """Train two steps, with a check inside each of them."""
    watch = Watch(check)
    trainer = train(make([watch], folder, max_steps=2, **options))
    assert watch.called == 2 * options.get("gradient_accumulation_steps", 1)
    return trainer


@pytest.mark.parametrize("family", slow_but(FAMILIES, ["distilbert"]))
@pytest.mark.parametrize("precision", [False, True], ids=["float32", "bf16"])
def test_a_replayed_pass_has_the_very_masks_of_the_clean_one_and_a_fresh_one_has_not(
    family: str, precision: bool, tmp_path: Path
) -> None:
    def check(
        model: Any, batch: Batch, clean: Tensor, output: Tensor, loss: Tensor, predict: Predict, task_loss: TaskLoss
    ) -> None:
        for _ in range(2):
            again = predict(clean + 0)
            assert torch.equal(again.float(), output.float())
            assert torch.equal(task_loss(again), loss)
        assert not torch.allclose(predict(clean, dropout="fresh").float(), output.float(), atol=1e-3)
        off = predict(clean, dropout="off")
        assert torch.equal(off, predict(clean, dropout="off"))
        assert not torch.allclose(off.float(), output.float(), atol=1e-3)
        assert all(module.training for module in model.model.modules())

    watched(check, tmp_path, model=classifier(family), bf16=precision)


def test_a_perturbation_that_is_too_fine_for_bf16_is_computed_in_float32(tmp_path: Path) -> None:
    def check(
        model: Any, batch: Batch, clean: Tensor, output: Tensor, loss: Tensor, predict: Predict, task_loss: TaskLoss
    ) -> None:
        fine, coarse = (predict(clean, dropout="off", radius=radius) for radius in (0.0, 1.0))
        embedded = {"inputs_embeds": batch.put_into(model.encoder.word(batch.inputs["input_ids"]), clean)}  # type: ignore[attr-defined]
        with mode(model, training=False), model.own_forward():
            wanted = model.model(**embedded, attention_mask=batch.inputs["attention_mask"]).logits  # type: ignore[attr-defined]
        torch.testing.assert_close(fine, wanted)
        assert (coarse - wanted).abs().max() > 1e-4

    watched(check, tmp_path, bf16=True)


def test_extra_passes_leave_no_trace(tmp_path: Path) -> None:
    def check(
        model: Any, batch: Batch, clean: Tensor, output: Tensor, loss: Tensor, predict: Predict, task_loss: TaskLoss
    ) -> None:
        torch.rand(3)
        for dropout in ("replay", "fresh", "off"):
            task_loss(predict(clean + batch.noise(clean, "a trace"), dropout=dropout))  # type: ignore[arg-type]
        assert all(parameter.grad is None for parameter in model.parameters())

    same_weights(watched(check, tmp_path), train(make(None, tmp_path, max_steps=2)))


@pytest.mark.parametrize("left", [False, True], ids=["right", "left"])
def test_plugins_see_no_padding(left: bool, tmp_path: Path) -> None:
    found: dict[int, list[Tensor]] = {}
    for more in (0, 5):
        seen = found[more] = list[Tensor]()

        def check(model: Any, batch: Batch, clean: Tensor, output: Tensor, *_: Any, seen: list[Tensor] = seen) -> None:
            assert len(clean) == len(batch.tokens) == sum(batch.lengths)
            words = [text["words"] for text in texts() if len(text["words"]) in batch.lengths]
            assert all(part.tolist() in words for part in batch.tokens.split(batch.lengths))
            assert batch.positions.tolist() == [place for length in batch.lengths for place in range(length)]
            seen += [clean.detach(), batch.noise(clean, "noise"), batch.rms(clean)]

        options = {"data_collator": lambda rows, more=more: collate(rows, more=more, left=left)}
        watched(check, tmp_path, model=classifier(**WITHOUT_DROPOUT), **options)
    for one, other in zip(*(seen[:3] for seen in found.values()), strict=True):  # of the first step, as the weights are
        torch.testing.assert_close(one, other)


class Gradient:
    """A plugin that keeps the first gradient of a run, and whether it can be computed again."""

    def __init__(self) -> None:
        self.found: list[Tensor] = []
        self.losses: list[Mapping[str, Tensor]] = []

    @hookimpl(trylast=True)
    def before_step(self, model: Any, recompute: Callable[[], None]) -> None:
        first = [parameter.grad.clone() for parameter in model.parameters()]
        state = torch.get_rng_state()
        recompute()
        assert torch.equal(torch.get_rng_state(), state)
        for gradient, parameter in zip(first, model.parameters(), strict=True):
            assert torch.equal(gradient, parameter.grad)
        self.found = self.found or first

    @hookimpl
    def after_step(
        self, losses: Mapping[str, Mapping[str, Tensor]], reevaluate: Callable[[], Mapping[str, Tensor]]
    ) -> None:
        self.losses.append(losses["main"] | {"now": reevaluate()["main"]})


def test_the_gradient_can_be_computed_again_with_the_same_dropout_and_all_micro_batches(tmp_path: Path) -> None:
    watch = Gradient()
    plugins = ["smart", "rdrop", "freelb", "neftune", watch]
    train(make(plugins, tmp_path, max_steps=2, gradient_accumulation_steps=2, max_grad_norm=1e-3))
    assert sum(float(gradient.square().sum()) for gradient in watch.found) > 1, "before_step saw a clipped gradient"
    for losses in watch.losses:
        assert losses["now"] < losses["task"]


TERMS = ["smart", "rdrop", "bregman", "r3f", "freelb", "l2sp"]


@pytest.mark.parametrize(
    "own",
    [
        pytest.param({"compute_loss_func": mean_of_update}, id="right"),
        pytest.param({"label_smoothing_factor": 0.1}, id="smooth", marks=pytest.mark.slow),
        pytest.param({}, id="sum", marks=pytest.mark.slow),
    ],
)
def test_how_a_batch_is_cut_does_not_show(own: dict[str, Any], tmp_path: Path) -> None:
    """A model that does not use the number of labels gives a sum of means, which is transformers' own; so do its terms."""
    found = []
    for cut in (
        {"per_device_train_batch_size": 12},
        {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 3},
    ):
        watch = Gradient()
        train(make([*TERMS, watch], tmp_path, classifier(**WITHOUT_DROPOUT), max_steps=1, **cut, **own))
        found.append(watch)
    whole, parts = found
    times = 1 if own else 3
    small = 1e-6 * max(float(gradient.abs().max()) for gradient in whole.found)
    for one, other in zip(whole.found, parts.found, strict=True):
        torch.testing.assert_close(other / times, one, rtol=1e-4, atol=small)
    for one, other in zip(whole.losses, parts.losses, strict=True):
        for name, term in one.items():
            if name != "now":
                torch.testing.assert_close(other[name], term, rtol=1e-4, atol=1e-7)


LOUD = """
from dataclasses import dataclass
from regkit import hookimpl

@dataclass
class Loud:
    weight: float = 1.0

    @hookimpl
    def extra_losses(self, loss):
        return {"loud": self.weight * 1e4 * loss}
"""


@pytest.mark.parametrize("parts", [1, 3])
def test_a_weight_by_its_share_of_the_gradient_holds_it(parts: int, tmp_path: Path) -> None:
    """The term is the task's own loss, ten thousand times as loud: its share of the gradient is that of the loss."""
    (tmp_path / "loud.py").write_text(LOUD)
    cut = {"per_device_train_batch_size": 12 // parts, "gradient_accumulation_steps": parts, "learning_rate": 1e-4}
    watch = Gradient()
    train(make([f"{tmp_path}/loud.py:weight=20%", watch], tmp_path, classifier(**WITHOUT_DROPOUT), max_steps=4, **cut))
    assert watch.losses[0]["loud"] == 0  # nothing was measured yet
    ratios = [float(each["loud"] / each["task"]) for each in watch.losses[1:]]
    assert ratios == pytest.approx([0.25] * 3, rel=0.6)  # by the size of a few texts, which differs from batch to batch


RESUMED = [
    ["smart", "rdrop", "bregman", "sam", "ema"],
    ["mixout", "freelb", "neftune", "ema"],
    ["uncertainty", "layerwise_lr", "l2sp", "reinit_top"],
    ["rdrop:weight=auto", "l2sp:weight=20%"],
]


@pytest.mark.parametrize("plugins", slow_but(RESUMED, [RESUMED[0], RESUMED[-1]]), ids=lambda names: names[0])
def test_a_run_stopped_and_resumed_is_bit_for_bit_the_run_that_never_stopped(
    plugins: list[str], tmp_path: Path
) -> None:
    options = {"gradient_accumulation_steps": 2, "save_strategy": "steps", "save_steps": 1}
    whole = train(make(plugins, tmp_path / "whole", **options))
    train(make(plugins, tmp_path / "stopped", callbacks=[Stop(1)], **options))
    resumed = train(make(plugins, tmp_path / "stopped", **options), resume_from_checkpoint=True)
    assert resumed.state.global_step == 3
    same_weights(whole, resumed)
    assert not list(tmp_path.rglob("*.pkl"))


def as_of_old(folder: Path) -> Any:
    """A classifier that comes from files which call the weights of each LayerNorm gamma and beta."""
    model = classifier("bert", hidden_dropout_prob=0.0)
    model.save_pretrained(folder)
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    renamed = {}
    for name, tensor in load_file(folder / "model.safetensors").items():
        *above, kind, last = name.split(".")
        renamed[".".join([*above, old.get(f"{kind}.{last}", f"{kind}.{last}")])] = tensor
    save_file(renamed, folder / "model.safetensors", {"format": "pt"})
    with redirect_stderr(io.StringIO()):
        return type(model).from_pretrained(folder)


@pytest.mark.parametrize("plugins", [[], ["smart"]], ids=["none", "smart"])
def test_weights_that_files_call_otherwise_are_restored_too(plugins: list[str], tmp_path: Path) -> None:
    options = {"save_strategy": "steps", "save_steps": 1, "max_steps": 3}
    whole = train(make(plugins, tmp_path / "whole", as_of_old(tmp_path / "old"), **options))
    saved = load_file(tmp_path / "whole" / "checkpoint-3" / "model.safetensors")
    assert any(name.endswith("LayerNorm.gamma") for name in saved)
    train(make(plugins, tmp_path / "stopped", as_of_old(tmp_path / "old"), callbacks=[Stop(1)], **options))
    resumed = make(plugins, tmp_path / "stopped", as_of_old(tmp_path / "old"), **options)
    same_weights(whole, train(resumed, resume_from_checkpoint=True))


def test_the_best_checkpoint_is_restored_whatever_its_files_call_the_weights(tmp_path: Path) -> None:
    options = {"eval_strategy": "steps", "save_strategy": "steps", "eval_steps": 1, "save_steps": 1, "max_steps": 4}
    options |= {"load_best_model_at_end": True, "learning_rate": 0.1}
    ours = train(make(["ema:decay=0.5"], tmp_path, as_of_old(tmp_path / "old"), **options))
    scores = [each["eval_loss"] for each in ours.state.log_history if "eval_loss" in each]
    assert min(scores) < scores[-1]
    assert ours.evaluate()["eval_loss"] == min(scores)


def test_an_average_of_the_weights_is_scored_and_saved_and_training_goes_on_without_it(tmp_path: Path) -> None:
    options = {
        "eval_strategy": "epoch",
        "save_strategy": "epoch",
        "load_best_model_at_end": True,
        "num_train_epochs": 2,
    }
    plain, ours = (train(make(each, tmp_path / str(each), **options)) for each in (None, ["ema:decay=0.8"]))
    trained = [[each["loss"] for each in trainer.state.log_history if "loss" in each] for trainer in (plain, ours)]
    assert trained[0] == trained[1]
    scores = {each["step"]: each["eval_loss"] for each in ours.state.log_history if "eval_loss" in each}
    assert list(scores.values()) != [each["eval_loss"] for each in plain.state.log_history if "eval_loss" in each]
    for step, score in scores.items():
        saved = type(ours.model).from_pretrained(ours.args.output_dir + f"/checkpoint-{step}")
        assert make([], tmp_path, saved).evaluate()["eval_loss"] == score
    assert ours.evaluate()["eval_loss"] == scores[6] < scores[12]  # the best, not the last


def test_each_term_of_the_loss_is_logged(tmp_path: Path) -> None:
    logged = [each for each in train(make(["smart", "rdrop"], tmp_path)).state.log_history if "loss" in each]
    for each in logged:
        terms = [value for name, value in each.items() if name.startswith("loss/")]
        assert len(terms) == 4
        assert sum(terms) == pytest.approx(each["loss"], rel=1e-5)


def test_plugins_use_the_loss_of_a_trainers_subclass(tmp_path: Path) -> None:
    class Weighted(RegularizedTrainer):
        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            labels = inputs.pop("labels")
            outputs = model(**inputs)
            loss = F.cross_entropy(outputs.logits, labels, weight=torch.arange(1.0, 1 + CLASSES))
            return (loss, outputs) if return_outputs else loss

    def check(
        model: Any, batch: Batch, clean: Tensor, output: Tensor, loss: Tensor, predict: Predict, task_loss: TaskLoss
    ) -> None:
        assert batch.labels is not None
        again = predict(clean, dropout="fresh")
        for found, logits in ((loss, output), (task_loss(again), again), (task_loss(again + 1), again + 1)):
            wanted = F.cross_entropy(logits, batch.labels, weight=torch.arange(1.0, 1 + CLASSES))
            torch.testing.assert_close(found, wanted)

    watched(check, tmp_path, kind=Weighted)


def test_a_score_is_learned_on_the_scale_of_its_labels(tmp_path: Path) -> None:
    def check(
        model: Any, batch: Batch, clean: Tensor, output: Tensor, loss: Tensor, predict: Predict, task_loss: TaskLoss
    ) -> None:
        assert batch.labels is not None
        assert output.shape == batch.labels.shape
        torch.testing.assert_close(loss, (output - batch.labels).square().mean())
        torch.testing.assert_close(task_loss(output + 1), (output + 1 - batch.labels).square().mean())

    watched(check, tmp_path, model=classifier(num_labels=1), train_dataset=texts(score=True))
    train(
        make(["smart", "rdrop", "bregman", "sam"], tmp_path, classifier(num_labels=1), train_dataset=texts(score=True))
    )


def test_several_labels_at_once_are_learned_with_the_divergence_of_their_kind(tmp_path: Path) -> None:
    def several(rows: Any) -> dict[str, Tensor]:
        batch = collate(rows)
        return batch | {"labels": F.one_hot(batch["labels"], CLASSES).float()}

    def check(
        model: Any, batch: Batch, clean: Tensor, output: Tensor, loss: Tensor, predict: Predict, task_loss: TaskLoss
    ) -> None:
        assert batch.labels is not None
        for found, logits in ((loss, output), (task_loss(output + 1), output + 1)):
            torch.testing.assert_close(found, F.binary_cross_entropy_with_logits(logits, batch.labels))

    options: dict[str, Any] = {"model": classifier(problem_type="multi_label_classification"), "data_collator": several}
    watched(check, tmp_path, **options)
    train(make(["smart", "rdrop", "bregman", "label_smoothing"], tmp_path, max_steps=1, **options))


def test_a_module_that_a_plugin_puts_into_the_model_is_used_and_saved_as_before(tmp_path: Path) -> None:
    trainer, form = make(["mixout"], tmp_path), list(classifier().state_dict())
    trainer.create_optimizer()
    linear = [module for module in trainer.model.modules() if isinstance(module, torch.nn.Linear)]
    assert trainer.model.classifier in linear
    assert {type(module).__name__ for module in linear} == {"MixedLinear"}
    assert list(trainer.model.state_dict()) == form


def test_the_gradient_of_a_plugins_own_parameter_is_that_of_one_update(tmp_path: Path) -> None:
    found = []
    for steps in (1, 3):
        options = {"data_collator": lambda rows: collate(texts(4)), "learning_rate": 0.0, "max_steps": steps}
        model = classifier(**WITHOUT_DROPOUT)
        trainer = train(make(["uncertainty:learning_rate=1e-9"], tmp_path, model, **options))
        (level,) = trainer.optimizer.param_groups[-1]["params"]
        found.append(float(level.grad))
    assert found[0] == pytest.approx(found[1], rel=1e-4)


def test_a_second_call_of_train_begins_anew(tmp_path: Path) -> None:
    trainer = make(["uncertainty", "ema", "smart"], tmp_path, max_steps=2)
    for _ in range(2):
        train(trainer)
        assert (
            sum(len(group["params"]) for group in trainer.optimizer.param_groups)
            == len(list(trainer.model.parameters())) + 1
        )
