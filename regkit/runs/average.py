"""Average: join the weights of several runs in one model, a "model soup" (Wortsman et al., ICML 2022).

*Model soups: averaging weights of multiple fine-tuned models improves accuracy without increasing inference time*, sections 2
and 3.1: the uniform soup is the mean of all, and the greedy one takes a run only if the dev score does not fall.
"""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import Tensor

from regkit.base.errors import ConfigError, RunError, short
from regkit.base.files import absolute, point, read_object, write
from regkit.base.hidden import hidden
from regkit.model import MultitaskModel
from regkit.model.merging import without_plugins
from regkit.runs import checkpoint, environment, trained
from regkit.runs.alike import Member, check_alike, doubts, read_member
from regkit.runs.finished import load_run, was_scored
from regkit.runs.folders import AVERAGE, CONFIG, ENVIRONMENT, FINISHED, TASKS, check_free
from regkit.runs.keeping import monitored
from regkit.tasks.task import FINETUNE, Stage
from regkit.training.caveats import report
from regkit.training.evaluation import Evaluator, Scores
from regkit.training.fit import Fit
from regkit.training.inference import Inference

CHECKPOINT = "average-1"

Weights = Mapping[str, Tensor]
Judged = tuple[Scores, float, list[str]]  # the scores, the one that decides, and what they do not show
Judge = Callable[[Weights], Judged]


@dataclass(frozen=True)
class Averaged:
    """The average of several runs."""

    folder: Path
    members: Sequence[Member]
    kept: Sequence[Member]  # those that are in the average
    scores: Scores  # on the dev split of the first run; none without one
    caveats: Sequence[str]  # what the scores do not show
    doubts: Sequence[str]  # what speaks against an average of these runs


@dataclass(frozen=True)
class Sums:
    """Sums of weights by name. They are float64, so that the mean of equal numbers is that number."""

    first: Weights
    totals: Weights = field(default_factory=dict)  # of floating-point tensors
    count: int = 0

    def plus(self, weights: Weights) -> "Sums":
        """Add a model's weights. Raises RunError if they have another form."""
        if _shapes(weights) != _shapes(self.first):
            raise RunError("the runs have tensors of other names or shapes, which have no average.")
        added = {name: tensor.double() for name, tensor in weights.items() if tensor.is_floating_point()}
        totals = {name: tensor + self.totals.get(name, 0) for name, tensor in added.items()}
        return Sums(self.first, totals, self.count + 1)

    def mean(self) -> Weights:
        """Compute the mean in the types of the weights.

        Whole numbers, such as positions, are those of the first.
        """
        means = {name: (total / self.count).to(self.first[name].dtype) for name, total in self.totals.items()}
        return {**self.first, **means}


def _shapes(weights: Weights) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in weights.items()}


def average(
    runs: Sequence[Path], output: Path, *, greedy: bool = False, device: str = "auto", factory: str | None = None
) -> Averaged:
    """Average the weights of the runs' best checkpoints, score them, and write a finished run's folder.

    They are scored on dev. Raises RunError where tasks, architectures or vocabularies differ, and ConfigError for a
    greedy average without scores.
    """
    members = [read_member(run) for run in runs]
    first = members[0]
    for member in members[1:]:
        check_alike(first, member)
    if greedy and not was_scored(first.folder):
        raise ConfigError(f"{first.folder} has no dev scores, by which a greedy average chooses; leave out --greedy.")

    def inference_of(member: Member, device: str) -> Inference:
        found = trained.load(member.folder, device=device, factory=factory).inference
        return replace(
            found, model=without_plugins(found.model)
        )  # the mean of two products is not that of their factors

    def weights_of(member: Member) -> Weights:
        found = inference_of(member, "cpu").model
        _check_plugins(first, inference.model, member, found)
        return found.state_dict()

    inference = inference_of(first, device)
    judge, sums, scored = _judge(inference, first, factory), Sums(weights_of(first)), list[Member]()
    for member in members:
        weights = weights_of(member)
        scores, value, _ = judge(weights)
        scored.append(replace(member, scores=scores, value=value))
        sums = sums if greedy else sums.plus(weights)
    kept: Sequence[Member] = scored
    if greedy:
        sums, kept = _greedy(sums, scored, judge, weights_of)
    scores, _, caveats = judge(sums.mean())
    soup = Averaged(output, scored, kept, scores, caveats, doubts(members))
    _write(soup, inference)
    return soup


