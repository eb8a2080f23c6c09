"""Storages: where a study can be, and the sentence for one that cannot be reached or read."""

import os
import shutil
import socket
import sqlite3
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from regkit.base.errors import ConfigError, RegkitError
from regkit.experiments.study import storage
from regkit.experiments.study.results import read_results
from regkit.experiments.study.study import Study
from regkit.experiments.study.worker import Worker
from tests.cli.test_bad_input import is_one_sentence
from tests.experiments.fakes import FakeRunner, begin, plan_of
from tests.forked import Forked
from tests.helpers import Ran


@pytest.mark.parametrize("address", ["journl:/shared/t.log", "postgres:/h", "nonsense:x"])
def test_a_storage_of_an_unknown_kind_is_no_file(address: str, tmp_path: Path) -> None:
    with pytest.raises(RegkitError, match=r"^--storage is .*Available: journal, postgresql, sqlite\.$"):
        storage.resolve(address, tmp_path)


def test_an_address_is_written_in_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert storage.resolve(None, Path("s")) == f"sqlite:///{tmp_path}/s/study.db"
    assert (
        storage.resolve("j.log", Path("s"))
        == storage.resolve("journal:j.log", Path("s"))
        == f"journal:{tmp_path}/j.log"
    )
    assert storage.resolve("sqlite:///x.db", Path("s")) == f"sqlite:///{tmp_path}/x.db"
    assert storage.resolve("postgresql://h/d", Path("s")) == "postgresql://h/d"


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("postgresql://me:se:c@ret@host:5432/d", "postgresql://me@host:5432/d"),
        ("postgresql://me@host/d", "postgresql://me@host/d"),
        ("sqlite:////a:b@c/study.db", "sqlite:////a:b@c/study.db"),
        ("postgresql+psycopg://:x@h/d", "postgresql+psycopg://@h/d"),
    ],
)
def test_a_password_is_never_shown(address: str, shown: str) -> None:
    assert storage.without_password(address) == shown


def another_version(folder: Path) -> str:
    storage.connect(f"sqlite:///{folder}/study.db")
    with closing(sqlite3.connect(folder / "study.db")) as database, database:
        database.execute("UPDATE alembic_version SET version_num = 'v99.0.0.a'")
    return f"sqlite:///{folder}/study.db"


def no_database(folder: Path) -> str:
    (folder / "x.db").write_bytes(b"text " * 1000)
    return f"sqlite:///{folder}/x.db"


def no_journal(folder: Path) -> str:
    (folder / "x.log").write_text("text\n" * 10)
    return f"journal:{folder}/x.log"


WRONG = {
    "nowhere": (
        lambda folder: f"sqlite:///{folder}/none/study.db",
        "none/study.db does not exist: no study has begun there.",
    ),
    "refused": (
        lambda folder: "postgresql://me:secret@127.0.0.1:1/d",
        "postgresql://me@127.0.0.1:1/d is out of reach: ",
    ),
    "scheme": (lambda folder: "nosql://x/y", "storage nosql://x/y cannot be used: "),
    "no url": (lambda folder: "://", "cannot be used: "),
    "version": (another_version, "The runtime optuna version "),
    "no database": (no_database, "is out of reach: file is not a database."),
    "no journal": (no_journal, "is not what optuna "),
    "no file": (lambda folder: f"journal:{folder}/x.log", "x.log does not exist: no study has begun there."),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_storage_that_cannot_be_used_is_said_in_a_sentence(name: str, tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    address, said = WRONG[name]
    with pytest.raises(RegkitError) as refused:
        Study.open("study", tmp_path / "s", address(tmp_path / "s"))
    assert said in str(refused.value)
    assert "secret" not in str(refused.value)
    is_one_sentence(Ran(2, "", f"regkit: {refused.value}\n"))


def test_a_storage_that_cannot_be_made_is_said_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for address in (f"journal:{tmp_path}", f"journal:{tmp_path}/file/x.log", f"sqlite:///{tmp_path}/none/x.db"):
        with pytest.raises(
            RegkitError, match=r"is out of reach: (Is a directory|Not a directory|File exists|unable to)"
        ):
            Study.create("study", tmp_path, address)
    missing = tmp_path / "shared" / "disk"  # not mounted: each machine would begin a study of its own
    with pytest.raises(ConfigError, match=f"there is no folder {missing}; make it, or mount its disk."):
        Study.create("study", tmp_path, f"journal:{missing}/x.log")
    assert not missing.parent.exists()


def test_a_study_that_is_not_in_its_storage_is_said_with_those_that_are(tmp_path: Path) -> None:
    study = begin(tmp_path / "s", plan_of())
    with pytest.raises(RegkitError, match=r"has no study 'studi', .* Did you mean 'study'\? Available: study\.$"):
        Study.open("studi", tmp_path / "elsewhere", study.address)


def test_a_study_that_two_processes_begin_is_one(tmp_path: Path) -> None:
    one, other = (begin(tmp_path / "s", plan_of()) for _ in range(2))
    assert one.number == other.number


def work(folder: Path, address: str) -> None:
    """Work on a study in a process of its own, and say which runs it did."""
    runner = FakeRunner(takes=0.05)
    Worker(Study.open("study", folder, address), runner).work()
    print(*(f"{row}/{seed}" for row, seed in runner.ran.elements()))


@contextmanager
def postgres() -> Iterator[str]:
    """A server of Debian's PostgreSQL; for root, which may not run it, its own user does."""
    tools = (
        Path(found).parent
        if (found := shutil.which("pg_ctl"))
        else max(Path("/usr/lib/postgresql").glob("*/bin"), default=None)
    )
    if tools is None or not (tools / "initdb").exists():
        pytest.skip("there is no PostgreSQL here")
    root = os.geteuid() == 0
    if root and not shutil.which("runuser"):
        pytest.skip("PostgreSQL does not run as root, and there is no runuser")

    def run(program: str, *words: object) -> None:
        command = [*(["runuser", "-u", "postgres", "--"] if root else []), str(tools / program), *map(str, words)]
        subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL)

    with tempfile.TemporaryDirectory() as name, closing(socket.socket()) as free:  # tmp_path is for its owner alone
        folder = Path(name)
        if root:
            shutil.chown(folder, "postgres")
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        run("initdb", "-D", folder / "data", "-A", "trust", "-U", "regkit")
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off"
        run("pg_ctl", "-D", folder / "data", "-w", "-l", folder / "log", "-o", options, "start")
        try:
            yield f"postgresql://regkit@127.0.0.1:{port}/postgres"
        finally:
            run("pg_ctl", "-D", folder / "data", "-w", "-m", "immediate", "stop")


@pytest.mark.slow
def test_four_workers_on_postgresql_lose_no_run_and_do_none_twice(tmp_path: Path) -> None:
    with postgres() as address:
        plan = plan_of("smart", "rrobin", "sam", seeds=4)
        study = begin(tmp_path / "s", plan, address)
        workers = [Forked(work, study.folder, address, cwd=tmp_path) for _ in range(4)]
        said = [worker.communicate()[0].split() for worker in workers]
        assert [worker.returncode for worker in workers] == [0] * 4
        assert Counter(cell for each in said for cell in each) == Counter(f"{row}/{seed}" for row, seed in plan.cells())
        assert sum(map(bool, said)) > 1  # they did work together
        assert {result.state for result in read_results(study, plan)} == {"finished"}
        study.close()
