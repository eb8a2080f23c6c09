"""TensorBoard, by its own reader."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from regkit_plugins.tensorboard import TensorBoard

from tests.plugins.followed import LOSS, LOSSES, SCORE, SCORES, SETTINGS, follow

if not importlib.util.find_spec("tensorboard"):  # it is imported later: it reads the environment then
    pytest.skip("tensorboard is not installed", allow_module_level=True)


def read(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder))
    found.Reload()
    return found


def points(found: Any, name: str) -> list[tuple[int, float]]:
    return [(each.step, each.value) for each in found.Scalars(name)]


@pytest.mark.parametrize("own", [True, False])
def test_tensorboard_shows_each_number_once_also_of_a_run_that_went_on(own: bool, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    follow(lambda: TensorBoard(folder=None if own else str(tmp_path / "all")), run)
    found = read(run if own else tmp_path / "all" / "run")
    assert points(found, LOSS) == LOSSES
    assert points(found, SCORE) == SCORES
    assert found.Scalars(LOSS)[0].wall_time == 1e9 + 1


def test_tensorboard_has_the_settings_beside_the_last_scores(tmp_path: Path) -> None:
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    follow(TensorBoard, tmp_path)
    parsed = [
        HParamsPluginData.FromString(content)
        for content in read(tmp_path).summary_metadata.values()
        for content in [content.plugin_data.content]
        if content
    ]
    (given,) = (each.session_start_info.hparams for each in parsed if each.session_start_info.hparams)
    assert {name: value.number_value or value.string_value for name, value in given.items()} == SETTINGS
    (names,) = (
        [info.name.tag for info in each.experiment.metric_infos] for each in parsed if each.experiment.metric_infos
    )
    assert names == [SCORE]
