"""The documentation says what is true now."""

import dataclasses
import inspect
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from regkit.cli.options import flag
from regkit.cli.settings import PAGE, grouped
from regkit.data.find import find_tasks
from regkit.experiments.draft import read_draft
from regkit.experiments.plan import Cell, Plan
from regkit.experiments.search.search import SearchFile
from regkit.hooks import catalog, option_fields
from regkit.hooks.spec import Hooks
from regkit.runs import settings
from regkit.runs.settings import Settings
from tests.figures import loop

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", *DOCS.rglob("*.md")])


def ours() -> list[str]:
    return [name for name, point in catalog.installed().items() if point.value.startswith("regkit_plugins.")]


def test_every_hook_has_a_heading_with_its_exact_arguments_in_the_loops_order() -> None:
    hooks = [name for name in vars(Hooks) if not name.startswith("_")]
    expected = [f"{name}({', '.join(list(inspect.signature(getattr(Hooks, name)).parameters)[1:])})" for name in hooks]
    headings = re.findall(r"^### (.*)$", (DOCS / "hooks.md").read_text(), re.MULTILINE)
    assert headings == expected


def test_the_pseudocode_names_every_hook_with_its_arguments() -> None:
    text = inspect.getdoc(inspect.getmodule(Hooks)) or ""
    for name in (name for name in vars(Hooks) if not name.startswith("_")):
        arguments = ", ".join(list(inspect.signature(getattr(Hooks, name)).parameters)[1:])
        assert f"{name}({arguments})" in text, name


@pytest.mark.parametrize("name", ours())
def test_every_plugin_has_a_card_with_each_option_and_its_default(name: str) -> None:
    card = (DOCS / "plugins" / f"{name}.md").read_text()
    assert card.startswith(f"# {name}\n")
    assert "**Cost.**" in card
    assert re.search(r"\*\*When (not )?to use it\.\*\*", card)
    (table,) = re.findall(r"^\| option \|.*\n((?:\|.*\n)+)", card, re.MULTILINE) or [""]
    rows = dict(re.findall(r"^\| `(\w+)` \| (.+?) \|", table, re.MULTILINE))
    options = option_fields.options(catalog.load_class(name))
    defaults = {
        key: "needed" if option.default is dataclasses.MISSING else str(option.default)
        for key, option in options.items()
    }
    assert rows == defaults
    tuned = dict(re.findall(r"^\| `(\w+)` .*; tuned over (.*) \|$", card, re.MULTILINE))
    assert tuned == {key: str(option.tuned) for key, option in options.items() if option.tuned}


