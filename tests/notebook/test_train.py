"""Training from Python: what is wrong is a sentence in the words of Python, and so is how to go on."""

import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

import regkit
from regkit import ConfigError, hookimpl
from regkit.base.errors import StoppedError
from tests.helpers import sentence, write_encoder

DATA = {"mood": ([sentence(number) for number in range(40)], [number % 2 for number in range(40)])}


@dataclass
class Interrupting:
    """A plugin of a notebook, in whose step the kernel is interrupted."""

    at: int = 1

    @hookimpl
    def after_step(self, step: int) -> None:
        if step == self.at:
            signal.raise_signal(signal.SIGINT)


def test_an_interrupted_run_with_a_class_of_ones_own_says_how_to_go_on_in_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(signal, "getsignal", lambda number: signal.default_int_handler)  # it may be ignored here
    encoder = str(write_encoder(tmp_path / "encoder"))
    with pytest.raises(StoppedError) as error:
        regkit.train(DATA, plugins=[Interrupting], encoder=encoder, steps=3, batch_size=8, output="run", quiet=True)
    how = str(error.value).partition("to go on, hand in the plugins again: ")[2]
    assert how == "regkit.train(resume='run', plugins=[Interrupting])"
    model = eval(how.replace("(", "(quiet=True, "), {"regkit": regkit, "Interrupting": Interrupting})
    assert len(model.predict(["the soup is good"])) == 1


def test_columns_that_pandas_has_numbered_are_named_by_their_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pandas = pytest.importorskip("pandas")
    monkeypatch.chdir(tmp_path)
    encoder = str(write_encoder(tmp_path / "encoder"))
    table = pandas.DataFrame(list(zip(*DATA["mood"], strict=True)))
    model = regkit.train({"mood": table}, text=0, label=1, encoder=encoder, steps=1, batch_size=8, quiet=True)
    assert model.predict(table) == model.predict(DATA["mood"][0])


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"lr": 1e-4}, "regkit.train has no option 'lr'. Did you mean 'learning_rate'? Available: "),
    ({"max_len": 9}, "regkit.train has no option 'max_len'. Did you mean 'max_length'? Available: "),
    ({"model_name": "x"}, "regkit.train has no option 'model_name'. Did you mean 'encoder'? Available: "),
    ({"plugin": ["smart"]}, "regkit.train has no option 'plugin'. Did you mean 'plugins'? Available: "),
    ({"encoder": torch.nn.Linear(2, 2)}, "encoder is Linear(in_features=2, out_features=2, bias=True); "),
    ({"output": 5}, "output is 5; the path of a folder is needed."),
    ({"resume": ["run"]}, "resume is ['run']; the path of a folder is needed."),
    ({"dev": [{"text": "a"}]}, "dev is [{'text': 'a'}]; "),
    ({"tasks": ["moood"]}, "there is no task 'moood'. Did you mean 'mood'? Available: mood."),
    ({"steps": True}, "steps is True; a number is needed, and not true or false."),
]


@pytest.mark.parametrize(("settings", "said"), WRONG, ids=[next(iter(settings)) for settings, _ in WRONG])
def test_a_setting_that_is_none_is_refused_in_a_sentence(
    settings: dict[str, Any], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as error:
        regkit.train(DATA, **settings)
    assert str(error.value).startswith(said)


@dataclass
class Nested:
    """A plugin in whose step another training begins, as in another thread of a server."""

    encoder: str = ""

    @hookimpl
    def after_step(self) -> None:
        regkit.train(DATA, encoder=self.encoder, steps=1, batch_size=8, quiet=True)


def test_a_second_training_in_the_same_process_is_refused_until_the_first_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both would draw from torch's one generator, and neither would be what it is alone."""
    monkeypatch.chdir(tmp_path)
    encoder = str(write_encoder(tmp_path / "encoder"))
    with pytest.raises(regkit.RegkitError, match="another thread of this program trains"):
        regkit.train(DATA, plugins=[Nested(encoder)], encoder=encoder, steps=1, batch_size=8, quiet=True)
    regkit.train(DATA, encoder=encoder, steps=1, batch_size=8, quiet=True)
