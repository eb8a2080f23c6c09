"""Cache: say what is kept of tables and corpora, and free it."""

import json
from contextlib import suppress

import typer

from regkit.base.kept import cache_root, forget, kept_below
from regkit.base.wording import in_bytes
from regkit.cli.terminal import Terminal, print_line


def clean(yes: bool, as_json: bool) -> None:
    """Say how much is kept, and free it if the user agrees."""
    root, console = cache_root(), Terminal()
    found = kept_below(root)
    total = sum(found.values())
    if not as_json:
        print_line(console, f"{root}: {in_bytes(total)}, the tokens of {len(found)} tables and corpora")
    freed = 0
    if found and (yes or (not as_json and _agrees(console, total))):
        for place, size in found.items():
            with suppress(OSError):
                freed += size if forget(place) else 0
        if not as_json:
            print_line(console, f"freed {in_bytes(freed)}")
    if as_json:
        console.out(json.dumps({"cache": str(root), "bytes": total, "freed": freed}, indent=2), highlight=False)


def _agrees(console: Terminal, total: int) -> bool:
    """Ask on a terminal; elsewhere, say how to agree."""
    if console.is_terminal:
        return typer.confirm(f"Free {in_bytes(total)}? What is needed again is made again.")
    print_line(console, f"to free {in_bytes(total)}: regkit clean --cache --yes")
    return False
