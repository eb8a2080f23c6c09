"""MLflow, by its own client, on a database in the test's folder."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from regkit_plugins.mlflow import MLflow

from regkit import PluginError
from tests.plugins.followed import LOSS, LOSSES, SCORE, SCORES, SETTINGS, follow, lines, tell

if not importlib.util.find_spec("mlflow"):  # it is imported later: it reads the environment then
    pytest.skip("mlflow is not installed", allow_module_level=True)
pytestmark = pytest.mark.slow  # five seconds to import it and to make a database


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"


def runs(uri: str, experiment: str = "regkit") -> tuple[Any, list[Any]]:
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    return client, list(client.search_runs([client.get_experiment_by_name(experiment).experiment_id]))


def test_mlflow_has_one_run_with_each_number_once_of_a_run_that_went_on(uri: str, tmp_path: Path) -> None:
    follow(lambda: MLflow(uri=uri), tmp_path)
    client, (run,) = runs(uri)
    assert run.info.status == "FINISHED"
    assert run.data.params == {name: str(value) for name, value in SETTINGS.items()}
    assert run.data.tags["group"] == "study/smart"
    for name, expected in ((LOSS, LOSSES), (SCORE, SCORES)):
        assert [(each.step, each.value) for each in client.get_metric_history(run.info.run_id, name)] == expected


def test_mlflow_takes_many_settings_long_ones_and_names_of_any_form(uri: str, tmp_path: Path) -> None:
    settings = {f"labels.{number}": "x" * 60 * number for number in range(102)}
    records = [lines(0, 1)[1] | {"losses": {"a task": {"näme[%]": 1.0}}}]
    tell(MLflow(uri=uri, experiment="odd"), tmp_path, 0, records, "stopped", settings)
    _, (run,) = runs(uri, "odd")
    assert len(run.data.params) == 102
    assert run.info.status == "KILLED"
    assert run.data.metrics["losses/a task/näme___"] == 1.0


def test_mlflow_names_a_server_that_it_cannot_reach_at_once(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"^http://127\.0\.0\.1:9 cannot be reached: Connection refused$"):
        MLflow(uri="http://me:secret@127.0.0.1:9").begin_run(tmp_path, SETTINGS, [])


def test_mlflow_names_a_database_that_it_cannot_open_at_once(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/none/mlflow.db"
    with pytest.raises(PluginError, match=f"'mlflow' cannot open {uri}: unable to open database file; "):
        MLflow(uri=uri).begin_run(tmp_path, SETTINGS, [])
