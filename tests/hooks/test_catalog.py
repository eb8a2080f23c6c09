"""Catalog: what the user writes after --plugin becomes one checked instance, and the catalog explains every option."""

import json
import math
import subprocess
import sys
from dataclasses import MISSING, dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regkit.base.described import Option
from regkit.base.errors import PluginError
from regkit.hooks import catalog, option_fields, option_values
from tests.helpers import PATIENT, install

STRANGER = '''
"""Stranger: does [CLS] things (Nobody, 2020).

More about it.
"""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field

from regkit import hookimpl


@dataclass
class Plugin:
    rate: Annotated[float, Field(gt=0)]
    """How fast, in [things]
    a second."""
    count: int = 2
    mode: Literal["slow", "fast"] = "slow"
    """How."""
    layers: list[int] = field(default_factory=lambda: [1, 2])
    plain: bool = False
    "Whether not to."
    state: float = field(default=0.0, init=False)
    """No option."""

    def __post_init__(self) -> None:
        if self.count > 9:
            raise ValueError("count and rate do not go together")

    @hookimpl
    def after_step(self, step: int) -> None: ...
'''

MORE_TYPES = """
from enum import Enum
from pathlib import Path

import numpy as np

Side = Enum("Side", {"LEFT": "left"})


"""
NAMES = st.text("abcxyz_019", min_size=1, max_size=8)
PLAIN = st.text("aZ09.-+/:;[]{}\"'()é", max_size=8)


@pytest.fixture
def stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, tmp_path, stranger=STRANGER)


def refusal(name: str, **options: Any) -> str:
    with pytest.raises(PluginError) as caught:
        catalog.make(name, options)
    return str(caught.value)


@PATIENT
@given(NAMES, st.dictionaries(NAMES, PLAIN.filter(lambda value: value[:1] not in ("[", "{")), max_size=4))
def test_what_is_written_is_what_is_parsed(name: str, options: dict[str, str]) -> None:
    written = ",".join(f"{option}={value}" for option, value in options.items())
    assert catalog.parse(f"{name}:{written}" if options else name) == (name, options)
    if options:
        spaced = written.replace(",", " , ").replace("=", " = ")
        assert catalog.parse(f" {name} : {spaced} ") == (name, options)


@PATIENT
@given(NAMES, st.lists(st.integers() | PLAIN, max_size=4), st.dictionaries(NAMES, st.integers(), max_size=3))
def test_a_value_may_be_a_json_list_or_object(name: str, items: list[Any], table: dict[str, int]) -> None:
    text = f"{name}:items={json.dumps(items)},table={json.dumps(table)},last=1"
    assert catalog.parse(text) == (name, {"items": items, "table": table, "last": "1"})


def test_a_value_may_hold_commas_equals_signs_and_colons() -> None:
    assert catalog.parse("p:tasks=a,b,rate=1") == ("p", {"tasks": "a,b", "rate": "1"})
    assert catalog.parse("p:path=C:/x?y==z") == ("p", {"path": "C:/x?y==z"})
    assert catalog.parse("p:list=[1,2") == ("p", {"list": "[1,2"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("smart:weight", "--plugin smart:weight: 'weight' is not of the form option=value."),
        ("smart:=3", "--plugin smart:=3: '=3' is not of the form option=value."),
        ("smart:weight=1,weight=2", "--plugin smart:weight=1,weight=2: weight is given twice."),
    ],
)
def test_what_cannot_be_parsed_is_quoted(text: str, message: str) -> None:
    with pytest.raises(PluginError) as caught:
        catalog.parse(text)
    assert str(caught.value) == message


def test_text_from_the_command_line_becomes_the_type_of_the_option(stranger: None) -> None:
    plugin = catalog.make("stranger", {"rate": "2.5", "count": "3", "mode": "fast", "layers": [3], "plain": "yes"})
    assert (plugin.rate, plugin.count, plugin.mode, plugin.layers, plugin.plain) == (2.5, 3, "fast", [3], True)
    assert (type(plugin.rate), type(plugin.count)) == (float, int)


@pytest.mark.parametrize(
    ("hint", "text", "value"),
    [
        (list[int], "1, 2", [1, 2]),
        (list[str] | None, "a", ["a"]),
        (set[str], "a,b", {"a", "b"}),
        (tuple[int, int] | None, "3,4", (3, 4)),
        (frozenset[int], "", None),
        (tuple[int, int], "3", None),
        (str | list[str], "a,b", "a,b"),  # a text will do
        (dict[str, int], "a,b", None),
    ],
)
def test_a_text_between_commas_is_a_list_a_tuple_or_a_set_where_nothing_else_will_do(
    hint: Any, text: str, value: Any
) -> None:
    option = Option("several", hint, MISSING, "")
    if value is not None:
        assert option_values.checked("p", option, text) == value
    else:
        with pytest.raises(PluginError, match="'p': several"):
            option_values.checked("p", option, text)


