"""What cannot act or work inside a Trainer is refused by name, in one sentence, when the Trainer is made."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from regkit_plugins.fixed_weights import FixedWeights
from regkit_plugins.rdrop import RDrop
from regkit_plugins.smart import Smart
from torch import Tensor, nn
from torch.nn import functional as F

from regkit import ConfigError, PluginError, RunError, hookimpl
from regkit.base.errors import RegkitError
from regkit.hf import RegularizedTrainer
from regkit.hooks import catalog
from tests.helpers import slow_but
from tests.hf.test_trainer import ACTING
from tests.hf.tiny import SHAPE, classifier, collate, make, train, transformers
from tests.testing.test_promises import TRACKERS

NEEDED = {"fixed_weights": {"weights": {"main": 2.0}}, "weighted": {"weights": {"main": 1.0}}, "only": {"task": "main"}}
NEEDED |= {"domain": {"corpus": "tasks"}}
SHORT = {"max_steps": 3, "max_grad_norm": 0.0}  # clipped gradients of any size are alike to Adam
SCHEDULERS = ["adaptive", "annealed", "only", "proportional", "rrobin", "temperature", "weighted"]
REFUSED = dict.fromkeys(SCHEDULERS, "chooses among tasks")
REFUSED |= dict.fromkeys(
    ["aligned_mtl", "cagrad", "famo", "gradnorm", "gradvac", "nash_mtl", "pcgrad", "torchjd"],
    "looks at the gradients of several tasks",
)
REFUSED |= dict.fromkeys(TRACKERS, "follows regkit's own log")
REFUSED |= dict.fromkeys(["constant", "cosine", "one_cycle"], "chooses the learning rates")
REFUSED |= dict.fromkeys(["mixup", "supcon"], "works on the text vectors that heads read")
REFUSED |= {
    "lora": "puts modules into the model",
    "domain": "adds tasks",
    "freeze": "adds or changes stages",
    "dwa": "compares the scores of tasks",
}
LATER = {"class_weights": "finds no training labels"}  # when training begins


def is_one_sentence(text: str) -> bool:
    """Whether a message is one line that ends as a sentence; a list of choices may follow."""
    return text.endswith(".") and "\n" not in text and "Traceback" not in text


def said(folder: Path, plugins: Any = ("smart",), **options: Any) -> str:
    """What a Trainer is refused with, when it is made or when it meets its first batch."""
    with pytest.raises(RegkitError) as caught:
        train(make(plugins, folder, max_steps=1, **options))
    assert is_one_sentence(str(caught.value))
    return str(caught.value)


def test_every_installed_plugin_acts_or_is_refused() -> None:
    ours = {name for name, point in catalog.installed().items() if point.value.startswith("regkit_plugins.")}
    assert sorted([*ACTING, *REFUSED, *LATER]) == sorted(ours)


def test_a_plugin_that_asks_for_what_a_trainer_does_not_show_is_refused_when_training_begins(tmp_path: Path) -> None:
    for name, what in LATER.items():
        assert f"'{name}' {what}" in said(tmp_path, [name])
    assert "finds no training examples" in said(tmp_path, ["child_tuning:network=task_driven"])


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_a_plugin_without_a_place_in_a_trainer_is_refused_by_name(name: str, tmp_path: Path) -> None:
    with pytest.raises(PluginError) as caught:
        make([catalog.make(name, NEEDED.get(name, {}))], tmp_path)
    assert f"'{name}' {REFUSED[name]}" in str(caught.value)
    assert is_one_sentence(str(caught.value))


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> float:
    """The loss of a model that was trained without plugins."""
    trainer = train(make(None, tmp_path_factory.mktemp("plain"), **SHORT))
    return float(trainer.evaluate()["eval_loss"])


@pytest.mark.parametrize("name", slow_but(ACTING, ["smart", "sam", "ema", "uncertainty"]))
def test_a_plugin_that_acts_changes_what_is_trained_or_scored(name: str, untouched: float, tmp_path: Path) -> None:
    ours = train(make([catalog.make(name, NEEDED.get(name, {}))], tmp_path, **SHORT))
    assert ours.evaluate()["eval_loss"] != untouched


@pytest.mark.parametrize(
    ("plugins", "what"),
    [
        (["smrt"], "there is no plugin 'smrt'. Did you mean 'smart'?"),
        (["smart:wieght=3"], "'smart' has no option 'wieght'. Did you mean 'weight'?"),
        (["smart", Smart(weight=3)], "plugin 'smart' is given twice"),
        ([RDrop(weight=-1)], "'rdrop': weight is -1; input should be greater than or equal to 0."),
        (["smart:stages=domain"], "'smart' shall act in stage 'domain'."),
        ("smart", "plugins is 'smart'; it needs a list"),
        ([FixedWeights], "'fixed_weights' needs weights: give FixedWeights(weights=...) in place of the class."),
        ([None], "plugins has None, which attaches to no hook"),
        (["label_smoothing", "label_smoothing"], "'label_smoothing' is given twice"),
    ],
)
def test_a_plugin_that_is_wrong_is_refused_with_what_is_right(plugins: Any, what: str, tmp_path: Path) -> None:
    assert what in said(tmp_path, plugins)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"torch_compile": True}, "torch_compile=True"),
        ({"neftune_noise_alpha": 5.0}, "use the plugin 'neftune' instead"),
        (
            {"plugins": ["label_smoothing"], "label_smoothing_factor": 0.1},
            "'label_smoothing' and label_smoothing_factor both",
        ),
        (
            {"plugins": ["label_smoothing"], "compute_loss_func": F.cross_entropy},
            "and compute_loss_func both decide the loss",
        ),
    ],
    ids=["compile", "neftune", "smoothing", "function"],
)
def test_a_setting_that_plugins_cannot_work_with_is_refused(options: dict[str, Any], what: str, tmp_path: Path) -> None:
    assert what in said(tmp_path, **options)


def test_an_optimizer_of_the_users_is_not_changed_by_a_plugin(tmp_path: Path) -> None:
    model = classifier()
    given = (torch.optim.SGD(model.parameters()), None)
    assert "'layerwise_lr' changes the optimizer" in said(tmp_path, ["layerwise_lr"], model=model, optimizers=given)
    train(make(["smart"], tmp_path, model, optimizers=given, max_steps=1))


def test_several_devices_are_refused(tmp_path: Path) -> None:
    trainer = make(["smart"], tmp_path)
    trainer.args._n_gpu = 2
    with pytest.raises(ConfigError, match="this process sees 2: set CUDA_VISIBLE_DEVICES=0"):
        make(["smart"], tmp_path, args=trainer.args)


class Twice(transformers.DistilBertForSequenceClassification):  # type: ignore[misc]  # mypy does not read transformers
    """Looks its words up twice."""

    def forward(self, input_ids: Any, **inputs: Any) -> Any:
        self.get_input_embeddings()(input_ids)
        return super().forward(input_ids=input_ids, **inputs)


class Deaf(transformers.DistilBertForSequenceClassification):  # type: ignore[misc]  # mypy does not read transformers
    """Answers by the ids alone."""

    def forward(self, input_ids: Any, labels: Any = None, **inputs: Any) -> Any:
        found = super().forward(input_ids=input_ids, labels=labels, **inputs)
        found["logits"] = F.one_hot(input_ids[:, 0] % 3, 3).float()
        return found


MODELS: dict[str, tuple[Any, str]] = {
    "not of transformers": (lambda: nn.Linear(2, 2), "Linear is no model of transformers with an encoder and a head"),
    "several scores": (lambda: classifier(problem_type="regression"), "gives 3 scores for a text"),
    "bf16": (lambda: classifier().bfloat16(), "load it with dtype=torch.float32"),
    "words of letters": (lambda: family("canine"), "CanineForSequenceClassification has no word embeddings"),
    "padding of its own": (
        lambda: family("longformer", attention_window=8),
        "for other tokens than those of input_ids",
    ),
    "looked up twice": (lambda: Twice(classifier().config), "Twice cannot be used with plugins: it looks up word"),
    "deaf": (lambda: Deaf(classifier().config), "its output does not depend on its word embeddings"),
    "words to predict": (lambda: words(), "gives no logits of the shape"),
}


def family(name: str, **more: Any) -> Any:
    """A tiny classifier of another family."""
    config = transformers.AutoConfig.for_model(name, **SHAPE, num_labels=3, **more)
    return transformers.AutoModelForSequenceClassification.from_config(config)


def words() -> Any:
    """A model that predicts words."""
    return transformers.DistilBertForMaskedLM(classifier().config)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_that_plugins_cannot_work_with_is_refused_by_name(name: str, tmp_path: Path) -> None:
    model, what = MODELS[name]
    assert what in said(tmp_path, model=model())


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (
            lambda batch: batch | {"labels": F.one_hot(batch["labels"], 3).float()},
            "set problem_type='multi_label_classification'",
        ),
        (lambda batch: batch | {"attention_mask": batch["attention_mask"][:, None, None].bool()}, "need the shape"),
        (lambda batch: batch | {"attention_mask": 0 * batch["attention_mask"]}, "an example has no token"),
        (
            lambda batch: {"inputs_embeds": torch.rand(4, 5, 16), "labels": batch["labels"]},
            "the batch has no input_ids",
        ),
    ],
    ids=["several labels", "mask", "empty", "no ids"],
)
def test_a_batch_of_another_form_is_refused(change: Any, what: str, tmp_path: Path) -> None:
    assert what in said(tmp_path, data_collator=lambda rows: change(collate(rows)))


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda batch: {"target": batch.pop("labels"), **batch}, "the batches have none under the name 'labels'"),
        (
            lambda batch: batch | {"labels": batch["labels"] - 100},
            "one is -100, which is no class; leave such examples",
        ),
    ],
    ids=["another name", "no class"],
)
def test_labels_that_a_plugin_cannot_read_are_said(change: Any, what: str, tmp_path: Path) -> None:
    said_of = said(tmp_path, ["focal"], data_collator=lambda rows: change(collate(rows)))
    assert f"'focal' computes the loss from the labels, and {what}" in said_of


class Alone(RegularizedTrainer):
    """Gives the loss alone."""

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **more: Any) -> Any:
        return super().compute_loss(model, inputs, **more)


class Logits(RegularizedTrainer):
    """Gives logits in place of the outputs."""

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **more: Any) -> Any:
        loss, outputs = super().compute_loss(model, inputs, return_outputs=True, **more)
        return loss, outputs.logits


class Old(RegularizedTrainer):
    """Is written as Trainers were once."""

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False) -> Any:
        return super().compute_loss(model, inputs, return_outputs)


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        (Alone, "Alone.compute_loss gives no loss beside the model's outputs"),
        (Logits, "Logits.compute_loss gives no loss beside the model's outputs"),
        (Old, "Old.compute_loss has to take (model, inputs, return_outputs, num_items_in_batch)"),
    ],
)
def test_a_loss_of_a_subclass_that_is_not_as_a_trainer_asks_for_it_is_said(
    kind: Any, what: str, tmp_path: Path
) -> None:
    assert said(tmp_path, kind=kind).startswith(what)


@pytest.mark.parametrize("accumulated", [1, 2])
def test_a_term_that_is_not_finite_is_refused_before_it_takes_the_weights(accumulated: int, tmp_path: Path) -> None:
    class Bad:
        @hookimpl
        def extra_losses(self, output: Tensor) -> Any:
            return {"bad": output.mean() * float("nan")}

    trainer = make([Bad()], tmp_path, max_steps=3, gradient_accumulation_steps=accumulated)
    with pytest.raises(
        PluginError, match="the term 'bad' of plugin 'bad' is nan, and after the step all weights would"
    ):
        train(trainer)
    assert all(weight.isfinite().all() for weight in trainer.model.parameters())


def test_a_checkpoint_of_other_plugins_is_not_resumed_from(tmp_path: Path) -> None:
    options = {"save_strategy": "steps", "save_steps": 1, "max_steps": 2}
    for folder, plugins, what in (("plain", None, "was saved without"), ("other", ["rdrop"], "with the plugins rdrop")):
        train(make(plugins, tmp_path / folder, **options))
        with pytest.raises(RunError, match=what):
            train(make(["smart"], tmp_path / folder, **options), resume_from_checkpoint=True)
    with pytest.raises(RunError, match="was saved with the plugins rdrop, and this Trainer has none; name the same"):
        train(make([], tmp_path / "other", **options), resume_from_checkpoint=True)
    with pytest.raises(
        RunError, match="with the plugins rdrop, and this Trainer has weight=auto, rdrop; name the same"
    ):
        train(make(["rdrop:weight=auto"], tmp_path / "other", **options), resume_from_checkpoint=True)
    train(make([], tmp_path / "other", **options))  # in the same place
    train(make([], tmp_path / "other", **options), resume_from_checkpoint=True)


def test_an_output_whose_loss_only_the_model_knows_is_refused(tmp_path: Path) -> None:
    class Moved:
        @hookimpl(wrapper=True)
        def predict(self) -> Any:
            output = yield
            return output + 1

    class Own(transformers.DistilBertForSequenceClassification):  # type: ignore[misc]  # mypy does not read transformers
        pass

    train(make([Moved()], tmp_path, max_steps=1))
    assert "only the model itself can compute its loss" in said(tmp_path, [Moved()], model=Own(classifier().config))


def test_the_page_says_of_each_plugin_whether_it_acts() -> None:
    page = (Path(__file__).parents[2] / "docs" / "hf-trainer.md").read_text()
    rows = dict(re.findall(r"^\| \[(\w+)\]\(plugins/\w+\.md\) \| (.*) \|$", page, re.MULTILINE))
    assert sorted(rows) == sorted([*ACTING, *REFUSED, *LATER])
    for name, said in rows.items():
        if name in LATER:
            assert said.startswith("refused when training begins: ")
            continue
        assert said.startswith(f"refused: {REFUSED[name]}" if name in REFUSED else "acts"), name
