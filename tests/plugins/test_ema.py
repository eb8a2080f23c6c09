"""The moving average against torch's own, and everywhere it must stand in for the model, or must not."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from regkit_plugins.bregman import Bregman
from regkit_plugins.ema import EMA
from safetensors.torch import load_file
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from regkit import Experiment, MultitaskModel, PluginError, Settings, hookimpl
from regkit.hooks import catalog
from regkit.model import load_encoder
from regkit.runs import checkpoint
from regkit.testing import STEPS, Snapshot, same_weights, tiny_tasks, tiny_trainer
from regkit.testing.tiny import unscored
from regkit.training.evaluation import Evaluator
from regkit.training.stages import prepare
from tests.helpers import regkit, slow_but, stages_of

Scores = Mapping[str, Mapping[str, float]]


@dataclass
class Watch:
    """Follows the weights as torch's own averaging does, and keeps the scores."""

    decay: float = 0.0
    oracle: AveragedModel | None = field(default=None, init=False)
    scores: list[Scores] = field(default_factory=list, init=False)

    @hookimpl(tryfirst=True)
    def prepare(self, model: MultitaskModel) -> None:
        def average(slow: Tensor, fast: Tensor, number: Tensor | int) -> Tensor:
            keep = min(self.decay, int(number) / (9 + int(number)))  # `number` counts the start, so it is one ahead
            return keep * slow + (1 - keep) * fast

        self.oracle = AveragedModel(model, avg_fn=average)
        self.oracle.update_parameters(model)  # the first is a copy

    @hookimpl
    def after_step(self, model: MultitaskModel) -> None:
        self.oracle.update_parameters(model)

    @hookimpl
    def evaluated(self, scores: Scores) -> None:
        self.scores.append(scores)


@pytest.mark.parametrize("decay", slow_but([0.05, 0.3, 0.999], [0.3]))
def test_the_average_is_that_of_torch_with_the_same_rule(decay: float) -> None:
    """0.05 is below the warm-up from the start, 0.3 passes it after the fourth update, 0.999 never."""
    ema, watch = EMA(decay), Watch(decay)
    trainer = tiny_trainer({"watch": watch, "ema": ema}, tasks=unscored(tiny_tasks()), steps=12)
    trainer.train()
    expected = dict(watch.oracle.module.named_parameters())
    far = 0.0
    for name, weight in ema.average.named_parameters():
        torch.testing.assert_close(weight, expected[name], rtol=1e-5, atol=1e-6, msg=(name + ": {}").format)
        far = max(far, float((weight - trainer.model.get_parameter(name)).detach().abs().max()))
    assert far > 1e-5  # the last update is a small one


def test_the_warm_up_by_hand() -> None:
    """Of weights that jump from 0 to 1 the average keeps 1/10, then 2/11, then 3/12, and never more than `decay`."""
    for decay, shares in ((0.999, [1 / 10, 2 / 11, 3 / 12]), (0.15, [1 / 10, 0.15, 0.15])):
        ema = EMA(decay)
        model = torch.nn.Linear(2, 2)
        torch.nn.init.zeros_(model.weight)
        ema.prepare(model)
        torch.nn.init.ones_(model.weight)
        kept = 1.0
        for step, share in enumerate(shares):
            ema.after_step(model, step)
            kept *= share
            torch.testing.assert_close(ema.average.weight.detach(), torch.full((2, 2), 1 - kept))


@pytest.mark.parametrize(("decay", "step"), [(0.99, 5000), (0.3, 0), (0.0, 1)])
def test_all_weights_at_once_move_bit_for_bit_as_one_by_one(decay: float, step: int) -> None:
    """So does the teacher of `bregman`: one call moves all, where a GPU would wait for one call a weight."""
    torch.manual_seed(0)
    before, model = (torch.nn.Sequential(torch.nn.Linear(33, 7), torch.nn.LayerNorm(7)) for _ in "ab")
    ema, bregman = EMA(decay), Bregman(beta=decay, early_beta=decay)
    for plugin in (ema, bregman):
        plugin.prepare(before)
    ema.after_step(model, step)
    bregman.after_step(model, step, 10**4)
    kept = min(decay, (1 + step) / (10 + step))
    modules = (before, model, ema.average, bregman.teacher)
    for start, now, average, teacher in zip(*(module.parameters() for module in modules), strict=True):
        assert torch.equal(average, torch.lerp(start, now, 1 - kept))
        assert torch.equal(teacher, torch.lerp(start, now, 1 - decay))


