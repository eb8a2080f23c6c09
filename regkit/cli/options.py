"""Options: settings as options of the command line, made from the fields of `Settings`."""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import typer

from regkit.base.described import Option
from regkit.base.errors import ConfigError
from regkit.runs.elsewhere import OTHER_NAMES
from regkit.runs.settings import GROUPS
from regkit.runs.settings import options as all_settings

SWITCHES = (bool, bool | None)  # their types; None is on, in a new run
OFF = "no_"  # before the name of a switch
KINDS: dict[object, str] = {int: "N", float: "X", str: "NAME", Path: "PATH", list: "A,B"}  # what is shown for a value
SHOWN = {
    "encoder": "NAME|FOLDER",
    "encoder_factory": "MODULE:FUNCTION",
    "memory": "SIZE",
    "monitor": "SCORE",
    "text": "COLUMN",
    "label": "COLUMN",
    "dev": "PATH|SHARE",
    "subsample": "TASK=N",
    "label_noise": "TASK=SHARE",
    "pair_mode": "TASK=MODE",
}  # where that says too little
REPEATED = {"text", "pair_mode", "subsample", "label_noise"}  # of several values: the option is given several times
LISTED = {"tasks"}  # of several names: with commas, or the option is given several times
PANELS = ["", *GROUPS]  # the parts of a command's help; the first has the title that typer gives it


def flag(name: str) -> str:
    """Name the option of a setting: `--batch-size` of `batch_size`."""
    return f"--{name.replace('_', '-')}"


def takes_settings(
    names: Iterable[str], otherwise: Mapping[str, Mapping[str, Any]] | None = None
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command an option for each of these settings; it gets those that were given as `settings`.

    Typer builds a command from a signature, so one is made. `otherwise` has what differs from the field: its default.
    Values arrive as text: `Settings` alone checks them, whether from here or from a file.
    """
    known, changed = all_settings(), otherwise or {}
    given = list(names)
    made = [each for name in given for each in _parameters(name, known[name], **changed.get(name, {}))]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @wraps(command)
        def run(**values: Any) -> None:
            options = {each.name: values.pop(each.name) for each in made}
            for off in [name for name in options if name.startswith(OFF) and options[name]]:
                name = off.removeprefix(OFF)
                if options[name]:
                    raise ConfigError(f"{flag(name)} and {flag(off)} are both given; leave one of them out.")
                options[name] = False
            for name in LISTED & options.keys():
                options[name] = ",".join(options[name]) if options[name] else None
            command(**values, settings={name: options[name] for name in given if options[name] not in (None, [])})

        own = inspect.signature(command, eval_str=True).parameters.values()
        keyword = inspect.Parameter.KEYWORD_ONLY
        parameters = [each.replace(kind=keyword) for each in own if each.name != "settings"] + made
        parameters.sort(key=lambda each: PANELS.index(_panel(each)))
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {each.name: each.annotation for each in parameters}
        return run

    return decorate


def _panel(parameter: inspect.Parameter) -> str:
    _, info, *_ = get_args(parameter.annotation)
    return info.rich_help_panel or ""


def _parameters(name: str, setting: Option, meaning: str = "", default: Any = None) -> list[inspect.Parameter]:
    """Make the parameter of a setting; for a switch, a hidden one that turns it off as well."""
    default = setting.default if default is None else default
    off = flag(OFF + name)
    shown = "" if default in (None, {}) else f" [default: {in_short(default)}]"
    switch = setting.hint in SWITCHES
    if switch:
        shown = " [default: off]" if default is False else f" [default: on; {off} turns it off]"
    panel = next(group for group, members in GROUPS.items() if name in members)
    option = typer.Option(
        *[flag(name), *filter(None, [OTHER_NAMES.get(name)])],
        metavar="" if switch else SHOWN.get(name) or _kind(setting.hint),
        help=f"{meaning or setting.meaning}{shown}".replace("[", "\\["),  # a bracket begins markup
        show_default=False,  # it stands in the text: None is what tells that an option is not given
        rich_help_panel=panel,
        autocompletion=_completer(_choices(setting.hint)),
    )
    if not switch:
        return [_keyword(name, list[str] | None if name in REPEATED | LISTED else str | None, option)]
    hidden = typer.Option(off, hidden=True, rich_help_panel=panel)  # a column of its own would cut the text
    return [_keyword(name, bool | None, option), _keyword(OFF + name, bool | None, hidden)]


def in_short(default: object) -> str:
    """Write a default as the user would give it: `10`, `none`, `true`."""
    if isinstance(default, float):
        return f"{default:g}"
    return "none" if default == {} else str(default).lower()


def _keyword(name: str, hint: Any, option: Any) -> inspect.Parameter:
    keyword = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, keyword, default=None, annotation=Annotated[hint, option])


def _choices(hint: Any) -> Sequence[str]:
    return get_args(hint) if get_origin(hint) is Literal else ()


def _kind(hint: Any) -> str:
    """Show what a value is: the first member of a union, without what Annotated adds."""
    if choices := _choices(hint):
        return "|".join(choices)
    if get_origin(hint) in KINDS or hint in KINDS:
        return KINDS[get_origin(hint) or hint]
    return _kind(get_args(hint)[0])


def _completer(words: Sequence[str]) -> Callable[[str], list[str]] | None:
    return (lambda incomplete: [word for word in words if word.startswith(incomplete)]) if words else None
