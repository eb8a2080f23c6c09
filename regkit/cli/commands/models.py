"""Models: the commands that use trained models, such as `regkit eval` and `regkit predict`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from regkit.base.errors import ConfigError, typed
from regkit.cli import request as requests
from regkit.cli.arguments import (
    AttackRadius,
    Device,
    EncoderFactory,
    PluginCode,
    PrecisionName,
    PrecisionOfAnswers,
    ScoresAsJson,
    allow_files,
    check_factory,
    given_radii,
)
from regkit.data.find import find_tasks, is_table
from regkit.data.stream import open_stream
from regkit.runs import folders
from regkit.runs.described import descriptions, find_checkpoint
from regkit.runs.export import formats
from regkit.runs.settings import Settings


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


def evaluate(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(metavar="RUN", help="A run's folder, or several. Without it, that of the latest run."),
    ] = None,
    split: Annotated[SplitName, typer.Option(help="Which split to score.")] = SplitName.DEV,
    data: Annotated[Path | None, typer.Option(metavar="PATH", help="Other data with the same tasks.")] = None,
    predictions: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Write a CSV file of predictions for each task to this folder.")
    ] = None,
    device: Device = "auto",
    precision: PrecisionOfAnswers = PrecisionName.AUTO,
    encoder_factory: EncoderFactory = None,
    plugin: PluginCode = None,
    as_json: ScoresAsJson = False,
    report: Annotated[
        bool,
        typer.Option("--report", metavar="", help="Add intervals, confusion, calibration and the worst errors."),
    ] = False,
    robust: Annotated[
        bool,
        typer.Option("--robust", metavar="", help="Score texts with typing errors, in other words, and under attack."),
    ] = False,
    attack_radius: AttackRadius = None,
    ensemble: Annotated[
        bool,
        typer.Option("--ensemble", metavar="", help="Score the mean of several runs' probabilities or scores."),
    ] = False,
) -> None:
    """Score a run's best checkpoint, or several runs'."""
    asked = {"--predictions": predictions, "--report": report, "--ensemble": ensemble}
    radii = given_radii(robust, attack_radius)
    if radii and (given := [name for name in asked if asked[name]]):
        raise ConfigError(f"--robust is asked for by itself; leave {given[0]} out.")
    if ensemble or (runs and len(runs) > 1):
        folders.check_several(runs or [], "--ensemble")
    if not ensemble and runs and len(runs) > 1 and (given := [name for name in asked if asked[name]]):
        raise ConfigError(f"{given[0]} is for one run or an ensemble; name one RUN, or add --ensemble.")
    named: list[Path | None] = [*(runs or [])] or [None]
    found = [folders.find_folder(run) for run in named]
    if data is not None and not is_table(data):
        find_tasks(data)
    for folder in found:
        Settings.read(folder / folders.CONFIG)
    check_factory(encoder_factory)
    allow_files(plugin)

    if radii:
        from regkit.cli import robust as changing

        changing.evaluate(found, split.value, radii, data, device, precision.value, encoder_factory, as_json)
        return

    from regkit.cli import evaluate as evaluating

    wanted = evaluating.Wanted(
        split.value, data, predictions, device, precision.value, encoder_factory, as_json, report
    )
    evaluating.evaluate(named, wanted, ensemble)


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
    also: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN", help="Another column to write beside the answers; may be repeated."),
    ] = None,
    skip_empty: Annotated[
        bool, typer.Option("--skip-empty", metavar="", help="Leave out rows without text. Else they are an error.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where to write: .csv or .jsonl. Without it, standard output.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", metavar="", help="Write JSON lines, not CSV.")] = False,
    device: Device = "auto",
    precision: PrecisionOfAnswers = PrecisionName.AUTO,
    micro_batch_tokens: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Most tokens to compute at once. Answers do not depend on it."),
    ] = None,
    encoder_factory: EncoderFactory = None,
    plugin: PluginCode = None,
) -> None:
    """Answer for new texts with a run's best checkpoint."""
    where, texts = requests.which(run, file)
    as_json = requests.check_output(output, as_json, texts)
    for option, columns in {"--text": text, "--also": also}.items():
        if lines and columns:
            raise ConfigError(f"--lines reads one text a line, which has no columns; leave out {option}.")
    check_factory(encoder_factory)
    allow_files(plugin)
    checkpoint = find_checkpoint(where)
    tasks = requests.choose(descriptions(checkpoint), task or [], text or [])
    readable = [tuple(text or each.columns) for each in tasks.values()]
    layout = requests.layout_of(tasks)
    with open_stream(texts, readable, layout, lines=lines, table=bool(text or also)) as stream:
        asked = requests.request(stream, tasks, text or [], also or [], named=bool(task), skip_empty=skip_empty)

        from regkit.cli import predict as predicting

        trained = predicting.load_aside(checkpoint, device, precision.value, micro_batch_tokens, encoder_factory)
        predicting.predict(trained, asked, output, as_json)


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
    plugin: PluginCode = None,
) -> None:
    """Write a run's best model in a form that other programs read."""
    folder = folders.find_folder(run)
    if output is None:
        raise ConfigError(f"name the folder to write: {typed('regkit', 'export', run or folder, '--output', 'DIR')}")
    allow_files(plugin)
    settings = Settings.read(folder / folders.CONFIG)
    names = formats.choose_tasks(folder, settings, form.value, task or [])
    formats.check_output(output)
    formats.check_libraries(form.value)

    from regkit.cli import export as exporting

    exporting.export(folder, settings, names, form.value, output)


def average(
    runs: Annotated[list[Path] | None, typer.Argument(metavar="RUN...", help="Folders of two runs or more.")] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The folder to write, which is new or empty.")
    ] = None,
    greedy: Annotated[
        bool,
        typer.Option("--greedy", metavar="", help="Keep a run only if the dev score of the average does not fall."),
    ] = False,
    device: Device = "auto",
    encoder_factory: EncoderFactory = None,
    plugin: PluginCode = None,
    as_json: ScoresAsJson = False,
) -> None:
    """Average the weights of several runs into one model."""
    named = runs or []
    folders.check_several(named, "average")
    if output is None:
        raise ConfigError(f"name the folder to write: {typed('regkit', 'average', *named, '--output', 'DIR')}")
    folders.check_free(output, resumable=False)
    for run in named:
        Settings.read(folders.find_folder(run) / folders.CONFIG)
    check_factory(encoder_factory)
    allow_files(plugin)

    from regkit.cli import average as averaging

    averaging.average(named, output, greedy, device, encoder_factory, as_json)
