"""The command `regkit average`: join the weights of runs, and print the scores beside theirs."""

import json
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from regkit.base.errors import typed
from regkit.base.files import absolute
from regkit.cli.display import print_runs
from regkit.cli.terminal import Terminal, aside, print_lines
from regkit.hooks import catalog
from regkit.runs.average import Averaged
from regkit.runs.average import average as make


def average(runs: Sequence[Path], output: Path, greedy: bool, device: str, factory: str | None, as_json: bool) -> None:
    """Write the average of runs, and print what it is made of and how it scores."""
    with aside() if as_json else nullcontext():
        soup = make(runs, absolute(output), greedy=greedy, device=device, factory=factory)
    console = Terminal()
    alone = {str(member.folder): member.scores for member in soup.members}
    kept = [str(member.folder) for member in soup.kept]
    if as_json:
        found = {"dev": soup.scores, "members": alone, "kept": kept, "warnings": [*soup.caveats, *soup.doubts]}
        console.out(json.dumps(found, indent=2), highlight=False)
        return
    name = f"average of {len(kept)} run{'' if len(kept) == 1 else 's'}"
    print_runs(console, alone | {name: soup.scores}, "dev")
    print_lines(console, _remarks(soup, kept, output))


def _remarks(soup: Averaged, kept: Sequence[str], output: Path) -> list[str]:
    left_out = [str(member.folder) for member in soup.members if str(member.folder) not in kept]
    lines = [f"left out: {', '.join(left_out)}"] if left_out else []
    lines += [] if soup.scores else ["no task has a dev split with labels: the average is not scored"]
    lines += [f"warning: {note}" for note in (*soup.caveats, *soup.doubts)]
    ask = typed("regkit", "eval", output, *catalog.allowance("build"))
    return [*lines, f"run folder: {output}", f"to evaluate it: {ask}"]