def test_every_card_belongs_to_a_plugin_and_is_in_the_index_and_the_readme() -> None:
    cards = {path.stem for path in (DOCS / "plugins").glob("*.md")}
    assert cards == set(ours())
    for name in cards:
        assert f"plugins/{name}.md" in (DOCS / "index.md").read_text()
        assert f"plugins/{name}.md" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize(
    ("page", "files"), [("writing-a-plugin.md", 3), ("encoders.md", 1), ("library.md", 1), ("gallery.md", 5)]
)
def test_the_programs_of_a_page_are_those_of_the_examples(page: str, files: int) -> None:
    blocks = re.findall(r"<!-- (examples/\S+) -->\n```\w+\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)
    assert len(blocks) == files
    for path, block in blocks:
        assert block == (ROOT / path).read_text(), path


def test_the_readmes_plugin_is_that_of_the_example() -> None:
    snippets = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (snippet,) = [snippet for snippet in snippets if "@hookimpl" in snippet]
    source = (ROOT / "examples/regkit-cutoff/regkit_cutoff.py").read_text()
    for line in ("erased = ", "again = predict(", "return {", "weight: float = ", "share: float = ", "class Cutoff:"):
        (in_readme,) = [each.strip() for each in snippet.splitlines() if line in each]
        assert in_readme in source


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


def test_the_site_holds_every_page_and_all_that_pages_show_or_link_to() -> None:
    listed = re.findall(r"^ *- .*: (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    pages = [page for page in PAGES if DOCS in page.parents]
    missing = {str(page.relative_to(DOCS)) for page in pages} - set(listed)
    assert not missing, f"mkdocs.yml lacks {missing}"
    assert len(listed) == len(pages)
    for page in pages:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
            if not target.startswith("http"):
                assert DOCS in (page.parent / target).resolve().parents, f"{page.name}: {target} is not on the site"


def test_the_picture_of_the_loop_shows_the_contract_as_it_is() -> None:
    drawn = (DOCS / "figures" / "loop.svg").read_text()
    assert drawn == loop.draw(), "draw it again: python -m tests.figures loop"
    for name in loop.hooks():
        assert f">{name}</text>" in drawn


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_snippets_are_valid(page: Path) -> None:
    for language, snippet in re.findall(r"```(\w+)\n(.*?)```", page.read_text(), re.DOTALL):
        if language == "python" and not snippet.startswith(">>>"):
            compile(snippet, str(page), "exec")
        if language == "toml":
            tomllib.loads(snippet)


def test_the_readmes_help_is_the_programs() -> None:
    (block,) = re.findall(r"<!-- regkit --help -->\n```\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    environment = os.environ | {"COLUMNS": "100", "TERMINAL_WIDTH": "100", "NO_COLOR": "1", "TERM": "dumb"}
    command = [sys.executable, "-m", "regkit", "--help"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert block.strip() == "\n".join(line.rstrip() for line in done.stdout.strip().splitlines())


def test_the_page_of_the_settings_is_the_programs() -> None:
    command = [sys.executable, "-m", "regkit", "settings", "--markdown"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (DOCS / "settings.md").read_text() == done.stdout, f"write the page again: {PAGE}"


def test_every_setting_has_a_group_a_meaning_and_a_line_of_help() -> None:
    known = settings.options()
    assert [name for names in grouped().values() for name in names] == list(known) == list(Settings.model_fields)
    environment = os.environ | {"COLUMNS": "80", "TERMINAL_WIDTH": "80", "NO_COLOR": "1", "TERM": "dumb"}
    command = [sys.executable, "-m", "regkit", "train", "--help"]
    text = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert max(map(len, text.splitlines())) == 80
    assert "…" not in text  # nothing is cut
    words = " ".join(re.sub(r"^│ (?:--\S+)?(?:  .*?  )?|│$", " ", line) for line in text.splitlines())
    for name, setting in known.items():
        assert setting.meaning.endswith(".")
        assert len(setting.meaning) <= 100, name
        if name not in ("labels", "plugins"):
            assert re.search(rf"│ {flag(name)}[ ,]", text), name
            for word in setting.meaning.split():
                assert word in words, (name, word)


def test_ci_runs_the_readmes_test_command() -> None:
    readme = (ROOT / "README.md").read_text()
    lines = [line.strip() for line in readme.splitlines() if line.startswith("    ") and "venv" in line]
    assert len(lines) == 2
    assert lines[1].endswith("&& .venv/bin/pytest")
    assert "&& .venv/bin/pytest$" in (ROOT / ".ci" / "run").read_text()


@pytest.mark.parametrize("path", sorted((ROOT / "examples" / "recipes").glob("*.toml")), ids=lambda path: path.stem)
def test_recipes_are_settings_whose_plugins_accept_their_options(path: Path) -> None:
    for name, options in Settings.read(path).plugins.items():
        catalog.make(name, options)


GAINS = ROOT / "examples" / "gains"
HELD_OUT = GAINS / "held-out.toml"  # tasks, and no study
SEARCHES = [GAINS / "minilm-search.toml", GAINS / "recipe.toml"]
STUDIES = sorted({*GAINS.glob("*.toml"), *(ROOT / "examples" / "tables").glob("*.toml")} - {HELD_OUT, *SEARCHES})


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_studies_are_plans_whose_plugins_accept_their_options(path: Path) -> None:
    plan = Plan.of(read_draft(path))
    for row in plan.rows:
        for name, options in plan.settings_of(Cell(row, plan.seeds[0])).plugins.items():
            catalog.make(name, options)
    head = path.read_text(encoding="utf8").partition("\n\n")[0]
    assert f"regkit ablate examples/{path.parent.name}/{path.name}" in head


@pytest.mark.parametrize("path", SEARCHES, ids=lambda path: path.stem)
def test_the_searches_for_a_recipe_vary_settings_that_there_are(path: Path) -> None:
    asked = SearchFile.read(path)
    search = asked.search(asked.settings, {}, None)
    assert search.space.keys() >= {"learning_rate", "epochs", "dropout", "pooling"}
    assert f"regkit tune examples/gains/{path.name}" in path.read_text(encoding="utf8").partition("\n\n")[0]


def test_the_held_out_tasks_choose_on_a_part_of_train_and_are_reported_on_the_files_own_dev_split() -> None:
    tasks = find_tasks(HELD_OUT)
    assert list(tasks) == ["sst", "quora", "sts", "shift"]
    assert all(spec.held_out and str(spec.test).endswith("-dev.csv") for spec in tasks.values())
    assert tasks["shift"].optional


def test_the_recipes_hold_the_literal_settings_of_the_paper_and_of_the_report() -> None:
    paper = Settings.read(ROOT / "examples/recipes/smart-paper.toml").plugins
    report = Settings.read(ROOT / "examples/recipes/smart-seed.toml").plugins
    shared = {"epsilon": 1e-5, "eta": 1e-3, "steps": 1, "unit": "absolute"}
    assert paper == {
        "smart": shared | {"weight": 3.0, "sigma": 1e-5},
        "bregman": {"weight": 1.0, "beta": 0.999, "early_beta": 0.99},
    }
    assert report == {
        "smart": shared | {"weight": 1.0, "sigma": 1e-6},
        "bregman": {"weight": 1.0, "beta": 0.995, "early_beta": 0.995},
        "rrobin": {"stop": "shortest"},
    }


def test_no_file_holds_a_weight_a_data_set_or_a_long_line_of_either() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if tracked.returncode:
        pytest.skip("not a git checkout")
    for name in tracked.stdout.split():
        assert (ROOT / name).stat().st_size < 200_000, name
        assert Path(name).suffix not in {".safetensors", ".bin", ".csv", ".tsv", ".parquet"}, name
