"""Start-up: a command imports torch and its kin only when it is going to use them. What is imported is what takes time."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from unittest.mock import patch

import pytest

import regkit
from regkit import __main__
from regkit.base.errors import PluginError
from regkit.hooks import catalog, option_fields, source
from tests.helpers import install, slow_but, write_encoder, write_tasks

HEAVY = [
    "torch",
    "optuna",
    "sqlalchemy",
    "numpy",
    "scipy",
    "sklearn",
    "transformers",
    "datasets",
    "safetensors",
    "tokenizers",
    "pyarrow",
]
PROGRAM = f"""
import json, os, sys
from regkit.cli.app import main

def run():
    try:
        main()
    except SystemExit as end:
        status = end.code or 0
    else:
        status = 0
    return status, [name for name in {[*HEAVY, "torch._dynamo", "regkit_plugins"]} if name in sys.modules]
"""
# Starts a process of its own for each command, which has imported nothing but what every command imports.
FORKS = f"""{PROGRAM}
while job := sys.stdin.readline():
    folder, said, sys.argv[1:] = json.loads(job)
    child = os.fork()
    if not child:
        os.chdir(folder)
        for stream, name in enumerate((os.devnull, os.devnull, said)):
            os.dup2(os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC), stream)
        found = run()
        sys.stderr.flush()
        with open(said + ".json", "w") as file:
            json.dump(found, file)
        os._exit(0)
    os.waitpid(child, 0)
    print("done", flush=True)