def test_sets_are_noted_in_one_order_wherever_they_stand() -> None:
    """That of a set is another one in each process: strings are hashed with a seed of their own."""
    names = [f"name {number}" for number in range(40)]

    @dataclass
    class Sets:
        some: set[str] = field(default_factory=lambda: set(names))
        by_task: dict[str, list[frozenset[str]]] = field(default_factory=lambda: {"sst": [frozenset(names)]})

    wanted = {"some": sorted(names), "by_task": {"sst": [sorted(names)]}}
    assert option_values.held("sets", Sets()) == wanted
    assert option_values.chosen("sets", Sets(), {"some": "", "by_task": ""}) == wanted


def test_an_option_that_is_nan_is_not_said_to_be_changed() -> None:
    @dataclass
    class Held:
        weight: float = math.nan

    option_values.check_remade("held", Held(), ["weight"])


def test_what_is_not_given_keeps_its_default(stranger: None) -> None:
    one, other = catalog.make("stranger", {"rate": 1}), catalog.make("stranger", {"rate": 1})
    assert (one.count, one.mode, one.layers, one.plain, one.state) == (2, "slow", [1, 2], False, 0.0)
    assert one.layers is not other.layers


@pytest.mark.parametrize(
    ("default", "says"),
    [
        ("flag: bool = 1", "its option flag is 1 by default, which is no bool; give it another default"),
        ("ratio: int = 1.0", "its option ratio is 1.0 by default, which is no int; give it another default"),
        ("share: float = True", "its option share is True by default, which is no float; give it another default"),
        ("share: float = '1'", "its option share is '1' by default, which is no float; give it another default"),
        ("sizes: tuple[int, ...] = (1, 2.0)", r"its option sizes is \(1, 2.0\) by default, which is no tuple; give it"),
        ("count: int = 'two'", "its option count is 'two' by default; input should be a valid integer, unable to"),
        (
            "count: Annotated[int, Field(ge=3)] = 2",
            "its option count is 2 by default; input should be greater than or equal to 3; give it another default, or",
        ),
        ("path: Path = 'x'", ""),
        ("paths: list[Path] = field(default_factory=lambda: ['x'])", ""),
        ("sizes: tuple[int, ...] = field(default_factory=lambda: [1])", ""),
        ("side: Side = 'left'", ""),
        ("count: int = np.int64(3)", ""),
        ("share: float = np.float32(0.5)", ""),
        ("flag: bool = np.True_", ""),
        ("count: int = None", ""),
        ("count: float = float('inf')", ""),
    ],
)
def test_a_default_of_another_type_is_refused_but_for_one_that_is_set_later(
    default: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = STRANGER.replace("if self.count > 9:", "if False:").replace("@dataclass\n", f"{MORE_TYPES}@dataclass\n")
    install(monkeypatch, tmp_path, stranger=plain.replace("count: int = 2", default))
    if not says:
        assert catalog.make("stranger", {"rate": 1})
        return
    with pytest.raises(PluginError, match=f"^plugin 'stranger': {says}"):
        catalog.make("stranger", {"rate": 1})


def test_an_option_is_its_field_with_the_string_below_it(stranger: None) -> None:
    found = option_fields.options(catalog.load_class("stranger"))
    assert list(found) == ["rate", "count", "mode", "layers", "plain"]
    assert {name: option.meaning for name, option in found.items()} == {
        "rate": "How fast, in [things] a second.",
        "count": "",
        "mode": "How.",
        "layers": "",
        "plain": "Whether not to.",
    }
    assert {name: option.type for name, option in found.items()} == {
        "rate": "float",
        "count": "int",
        "mode": "slow or fast",
        "layers": "list",
        "plain": "bool",
    }
    assert [option.default for option in found.values()] == [MISSING, 2, "slow", [1, 2], False]


def test_every_option_of_every_plugin_of_ours_says_what_it_means() -> None:
    for name, point in catalog.installed().items():
        if point.value.startswith("regkit_plugins."):
            for option in option_fields.options(catalog.load_class(name)).values():
                assert option.meaning.endswith("."), f"{name}: {option.name}"


def test_the_summary_is_the_first_line_of_the_module_or_else_of_the_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = "from dataclasses import dataclass\n\n@dataclass\nclass Plugin:\n    '''In the class.\n\n    Rest.'''\n"
    both = "".join(
        f"class {name}:\n    '{name}: says so.'\n    @hookimpl\n    def prepare(self): ...\n"
        for name in ("Plugin", "Other")
    )
    several = f"'Two methods.'\nfrom regkit import hookimpl\n{both}"
    install(monkeypatch, tmp_path, stranger=STRANGER, silent=silent, several=several)
    assert catalog.summary("several") == ("Plugin: says so.", "")
    assert catalog.summary("stranger") == ("Stranger: does [CLS] things (Nobody, 2020).", "More about it.")
    assert catalog.summary("silent") == ("In the class.", "Rest.")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "'stranger' needs rate: --plugin stranger:rate=FLOAT."),
        (
            {"rate": 1, "cuont": 2},
            "'stranger' has no option 'cuont'. Did you mean 'count'? Available: count, layers, mode, plain, rate, stages.",
        ),
        ({"rate": 1, "state": 2}, "'stranger' has no option 'state'."),
        ({"rate": 1, "count": 10}, "'stranger': count and rate do not go together."),
        ({"rate": "fast"}, "'stranger': rate is 'fast'; input should be a valid number"),
        ({"rate": "0"}, "'stranger': rate is '0'; input should be greater than 0."),
        ({"rate": "nan"}, "'stranger': rate is 'nan'; input should be a finite number."),
        ({"rate": "inf"}, "'stranger': rate is 'inf'; input should be a finite number."),
        ({"rate": float("inf")}, "'stranger': rate is inf; input should be a finite number."),
        ({"rate": [1]}, "'stranger': rate is [1]; input should be a valid number"),
        ({"rate": 1, "count": "1.5"}, "'stranger': count is '1.5'; input should be a valid integer"),
        ({"rate": 1, "mode": "fats"}, "'stranger': mode is 'fats'; input should be 'slow' or 'fast'."),
        ({"rate": 1, "layers": "1,x"}, "'stranger': layers.1 is 'x'; input should be a valid integer"),
        ({"rate": 1, "layers": [1, "x"]}, "'stranger': layers.1 is 'x'; input should be a valid integer"),
    ],
)
def test_an_option_that_cannot_be_is_refused_with_its_value_and_the_reason(
    stranger: None, options: dict[str, Any], message: str
) -> None:
    assert refusal("stranger", **options).startswith(message)


