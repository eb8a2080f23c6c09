"""The command `regkit plugins check`: check an installed plugin for every promise."""

import json
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from regkit.cli.terminal import Terminal, aside, print_line
from regkit.hooks import catalog

if TYPE_CHECKING:
    from regkit.testing import Finding


def check(text: str, device: str, as_json: bool) -> int:
    """Make every check of a plugin, `name:key=value,...`, on a device, and print what each came to.

    Returns an exit status: 0 if none has failed and some were passed, 1 if one has failed, 5 if none was made. Raises
    PluginError for a plugin or an option that is not there, before torch is imported, and ConfigError for such a device.
    """
    catalog.check_names(*catalog.parse(text))
    import torch

    from regkit.distributed.launch import find_device
    from regkit.testing.kit import Kit, checks, counts, factory_of, in_words, status

    torch.set_num_threads(1)  # several times faster on tensors as small as these
    console, place = Terminal(), find_device(device)
    if as_json:
        with aside():
            found = list(Kit(factory_of(text), checks(), place))
        said = {"plugin": text, "counts": counts(found), "checks": [each._asdict() for each in found]}
        console.out(json.dumps(said, indent=2), highlight=False)
    else:
        found = list(_printed(console, Kit(factory_of(text), checks(), place)))
        print_line(console, f"{text}: {in_words(counts(found))}")
    return status(found)


def _printed(console: Terminal, findings: Iterable["Finding"]) -> Iterator["Finding"]:
    """Print each finding as it comes."""
    for each in findings:
        print_line(console, f"{each.outcome:14}  {each.check}{f': {each.reason}' if each.reason else ''}")
        yield each