def _check_plugins(one: Member, model: MultitaskModel, other: Member, others: MultitaskModel) -> None:
    """Raise RunError if modules of plugins that cannot be merged are not the same in two runs."""
    mine, theirs = (each.built.plugins if each.built else {} for each in (model, others))
    if mine != theirs:
        raise RunError(
            f"plugins put {short(repr(mine))} into the model of {one.folder}, and {short(repr(theirs))} into that of "
            f"{other.folder}; an average needs the same in all runs."
        )


def _judge(inference: Inference, first: Member, factory: str | None) -> Judge:
    """Make what puts weights into the model, and scores it on the first run's dev split, if there is one."""
    tasks = load_run(first.folder, "dev", device="cpu", factory=factory).tasks if was_scored(first.folder) else []
    stage, evaluator = (
        Stage(FINETUNE, [task.name for task in tasks]),
        Evaluator(Fit.on(inference.model), inference.precision),
    )

    def judge(weights: Weights) -> Judged:
        inference.model.load_state_dict(dict(weights))
        scores = evaluator.fit.until_it_fits(
            lambda: evaluator.scores(inference.model, tasks, "dev"), "on the dev split"
        )
        return scores, monitored(first.settings.monitor, stage, tasks, scores), evaluator.caveats

    return judge


def _greedy(
    sums: Sums, members: Sequence[Member], judge: Judge, weights_of: Callable[[Member], Weights]
) -> tuple[Sums, list[Member]]:
    """Add runs from the best to the worst, each if the dev score of the average does not fall (recipe 1)."""
    kept, best = list[Member](), -float("inf")
    for member in sorted(members, key=lambda each: -each.value):  # of equal ones, the one named first
        more = sums.plus(weights_of(member))
        _, value, _ = judge(more.mean())
        if not kept or value >= best:
            sums, best = more, value
            kept.append(member)
    return sums, kept


def _write(soup: Averaged, inference: Inference) -> None:
    """Write the folder of a finished run, under another name first, so that it is whole or not there."""
    first, output = soup.members[0], soup.folder
    check_free(output, resumable=False)
    unfinished = hidden(output)
    try:
        place = unfinished / "checkpoints" / CHECKPOINT
        place.parent.mkdir(parents=True)
        checkpoint.save(place, inference.model, inference.tokenizer)
        for name in ("best", "last"):
            point(unfinished / name, place)
        shutil.copyfile(first.folder / TASKS, unfinished / TASKS)
        write(unfinished / "scores.json", json.dumps(report("dev", soup.scores, soup.caveats), indent=2))
        write(unfinished / ENVIRONMENT, json.dumps(_environment(soup, inference), indent=2))
        write(unfinished / AVERAGE, json.dumps(_note(soup), indent=2))
        write(unfinished / FINISHED, json.dumps({"stage": FINETUNE, "step": 0}))
        write(unfinished / CONFIG, first.settings.toml())
        unfinished.replace(output)
    except OSError as error:
        raise RunError(f"{error.filename or output}: {error.strerror or error}.") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _environment(soup: Averaged, inference: Inference) -> dict[str, object]:
    """Note where the average was made, and on how many examples the first run was trained."""
    examples = read_object(soup.members[0].folder / ENVIRONMENT).get("examples", {})
    return environment.present(inference.model.device, {}) | {"examples": examples}


def _note(soup: Averaged) -> dict[str, object]:
    kept = [member.folder for member in soup.kept]
    members = [
        {"run": str(absolute(each.folder)), "kept": each.folder in kept, "dev": each.scores} for each in soup.members
    ]
    return {"averaged": members, "doubts": list(soup.doubts)}
