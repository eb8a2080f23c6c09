"""Cache: what is kept of tables and corpora is said, and freed when the user agrees."""

import json
from pathlib import Path

import pytest
from filelock import FileLock

from regkit.base.kept import KEY
from tests.helpers import regkit


def test_the_cache_is_freed_when_asked_but_for_what_is_being_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REGKIT_CACHE", str(tmp_path / "cache"))
    building = f"{'c' * KEY}.x.unfinished"
    for name in (f"tables/{'a' * KEY}", f"tables/{'b' * KEY}", f"corpus/{building}", "work/thesis"):
        (tmp_path / "cache" / name).mkdir(parents=True)
        (tmp_path / "cache" / name / "tokens").write_bytes(bytes(1000))
    said = regkit("clean", "--cache", cwd=tmp_path).out
    assert f"{tmp_path / 'cache'}: 3 kB, the tokens of 3 tables and corpora" in said
    assert "to free 3 kB: regkit clean --cache --yes" in said
    with FileLock(tmp_path / "cache" / "corpus" / f"{'c' * KEY}.lock"):
        found = json.loads(regkit("clean", "--cache", "--yes", "--json", cwd=tmp_path).out)
    assert found == {"cache": str(tmp_path / "cache"), "bytes": 3000, "freed": 2000}
    left = {path.name for path in (tmp_path / "cache").glob("*/*") if path.is_dir()}
    assert left == {building, "thesis"}  # what is being built, and what is not regkit's
    assert "name no run beside it" in regkit("clean", "run", "--cache", cwd=tmp_path).err
