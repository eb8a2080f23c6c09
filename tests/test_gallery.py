"""The gallery: five published methods in files of their own compute what their papers say, in at most 40 lines each."""

import math
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from regkit.base.errors import PluginError
from regkit.hooks.files import PluginFile
from regkit.hooks.implementations import implementations
from regkit.testing import PROMISES, NotApplicableError, tiny_kinds, tiny_tasks, tiny_trainer

ROOT = Path(__file__).parents[1]
FILES = {path.stem: path for path in sorted((ROOT / "examples" / "plugins").glob("*.py"))}


def make(name: str, **options: object) -> Any:
    """Make a plugin of the gallery as the command line does."""
    return PluginFile.read(str(FILES[name])).load()(**options)


def test_the_page_shows_every_file_with_the_hooks_that_it_answers() -> None:
    page = (ROOT / "docs" / "gallery.md").read_text(encoding="utf8")
    rows = {
        name: set(re.findall(r"`(\w+)`", hooks))
        for name, hooks in re.findall(r"^\| \[(\w+)\].*\| (.+) \|$", page, re.M)
    }
    assert rows == {name: set(implementations(make(name))) for name in FILES}


@pytest.mark.parametrize("name", FILES)
def test_each_has_at_most_40_lines_and_imports_of_regkit_only_what_is_public(name: str) -> None:
    source = FILES[name].read_text(encoding="utf8")
    assert len(source.splitlines()) <= 40
    assert not re.search(r"(from|import) regkit\.", source)


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_each_keeps_every_promise(name: str) -> None:
    acted = 0
    for promise in PROMISES:
        try:
            promise(lambda: {name: make(name)}, lambda: tiny_tasks()[:2])
            acted += 1
        except NotApplicableError:  # it says nothing of this plugin
            continue
    assert acted > 6


def test_random_weights_are_the_softmax_of_normal_numbers_times_their_count_and_new_after_each_update() -> None:
    """Lin et al. (2022), section 3: the weights are drawn from a normal distribution, and normalized by a softmax."""
    rlw, names = make("rlw"), ["a", "b", "c"]
    torch.manual_seed(5)
    rlw.draw(names)
    drawn = dict(rlw.weights)
    torch.manual_seed(5)
    powers = [math.exp(number) for number in torch.randn(3).tolist()]
    assert drawn == pytest.approx({name: 3 * power / sum(powers) for name, power in zip(names, powers, strict=True)})
    rlw.after_step()
    assert rlw.weights.keys() == drawn.keys()
    assert rlw.weights != drawn


def test_a_random_weight_multiplies_its_tasks_loss() -> None:
    task = tiny_tasks()[0]
    batch = task.splits["train"].batch([0, 1], [1, 2])
    rlw = make("rlw")
    rlw.weights = {task.name: 0.25}
    output = torch.tensor([[1.0, 0.0, 2.0], [0.0, 0.5, 0.0]])
    plain, weighed = (tiny_trainer(plugins).passes.task_loss_of(task, batch) for plugins in ({}, {"rlw": rlw}))
    assert weighed(output) == 0.25 * plain(output)


@pytest.mark.parametrize("kind", ["classes", "binary", "mixed"])
def test_poly_loss_is_minus_log_p_plus_epsilon_times_1_minus_p(kind: str) -> None:
    """Leng et al. (2022), equation 5, here with the probabilities of the labels from plain sums."""
    task = {task.name: task for task in tiny_tasks()}["classes" if kind == "mixed" else kind]
    batch = task.splits["train"].batch([0, 1], [1, 2])
    labels = {
        "classes": torch.tensor([2, 1]),
        "binary": torch.tensor([1, 0]),
        "mixed": torch.tensor([[0.5, 0.5, 0], [0, 0, 1.0]]),
    }
    logits = [[0.0, 1.0], [0.0, -2.0]] if kind == "binary" else [[1.0, 0.0, 2.0], [0.0, 0.5, 0.0]]
    output = torch.tensor([yes for _, yes in logits]) if kind == "binary" else torch.tensor(logits)
    shares = {"classes": [[0, 0, 1], [0, 1, 0]], "binary": [[0, 1], [1, 0]], "mixed": labels["mixed"].tolist()}
    expected = 0.0
    for row, share in zip(logits, shares[kind], strict=True):
        chances = [math.exp(logit) / sum(map(math.exp, row)) for logit in row]
        expected += sum(y * (-math.log(p) + 3 * (1 - p)) for y, p in zip(share, chances, strict=True)) / 2
    loss = tiny_trainer({"poly_loss": make("poly_loss", epsilon=3.0)}).passes.task_loss_of(task, batch)
    assert loss(output, labels[kind]).item() == pytest.approx(expected)


def test_poly_loss_refuses_what_has_no_chances_and_names_the_tasks_that_have() -> None:
    tasks = [*tiny_tasks(), *tiny_kinds()]
    with pytest.raises(
        PluginError, match=r"'poly_loss' is not for task 'score', a regression task. Name those .*classes"
    ):
        make("poly_loss").prepare(tiny_trainer({}).model, tasks)


def test_lookahead_moves_the_slow_weights_a_share_of_the_way_every_k_updates_and_goes_on_from_there() -> None:
    """Zhang et al. (2019), algorithm 1: phi + alpha (theta - phi)."""
    lookahead, model = make("lookahead", alpha=0.25, every=2), nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 1.0)
    lookahead.prepare(model)
    slow = fast = 1.0
    for step, moved in enumerate([0.5, 0.25, -2.0, 4.0, 1.0]):
        with torch.no_grad():
            model.weight += moved
        fast += moved
        if step % 2 == 1:
            slow = fast = slow + 0.25 * (fast - slow)
        lookahead.after_step(model, step)
        assert (lookahead.model_to_evaluate().weight.item(), model.weight.item()) == (slow, fast)


def test_simcse_is_the_cross_entropy_of_cosines_with_a_texts_own_second_vector() -> None:
    """Gao et al. (2021), equation 4, in loops."""
    one, other = torch.tensor([[3.0, 4.0], [1.0, 0.0]]), torch.tensor([[0.0, 2.0], [5.0, 0.0]])
    simcse, model = make("simcse", weight=0.5, temperature=0.1), SimpleNamespace(encode=lambda *_: other)
    cosines = [[0.8, 0.6], [0.0, 1.0]]  # of (0.6, 0.8) and (1, 0) with (0, 1) and (1, 0)
    losses = [
        -math.log(math.exp(row[i] / 0.1) / sum(math.exp(each / 0.1) for each in row)) for i, row in enumerate(cosines)
    ]
    (term,) = simcse.extra_losses(model, None, None, None, one).values()
    assert term.item() == pytest.approx(0.5 * sum(losses) / 2)


@pytest.mark.parametrize(
    ("done", "layers", "words"), [(0.0, {1}, False), (0.2, {1}, False), (0.25, {0, 1}, False), (0.5, {0, 1}, True)]
)
def test_unfreezing_goes_down_from_the_top_layer_in_equal_parts_of_its_share(
    done: float, layers: set[int], words: bool
) -> None:
    """Howard and Ruder (2018), section 3.3; the tiny encoder has two layers."""
    plugin, model = make("gradual_unfreezing", share=0.5), tiny_trainer({}).model
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    plugin.done = done
    plugin.before_step(model)
    kept = [name for name, parameter in model.named_parameters() if parameter.grad is not None]
    assert {int(name.split(".")[2]) for name in kept if ".layers." in name} == layers
    assert ("encoder.word.weight" in kept) == words
    assert {"encoder.pooler.weight", "heads.classes.linear.weight"} <= {*kept}
