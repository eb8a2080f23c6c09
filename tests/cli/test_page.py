"""`regkit report` writes a page where it is told to, and nothing else."""

import http.server
import shutil
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path
from unittest.mock import patch

import pytest

from tests.cli.test_bad_input import is_one_sentence
from tests.cli.test_startup import Started
from tests.helpers import everything_in, regkit
from tests.page.folders import difference, entry, write_run, write_study


@pytest.fixture
def place(tmp_path: Path) -> Path:
    write_run(tmp_path / "runs" / "one", finished=False)
    write_study(tmp_path / "study", [{"name": "plain", "entries": [entry([0.5])]}])
    for seed in (0, 1):
        write_run(tmp_path / "study" / f"plain-{seed}", seed=seed)
    return tmp_path


def test_the_page_is_written_into_the_first_folder_and_its_path_is_printed(place: Path) -> None:
    ran = regkit("report", "runs/one", "study", cwd=place)
    assert ran.status == 0, ran.err
    assert ran.out.startswith("runs/one/report.html: ")
    assert not (place / "study" / "report.html").exists()
    text = (place / "runs" / "one" / "report.html").read_text(encoding="utf8")
    assert "stopped, after step 40" in text
    assert "The predictions are not shown: " in text
    assert "study: Scores by row" in text


def test_without_a_path_the_page_is_of_the_runs_in_the_folder_runs(place: Path) -> None:
    assert regkit("report", cwd=place).out.startswith("runs/report.html: ")


def test_a_page_may_be_written_again_but_nothing_else_is_overwritten(place: Path) -> None:
    assert regkit("report", "study", "--output", "page.html", cwd=place).status == 0
    assert regkit("report", "study", "--output", "page.html", cwd=place).status == 0
    (place / "notes.html").write_text("<html>mine</html>", encoding="utf8")
    before = everything_in(place)
    ran = regkit("report", "study", "--output", "notes.html", cwd=place)
    is_one_sentence(ran)
    assert "notes.html exists, and is no report of regkit" in ran.err
    assert everything_in(place) == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["oen"], "there is no run or folder oen."),
        (["empty"], "there is no run and no study in empty"),
        (["study", "--output", "runs"], "which is a folder; name a file"),
        (["study", "--output", "no/where.html"], "there is no folder no"),
        (["study", "--png", "study/table.json"], "which is no folder"),
        (["broken"], "broken/table.json is not what a study writes"),
        (["study", "--ouput", "x"], "Did you mean '--output'?"),
    ],
)
def test_what_cannot_be_is_one_sentence_and_writes_nothing(place: Path, words: list[str], said: str) -> None:
    (place / "empty").mkdir()
    (place / "broken").mkdir()
    (place / "broken" / "table.json").write_text("3", encoding="utf8")
    before = everything_in(place)
    ran = regkit("report", *words, cwd=place)
    is_one_sentence(ran)
    assert said in ran.err
    assert everything_in(place) == before


def test_runs_without_a_checkpoint_and_studies_need_no_torch(place: Path, tmp_path: Path) -> None:
    started = Started(tmp_path)
    with started.process:
        status, heavy, said = started(place, "report", "study", "runs")
    assert (status, heavy) == (0, []), said


def test_the_charts_are_written_as_images_one_file_each(place: Path) -> None:
    pytest.importorskip("matplotlib")
    rows = [
        {"name": "plain", "entries": [entry([0.5])]},
        {"name": "smart", "entries": [entry([0.6], difference(0.1, 0.05, 0.2))]},
    ]
    write_study(place / "ablation", rows)
    ran = regkit("report", "ablation", "--png", "images", cwd=place)
    assert ran.status == 0, ran.err
    assert "images: 1 chart" in ran.out
    (image,) = (place / "images").iterdir()
    assert image.name == "001-differences-from-plain-dev-mood-accuracy.png"
    assert image.read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_one_sentence_says_how_to_install_it(place: Path) -> None:
    with patch.dict(sys.modules, {"matplotlib": None}):
        ran = regkit("report", "study", "--png", "images", cwd=place)
    is_one_sentence(ran)
    assert "pip install 'regkit[plots]'" in ran.err
    assert not (place / "images").exists()


CHROMIUM = shutil.which("chromium")
QUIET = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--enable-logging=stderr")


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
@pytest.mark.parametrize("width", [400, 1200])
def test_a_browser_says_nothing_and_asks_for_nothing_but_the_page(place: Path, width: int) -> None:
    assert regkit("report", "study", "runs", "--output", "page.html", cwd=place).status == 0
    asked = list[str]()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            super().do_GET()

        def log_message(self, *arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("localhost", 0), partial(Handler, directory=str(place))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://localhost:{server.server_port}/page.html"
        picture = [
            f"--window-size={width},900",
            f"--screenshot={place / 'page.png'}",
            f"--user-data-dir={place / 'profile'}",
        ]
        done = subprocess.run([str(CHROMIUM), *QUIET, *picture, address], capture_output=True, text=True, timeout=120)
        server.shutdown()
    assert asked == ["/page.html"]
    assert "CONSOLE" not in done.stderr
    assert (place / "page.png").stat().st_size > 10_000
