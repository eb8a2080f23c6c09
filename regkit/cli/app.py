"""The command line: the commands of regkit and their options.

Torch takes seconds to import. So a command first checks what it can without, and imports the rest when that is right.
"""

import io
import sys
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer

from regkit.base.errors import ConfigError, typed
from regkit.cli import request as requests
from regkit.cli.endings import end_by, stop
from regkit.cli.gather import change, check, gather, make_importable
from regkit.cli.options import flag, takes_settings
from regkit.data.bare import Given
from regkit.data.find import find_tasks, is_table
from regkit.data.stream import open_stream
from regkit.experiments import place as places
from regkit.experiments import plan as plans
from regkit.experiments import search as searches
from regkit.experiments import storage as storages
from regkit.hooks import catalog
from regkit.runs import folders
from regkit.runs.described import descriptions, find_checkpoint
from regkit.runs.export import formats
from regkit.runs.settings import GROUPS, Settings
from regkit.runs.settings import options as known_settings

INTERRUPTED = 130
DOMAIN = "domain"  # the plugin behind `regkit pretrain`: the one that the command line knows by name
DOMAINS_OWN = [
    "epochs",
    "steps",
    "batch_size",
    "learning_rate",
]  # settings of `pretrain` that are options of that plugin
FINETUNING = {  # settings without a meaning for `pretrain`
    *("tasks", "finetune", "warmup", "weight_decay", "max_length"),
    *("text", "label", "kind", "dev", "test", "subsample"),
}

app = typer.Typer(
    name="regkit",
    help="Fine-tune a BERT-sized encoder on several tasks at once, with methods as plugins.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",  # of which typer's versions think differently
    context_settings={"help_option_names": ["-h", "--help"]},
)


class FormatName(StrEnum):
    """Name the forms in which other programs read a model."""

    HF = "hf"
    ONNX = "onnx"
    SENTENCE_TRANSFORMERS = "sentence-transformers"


class SplitName(StrEnum):
    """Name the splits that can be scored."""

    TRAIN = "train"
    DEV = "dev"
    TEST = "test"


class MakingName(StrEnum):
    """Name the ways in which rows are made of sets."""

    LEAVE_ONE_OUT = "leave-one-out"
    ONE_AT_A_TIME = "one-at-a-time"
    GRID = "grid"


class TableName(StrEnum):
    """Name the forms of a table."""

    TERMINAL = "terminal"
    MARKDOWN = "markdown"
    LATEX = "latex"
    CSV = "csv"
    JSON = "json"


class SamplerName(StrEnum):
    """Name the samplers of a search."""

    GP = "gp"
    TPE = "tpe"
    RANDOM = "random"


class PrecisionName(StrEnum):
    """Name the number formats of predictions."""

    FP32 = "fp32"
    BF16 = "bf16"


def _plugin_names(incomplete: str) -> list[str]:
    return [name for name in catalog.installed() if name.startswith(incomplete)]


def _setting_names(incomplete: str) -> list[str]:
    return [name for name in known_settings() if name.startswith(incomplete)]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"regkit {version('regkit')}")
        raise typer.Exit


@app.callback()
def options(
    version_: Annotated[
        bool,
        typer.Option("--version", metavar="", callback=_version, is_eager=True, help="Print the version, and end."),
    ] = False,
) -> None:
    """Fine-tune a BERT-sized encoder on several tasks at once, with methods as plugins."""


