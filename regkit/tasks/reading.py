"""Reading: how a task's examples are read from a table."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Layout:
    """What a task says about its tables that their content does not tell."""

    quoting: bool = True  # false: quote characters are plain text
    encoding: str | None = None  # of text files; None: told by their bytes
    names: tuple[str, ...] = ()  # of the columns, for files without a header


@dataclass(frozen=True)
class Reading:
    """Which columns a task reads, and how."""

    text: tuple[str, ...] = ()  # the columns of an example's texts; () for a task that no table gave
    label: str | tuple[str, ...] | None = None  # the column, or columns, of its label
    id: str | None = None  # the column that names it in prediction files
    max_length: int | None = None  # tokens of a sequence, special tokens included; the rest is cut off
    layout: Layout = Layout()
