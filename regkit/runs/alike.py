"""Alike: tell whether the weights of two runs can be averaged, and what speaks against it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from regkit.base.errors import RunError
from regkit.base.files import follow, read_json, read_object
from regkit.model import encoders
from regkit.runs import checkpoint
from regkit.runs.folders import CONFIG, TASKS, find_run, unfinished
from regkit.runs.settings import Settings
from regkit.tasks.names import ENTRY
from regkit.training.evaluation import Scores

# Entries of config.json that may differ: they change no output, or are compared by themselves.
FREE = {ENTRY, "architectures", "_name_or_path", "transformers_version", "dtype", "torch_dtype"}


@dataclass(frozen=True)
class Member:
    """A run whose weights are averaged."""

    folder: Path
    checkpoint: Path  # the best
    settings: Settings
    scores: Scores = field(default_factory=dict)  # on the dev split of the first run
    value: float = 0.0  # the score that decides; higher is better


def read_member(run: Path) -> Member:
    """Find a run to average. Raises RunError if it has no whole best checkpoint, or no task."""
    folder = find_run(run)
    settings = Settings.read(folder / CONFIG)
    if not settings.finetune:
        raise RunError(f"{folder} was pretrained, and has no task; average runs that were fine-tuned.")
    return Member(folder, follow(folder / "best"), settings)


def check_alike(one: Member, other: Member) -> None:
    """Raise RunError for two runs of other tasks, architectures or vocabularies, which have no mean."""
    for name, mine, theirs in _differences(one.checkpoint, other.checkpoint):
        raise RunError(
            f"{name} is {mine} in {one.folder}, and {theirs} in {other.folder}; an average needs the same in all runs."
        )
    if _vocabulary(one.checkpoint) != _vocabulary(other.checkpoint):
        raise RunError(
            f"{other.folder} has another tokenizer than {one.folder}; an average needs the same in all runs."
        )


def _differences(one: Path, other: Path) -> Iterator[tuple[str, Any, Any]]:
    """Find what differs between two checkpoints: their heads' meaning, and their encoders' form."""
    heads, theirs = (checkpoint.saved_forms(folder) for folder in (one, other))
    if heads.keys() != theirs.keys():
        yield "the list of tasks", ", ".join(sorted(heads)), ", ".join(sorted(theirs))
        return
    for task in heads:
        if heads[task] != theirs[task]:
            mine, others = (", ".join(filter(None, form)) for form in (heads[task], theirs[task]))
            yield f"task '{task}'", mine, others
    found, configs = (read_object(folder / "config.json") for folder in (one, other))
    for name in sorted((found.keys() | configs.keys()) - FREE):
        if "dropout" not in name and found.get(name) != configs.get(name):
            yield name, found.get(name, "not set"), configs.get(name, "not set")


def _vocabulary(folder: Path) -> bytes:
    return (folder / "tokenizer.json").read_bytes()


def doubts(members: Sequence[Member]) -> list[str]:
    """Say what speaks against averaging runs that can be: other beginnings or rows, no end yet."""
    ends = chain.from_iterable(unfinished(member.folder) for member in members)
    return [*_beginnings(members), *_other_rows(members), *ends]


def _beginnings(members: Sequence[Member]) -> list[str]:
    """Say where the runs did not begin from the same weights.

    What lies between such weights was never trained.
    """
    first = members[0]
    for member in members[1:]:
        if member.settings.encoder != first.settings.encoder:
            names = [each.settings.encoder or "the demo's encoder" for each in (first, member)]
            return [
                f"{first.folder} began from {names[0]}, and {member.folder} from {names[1]}: weights that did not begin "
                "alike have no meaning in common, and an average is likely worse than each"
            ]
    seeds = dict.fromkeys(str(member.settings.seed) for member in members)
    if len(seeds) > 1 and not all(map(_took_over_heads, members)):
        return [
            f"the heads began new, from the seeds {', '.join(seeds)}: an average of heads that did not begin alike may be "
            "worse than each; begin all runs with the heads of one (--encoder RUN)"
        ]
    return []


def _took_over_heads(member: Member) -> bool:
    """Whether a run began with trained heads, as far as the folder that it began from is still there."""
    settings = member.settings
    if settings.fresh_heads or settings.encoder is None or not follow(Path(settings.encoder)).is_dir():
        return False
    before = checkpoint.saved_forms(encoders.find_encoder(settings.encoder))
    return all(before.get(task) == form for task, form in checkpoint.saved_forms(member.checkpoint).items())


def _other_rows(members: Sequence[Member]) -> list[str]:
    """Say which runs were trained on other rows: those that score the average may be among them."""
    first, *others = map(_rows, members)
    return [
        f"{member.folder} was trained on other rows of task '{task}' than {members[0].folder}, whose dev rows score all"
        for member, rows in zip(members[1:], others, strict=True)
        for task in first.keys() & rows.keys()
        if first[task] != rows[task]
    ]


def _rows(member: Member) -> Mapping[str, Any]:
    """Read the digest of what a run was trained on by task; nothing of an older run."""
    with suppress(OSError, ValueError, LookupError, TypeError, AttributeError):
        forms = read_json(member.folder / TASKS).items()
        return {task: form[2].get("train") for task, form in forms}
    return {}