ConfigFile = Annotated[
    Path | None, typer.Argument(metavar="CONFIG.toml", help="Settings; the options below change them.")
]
Plugins = Annotated[
    list[str] | None,
    typer.Option(
        "--plugin",
        "-p",
        metavar="NAME[:key=value,...]",
        help="Attach a plugin; the first is the outermost.",
        autocompletion=_plugin_names,
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(metavar="PATH", help="The folder to write. Without it, a new one in runs/.", rich_help_panel="Saving"),
]
Resume = Annotated[
    str | None,
    typer.Option(
        metavar="RUN|auto",
        help="Go on with a run; auto: with that of --output, if there is one.",
        rich_help_panel="Saving",
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", metavar="", help="Check everything, print the plan, train nothing.")]


@app.command()
@takes_settings([name for names in GROUPS.values() for name in names])
def train(
    config: ConfigFile = None,
    plugin: Plugins = None,
    output: Output = None,
    resume: Resume = None,
    dry_run: DryRun = False,
    *,
    settings: dict[str, Any],
) -> None:
    """Train a multitask model and leave a run folder behind."""
    run = folders.to_resume(resume, output)
    base = run / folders.CONFIG if run and resume != folders.AUTO and not config else config
    chosen = gather(base, settings, [catalog.parse(text) for text in plugin or []])
    if run is None:
        folders.check_free(output)
    check(chosen, begins=run is None)

    from regkit.cli import train as training

    training.train(chosen, base, run, output, dry_run)


@app.command()
@takes_settings(
    [name for names in GROUPS.values() for name in names if name not in FINETUNING],
    {
        "data": {"meaning": "Tasks to read, or whose dev and test texts are looked for."},
        "epochs": {"meaning": "Passes over the corpus.", "default": 1},
        "batch_size": {"meaning": "Sequences in an update."},
        "learning_rate": {"meaning": "Learning rate at its peak."},
    },
)
def pretrain(
    corpus: Annotated[
        str,
        typer.Option(
            metavar="PATH",
            help="A file, a folder, a glob, hub:NAME, or tasks: the training texts of --data.",
            rich_help_panel="What to train on",
        ),
    ],
    plugin: Plugins = None,
    output: Output = None,
    dry_run: DryRun = False,
    *,
    settings: dict[str, Any],
) -> None:
    """Train an encoder on text of a domain, and leave a folder that --encoder and transformers read.

    More options: --plugin domain:length=256,whole_words=true. It goes on like every run: regkit train --resume FOLDER.
    """
    chosen = gather(None, {"data": None, **settings, "finetune": False}, [catalog.parse(text) for text in plugin or []])
    given = {name: getattr(chosen, name) for name in DOMAINS_OWN if name in settings}
    domain = {"corpus": corpus, **given, **chosen.plugins.get(DOMAIN, {})}
    defaults = {name: option.default for name, option in known_settings().items() if name in given}
    chosen = chosen.model_copy(update={"plugins": {DOMAIN: domain} | {**chosen.plugins, DOMAIN: domain}, **defaults})
    folders.check_free(output)
    check(chosen, begins=True)

    from regkit.cli import train as training

    training.train(chosen, None, None, output, dry_run)


Storage = Annotated[
    str | None,
    typer.Option(
        metavar="URL|FILE",
        envvar="REGKIT_STORAGE",
        show_envvar=False,
        help="Where the runs are noted: postgresql://..., or a journal file. Without it, SQLite in the study's folder.",
        rich_help_panel="Saving",
    ),
]
KeepWeights = Annotated[
    bool,
    typer.Option("--keep-weights", metavar="", help="Keep the best model of every run.", rich_help_panel="Saving"),
]


@app.command()
@takes_settings([name for names in GROUPS.values() for name in names if name != "seed"])
def ablate(
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE.toml", help="Rows and settings; the options below change them.")
    ] = None,
    plugin: Annotated[
        list[str] | None,
        typer.Option(
            "--plugin",
            "-p",
            metavar="SET",
            help="A row: plugins and settings joined by +, such as smart:weight=2+dropout=0, or plain.",
            autocompletion=_plugin_names,
        ),
    ] = None,
    seeds: Annotated[
        str | None, typer.Option(metavar="N|LIST", help="Runs of each row: 5, or 0,1,2. Without it, 5.")
    ] = None,
    jobs: Annotated[
        int,
        typer.Option(metavar="N", min=0, help="Processes that work at the same time. 0 leaves that to regkit work."),
    ] = 1,
    rows: Annotated[
        MakingName | None,
        typer.Option(metavar="HOW", help="Make rows of the sets: leave-one-out, one-at-a-time or grid."),
    ] = None,
    baseline: Annotated[
        str | None, typer.Option(metavar="NAME", help="The row that others are compared with. Without it, plain.")
    ] = None,
    race: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="Stop rows that are decided, and end in this time, such as 1h, with a verdict."
        ),
    ] = None,
    output: Output = None,
    storage: Storage = None,
    keep_weights: KeepWeights = False,
    form: Annotated[
        TableName,
        typer.Option("--format", metavar="FORM", help="Print the table for terminal, markdown, latex, csv or json."),
    ] = TableName.TERMINAL,
    dry_run: DryRun = False,
    *,
    settings: dict[str, Any],
) -> None:
    """Compare sets of plugins and settings over several seeds; the same command again goes on."""
    draft = plans.read_draft(file) if file else plans.Draft()
    shared = change(draft.settings, file, settings)
    time = plans.read_time(race, "--race") if race is not None else None
    plan = plans.made(draft, shared, plugin or [], seeds, rows.value if rows else None, baseline, racing=bool(time))
    for name in plan.rows:
        check(plan.settings_of(plans.Cell(name, plan.seeds[0])), begins=True)
    place = places.new_place(output, file, shared, storage or draft.storage)
    storages.check_installed()

    from regkit.cli import ablate as comparing

    comparing.ablate(place, plan, jobs, keep_weights, form.value, dry_run, time)


