"""MLflow: record settings, losses and scores as a run of an MLflow experiment.

A run that goes on goes on in the same MLflow run, which is told only what it does not have. Needs the extra `mlflow`.
"""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from regkit import Bookmark, PluginError, check_library, check_server, hookimpl, numbers

METRICS, PARAMETERS = 1000, 100  # most that MLflow takes in one request
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
ENDINGS = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}


@dataclass
class MLflow:
    uri: str | None = None
    """Address of the server or database. Without it, $MLFLOW_TRACKING_URI, or else mlflow.db where you are."""
    experiment: str = "regkit"
    """Name of the experiment, which is made if there is none."""
    client: Any = field(init=False, repr=False)
    bookmark: Bookmark = field(init=False, repr=False)

    def __post_init__(self) -> None:
        check_library("mlflow", "mlflow", "regkit[mlflow]")

    @hookimpl
    def begin_run(self, folder: Path, settings: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> None:
        from mlflow import MlflowClient, get_tracking_uri

        _check_place(self.uri or get_tracking_uri())
        self.client, self.bookmark = MlflowClient(self.uri), Bookmark.open(folder, "mlflow")
        if self.bookmark.id:
            self.client.update_run(self.bookmark.id, status="RUNNING")
        else:
            self._create(folder.name, settings)
        self.logged(records)

    def _create(self, name: str, settings: Mapping[str, Any]) -> None:
        """Make a run of this name in MLflow, with its settings."""
        from mlflow.entities import Param

        tags = {"group": settings["group"]} if "group" in settings else {}
        run = self.client.create_run(self._experiment(), run_name=name, tags=tags)
        parameters = [Param(key, str(value)) for key, value in settings.items()]
        for start in range(0, len(parameters), PARAMETERS):
            self.client.log_batch(run.info.run_id, params=parameters[start : start + PARAMETERS])
        self.bookmark.id = run.info.run_id
        self.bookmark.move([])

    def _experiment(self) -> str:
        """Find or make the experiment."""
        from mlflow import MlflowException

        found = self.client.get_experiment_by_name(self.experiment)
        if found is None:
            with suppress(MlflowException):  # another run that begins at the same time has made it
                self.client.create_experiment(self.experiment)
            found = self.client.get_experiment_by_name(self.experiment)
        return str(found.experiment_id)

    @hookimpl
    def logged(self, records: Sequence[Mapping[str, Any]]) -> None:
        from mlflow.entities import Metric

        metrics = [
            Metric(re.sub(r"[^\w/. :-]", "_", name), value, int(1000 * record["time"]), record["updates"])
            for record in self.bookmark.new(records)
            for name, value in numbers(record).items()
        ]
        for start in range(0, len(metrics), METRICS):
            self.client.log_batch(self.bookmark.id, metrics=metrics[start : start + METRICS])
        self.bookmark.move(records)

    @hookimpl
    def end_run(self, state: str) -> None:
        self.client.set_terminated(self.bookmark.id, ENDINGS[state])


def _check_place(uri: str) -> None:
    """Check that server or database can be reached.

    MLflow would try for minutes. Raises OSError or PluginError.
    """
    if uri.startswith(("http:", "https:")):
        check_server(uri)
    if not uri.startswith(DATABASES):
        return
    from sqlalchemy import create_engine, make_url

    try:
        create_engine(uri).connect().close()
    except Exception as error:  # whatever the database's driver raises
        place = make_url(uri).render_as_string() if "://" in uri else uri  # without the password
        reason = str(getattr(error, "orig", error)).splitlines()[0]
        raise PluginError(
            f"'mlflow' cannot open {place}: {reason}; give it another uri, or leave out -p mlflow."
        ) from error
