"""Space: what a search varies is read from a file, and checked against the options before anything is trained."""

import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from regkit.base.errors import RegkitError
from regkit.experiments.search.dimension import Dimension
from regkit.experiments.search.space import SEARCHED, changed, space_of
from regkit.hooks import catalog
from regkit.runs.settings import Settings
from regkit.runs.settings import options as all_settings
from tests.helpers import with_stranger

SETTINGS = Settings(plugins={"smart": {"weight": "2"}, "weighted": {"weights": {"sst": 1.0, "sts": 2.0}}, "rrobin": {}})
STRANGER = '''
"""Stranger: does things."""

from dataclasses import dataclass


@dataclass
class Plugin:
    strength: float = 2 * 0.5
    """How strong."""
'''


def dimension(name: str, wanted: Any) -> Dimension:
    return space_of(SETTINGS, {name: wanted}, "[search]")[name]


def test_both_forms_of_toml_name_the_same_option() -> None:
    forms = ['"smart.epsilon" = "0.01..1"', 'smart.epsilon = "0.01..1"', '[smart]\nepsilon = "0.01..1"']
    forms.append('plugins.smart.epsilon = "0.01 to 1"')
    spaces = [space_of(SETTINGS, tomllib.loads(form), "[search]") for form in forms]
    assert all(space == spaces[0] and list(space) == ["smart.epsilon"] for space in spaces)


@pytest.mark.parametrize(
    ("name", "wanted", "said"),
    [
        ("smart.epsilon", True, "smart.epsilon: 0.003 to 0.3, log (default 0.01)"),
        ("smart.epsilon", "0.01..1 log", "smart.epsilon: 0.01 to 1, log (default 0.01)"),
        ("smart.epsilon", "0.01 to 1, log", "smart.epsilon: 0.01 to 1, log (default 0.01)"),
        ("smart.weight", "1..2 step 0.3", "smart.weight: 1 to 1.9, step 0.3 (default 2)"),
        ("smart.steps", "1..5", "smart.steps: 1 to 5 (default 1)"),
        ("smart.unit", True, "smart.unit: rms, absolute (default rms)"),
        ("learning_rate", "1e-5..1e-3 log", "learning_rate: 1e-05 to 0.001, log (default 5e-05)"),
        ("dropout", True, "dropout: 0 to 0.3 (default none)"),
        ("dropout", "none, 0, 0.1", "dropout: none, 0, 0.1 (default none)"),
        ("batch_size", [64, 16, 32], "batch_size: 16, 32, 64 (default 32)"),
        ("length_bucketing", True, "length_bucketing: false, true (default true)"),
        ("weighted.weights.sst", True, "weighted.weights.sst: 0.1 to 10, log (default 1)"),
    ],
)
def test_a_range_is_the_options_own_one_of_numbers_or_choices(name: str, wanted: Any, said: str) -> None:
    assert str(dimension(name, wanted)) == said


def test_whole_numbers_stay_whole_and_choices_have_the_type_of_the_option() -> None:
    assert dimension("smart.steps", "1..5").whole
    assert not dimension("smart.weight", "1..5").whole
    assert [type(choice) for choice in dimension("batch_size", "8, 16").choices] == [int, int]
    assert [type(choice) for choice in dimension("smart.weight", "1, 2").choices] == [float, float]


def test_without_ranges_the_learning_rate_and_what_plugins_declare_is_searched() -> None:
    assert list(space_of(SETTINGS, None, "the command line")) == [
        *("learning_rate", "smart.weight", "smart.epsilon"),
        *("weighted.weights.sst", "weighted.weights.sts", "rrobin.stop"),
    ]


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        ({}, "there is nothing to search"),
        ({"smart.weight": "-1..3"}, "the low end of -1 to 3 is -1.0; input should be greater than or equal to 0"),
        ({"smart.steps": "1..1000"}, "the high end of 1 to 1000 is 1000; input should be less than or equal to 100"),
        ({"warmup": "0..1"}, "input should be less than 1"),
        ({"learning_rate": "1e-40..1e-5 log"}, "input should be greater than or equal to 1e-30"),
        ({"smart.weight": "3..1"}, "its low end, 3, is not below its high end, 1"),
        ({"smart.weight": "0.1...1"}, "a range has two dots"),
        ({"smart.weight": "0..1 log"}, "a log scale begins above 0"),
        ({"smart.steps": "1..5.5"}, "takes whole numbers"),
        ({"smart.wieght": True}, "there is no option 'smart.wieght'. Did you mean 'smart.weight'?"),
        ({"warm": True}, "Did you mean 'warmup'?"),
        ({"smart": True}, "there is no option 'smart'"),
        ({"seed": "1..5"}, "seed is the same in all trials"),
        ({"rdrop.weight": True}, "add --plugin rdrop"),
        (
            {"learning_rate": {"low": 1e-5, "high": 1e-3}},
            '[search]: learning_rate is a setting, and no table; give a range such as "0.1..10 log"',
        ),
        ({"rdorp.weight": True}, "there is no plugin 'rdorp'. Did you mean 'rdrop'?"),
        ({"weighted.weights.x": True}, "has no value to begin with"),
        ({"smart.unit": "rms, abs"}, "a choice is 'abs'; input should be 'rms' or 'absolute'"),
        ({"smart.weight": "1, x"}, "a choice is 'x'; input should be a valid number"),
        ({"smart.unit": "1..3"}, 'give choices: "rms, absolute"'),
        ({"smart.sigma": True}, "declares no range of its own"),
        ({"smart.epsilon": "0.1"}, "needs two choices at least"),
        ({"smart.epsilon": "1, 1.0"}, "has the choice 1 twice"),
        ({"smart.epsilon": 0.1}, 'give a range such as "0.1..10 log"'),
        ({"smart.epsilon": "a..b"}, 'give a range such as "0.1..10 log"'),
        ({"smart.epsilon": True, "smart": {"epsilon": True}}, "smart.epsilon is given twice"),
        ({"epochs": True, "steps": "10..20"}, "epochs has no effect beside steps"),
    ],
)
def test_a_space_that_cannot_be_is_refused_in_one_sentence(wanted: dict[str, Any], reason: str) -> None:
    with pytest.raises(RegkitError) as caught:
        space_of(SETTINGS, wanted, "[search]")
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["smart.weight", "lora.rank", "lora.alpha"])
def test_a_declared_range_is_written_as_it_is_when_it_is_read_back(name: str) -> None:
    """So the same command finds its search again: one bound may be declared as 10, and read as 10.0."""
    settings = Settings(plugins={name.partition(".")[0]: {}})
    space = space_of(settings, {name: True}, "[search]")
    written = {name: each.as_value() for name, each in space.items()}
    again = space_of(settings, written, "[search]")
    assert {name: each.as_value() for name, each in again.items()} == written


