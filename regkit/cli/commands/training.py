"""Training: the commands that train a model, `regkit train` and `regkit pretrain`."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from regkit.base.errors import ConfigError
from regkit.cli.arguments import DryRun, Output, Plugins, read_plugins
from regkit.cli.gather import check, gather
from regkit.cli.options import flag, takes_settings
from regkit.runs import folders
from regkit.runs.settings import GROUPS
from regkit.runs.settings import options as known_settings
from regkit.runs.trackers import leave_out_missing

DOMAIN = "domain"  # the plugin behind `regkit pretrain`: the one that the command line knows by name


DOMAINS_OWN = [
    "epochs",
    "steps",
    "batch_size",
    "learning_rate",
]  # settings of `pretrain` that are options of that plugin


FINETUNING = {  # settings without a meaning for `pretrain`
    *("tasks", "finetune", "warmup", "weight_decay", "max_length"),
    *("text", "label", "kind", "dev", "test", "pair_mode", "subsample", "label_noise"),
}


ConfigFile = Annotated[
    Path | None, typer.Argument(metavar="CONFIG.toml", help="Settings; the options below change them.")
]


Resume = Annotated[
    str | None,
    typer.Option(
        metavar="RUN|auto",
        help="Go on with a run; auto: with that of --output, if there is one.",
        rich_help_panel="Saving",
    ),
]


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
    plugins = read_plugins(plugin)
    chosen, said = gather(base, settings, plugins), list[str]()
    if run is None:
        folders.check_free(output)
    else:
        chosen, said = leave_out_missing(run, chosen, named=dict(plugins))
    check(chosen, begins=run is None)

    from regkit.cli import train as training

    training.train(chosen, base, run, output, dry_run, said=said)


@takes_settings([name for group, names in GROUPS.items() for name in names if group != "Saving"])
def explain(
    config: ConfigFile = None,
    plugin: Plugins = None,
    trace: Annotated[
        int, typer.Option(metavar="N", min=0, help="Train N steps, and print each hook call: by whom, and how long.")
    ] = 0,
    *,
    settings: dict[str, Any],
) -> None:
    """Say what plugins do together: who answers which hook, the loss, what a step costs; train nothing."""
    chosen = gather(config, settings, read_plugins(plugin))
    check(chosen, begins=True)

    from regkit.cli import explain as explaining

    explaining.explain(chosen, trace)


@takes_settings([name for group, names in GROUPS.items() for name in names if group != "Saving"])
def profile(
    config: ConfigFile = None,
    plugin: Plugins = None,
    updates: Annotated[int, typer.Option(metavar="N", min=1, help="Updates to time, after the first three.")] = 10,
    trace: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write one update there, for chrome://tracing or Perfetto.")
    ] = None,
    *,
    settings: dict[str, Any],
) -> None:
    """Say where the time and the memory of an update go, by parts and plugins; save nothing."""
    # torch reads it when it is imported; or else its profiler says each of its stages
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    chosen = gather(config, settings, read_plugins(plugin))
    check(chosen, begins=True)

    from regkit.cli import profile as profiling

    profiling.profile(chosen, updates, trace)


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
    chosen = gather(None, {"data": None, **settings, "finetune": False}, read_plugins(plugin))
    given = {name: getattr(chosen, name) for name in DOMAINS_OWN if name in settings}
    named = chosen.plugins.get(DOMAIN, {})
    if twice := [name for name in ("corpus", *given) if name in named]:
        raise ConfigError(f"{flag(twice[0])} and --plugin {DOMAIN}:{twice[0]} are both given; leave one of them out.")
    domain = {"corpus": corpus, **given, **named}
    defaults = {name: option.default for name, option in known_settings().items() if name in given}
    chosen = chosen.model_copy(update={"plugins": {DOMAIN: domain} | {**chosen.plugins, DOMAIN: domain}, **defaults})
    folders.check_free(output)
    check(chosen, begins=True)

    from regkit.cli import train as training

    training.train(chosen, None, None, output, dry_run)
