"""NEFTune against transformers' own hook, and wherever noise could leak or be lost."""

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field

import pytest
import torch
from regkit_plugins.bregman import Bregman
from regkit_plugins.neftune import NEFTune
from regkit_plugins.sam import SAM
from regkit_plugins.smart import Smart
from torch import Tensor

from regkit import Batch, MultitaskModel, Task, hookimpl
from regkit.base.randomness import derive
from regkit.tasks.objectives import Classification
from regkit.testing import TINY, tiny_task, tiny_tasks, tiny_trainer
from regkit.training.stages import prepare
from tests.helpers import stages_of

KEYS = [11, 12, 13, 14]


def noise_of(alpha: float, batch: Batch) -> Tensor:
    """What the plugin adds to a batch's word embeddings."""
    trainer = tiny_trainer({"neftune": NEFTune(alpha)})
    return (trainer.hook.embed(model=trainer.model, batch=batch) - trainer.model.embed(batch)).detach()


@pytest.mark.parametrize("task", tiny_tasks(), ids=lambda task: task.name)
def test_every_text_gets_the_noise_that_transformers_gives_it_alone(task: Task) -> None:
    """A batch of one text has no pads, so there transformers' scale is that of the paper; a pair read apart is two texts."""
    neftune = pytest.importorskip("transformers.integrations.neftune")
    module = torch.nn.Module()
    module.neftune_noise_alpha = 7.0
    batch = task.splits["train"].batch([0, 3, 5, 6], KEYS)
    expected = []
    for number, text in enumerate(torch.split(torch.zeros(len(batch.tokens), TINY.hidden_size), list(batch.lengths))):
        if number % batch.sides == 0:
            torch.manual_seed(derive(KEYS[number // batch.sides], "neftune"))
        expected.append(neftune.neftune_post_forward_hook(module, None, text[None])[0])
    torch.testing.assert_close(noise_of(7.0, batch), torch.cat(expected), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("task", tiny_tasks(), ids=lambda task: task.name)
def test_noise_is_uniform_up_to_alpha_over_the_root_of_the_texts_coordinates(task: Task) -> None:
    batch = task.splits["train"].batch(range(12), range(12))
    noise = torch.split(noise_of(5.0, batch), list(batch.lengths))
    reach = torch.tensor([float(each.abs().max()) * each.numel() ** 0.5 / 5.0 for each in noise])
    assert (reach <= 1.0001).all()
    assert (reach > 0.9).all()
    shares = torch.cat([(each * each.numel() ** 0.5 / 5.0).flatten() for each in noise])
    assert abs(float(shares.mean())) < 0.04
    assert float(shares.square().mean()) == pytest.approx(1 / 3, rel=0.05)


def test_the_gradient_of_the_embedding_table_passes_through_as_if_nothing_were_added() -> None:
    trainer = tiny_trainer({"neftune": NEFTune()})
    table = trainer.model.encoder.word.weight
    batch = tiny_tasks()[0].splits["train"].batch([0, 1], KEYS[:2])
    factor = torch.randn(len(batch.tokens), TINY.hidden_size)
    found = (
        torch.autograd.grad((embeddings * factor).sum(), table)[0]
        for embeddings in (trainer.hook.embed(model=trainer.model, batch=batch), trainer.model.embed(batch))
    )
    assert torch.equal(*found)


@dataclass
class Watch:
    """What is added to the embeddings at each pass, by row, and from what each prediction is made."""

    noise: list[dict[int, Tensor]] = field(default_factory=list, init=False)
    predicted: list[tuple[MultitaskModel, Tensor]] = field(default_factory=list, init=False)
    scores: list[Mapping[str, Mapping[str, float]]] = field(default_factory=list, init=False)

    @hookimpl(wrapper=True)
    def embed(self, model: MultitaskModel, batch: Batch) -> Generator[None, Tensor, Tensor]:
        embeddings = yield
        added = (embeddings - model.embed(batch)).detach()
        self.noise.append(dict(zip(batch.rows, torch.split(added, list(batch.lengths)), strict=True)))
        return embeddings

    @hookimpl(wrapper=True)
    def encode(self, model: MultitaskModel, embeddings: Tensor) -> Generator[None, Tensor, Tensor]:
        self.predicted.append((model, embeddings.detach().clone()))
        return (yield)

    @hookimpl
    def evaluated(self, scores: Mapping[str, Mapping[str, float]]) -> None:
        self.scores.append(scores)


def test_an_example_has_other_noise_whenever_it_comes_again() -> None:
    watch = Watch()
    tasks = [tiny_task("classes", Classification(3), size=6, batch_size=6)]
    tiny_trainer({"watch": watch, "neftune": NEFTune()}, tasks=tasks, steps=3).train()
    for row in range(6):
        one, other, third = (step[row] for step in watch.noise)
        assert not torch.allclose(one, other, atol=1e-3)
        assert not torch.allclose(other, third, atol=1e-3)


def test_two_texts_of_a_batch_do_not_share_their_noise() -> None:
    task = tiny_tasks()[0]
    batch = task.splits["train"].batch([0, 0], KEYS[:2])
    one, other = torch.split(noise_of(5.0, batch), list(batch.lengths))
    assert not torch.allclose(one, other, atol=1e-3)


def test_the_scores_are_those_of_a_model_without_noise() -> None:
    noisy, quiet = Watch(), Watch()
    tiny_trainer({"watch": noisy, "neftune": NEFTune(100.0)}, steps=1).train()
    tiny_trainer({"watch": quiet}, steps=1).train()
    assert noisy.scores[0] == quiet.scores[0]  # before the first update the weights are the same
    assert noisy.scores[1] != quiet.scores[1]


@pytest.mark.parametrize("order", [["watch", "neftune", "smart"], ["watch", "smart", "neftune"]])
def test_an_adversary_starts_from_the_noised_embeddings(order: list[str]) -> None:
    watch = Watch()
    plugins = {"watch": watch, "neftune": NEFTune(20.0), "smart": Smart(epsilon=0.01, sigma=0.01, eta=1.0)}
    trainer = tiny_trainer({name: plugins[name] for name in order}, dropout=0.0)
    batch = tiny_tasks()[0].splits["train"].batch([0, 1, 2, 3], KEYS)
    trainer.passes.losses(tiny_tasks()[0], batch)
    noised, *moved = (embeddings for _, embeddings in watch.predicted)
    assert len(moved) == 2  # one ascent, and the term; the clean output is not computed again
    assert (noised - trainer.model.embed(batch)).abs().max() > 0.5
    assert all((each - noised).abs().max() < 0.1 for each in moved)


def test_a_teacher_reads_clean_embeddings() -> None:
    watch, bregman = Watch(), Bregman()
    trainer = tiny_trainer({"watch": watch, "neftune": NEFTune(), "bregman": bregman})
    ((stage, tasks),) = stages_of(trainer)
    prepare(trainer.hook, trainer.model, stage, tasks)
    batch = tasks[0].splits["train"].batch([0, 1], KEYS[:2])
    trainer.passes.losses(tasks[0], batch)
    (model, _), (teacher, embeddings) = watch.predicted
    assert (model, teacher) == (trainer.model, bregman.teacher)
    assert torch.equal(embeddings, teacher.embed(batch))


def test_a_gradient_made_anew_has_the_noise_of_the_first() -> None:
    watch = Watch()
    tiny_trainer({"watch": watch, "neftune": NEFTune(), "sam": SAM(rho=0.5)}, tasks=tiny_tasks()[:1], steps=2).train()
    for first, second in (watch.noise[:2], watch.noise[2:]):
        assert first.keys() == second.keys()
        for row, noise in first.items():
            torch.testing.assert_close(second[row], noise, rtol=1e-4, atol=1e-5)
    assert watch.noise[0].keys() != watch.noise[2].keys()
