"""Columnar: read Parquet and Arrow files, and folders that `datasets` saved."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from regkit.base.errors import DataError
from regkit.base.files import read_json, read_object
from regkit.data.formats.records import Record, fields_of
from regkit.data.formats.signatures import Columnar as Format

MOST_ROWS = 1 << 22  # of a file that is smaller than that: a row takes at least a byte, unless it repeats without end
MOST_TEXT = 1 << 30  # characters of a file that is small: it may repeat a value without end
REPEATS = 100  # characters for each byte of a larger file
BATCH = 256  # rows that are turned into Python's objects at once


class Columnar:
    """The rows of a Parquet or Arrow file. Raises DataError if it cannot be read."""

    unit = "row"
    hint = ""

    def __init__(self, path: Path, form: Format) -> None:
        _need_pyarrow(path)
        self.path, self.format, self.name = path, form, str(path)
        self.form = {"parquet": "Parquet", "arrow": "Arrow", "arrow stream": "an Arrow stream"}[form]
        with self._opened() as (schema, _):
            self.columns: Sequence[str] = list(schema.names)
            self.classes: Mapping[str, Sequence[str]] = class_names(schema)

    def records(self, columns: Sequence[str]) -> Iterator[Record]:
        """Yield these columns of each row. Raises DataError with the file."""
        tops = list(dict.fromkeys(each if each in self.columns else each.partition(".")[0] for each in columns))
        number = size = 0
        most = max(MOST_TEXT, REPEATS * self.path.stat().st_size)
        with self._opened(tops) as (_, batches):
            for batch in batches:
                for start in range(0, batch.num_rows, BATCH):
                    for row in batch.slice(start, BATCH).to_pylist():
                        number += 1
                        found = fields_of(row, columns)
                        size += sum(map(len, found.values()))
                        if size > most:
                            raise DataError(
                                f"{self.name} has more than {most >> 20} MiB of text, {REPEATS} times what the file takes."
                            )
                        yield number, found

    def notes(self) -> list[str]:
        return []

    @contextmanager
    def _opened(self, columns: Sequence[str] = ()) -> Iterator[tuple[Any, Iterator[Any]]]:
        """Open the schema, and these columns of the rows in batches."""
        import pyarrow

        try:
            if self.format == "parquet":
                with _parquet(self.path, columns) as found:
                    yield found
            else:
                with _arrow(self.path, self.format, columns) as found:
                    yield found
        except (pyarrow.ArrowException, ValueError, OverflowError, RecursionError, OSError) as error:
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise DataError(f"{self.name} cannot be read: {reason.rstrip('.')}.") from None


@contextmanager
def _parquet(path: Path, columns: Sequence[str]) -> Iterator[tuple[Any, Iterator[Any]]]:
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path) as file:
        most = max(MOST_ROWS, path.stat().st_size)
        if file.metadata.num_rows > most:
            raise ValueError(f"it has {file.metadata.num_rows} rows, more than bytes")
        yield file.schema_arrow, file.iter_batches(batch_size=BATCH, columns=list(columns))


@contextmanager
def _arrow(path: Path, form: Format, columns: Sequence[str]) -> Iterator[tuple[Any, Iterator[Any]]]:
    import pyarrow
    import pyarrow.ipc

    with pyarrow.memory_map(str(path)) as file:
        reader = pyarrow.ipc.open_stream(file) if form == "arrow stream" else pyarrow.ipc.open_file(file)
        batches = reader if form == "arrow stream" else map(reader.get_batch, range(reader.num_record_batches))
        yield reader.schema, (_checked(batch).select(list(columns)) for batch in batches)


def _checked(batch: Any) -> Any:
    """Check that a batch's offsets lie within it: Arrow reads a damaged file unchecked, and past its end."""
    batch.validate(full=True)
    return batch


def _need_pyarrow(path: Path) -> None:
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise DataError(f"{path}: reading Parquet and Arrow needs pyarrow: pip install 'regkit[parquet]'.") from None


def class_names(schema: Any) -> dict[str, tuple[str, ...]]:
    """Read the names of classes that `datasets` keeps in a file's metadata, by column."""
    try:
        features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
        found = {name: feature["names"] for name, feature in features.items() if feature.get("_type") == "ClassLabel"}
        return {name: tuple(map(str, names)) for name, names in found.items()}
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return {}


# Folders of `datasets.save_to_disk`


def is_saved(folder: Path) -> bool:
    """Tell whether `datasets` saved this folder: a data set, or several splits of one."""
    return (folder / "state.json").is_file() or (folder / "dataset_dict.json").is_file()


def saved_splits(folder: Path) -> dict[str, Path]:
    """Find the splits in a saved folder: by name, their folders.

    A data set without splits has one without a name.
    """
    if (folder / "state.json").is_file():
        return {"": folder}
    names = read_object(folder / "dataset_dict.json").get("splits")
    found = [name for name in names if isinstance(name, str)] if isinstance(names, list) else []
    return {name: folder / name for name in found if (folder / Path(name).name / "state.json").is_file()}


def saved_files(folder: Path) -> list[Path]:
    """List the Arrow files of a saved data set. Raises DataError if they are not what `datasets` writes."""
    try:
        state = read_json(folder / "state.json")
        names = [Path(each["filename"]).name for each in state["_data_files"]]
        if state.get("_indices_data_files"):
            raise ValueError("its rows are chosen by an index; save what flatten_indices() gives")
    except (KeyError, TypeError, AttributeError):
        raise DataError(f"{folder}/state.json is not what datasets writes.") from None
    except (ValueError, OSError) as error:
        raise DataError(f"{folder} cannot be read: {error}.") from None
    return [folder / name for name in names]


def names_of(sources: Sequence[Mapping[str, Sequence[str]]]) -> dict[str, Sequence[str]]:
    """Take the names of classes that all shards of a table agree on."""
    first, *others = sources
    return {column: names for column, names in first.items() if all(each.get(column) == names for each in others)}
