"""The terms of the loss inside a Trainer are those of regkit: the same plugins, weights and texts, in float64."""

import io
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from regkit_plugins.bregman import Bregman
from regkit_plugins.freelb import FreeLB
from regkit_plugins.r3f import R3F
from regkit_plugins.rdrop import RDrop
from regkit_plugins.sam import SAM
from regkit_plugins.smart import Smart
from torch import Tensor, nn

from regkit import Batch, Classification, MultitaskModel, Streams, Task, derive, hookimpl, load_encoder
from regkit.hooks.compose import compose
from regkit.hooks.defaults import Defaults
from regkit.tasks.task import Stage
from regkit.training.passes import Passes
from regkit.training.update import Update
from tests.hf.test_trainer import Watch
from tests.hf.tiny import CLASSES, FAMILIES, WITHOUT_DROPOUT, classifier, collate, make, texts, train, transformers

ROWS = texts(4)


class Head(nn.Module):
    """DistilBERT's head for classes, on hidden states of [CLS]."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.inner, self.outer = model.pre_classifier, model.classifier

    def forward(self, vectors: Tensor) -> Tensor:
        logits: Tensor = self.outer(self.inner(vectors).relu())
        return logits


def plugins() -> dict[str, Any]:
    return {
        "smart": Smart(),
        "rdrop": RDrop(),
        "bregman": Bregman(),
        "r3f": R3F(),
        "freelb": FreeLB(),
        "sam": SAM(rho=0.3),
    }


def moved(model: Any) -> Any:
    """Move each weight a little, so that a copy made before is another model."""
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(2)
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape)
    return model


class Keep:
    """A plugin that keeps terms and gradients as the optimizer gets them."""

    def __init__(self) -> None:
        self.terms: dict[str, float] = {}
        self.gradients: list[Tensor] = []

    @hookimpl(trylast=True)
    def before_step(self, model: Any) -> None:
        head = next(iter(model.heads.values()))
        chosen = [model.encoder.word.weight, *(each for each in head.parameters() if each.grad is not None)]
        self.gradients = [each.grad.clone() for each in chosen]

    @hookimpl
    def after_step(self, losses: Any) -> None:
        self.terms = {name: float(term) for name, term in losses["main"].items()}


class Move(transformers.TrainerCallback):  # type: ignore[misc]  # mypy does not read transformers
    """Moves the weights once plugins are prepared."""

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any, **given: Any) -> None:
        moved(model)


def inside_a_trainer(folder: Path) -> Keep:
    keep = Keep()
    model = classifier(**WITHOUT_DROPOUT).double()
    options = {"max_steps": 1, "train_dataset": ROWS, "callbacks": [Move()], "seed": 5}
    shown = {"data_collator": lambda rows: collate(ROWS, more=3)}  # in this order
    train(make([*plugins().values(), keep], folder, model, **options, **shown))
    return keep


def in_regkit(folder: Path) -> Keep:
    def built(model: Any, name: str) -> MultitaskModel:
        with redirect_stderr(io.StringIO()):
            model.base_model.save_pretrained(folder / name)
        encoder = load_encoder(folder / name, dropout=0.0)
        found = MultitaskModel(encoder, [task], streams, dropout=0.0, pooling="cls")
        found.heads["main"] = Head(model)
        return found.double()

    keep, streams, stage = Keep(), Streams(5), Stage("finetune", ["main"])
    task = Task("main", Classification(CLASSES), {}, batch_size=4)
    model = built(classifier(**WITHOUT_DROPOUT), "before")
    hook = compose(plugins() | {"keep": keep}, Defaults([task], stage), streams).hook
    hook.prepare(model=model, stage=stage, tasks=[task])
    model.load_state_dict(built(moved(classifier(**WITHOUT_DROPOUT)), "after").state_dict())
    words = [np.array(row["words"]) for row in ROWS]
    keys = [derive(5, "examples", "finetune", 0, row) for row in range(4)]
    labels = torch.tensor([row["label"] for row in ROWS])
    batch = Batch.pack(words, [0 * each for each in words], labels=labels, keys=keys)
    update = Update(Passes(model.train(), hook, streams), torch.optim.SGD(model.parameters()), [(task, [batch])])
    with streams.at("finetune", 0):
        update.compute()
        hook.before_step(model=model, optimizer=update.optimizer, recompute=update.compute)
    hook.after_step(model=model, step=0, total_steps=1, losses=update.losses, reevaluate=update.reevaluate)
    return keep


def test_terms_and_the_gradient_that_sam_leaves_are_those_of_regkit(tmp_path: Path) -> None:
    ours, theirs = in_regkit(tmp_path), inside_a_trainer(tmp_path)
    assert list(ours.terms) == list(theirs.terms)
    assert {"smart", "rdrop", "rdrop second", "bregman", "r3f", "freelb"} < ours.terms.keys()
    assert min(ours.terms[name] for name in ("smart", "bregman", "r3f", "freelb")) > 1e-4
    assert theirs.terms == pytest.approx(ours.terms, rel=1e-5)
    for one, other in zip(ours.gradients, theirs.gradients, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-6 * float(one.abs().max()))


@pytest.mark.parametrize(
    "family", [*FAMILIES][:1] + [pytest.param(each, marks=pytest.mark.slow) for each in [*FAMILIES][1:]]
)
@pytest.mark.parametrize("bf16", [False, True])
def test_smarts_term_is_0_where_nothing_moves_with_dropout_on(family: str, bf16: bool, tmp_path: Path) -> None:
    smart = Smart()

    def check(model: Any, batch: Batch, clean: Tensor, output: Tensor, loss: Any, predict: Any, task_loss: Any) -> None:
        task = Task("main", Classification(CLASSES), {})
        found = smart.measure(task, batch, clean, predict)
        assert float(found["floor"]) == 0
        assert float(found["over random"]) > 1
        assert float(task.objective.divergence(predict(clean, dropout="fresh"), output).detach()) > 1e-3

    watch = Watch(check)
    train(make([watch], tmp_path, classifier(family), max_steps=2, bf16=bf16))
    assert watch.called == 2