"""


class Started:
    """Commands in processes of their own."""

    def __init__(self, folder: Path) -> None:
        self.said = folder / "said"
        self.process = subprocess.Popen(
            [sys.executable, "-c", FORKS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __call__(self, place: Path, *words: str) -> tuple[int, list[str], str]:
        """Run a command: its status, the heavy modules that it imported, and what it said on standard error."""
        assert self.process.stdin
        assert self.process.stdout
        print(json.dumps([str(place), str(self.said), *[words]]), file=self.process.stdin, flush=True)
        assert self.process.stdout.readline() == "done\n"
        status, names = json.loads(self.said.with_suffix(".json").read_text())
        return status, names, self.said.read_text()


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    started = Started(tmp_path_factory.mktemp("said"))
    yield started
    with started.process:
        assert started.process.stdin
        started.process.stdin.close()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("startup")
    write_encoder(folder / "encoder")
    write_tasks(folder / "data")
    (folder / "c.toml").write_text("epochs =", encoding="utf8")
    (folder / "mine.py").write_text(MINE, encoding="utf8")
    (folder / "metric.toml").write_text(
        (folder / "data" / "tasks.toml").read_text() + 'metric = "peerson"\n', encoding="utf8"
    )
    return folder


MINE = (
    '"""Mine: does nothing."""\n\n'
    + "@dataclass\nclass Mine:\n    weight: float = 1.0\n\n    @hookimpl\n    def after_step(self): ...\n"
)
RIGHT = ("--encoder", "encoder", "--data", "data")
QUICK = [
    ((), 2),
    (("--help",), 0),
    (("-h",), 0),
    (("--version",), 0),
    (("train", "--help"), 0),
    (("pretrain", "-h"), 0),
    (("eval", "-h"), 0),
    (("tune", "-h"), 0),
    (("tune", "-p", "smart", "--space", "smart.weight=-1..1", *RIGHT), 2),
    (("tune", "--trials", "x", *RIGHT), 2),
    (("plugins",), 0),
    (("plugins", "smart"), 0),
    (("plugins", "domain"), 0),
    (("plugins", "smrt"), 2),
    (("plugins", "show", "smart"), 0),
    (("plugins", "check", "-h"), 0),
    (("plugins", "check", "smrt"), 2),
    (("plugins", "check", "smart:wieght=3"), 2),
    (("plugins", "./nowhere.py"), 2),
    (("plugins", "mine.py"), 0),
    (("plugins", "new", "--help"), 0),
    (("plugins", "new", "smart", "--kind", "task"), 2),
    (("plugins", "new", "mine", "--kind", "schedular"), 2),
    (("settings",), 0),
    (("settings", "warmup"), 0),
    (("settings", "wramup"), 2),
    (("trian",), 2),
    (("train", "--epcohs", "3"), 2),
    (("train", "--scheduler", "x"), 2),
    (("train", "--epochs", "three", *RIGHT), 2),
    (("train", "--warmup", "2", *RIGHT), 2),
    (("train", "--tasks", "mod", *RIGHT), 2),
    (("train", "-p", "smrt", *RIGHT), 2),
    (("train", "-p", "smart:wieght=3", *RIGHT), 2),
    (("train", "-p", "only", *RIGHT), 2),
    (("train", "-p", "mine.py:wieght=2", *RIGHT), 2),
    (("train", "-p", "mine.py:Mien", *RIGHT), 2),
    (("explain", "-p", "smrt", *RIGHT), 2),
    (("train", "nowhere.toml"), 2),
    (("train", "c.toml"), 2),
    (("train", "--data", "nowhere", "--encoder", "encoder"), 2),
    (("train", "--data", "data", "--encoder", "./nowhere"), 2),
    (("train", "--data", "metric.toml", "--encoder", "encoder"), 2),
    (("train", "--output", "data", *RIGHT), 2),
    (("train", "--resume", "rnu"), 2),
    (("train", "--resume", "auto"), 2),
    (("pretrain",), 2),
    (("pretrain", "--corpus", "x", "--encoder", "encoder", "--epochs", "0"), 2),
    (("train", "--data", "one.csv", "--encoder", "encoder"), 2),
    (("train", "--data", "data/mood-train.csv", "--text", "x", "--encoder", "encoder"), 2),
    (("ablate", "-h"), 0),
    (("ablate", "-p", "smart:wieght=3", *RIGHT), 2),
    (("ablate", "-p", "smart", "--output", "data", *RIGHT), 2),
    (("work", "nowhere"), 2),
    (("data", "-h"), 0),
    (("data", "nowhere"), 2),
    (("data", "data/mood-train.csv"), 0),
    (("predict", "-h"), 0),
    (("predict", "rnu", "x.csv"), 2),
    (("predict", "encoder", "x.csv"), 2),
    (("predict", "x.csv", "--output", "x.xml"), 2),
    (("eval",), 2),
    (("eval", "rnu"), 2),
    (("eval", "data"), 2),
    (("export", "-h"), 0),
    (("export",), 2),
    (("export", "rnu", "--output", "o"), 2),
    (("export", "data", "--output", "o", "--format", "onxn"), 2),
    (("runs",), 0),
    (("runs", "rnu"), 2),
    (("report", "-h"), 0),
    (("report",), 2),
    (("report", "rnu"), 2),
    (("clean",), 0),
    (("clean", "rnu"), 2),
    (("clean", "--cache"), 0),
]


@pytest.mark.parametrize(
    ("words", "status"), QUICK, ids=lambda value: " ".join(value) if isinstance(value, tuple) else ""
)
def test_nothing_heavy_is_imported_for_help_listings_and_the_users_mistakes(
    imported: Started, place: Path, words: tuple[str, ...], status: int
) -> None:
    found, heavy, said = imported(place, *words)
    assert (found, heavy) == (status, []), said


@pytest.mark.slow
def test_a_value_that_only_the_plugin_can_check_imports_the_plugin(imported: Started, place: Path) -> None:
    status, heavy, said = imported(place, "train", "-p", "smart:weight=-1", *RIGHT)
    assert (status, said) == (2, "regkit: 'smart': weight is '-1'; input should be greater than or equal to 0.\n")
    assert "torch" in heavy


@pytest.mark.parametrize(
    "more",
    [
        pytest.param(("--dry-run", "--memory", "2GB"), id="memory", marks=pytest.mark.slow),
        pytest.param(("--steps", "2", "--save-steps", "1"), id="run"),
    ],
)
def test_training_imports_neither_torchs_compiler_nor_what_other_commands_need(
    imported: Started, place: Path, more: tuple[str, ...]
) -> None:
    status, heavy, said = imported(place, "train", "-p", "smart", "-p", "rrobin", "--output", "run", *RIGHT, *more)
    assert status == 0, said
    assert set(heavy) - {"regkit_plugins"} == {"torch", "numpy", "safetensors", "tokenizers"}


@pytest.mark.parametrize(
    ("before", "during"), [(signal.default_int_handler, signal.SIG_DFL), (signal.SIG_IGN, signal.SIG_IGN)]
)
def test_an_interruption_while_regkit_is_imported_leaves_no_traceback(
    monkeypatch: pytest.MonkeyPatch, before: object, during: object
) -> None:
    seen = []

    class Imported(ModuleType):
        def __getattr__(self, name: str) -> Callable[[], None]:
            seen.append(signal.getsignal(signal.SIGINT))
            return lambda: seen.append(signal.getsignal(signal.SIGINT))

    monkeypatch.setitem(sys.modules, "regkit.cli.app", Imported("regkit.cli.app"))
    now = signal.signal(signal.SIGINT, before)  # type: ignore[arg-type]
    try:
        __main__.main()
    finally:
        after = signal.signal(signal.SIGINT, now)
    assert seen[-2:] == [during, before]
    assert after is (before if before is signal.SIG_IGN else __main__._leave)


def test_a_second_interruption_at_the_end_leaves_with_the_status_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("regkit.cli.app.main", interrupted)
    now = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background has it ignored
    try:
        with pytest.raises(SystemExit, match=r"^130$"):
            __main__.main()
        with patch.object(os, "_exit") as left:
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, now)
    left.assert_called_once_with(130)


@pytest.mark.parametrize("given", slow_but(["", "1024"], [""]))
@pytest.mark.parametrize("name", ["LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY"])
def test_few_sizes_of_products_are_kept_unless_the_user_says_more(name: str, given: str) -> None:
    told = f"import os, sys\nprint(os.environ['{name}'], 'torch' in sys.modules)"
    program = f"import sys\nfrom regkit.cli.app import main\nsys.argv = ['regkit', '-h']\nmain()\n{told}"
    environment = {each: value for each, value in os.environ.items() if each != name}
    environment |= {name: given} if given else {}
    said = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert said.stdout.splitlines()[-1] == f"{given or 16} False"


def test_the_public_names_are_those_that_type_checkers_see() -> None:
    for name in regkit.__all__:
        assert name in dir(regkit)
    with pytest.raises(AttributeError, match="has no attribute 'Tsak'"):
        regkit.Tsak  # noqa: B018
    with pytest.raises(ImportError):
        from regkit import Tsak  # noqa: F401


@pytest.mark.parametrize("name", sorted(catalog.installed()))
def test_a_plugins_source_says_what_the_imported_plugin_says(name: str) -> None:
    point = catalog.installed()[name]
    found, plugin = source.read(point), catalog.load_class(name)
    assert found is not None
    assert [*map(repr, found.fields().values())] == [*map(repr, option_fields.options(plugin).values())]
    assert source.docstring(point) == (sys.modules[plugin.__module__].__doc__ or "").strip()


UNCLEAR = {
    "computed": "class Plugin:\n    weight: float = 2 * 3.0\n",
    "elsewhere": "from os import PathLike\n\n@dataclass\nclass Plugin:\n    weight: PathLike = None\n",
    "inherited": "class Base:\n    weight: float = 1.0\n\n@dataclass\nclass Plugin(Base):\n    more: float = 1.0\n",
    "twisted": "from typing import Annotated\nfrom regkit import Tuned\n\n@dataclass\nclass Plugin:\n"
    "    weight: Annotated[float, Tuned(0.1, high=2 * 5)] = 1.0\n",
    "frozen": "@dataclass(frozen=True)\nclass Plugin:\n    weight: float = 1.0\n",
}


@pytest.mark.parametrize("name", UNCLEAR)
def test_what_the_source_does_not_tell_is_imported(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (
        UNCLEAR[name].replace("class", "@dataclass\nclass", 1) if name in ("computed", "inherited") else UNCLEAR[name]
    )
    install(monkeypatch, tmp_path, x=f'"""X: does x."""\nfrom dataclasses import dataclass\n{text}')
    found = source.read(catalog.installed()["x"])
    assert found is not None
    with pytest.raises(source.UnclearError):
        found.fields()
    options = option_fields.options(catalog.load_class("x"))
    assert catalog.shown_options("x") == options
    catalog.check_names("x", {"wieght": "1"})  # no complaint: only the imported plugin can tell
    with pytest.raises(PluginError, match="has no option 'wieght'"):
        catalog.make("x", {"wieght": "1"})


def test_a_plugin_whose_class_stands_elsewhere_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, tmp_path, x='"""X: does x."""\nfrom regkit_plugins.smart import Smart as Plugin\n')
    assert source.docstring(catalog.installed()["x"]) is None
    assert catalog.summary("x")[0].startswith("SMART: ")


def test_a_docstring_with_a_line_like_code_is_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(
        monkeypatch,
        tmp_path,
        x='"""X: does x\n\nfrom y.\n"""\n\nfrom dataclasses import dataclass\n\n@dataclass\nclass Plugin:\n    pass\n',
    )
    assert catalog.summary("x") == ("X: does x", "from y.")


COMPLETED = {
    "train --warm": ["--warmup"],
    "train --precision ": ["auto", "bf16", "fp32"],
    "train -p sm": ["smart"],
    "plugins rd": ["rdrop"],
    "settings save_": ["save_steps", "save_minutes"],
    "se": ["settings"],
}


@pytest.mark.parametrize("typed", slow_but(COMPLETED, ["train --precision ", "train -p sm", "se"]))
def test_the_shell_completes_commands_options_plugins_and_settings(typed: str, tmp_path: Path) -> None:
    words = f"regkit {typed}"
    environment = os.environ | {
        "_REGKIT_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - (not words.endswith(" "))),
    }
    program = f"import sys; sys.argv[0] = 'regkit'\n{PROGRAM}\nprint(json.dumps(run()))"
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, cwd=tmp_path
    )
    *found, last = done.stdout.splitlines()
    assert found == COMPLETED[typed], done.stderr
    assert json.loads(last)[1] == []
