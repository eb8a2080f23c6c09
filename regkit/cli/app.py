"""The command line: all commands of regkit, and how each of them ends."""

import io
import os
import sys
from collections.abc import Callable, Sequence
from contextvars import copy_context
from importlib.metadata import version
from signal import SIGINT, Signals
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from regkit.base.errors import ConfigError, RegkitError
from regkit.cli.commands import lists, models, plugins, studies, training
from regkit.cli.endings import end_by, stop
from regkit.cli.signals import heeded

INTERRUPTED = 130
# On a CPU, torch and oneDNN each keep what they have prepared for so many sizes of matrix products in bf16: 1,024 unless they
# are told otherwise, up to several MB each, and packed batches rarely have the same number of tokens twice.
SIZES = {"LRU_CACHE_CAPACITY": "16", "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "16"}
COMMANDS: dict[str, Callable[..., None]] = {  # in the order of the help
    "train": training.train,
    "pretrain": training.pretrain,
    "ablate": studies.ablate,
    "tune": studies.tune,
    "work": studies.work,
    "eval": models.evaluate,
    "predict": models.predict,
    "export": models.export,
    "average": models.average,
    "data": lists.look_at_data,
    "runs": lists.runs,
    "report": lists.report,
    "clean": lists.clean,
    "explain": training.explain,
    "profile": training.profile,
    "settings": lists.show_settings,
}
SAVING = ("train", "pretrain", "ablate", "tune", "work")  # commands that save checkpoints
SHARED = ("train", "pretrain", "eval", "work")  # commands that several processes do together
GROUPS = {"plugins": plugins.app}  # of commands, which come last in the help


class InOrder(TyperGroup):
    """Lists commands before groups of commands; typer does it the other way round."""

    def list_commands(self, ctx: Any) -> list[str]:
        """List the names of the commands in the order of the help."""
        return [*COMMANDS, *GROUPS]


app = typer.Typer(
    name="regkit",
    cls=InOrder,
    help="Fine-tune a BERT-sized encoder on several tasks at once, with methods as plugins.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",  # of which typer's versions think differently
    context_settings={"help_option_names": ["-h", "--help"]},
)
for name, command in COMMANDS.items():
    as_they_are = {"ignore_unknown_options": name == "settings"}  # `--lr` is a setting's name, too
    app.command(name, context_settings=as_they_are)(command)
for name, group in GROUPS.items():
    app.add_typer(group, name=name)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"regkit {version('regkit')}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    version_: Annotated[
        bool,
        typer.Option("--version", metavar="", callback=_version, is_eager=True, help="Print the version, and end."),
    ] = False,
) -> None:
    """Fine-tune a BERT-sized encoder on several tasks at once, with methods as plugins."""
    if "RANK" in os.environ and context.invoked_subcommand not in SHARED:
        _check_alone(context.invoked_subcommand)


def _check_alone(command: str | None) -> None:
    """Raise ConfigError under torchrun: each process would do the whole work of the command.

    What torchrun had in the environment may be left over.
    """
    from regkit.distributed.launch import started

    if started() > 1 and "TORCHELASTIC_RUN_ID" not in os.environ:
        raise ConfigError(
            f"regkit {command} is one process, and RANK and WORLD_SIZE say that it is one of {started()}; unset both."
        )
    if started() > 1:
        raise ConfigError(
            f"regkit {command} is one process; start it without torchrun, which is for {', '.join(SHARED)}."
        )


def main() -> None:
    """Run the command line. An error of the user is one sentence on standard error, and exit status 2."""
    for name, count in SIZES.items():
        os.environ.setdefault(name, count)  # it is read when torch is imported
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # the name of a file need not be text
    with heeded() as came:
        try:
            if status := copy_context().run(app, standalone_mode=False):  # what a command may run ends with it
                raise KeyboardInterrupt if status == INTERRUPTED else SystemExit(status)
        except SystemExit as end:  # rich's status 1 for `regkit train --help | head` is no error
            sys.exit(0 if isinstance(end.__context__, BrokenPipeError) else end.code)
        except (KeyboardInterrupt, typer.Abort):  # which of the three depends on typer's version
            _interrupted(came)
        except Exception as error:
            if came and not isinstance(error, RegkitError):  # torch's exporter makes an error of its own of it
                _interrupted(came)
            end_by(error)


def _interrupted(came: Sequence[Signals]) -> NoReturn:
    """End a command that a signal has ended, with the exit status that a shell gives it."""
    number = came[0] if came else SIGINT
    what = "interrupted at once" if number == SIGINT else f"ended at once by {number.name}"
    kept = "; the last checkpoint, if there is one, is whole" if "".join(sys.argv[1:2]) in SAVING else ""
    stop(f"{what}{kept}.", 128 + number)
