"""The contract has a version: a plugin that was built for another is refused with both numbers."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

import regkit
import regkit.testing
from regkit import PluginError, hookimpl
from regkit.hooks import catalog, contract
from regkit.testing import tiny_trainer
from tests.helpers import install

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize(
    ("ours", "theirs", "remedy"),
    [
        ("1.4", "1.4", None),
        ("1.4", "1.0", None),
        ("1.4", None, None),
        ("1.4", "1.5", "update regkit"),
        ("1.4", "1.10", "update regkit"),
        ("1.4", "2.0", "update regkit"),
        ("2.0", "1.9", "update the plugin, or install an older regkit"),
    ],
)
def test_the_first_number_must_agree_and_the_second_must_not_be_newer(
    ours: str, theirs: str | None, remedy: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contract, "CONTRACT", ours)
    if remedy is None:
        contract.check("mine", theirs)
        return
    said = f"plugin 'mine' was built for contract {theirs} of regkit, and this regkit has {ours}; {remedy}."
    with pytest.raises(PluginError, match=f"^{re.escape(said)}$"):
        contract.check("mine", theirs)


@pytest.mark.parametrize("wrong", [1, 1.0, "1", "one", "1.0.0", ""])
def test_a_version_of_another_form_is_refused(wrong: object) -> None:
    with pytest.raises(PluginError, match=r"plugin 'mine': its contract is .*; text is needed"):
        contract.check("mine", wrong)


@dataclass
class FromTheFuture:
    contract: ClassVar[str] = "99.0"

    @hookimpl
    def after_step(self) -> None: ...


def test_a_run_with_a_plugin_for_another_contract_does_not_start() -> None:
    with pytest.raises(PluginError, match=r"contract 99.0 of regkit, and this regkit has 1\.\d"):
        tiny_trainer({"mine": FromTheFuture()})


def test_an_installed_plugin_is_refused_before_it_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = "@dataclass\nclass Plugin:\n    contract: ClassVar[str] = '99.0'\n    1 / 0\n"
    install(monkeypatch, tmp_path, x=source)
    with pytest.raises(PluginError, match=r"contract 99.0"):
        catalog.check_names("x", {})


def test_the_page_of_the_contract_lists_what_is_public() -> None:
    text = (DOCS / "contract.md").read_text(encoding="utf8")
    listed = re.findall(r"`([^`\n]+)`", text)
    for name in [*regkit.__all__, *(f"regkit.testing.{each}" for each in regkit.testing.__all__)]:
        assert name in listed, name
    assert f"contract {contract.CONTRACT}" in text


def test_every_public_name_is_explained_on_a_page_and_not_only_listed() -> None:
    contract_page = (DOCS / "contract.md").read_text(encoding="utf8")
    before, _, after = contract_page.partition("* What can be imported from `regkit`:")
    others = (page for page in DOCS.rglob("*.md") if page.name not in ("contract.md", "CHANGELOG.md"))
    pages = [page.read_text(encoding="utf8") for page in others]
    told = " ".join([before, after.partition("* What can be imported from `regkit.testing`")[2], *pages])
    unexplained = [name for name in regkit.__all__ if not re.search(rf"\b{name}\b", told)]
    assert not unexplained