def test_a_plugin_without_ranges_is_searched_where_the_file_gives_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_stranger(monkeypatch, tmp_path, stranger=STRANGER)
    settings = Settings(plugins={"stranger": {}})
    assert list(space_of(settings, None, "[search]")) == ["learning_rate"]
    found = space_of(settings, {"stranger.strength": "0.1..10 log"}, "[search]")
    assert str(found["stranger.strength"]) == "stranger.strength: 0.1 to 10, log (default 1)"


def test_a_weight_that_is_held_at_a_share_of_the_gradient_is_not_searched() -> None:
    settings = SETTINGS.model_copy(update={"plugins": {"smart": {"weight": "5%"}}})
    assert list(space_of(settings, None, "tune")) == ["learning_rate", "smart.epsilon"]
    with pytest.raises(
        RegkitError, match=r"tune: regkit chooses smart\.weight, which is 5%; leave it out, or give a number"
    ):
        space_of(settings, {"smart.weight": "1..5"}, "tune")


def test_the_values_of_a_trial_change_settings_and_options_and_nothing_else() -> None:
    found = changed(SETTINGS, {"learning_rate": 1e-3, "smart.epsilon": 0.1, "weighted.weights.sst": 5.0})
    assert found.learning_rate == 1e-3
    assert found.plugins == {
        "smart": {"weight": "2", "epsilon": 0.1},
        "weighted": {"weights": {"sst": 5.0, "sts": 2.0}},
        "rrobin": {},
    }
    assert SETTINGS.plugins["weighted"] == {"weights": {"sst": 1.0, "sts": 2.0}}
    assert found.model_copy(update={"learning_rate": SETTINGS.learning_rate, "plugins": SETTINGS.plugins}) == SETTINGS


@pytest.mark.parametrize(
    ("name", "wanted", "inside", "outside"),
    [
        ("smart.epsilon", "0.01..1 log", [0.01, 0.5, 1, 1.0], [0, 1.1, None, True]),
        ("smart.weight", "1..2 step 0.3", [1, 1.3, 1.9], [1.2, 2.0]),
        ("dropout", "none, 0, 0.1", [None, 0.1], [0.2, "none"]),
    ],
)
def test_a_dimension_knows_what_the_search_could_try(
    name: str, wanted: str, inside: list[Any], outside: list[Any]
) -> None:
    assert all(dimension(name, wanted).contains(value) for value in inside)
    assert not any(dimension(name, wanted).contains(value) for value in outside)


@pytest.mark.parametrize("plugin", sorted(catalog.installed()))
def test_the_declared_ranges_of_every_plugin_lie_within_its_bounds(plugin: str) -> None:
    known = catalog.shown_options(plugin)
    given = {name: {"x": 1.0} for name, option in known.items() if option.type == "dict"}
    wanted = {f"{plugin}.{name}{'.x' if name in given else ''}": True for name, each in known.items() if each.tuned}
    if wanted:
        space_of(Settings(plugins={plugin: given}), wanted, plugin)


def test_the_declared_ranges_of_settings_lie_within_their_bounds_and_around_their_defaults() -> None:
    tuned = [name for name, setting in all_settings().items() if setting.tuned]
    assert set(tuned) < set(SEARCHED)
    space = space_of(Settings(), dict.fromkeys(tuned, True), "settings")
    assert all(each.default is None or each.contains(each.default) for each in space.values())


def test_a_space_is_read_without_torch_and_optuna() -> None:
    program = (
        "import sys; from regkit.experiments.search.space import space_of; from regkit.runs.settings import Settings\n"
        "space_of(Settings(plugins={'smart': {}, 'domain': {'corpus': 'x'}}), None, '')\n"
        "print([name for name in ('torch', 'optuna', 'numpy', 'regkit_plugins') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
