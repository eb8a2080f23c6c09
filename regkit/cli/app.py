"""The command line: regkit train, regkit pretrain, regkit eval, regkit plugins."""

import io
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from regkit.base.errors import LostError, RegkitError
from regkit.cli import evaluate as evaluating
from regkit.cli import plugins as listing
from regkit.cli import train as commands
from regkit.distributed.launch import speaks

INTERRUPTED = 130
LONG = 2000  # characters of a message: what a file or a library says may be of any length
USAGE: Any = typer.BadParameter.__base__  # typer's own UsageError, or click's: which one depends on typer's version

app = typer.Typer(
    name="regkit",
    help="Fine-tune a BERT-sized encoder on several tasks at once, with methods as plugins.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


class SplitName(StrEnum):
    """A split that can be scored."""

    TRAIN = "train"
    DEV = "dev"
    TEST = "test"


ConfigFile = Annotated[
    Path | None, typer.Argument(metavar="[CONFIG.toml]", help="Settings; options below go before them.")
]
Plugins = Annotated[
    list[str] | None,
    typer.Option("--plugin", "-p", metavar="NAME[:key=value,...]", help="Attach a plugin; the first is the outermost."),
]
Encoder = Annotated[str | None, typer.Option(metavar="NAME_OR_FOLDER", help="A BERT checkpoint. Without it, MiniLM.")]
Steps = Annotated[int | None, typer.Option(help="Updates, instead of epochs.")]
Rate = Annotated[float | None, typer.Option(help="Peak learning rate; 5e-5 unless said otherwise.")]
Seed = Annotated[int | None, typer.Option(help="Where all random numbers come from; 0 unless said otherwise.")]
Device = Annotated[str | None, typer.Option(help="cuda, mps or cpu; the best there is unless said otherwise.")]
Memory = Annotated[str | None, typer.Option(metavar="2GB", help="Most memory to take; batches are cut so as to fit.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check everything, print the plan, train nothing.")]
Data = Annotated[Path | None, typer.Option(help="A folder, or a TOML file that declares tasks. Without it, a demo.")]


@app.command()
def train(
    config: ConfigFile = None,
    plugin: Plugins = None,
    data: Data = None,
    tasks: Annotated[str | None, typer.Option(metavar="A,B", help="Train only these of the data's tasks.")] = None,
    encoder: Encoder = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs; 3 unless said otherwise.")] = None,
    steps: Steps = None,
    batch_size: Annotated[int | None, typer.Option(help="Examples an update; 32 unless said otherwise.")] = None,
    lr: Rate = None,
    seed: Seed = None,
    device: Device = None,
    output: Annotated[
        Path | None, typer.Option(help="The run's folder; a new one in runs/ unless said otherwise.")
    ] = None,
    memory: Memory = None,
    micro_batch_tokens: Annotated[
        int | None, typer.Option(help="Most tokens at once; 16384 unless said otherwise.")
    ] = None,
    resume: Annotated[
        str | None,
        typer.Option(
            metavar="RUN|auto", help="Go on with a run; auto: with --output, where something is there already."
        ),
    ] = None,
    save_steps: Annotated[
        int | None, typer.Option(help="A checkpoint every so many updates, beside that of each epoch.")
    ] = None,
    save_minutes: Annotated[
        float | None, typer.Option(help="A checkpoint every so many minutes; 10 unless said otherwise.")
    ] = None,
    keep: Annotated[
        int | None, typer.Option(help="Newest checkpoints kept beside the best; 2 unless said otherwise.")
    ] = None,
    monitor: Annotated[
        str | None,
        typer.Option(metavar="TASK.METRIC", help="Which score makes the best; the mean unless said otherwise."),
    ] = None,
    patience: Annotated[
        int | None, typer.Option(help="Evaluations without a better score before training ends.")
    ] = None,
    dry_run: DryRun = False,
) -> None:
    """Train a multitask model and leave a run folder behind."""
    given: dict[str, Any] = {
        "data": data,
        "encoder": encoder,
        "epochs": epochs,
        "steps": steps,
        "batch_size": batch_size,
    }
    chosen = None if tasks is None else [name.strip() for name in tasks.split(",")]
    given |= {"learning_rate": lr, "seed": seed, "device": device, "tasks": chosen}
    given |= {"save_steps": save_steps, "save_minutes": save_minutes, "keep": keep}
    given |= {"monitor": monitor, "patience": patience, "memory": memory}
    given |= {"micro_batch_tokens": micro_batch_tokens}
    said = {name: value for name, value in given.items() if value is not None}
    commands.train(config, said, plugin or [], output, resume, dry_run)


@app.command()
def pretrain(
    corpus: Annotated[
        str, typer.Option(help="A file, a folder, a glob, hub:NAME, or tasks: the training texts of --data.")
    ],
    encoder: Encoder = None,
    data: Annotated[
        Path | None, typer.Option(help="Tasks to read, or whose dev and test texts are looked for.")
    ] = None,
    plugin: Plugins = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs; 1 unless said otherwise.")] = None,
    steps: Steps = None,
    batch_size: Annotated[int | None, typer.Option(help="Sequences an update; 32 unless said otherwise.")] = None,
    lr: Rate = None,
    seed: Seed = None,
    device: Device = None,
    output: Annotated[
        Path | None, typer.Option(help="The encoder's folder; a new one in runs/ unless said otherwise.")
    ] = None,
    memory: Memory = None,
    dry_run: DryRun = False,
) -> None:
    """Train an encoder on text of a domain, and leave a folder that --encoder and transformers read.

    More options: --plugin domain:length=256,whole_words=true. It goes on like every run: regkit train --resume FOLDER.
    """
    given = {"encoder": encoder, "data": data, "seed": seed, "device": device, "memory": memory}
    domain = {"corpus": corpus, "epochs": epochs, "steps": steps, "batch_size": batch_size, "learning_rate": lr}
    commands.pretrain(
        {name: value for name, value in given.items() if value is not None},
        {name: value for name, value in domain.items() if value is not None},
        plugin or [],
        output,
        dry_run,
    )


@app.command("eval")
def evaluate(
    run: Annotated[
        Path | None, typer.Argument(metavar="[RUN]", help="A run's folder; the latest unless said otherwise.")
    ] = None,
    split: Annotated[SplitName, typer.Option(help="Which split to score.")] = SplitName.DEV,
    data: Annotated[Path | None, typer.Option(help="Other data with the same tasks.")] = None,
    predictions: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write a CSV file of predictions a task.")
    ] = None,
    device: Annotated[str, typer.Option(help="cuda, mps or cpu; the best there is unless said otherwise.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print the scores as JSON, and nothing else.")] = False,
) -> None:
    """Score a run's best checkpoint."""
    evaluating.evaluate(run, split.value, data, predictions, device, as_json)


