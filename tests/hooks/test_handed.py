"""Plugins handed in from Python: names, classes and objects come to the same run."""

from dataclasses import dataclass, field

import pytest
import torch
from regkit_plugins.smart import Smart

from regkit import PluginError, hookimpl
from regkit.hooks import catalog, uninstalled
from regkit.hooks.handed import take


@dataclass
class MyL2Plugin:
    """A plugin as a cell of a notebook makes it."""

    weight: float = 1.0
    tasks: list[str] = field(default_factory=list)
    seen: int = field(default=0, init=False)

    @hookimpl
    def after_step(self) -> None:
        self.seen += 1


def test_names_classes_and_objects_are_read_as_settings_have_them() -> None:
    found = take(["smart:weight=3", MyL2Plugin(weight=2.0)])
    assert found.options == {"smart": {"weight": "3"}, "my_l2_plugin": {"weight": 2.0}}
    assert found.plugins == {"my_l2_plugin": MyL2Plugin}
    assert take([Smart(weight=3.0)]).options == {"smart": {"weight": 3.0}}
    assert take([Smart]).options == {"smart": {}}
    assert take([Smart]).plugins == {}


def test_a_run_makes_a_plugin_of_its_own_from_the_object_it_is_handed() -> None:
    mine = MyL2Plugin(weight=2.0)
    mine.seen = 5
    found = take([mine])
    with uninstalled.handing(found.plugins):
        made = catalog.make("my_l2_plugin", found.options["my_l2_plugin"])
        with pytest.raises(PluginError, match="'my_l2_plugin' has no option 'wait'"):
            catalog.make("my_l2_plugin", {"wait": 1})
        with pytest.raises(PluginError, match="'my_l2_plugin': weight is 'x'"):
            catalog.make("my_l2_plugin", {"weight": "x"})
        with pytest.raises(PluginError, match="Did you mean 'my_l2_plugin'"):
            catalog.make("my_l3_plugin", {})
    assert (made.weight, made.seen, made is mine) == (2.0, 0, False)
    with pytest.raises(PluginError, match="there is no plugin 'my_l2_plugin'"):
        catalog.make("my_l2_plugin", {})


@dataclass
class Doubling:
    weight: float = 1.0
    words: object = None

    def __post_init__(self) -> None:
        self.weight *= 2


def test_an_object_that_a_run_cannot_make_again_of_its_options_is_refused() -> None:
    with pytest.raises(PluginError, match=r"'doubling' changes its option weight when it is made: of 4.0 it makes 8.0"):
        take([Doubling(weight=2.0)])
    with uninstalled.handing(take([Doubling]).plugins), pytest.raises(PluginError, match=r"of 4.0 it makes 8.0"):
        catalog.make("doubling", {"weight": 2})
    mine = MyL2Plugin()
    mine.tasks = torch.ones(2)  # type: ignore[assignment]
    with pytest.raises(
        PluginError, match="'my_l2_plugin': tasks is a Tensor; a run records its options, so a number, "
    ):
        take([mine])


@pytest.mark.parametrize("wrong", [{"smart": {"weight": 1000.0}}, "smart", None, 3])
def test_plugins_that_are_no_list_are_refused(wrong: object) -> None:
    with pytest.raises(PluginError, match=r"^plugins is .*; it needs a list, and a plugin is a name such as "):
        take(wrong)  # type: ignore[arg-type]


def test_what_is_no_plugin_is_refused() -> None:
    for wrong in (3, object, object()):
        with pytest.raises(
            PluginError, match="is no plugin; a name, a dataclass with hooks or an object of it is needed"
        ):
            take([wrong])
    with pytest.raises(PluginError, match="plugin 'smart' is given twice"):
        take(["smart", Smart()])


def test_a_class_may_not_take_the_name_of_an_installed_plugin() -> None:
    @dataclass
    class RDrop:
        weight: float = 1.0

    with pytest.raises(PluginError, match="would be plugin") as error:
        take([dataclass(type("Smart", (), {}))])
    assert str(error.value) == "Smart would be plugin 'smart', which is installed: call the class by another name."
    assert take([RDrop]).options == {"r_drop": {}}