@pytest.mark.parametrize(
    ("written", "stages"),
    [
        ("smart", None),
        ("smart:weight=2", None),
        ("smart:stages=domain", ["domain"]),
        ("smart:stages=domain,finetune,weight=2", ["domain", "finetune"]),
        ('smart:stages=["domain", "finetune"]', ["domain", "finetune"]),
        ("smart: weight = 2, stages = finetune , domain", ["finetune", "domain"]),
        ("smart:stages=[]", []),
    ],
)
def test_every_plugin_has_the_option_stages_which_is_none_of_its_class(written: str, stages: list[str] | None) -> None:
    name, given = catalog.parse(written)
    assert option_values.acts_in(name, given) == stages
    made = catalog.make(name, given)
    assert "stages" not in vars(made)
    assert option_values.chosen(name, made, given).get("stages") == stages


def test_stages_that_are_no_names_are_refused() -> None:
    with pytest.raises(PluginError, match=r"'smart': stages\.0 is 3; input should be a valid string"):
        option_values.acts_in("smart", {"stages": [3]})


def test_a_plugin_may_not_have_an_option_that_every_plugin_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = "from dataclasses import dataclass\n\n@dataclass\nclass Plugin:\n    stages: int = 3\n"
    install(monkeypatch, tmp_path, staged=source)
    assert refusal("staged") == "plugin 'staged': every plugin has an option 'stages'; call its own by another name."


def test_an_unknown_plugin_is_refused_with_the_nearest(stranger: None) -> None:
    assert refusal("strange") == "there is no plugin 'strange'. Did you mean 'stranger'? Available: stranger."


def test_what_a_strangers_module_raises_is_told_with_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, tmp_path, broken="x = 1\nx.nothing\n", syntax="def\n", other="Plugin = 3\n", empty="")
    broken = refusal("broken")
    assert broken.startswith("plugin 'broken' (stranger_broken:Plugin) cannot be imported: AttributeError: ")
    assert "stranger_broken.py, line 2" in broken
    assert "SyntaxError" in refusal("syntax")
    assert "stranger_syntax.py, line 1" in refusal("syntax")
    assert "has no attribute 'Plugin'" in refusal("empty")
    assert refusal("other") == "plugin 'other': stranger_other:Plugin is not a dataclass."


def test_two_packages_may_not_offer_plugins_of_one_name(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [catalog.EntryPoint("twin", value, catalog.GROUP) for value in ("b:B", "a:A", "a:A")]
    monkeypatch.setattr(catalog, "entry_points", lambda group: points)
    with pytest.raises(PluginError, match=r"^two installed packages offer a plugin 'twin': a:A and b:B\.$"):
        catalog.installed()
    monkeypatch.setattr(catalog, "entry_points", lambda group: points[1:])
    assert catalog.installed()["twin"].value == "a:A"


def test_only_the_plugin_that_is_named_is_imported() -> None:
    program = "import sys; from regkit.hooks import catalog, option_values; catalog.make('rrobin', {}); "
    program += "print([name for name in catalog.installed() if f'regkit_plugins.{name}' in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['rrobin']"


def test_source_and_class_tell_alike_which_plugins_only_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    names = list(catalog.installed())
    found = {name for name in names if catalog.only_follows(name)}
    assert found == {"tensorboard", "mlflow", "wandb", "trackio"}
    monkeypatch.setattr("regkit.hooks.source.read", lambda point: None)
    assert {name for name in names if catalog.only_follows(name)} == found