@app.command()
@takes_settings([name for names in GROUPS.values() for name in names])
def tune(
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE.toml", help="Settings and \\[search]; the options below change them.")
    ] = None,
    plugin: Plugins = None,
    trials: Annotated[
        str | None, typer.Option(metavar="N", help="Points to try, the default included. \\[default: 30]")
    ] = None,
    space: Annotated[
        list[str] | None,
        typer.Option(
            "--space",
            metavar="NAME[=RANGE]",
            help="Vary an option: learning_rate=1e-5..1e-3 log, dropout=0,0.1, or smart.epsilon over its own range.",
        ),
    ] = None,
    sampler: Annotated[SamplerName | None, typer.Option(help="How points are proposed. \\[default: gp]")] = None,
    seeds: Annotated[str | None, typer.Option(metavar="N", help="Runs of a trial, a seed each. \\[default: 3]")] = None,
    fresh_seeds: Annotated[
        str | None, typer.Option(metavar="N", help="Runs of the winner and the default at the end. \\[default: 10]")
    ] = None,
    jobs: Annotated[
        int,
        typer.Option(metavar="N", min=0, help="Processes that work at the same time. 0 leaves that to regkit work."),
    ] = 1,
    output: Output = None,
    storage: Storage = None,
    keep_weights: KeepWeights = False,
    dry_run: DryRun = False,
    *,
    settings: dict[str, Any],
) -> None:
    """Search for better settings, and compare the winner with the default on fresh seeds."""
    given = {"trials": trials, "sampler": sampler, "seeds": seeds, "fresh_seeds": fresh_seeds}
    asked = searches.SearchFile.read(file) if file else searches.SearchFile()
    chosen = change(asked.settings, file, settings, [catalog.parse(text) for text in plugin or []])
    search = asked.search(chosen, {name: each for name, each in given.items() if each is not None}, space)
    check(chosen, begins=True)
    own = output or (folders.RUNS / f"{file.stem}-tune" if file else None)
    place = places.new_place(own, file, chosen, storage or asked.storage, "search")
    storages.check_installed()

    from regkit.cli import tune as tuning

    tuning.tune(place, search, jobs, keep_weights, dry_run)


@app.command()
def work(
    study: Annotated[Path, typer.Argument(metavar="STUDY", help="A study's folder, or its name.")],
    storage: Storage = None,
    keep_weights: KeepWeights = False,
    encoder_factory: Annotated[
        str | None,
        typer.Option(metavar="MODULE:FUNCTION", help="What builds the study's encoder, if it is one of your own."),
    ] = None,
) -> None:
    """Work on a study until no run is left; any number of workers may do so at the same time."""
    place = places.find_place(study, storage)
    _check_factory(encoder_factory)
    storages.check_installed()

    from regkit.cli import work as working

    working.work(place, encoder_factory, keep_weights)


