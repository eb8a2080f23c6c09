"""Given: tell whether the data and the encoder of a study are still what its earlier runs had."""

import hashlib
from pathlib import Path

from regkit.base.files import digest_of
from regkit.runs.experiment import Experiment
from regkit.tasks.task import Examples

WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
APART = "|"  # between what is named and how it is read


def given(experiment: Experiment) -> dict[str, str]:
    """Compute a digest of each split and of the encoder's weights, by what they are called.

    Splits are as the run reads them. Training sets that the seed draws, or labels of theirs, are left out: they differ from
    run to run.
    """
    settings, found = experiment.settings, dict[str, str]()
    table = repr((settings.data, settings.text))  # a row may learn from another one
    for task in experiment.tasks:
        way = repr((settings.encoder, settings.max_length, task.pair_mode, task.objective))
        for split, examples in task.splits.items():
            by_seed = split == "train" and (task.name in settings.subsample or settings.label_noise.get(task.name))
            read = way + table if split == "train" else way
            if isinstance(examples, Examples) and not by_seed:
                found[_key(f"the {split} split of task '{task.name}'", read)] = examples.digest().hex()
    if experiment.weights:
        found[_key("the encoder", str(settings.encoder))] = _of_weights(experiment.weights)
    return found


def _key(name: str, way: str) -> str:
    return f"{name}{APART}{hashlib.sha256(way.encode()).hexdigest()[:8]}"


def _of_weights(folder: Path) -> str:
    files = sorted(path for pattern in WEIGHTS for path in folder.glob(pattern))
    return hashlib.sha256("".join(map(digest_of, files)).encode()).hexdigest()


def changed(earlier: dict[str, str], now: dict[str, str]) -> str:
    """Name the first that is no longer what it was; nothing if all are."""
    differing = (key for key, value in now.items() if earlier.get(key, value) != value)
    return next(differing, "").partition(APART)[0]