def test_a_half_precision_model_is_averaged_in_float32() -> None:
    """In bf16, 0.001 of the way from 1 to 1.01 would be no way at all."""
    ema = EMA(0.999)
    model = torch.nn.Linear(2, 2).bfloat16()
    torch.nn.init.ones_(model.weight)
    ema.prepare(model)
    torch.nn.init.constant_(model.weight, 1.0078125)
    ema.after_step(model, 10**6)
    assert ema.average.weight.dtype is torch.float32
    torch.testing.assert_close(ema.average.weight.detach(), torch.full((2, 2), 1 + 0.0078125e-3), rtol=0, atol=2e-7)
    assert model.weight.dtype is torch.bfloat16


def test_training_is_that_of_a_run_without_it() -> None:
    with_it, without = tiny_trainer({"ema": EMA(0.9)}), tiny_trainer({})
    with_it.train()
    without.train()
    same_weights(with_it, without)


def test_the_average_gets_no_gradient_and_shares_no_memory_with_the_model() -> None:
    ema = EMA(0.9)
    trainer = tiny_trainer({"ema": ema}, steps=2)
    trainer.train()
    pairs = zip(ema.average.parameters(), trainer.model.parameters(), strict=True)
    for slow, fast in pairs:
        assert (slow.requires_grad, slow.grad) == (False, None)
        assert slow.data_ptr() != fast.data_ptr()
    assert all(parameter.requires_grad for parameter in trainer.model.parameters())


def test_the_scores_are_those_of_the_average_from_the_beginning_to_the_end() -> None:
    ema, watch, plain = EMA(0.9), Watch(), Watch()
    trainer = tiny_trainer({"ema": ema, "watch": watch})
    trainer.train()
    tiny_trainer({"watch": plain}).train()

    def scored(model: MultitaskModel) -> Scores:
        return Evaluator().scores(model, tiny_tasks(), "dev")

    assert watch.scores[0] == plain.scores[0]
    assert watch.scores[-1] == scored(ema.average)
    assert plain.scores[-1] == scored(trainer.model)
    assert watch.scores[-1] != plain.scores[-1]


@dataclass
class Renew:
    @hookimpl
    def prepare(self, model: MultitaskModel) -> None:
        torch.nn.init.constant_(model.encoder.pooler.weight, 0.5)


@pytest.mark.parametrize("order", [["ema", "renew"], ["renew", "ema"]])
def test_the_average_begins_with_what_others_make_of_the_model(order: list[str]) -> None:
    plugins = {"ema": EMA(0.9), "renew": Renew()}
    trainer = tiny_trainer({name: plugins[name] for name in order})
    ((stage, tasks),) = stages_of(trainer)
    prepare(trainer.hook, trainer.model, stage, tasks)
    for name, weight in trainer.state.evaluated_model().named_parameters():
        assert torch.equal(weight, trainer.model.get_parameter(name)), name


@dataclass
class Other:
    @hookimpl
    def model_to_evaluate(self, model: MultitaskModel) -> MultitaskModel:
        return model


def test_two_plugins_that_decide_what_is_evaluated_are_refused() -> None:
    with pytest.raises(PluginError) as caught:
        tiny_trainer({"ema": EMA(), "other": Other()})
    assert str(caught.value) == "'ema' and 'other' both decide model_to_evaluate; keep one of them."


@pytest.mark.parametrize("decay", [1.0, -0.1])
def test_a_decay_that_never_moves_or_moves_away_is_refused(decay: float) -> None:
    with pytest.raises(PluginError, match="decay"):
        catalog.make("ema", {"decay": decay})


