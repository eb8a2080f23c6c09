"""`--pair-mode`: how a task reads its pairs is a setting of the run, and all that reads the run goes by it."""

import json
from pathlib import Path

from tests.helpers import regkit


def test_a_run_reads_pairs_as_the_setting_says_and_so_does_all_that_reads_the_run(place: Path, tmp_path: Path) -> None:
    words = ("train", "--encoder", "encoder", "--data", "data", "--steps", "2", "--tasks", "same,near")
    ran = regkit(*words, "--pair-mode", "same=bi_encoder", "--output", tmp_path / "run", cwd=place)
    assert ran.status == 0, ran.err
    assert "task same: binary, bi-encoder" in ran.out
    written = json.loads((tmp_path / "run" / "best" / "config.json").read_text(encoding="utf8"))
    assert written["regkit"]["tasks"]["same"]["pair_mode"] == "bi_encoder"
    scored = json.loads(regkit("eval", tmp_path / "run", "--json", cwd=place).out)
    assert scored["dev"] == json.loads((tmp_path / "run" / "scores.json").read_text(encoding="utf8"))["dev"]
    refused = regkit("train", "--resume", tmp_path / "run", "--pair-mode", "same=cross_encoder", cwd=place)
    assert refused.status == 2
    assert "pair_mode" in refused.err