def _check_factory(encoder_factory: str | None) -> None:
    """Check the words by which the user lets regkit import what builds an encoder, and make them importable."""
    named = {"encoder_factory": encoder_factory}
    Settings.checked(named, "the command line", {name: flag(name) for name in named})
    make_importable(encoder_factory)


@app.command("eval")
def evaluate(
    run: Annotated[
        Path | None, typer.Argument(metavar="RUN", help="A run's folder. Without it, that of the latest run.")
    ] = None,
    split: Annotated[SplitName, typer.Option(help="Which split to score.")] = SplitName.DEV,
    data: Annotated[Path | None, typer.Option(metavar="PATH", help="Other data with the same tasks.")] = None,
    predictions: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Write a CSV file of predictions for each task to this folder.")
    ] = None,
    device: Annotated[
        str, typer.Option(metavar="NAME", help="cuda, mps or cpu. auto takes the first that this machine has.")
    ] = "auto",
    encoder_factory: Annotated[
        str | None,
        typer.Option(metavar="MODULE:FUNCTION", help="What builds the run's encoder, if it is one of your own."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", metavar="", help="Print the scores as JSON, and nothing else.")
    ] = False,
    report: Annotated[
        bool,
        typer.Option("--report", metavar="", help="Add intervals, confusion, calibration and the worst errors."),
    ] = False,
) -> None:
    """Score a run's best checkpoint."""
    folder = folders.find_folder(run)
    if data is not None and not is_table(data):
        find_tasks(data)
    Settings.read(folder / folders.CONFIG)
    _check_factory(encoder_factory)

    from regkit.cli import evaluate as evaluating

    evaluating.evaluate(run, split.value, data, predictions, device, encoder_factory, as_json, report)


@app.command()
def predict(
    run: Annotated[
        Path | None,
        typer.Argument(metavar="RUN", help="A run's folder, or a checkpoint's. Without it, that of the latest run."),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Argument(metavar="FILE", help="A table, or one text a line. Without it, or for -, standard input."),
    ] = None,
    task: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A task to ask; may be repeated. Without it, all.")
    ] = None,
    text: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN", help="The column of the text, or two for a pair. Without it, as in training."),
    ] = None,
    lines: Annotated[
        bool, typer.Option("--lines", metavar="", help="Read one text a line, whatever the ending.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where to write: .csv or .jsonl. Without it, standard output.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", metavar="", help="Write JSON lines, not CSV.")] = False,
    device: Annotated[
        str, typer.Option(metavar="NAME", help="cuda, mps or cpu. auto takes the first that this machine has.")
    ] = "auto",
    precision: Annotated[
        PrecisionName, typer.Option(help="Number format. fp32 gives what eval scores; bf16 is faster on CUDA.")
    ] = PrecisionName.FP32,
    micro_batch_tokens: Annotated[
        int, typer.Option(metavar="N", min=1, help="Most tokens to compute at once. Answers do not depend on it.")
    ] = 16384,
    encoder_factory: Annotated[
        str | None,
        typer.Option(metavar="MODULE:FUNCTION", help="What builds the run's encoder, if it is one of your own."),
    ] = None,
) -> None:
    """Answer for new texts with a run's best checkpoint."""
    where, texts = requests.which(run, file)
    as_json = requests.check_output(output, as_json, texts)
    if lines and text:
        raise ConfigError("--lines reads one text a line, which has no columns; leave out --text.")
    _check_factory(encoder_factory)
    checkpoint = find_checkpoint(where)
    tasks = requests.choose(descriptions(checkpoint), task or [], text or [])
    readable = [tuple(text or each.columns) for each in tasks.values()]
    layout = requests.layout_of(tasks)
    with open_stream(texts, readable, layout, lines=lines, table=bool(text)) as stream:
        asked = requests.request(stream, tasks, text or [], named=bool(task))

        from regkit.cli import predict as predicting

        trained = predicting.load_alone(checkpoint, device, precision.value, micro_batch_tokens, encoder_factory)
        predicting.predict(trained, asked, output, as_json)