def test_a_resumed_run_has_the_average_of_the_run_that_never_stopped() -> None:
    whole, stop, resumed = EMA(0.9), Snapshot(after=STEPS // 2), EMA(0.9)
    tiny_trainer({"ema": whole}, tasks=unscored(tiny_tasks())).train()
    first = tiny_trainer({"ema": EMA(0.9)}, tasks=unscored(tiny_tasks()), observers=[stop])
    stop.trainer = first
    first.train()
    second = tiny_trainer({"ema": resumed}, tasks=unscored(tiny_tasks()))
    second.state.load(stop.training)
    second.train()
    for name, weight in resumed.average.named_parameters():
        assert torch.equal(weight, whole.average.get_parameter(name)), name


def test_a_checkpoint_holds_the_average_and_eval_gives_the_very_scores_of_the_log(place: Path) -> None:
    train = ["train", "--encoder", "encoder", "--data", "data", "--steps", 6, "--lr", 0.01, "--output", "run"]
    assert regkit(*train, "-p", "ema:decay=0.9", "-p", "rrobin", cwd=place).status == 0
    folder = place / "run"
    records = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf8").splitlines()]
    logged = {record["step"]: record["scores"] for record in records if "scores" in record}
    best = int((folder / "best").resolve().name.removeprefix("finetune-"))
    assert json.loads(regkit("eval", "run", "--json", cwd=place).out)["dev"] == logged[best]["dev"]

    tensors = load_file(folder / "last" / "model.safetensors")
    state = checkpoint.load_training(folder / "last")
    average, trained = state["plugins"]["ema"]["average"], state["model"]
    assert average.keys() == trained.keys()
    assert torch.equal(tensors["heads.mood.linear.weight"], average["heads.mood.linear.weight"])
    assert not torch.isclose(tensors["heads.mood.linear.weight"], trained["heads.mood.linear.weight"]).all()
    words = "bert.embeddings.word_embeddings.weight"
    assert torch.equal(tensors[words], average["encoder.word.weight"])
    assert not torch.equal(tensors[words], trained["encoder.word.weight"])


@dataclass
class Halt:
    """Ends the run after the first epoch, its checkpoint written."""

    folder: Path
    experiment: Experiment | None = None

    @hookimpl(trylast=True)
    def evaluated(self, step: int) -> None:
        if step:
            trainer = self.experiment.trainer
            checkpoint.save(
                self.folder, trainer.state.evaluated_model(), self.experiment.tokenizer, trainer.state.capture()
            )
            raise KeyboardInterrupt


def experiment(place: Path) -> Experiment:
    plugins = {"ema": {"decay": 0.9}, "rrobin": {}}
    data, encoder = str(place / "data"), str(place / "encoder")
    return Experiment.build(Settings(plugins=plugins, data=data, encoder=encoder, epochs=2, learning_rate=0.01))


def test_a_run_resumed_from_a_checkpoint_on_disk_has_the_weights_and_the_average_of_the_whole(
    place: Path, tmp_path: Path
) -> None:
    whole, halt = experiment(place), Halt(tmp_path / "halfway")
    whole.trainer.train()
    halt.experiment = experiment(place)
    halt.experiment.composition.observe(halt)
    with pytest.raises(KeyboardInterrupt):
        halt.experiment.trainer.train()

    resumed = experiment(place)
    resumed.model.encoder.load_state_dict(load_encoder(halt.folder).state_dict())
    checkpoint.load_heads(halt.folder, resumed.model.heads)
    resumed.trainer.state.load(checkpoint.load_training(halt.folder))
    assert 0 < resumed.trainer.state.position.step < whole.trainer.state.position.step
    resumed.trainer.train()
    same_weights(resumed.trainer, whole.trainer)
    for name, weight in resumed.trainer.state.evaluated_model().named_parameters():
        assert torch.equal(weight, whole.trainer.state.evaluated_model().get_parameter(name)), name