@app.command()
def plugins(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="One plugin, with its options.")] = None,
) -> None:
    """List the installed plugins, or explain one."""
    listing.plugins(name)


def main() -> None:
    """Run the command line. What the user can mend is one sentence on standard error, and exit status 2."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # the name of a file need not be text
    try:
        if status := app(standalone_mode=False):
            raise KeyboardInterrupt if status == INTERRUPTED else SystemExit(status)
    except (KeyboardInterrupt, typer.Abort):  # which of the three depends on typer's version
        _stop("interrupted at once; the last checkpoint, if there is one, is whole.", INTERRUPTED)
    except Exception as error:
        if isinstance(error, RegkitError):
            _stop(str(error), error.status, isinstance(error, LostError), error.remedy)
        if isinstance(error, USAGE):
            said = error.format_message().replace("Value error, ", "")
            _stop(said[0].lower() + said[1:], 2) if said else sys.exit(2)  # without a message, it has printed the help
        if isinstance(error, OSError):
            _stop(f"{error.filename or 'writing'}: {error.strerror or error}.", 2)
        if isinstance(error, MemoryError):
            _stop("there is not enough memory for this.", 2)
        raise


def _stop(message: str, status: int, lost: bool = False, remedy: str = "") -> None:
    """One line, whatever a file or a library put into the message; of several processes, by one."""
    if not message or not speaks(message, waits=lost):
        sys.exit(status)
    message = f"{message} {remedy}".strip()
    if len(message) > LONG:
        message = f"{message[: LONG // 2]} ... {message[-LONG // 2 :]}"
    line = "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in message.strip())
    print(f"regkit: {line.rstrip('.')}{'' if line.endswith('?') else '.'}", file=sys.stderr)
    sys.exit(status)