@app.command("data")
def look_at_data(
    places: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Tables, folders, or hub:NAME.")],
    text: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN", help="The column of the text, or two for a pair. Without it, guessed."),
    ] = None,
    label: Annotated[str | None, typer.Option(metavar="COLUMN", help="The column of the label, as --text.")] = None,
    kind: Annotated[str | None, typer.Option(metavar="KIND", help="What the labels are. Without it, read off.")] = None,
    output: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Write the declaration of the tasks to this new file, such as tasks.toml."),
    ] = None,
) -> None:
    """Look into files: say what they hold, and write the tasks.toml that declares it."""
    from regkit.cli import data as looking

    looking.data(places, Given(text, label, kind), output)


@app.command()
def export(
    run: Annotated[
        Path | None, typer.Argument(metavar="RUN", help="A run's folder. Without it, that of the latest run.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The folder to write, which is new or empty.")
    ] = None,
    task: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A task to export; onnx holds several, --task each.")
    ] = None,
    form: Annotated[
        FormatName,
        typer.Option("--format", help="Who reads it: transformers, onnxruntime or sentence-transformers."),
    ] = FormatName.HF,
) -> None:
    """Write a run's best model in a form that other programs read."""
    folder = folders.find_folder(run)
    if output is None:
        raise ConfigError(f"name the folder to write: {typed('regkit', 'export', run or folder, '--output', 'DIR')}")
    settings = Settings.read(folder / folders.CONFIG)
    names = formats.choose_tasks(folder, settings, form.value, task or [])
    formats.check_output(output)
    formats.check_libraries(form.value)

    from regkit.cli import export as exporting

    exporting.export(folder, settings, names, form.value, output)


RunPaths = Annotated[
    list[Path] | None, typer.Argument(metavar="RUN...", help="Runs, or folders of runs. Without it, runs/.")
]


@app.command()
def runs(
    paths: RunPaths = None,
    as_json: Annotated[bool, typer.Option("--json", metavar="", help="Print JSON, and nothing else.")] = False,
) -> None:
    """List runs with plugins, scores, time and disk; of two runs, print where they differ."""
    from regkit.cli import runs as listing

    listing.runs(paths or [], as_json)


@app.command()
def clean(
    paths: RunPaths = None,
    yes: Annotated[bool, typer.Option("--yes", metavar="", help="Free it without asking.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", metavar="", help="Print JSON, and nothing else; frees only with --yes.")
    ] = False,
) -> None:
    """Free what finished runs hold: training state, and checkpoints that are neither best nor last."""
    from regkit.cli import runs as listing

    listing.clean(paths or [], yes, as_json)


@app.command()
def plugins(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="One plugin, with its options.", autocompletion=_plugin_names),
    ] = None,
) -> None:
    """List the installed plugins, or explain one."""
    from regkit.cli import plugins as listing

    listing.plugins(name)


@app.command("settings", context_settings={"ignore_unknown_options": True})  # `--lr` is a setting's name, too
def show_settings(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="One setting.", autocompletion=_setting_names)
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", metavar="", help="Print the page of the docs.")] = False,
) -> None:
    """List the settings of a run with types, defaults and meanings, or explain one."""
    from regkit.cli import settings as listing

    listing.settings(name, markdown)


def main() -> None:
    """Run the command line. An error of the user is one sentence on standard error, and exit status 2."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # the name of a file need not be text
    try:
        if status := app(standalone_mode=False):
            raise KeyboardInterrupt if status == INTERRUPTED else SystemExit(status)
    except SystemExit as end:  # rich's status 1 for `regkit train --help | head` is no error
        sys.exit(0 if isinstance(end.__context__, BrokenPipeError) else end.code)
    except (KeyboardInterrupt, typer.Abort):  # which of the three depends on typer's version
        stop("interrupted at once; the last checkpoint, if there is one, is whole.", INTERRUPTED)
    except Exception as error:
        end_by(error)
