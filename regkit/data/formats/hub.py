"""Hub: read the rows of a data set on the Hugging Face Hub, or of a folder with such a layout."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from regkit.base.errors import DataError
from regkit.data.formats.records import Record, fields_of
from regkit.tasks.names import Split

HUB = "hub:"
SPLIT_NAMES: dict[Split, Sequence[str]] = {
    "train": ("train", "training"),
    "dev": ("validation", "dev", "valid", "val", "eval"),
    "test": ("test", "testing"),
}


def on_hub(place: Path) -> bool:
    """Tell whether a path names a data set on the Hub, as in `hub:OWNER/NAME`."""
    return str(place).startswith(HUB)


def usual_split(names: Sequence[str], split: Split) -> str | None:
    """Find the split that a data set has under one of its usual names; None if there is none."""
    return next((name for name in SPLIT_NAMES[split] if name in names), None)


class HubRows:
    """The rows of one split of `hub:OWNER/NAME` or `hub:OWNER/NAME/CONFIG`.

    Raises DataError if they cannot be read.
    """

    unit = "row"
    hint = ""
    form = "a data set of the Hub"

    def __init__(self, place: Path, split: Split = "train") -> None:
        self.name = str(place)
        names = hub_splits(place)
        found = usual_split(names, split)
        if found is None:
            raise DataError(f"{place} has no {split} split; it has {', '.join(names)}.")
        self._rows = _asked(place, "load_dataset", split=found)
        features: Mapping[str, Any] = self._rows.features
        self.columns: Sequence[str] = list(features)
        self.classes: Mapping[str, Sequence[str]] = {
            name: tuple(each.names) for name, each in features.items() if hasattr(each, "names")
        }

    def records(self, columns: Sequence[str]) -> Iterator[Record]:
        """Yield these columns of each row."""
        try:
            for number, row in enumerate(self._rows, 1):
                yield number, fields_of(row, columns)
        except Exception as error:  # of the network, of the set's own files: they share no base
            raise DataError(f"{self.name} cannot be read: {_first_line(error)}.") from None

    def notes(self) -> list[str]:
        return []


def hub_splits(place: Path) -> list[str]:
    """List the names of a data set's splits. Raises DataError if it cannot be found."""
    return [str(name) for name in _asked(place, "get_dataset_split_names")]


def _asked(place: Path, function: str, **options: Any) -> Any:
    parts = str(place).removeprefix(HUB).split("/")
    if not all(parts) or len(parts) > 3:
        raise DataError(f"{place} names no data set; {HUB}OWNER/NAME or {HUB}OWNER/NAME/CONFIG is needed.")
    try:
        import datasets
    except ImportError:
        raise DataError(f"{place}: reading from the Hub needs datasets: pip install 'regkit[hub]'.") from None
    try:
        return getattr(datasets, function)("/".join(parts[:2]), *parts[2:], **options)
    except Exception as error:  # of the network, of the Hub, of its answer: they share no base
        raise DataError(f"{place} cannot be read: {_first_line(error)}.") from None


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__).rstrip(".")
