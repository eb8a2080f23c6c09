"""Kinds: a plugin is listed by what its hooks do, whoever wrote it."""

import re
from pathlib import Path

import pytest

from regkit.hooks import catalog
from regkit.hooks.kinds import KINDS, kind_of
from tests.helpers import install

README = Path(__file__).parents[2] / "README.md"
TITLES = {"trackers": "reporters", "pretraining": "stages"}  # what the README calls those that it has of a kind


@pytest.mark.parametrize(
    ("hooks", "kind"),
    [
        ({"extra_losses": "answer", "prepare": "answer"}, "regularizers"),
        ({"embed": "wrapper"}, "regularizers"),
        ({"task_loss": "answer"}, "regularizers"),
        ({"task_loss": "wrapper", "after_step": "answer"}, "weighting"),
        ({"combine_gradients": "wrapper"}, "weighting"),
        ({"combine_gradients": "answer"}, "surgery"),
        ({"choose_tasks": "answer", "task_loss": "wrapper"}, "schedulers"),
        ({"choose_tasks": "wrapper"}, "optimization"),
        ({"stages": "answer", "tasks": "answer"}, "stages"),
        ({"stages": "wrapper"}, "optimization"),
        ({"logged": "answer", "begin_run": "answer"}, "reporters"),
        ({"logged": "answer", "after_step": "answer"}, "optimization"),
        ({}, "optimization"),
    ],
)
def test_the_kind_follows_from_the_hooks(hooks: dict[str, str], kind: str) -> None:
    assert kind_of(hooks) == kind


def test_a_class_may_say_what_its_hooks_do_not_tell() -> None:
    assert kind_of({"after_step": "answer"}, "regularizers") == "regularizers"
    assert kind_of({"after_step": "answer"}, "a word of its own") == "optimization"


def test_the_readme_groups_the_plugins_as_the_program_does() -> None:
    group, found = "", {}
    for line in README.read_text(encoding="utf8").splitlines():
        if title := re.match(r"\| \*\*\[?(\w+)", line):
            group = TITLES.get(title[1], title[1])
        elif name := re.match(r"\| \[(\w+)\]\(docs/plugins/", line):
            found[name[1]] = group
    assert set(found.values()) == set(KINDS)
    points = catalog.installed()
    assert found == {name: catalog.kind(name, points[name]) for name in found}


STRANGE = """
class Base:
    @hookimpl
    def extra_losses(self): ...

@dataclass
class Plugin(Base):
    pass
"""


def test_a_class_whose_source_does_not_tell_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    imports = '"""X: does x."""\nfrom dataclasses import dataclass\nfrom regkit import hookimpl\n'
    install(monkeypatch, tmp_path, x=imports + STRANGE)
    assert catalog.kind("x") == "regularizers"
