"""Storage: reach the database or file that holds a study, and say in a sentence where that fails."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from regkit.base.errors import ConfigError, RunError, nearest, short
from regkit.base.failures import last_line
from regkit.base.files import absolute

DATABASE = "study.db"
JOURNAL, SQLITE = "journal:", "sqlite:///"
PAUSES = (0.2, 1.0)  # seconds between two tries to open a database
SCHEME = re.compile(r"(\w{2,}):")  # a single letter is a disk
SCHEMES = ("journal", "postgresql", "sqlite")
WAIT = 60  # seconds that a process waits while another one writes to SQLite
EXTRA = "pip install 'regkit[experiments]'"
DRIVERS = {"postgresql": "psycopg", "postgres": "psycopg"}  # where a URL names none: the one that is kept up


def check_installed() -> None:
    """Raise ConfigError where the extra `experiments` is missing."""
    if find_spec("optuna") is None:
        raise ConfigError(f"studies of many runs need optuna: {EXTRA}.")


def resolve(address: str | None, folder: Path) -> str:
    """Write the address of a study's storage in full.

    It is SQLite in its folder for None; a path stands for a journal.
    """
    if address is None:
        return f"{SQLITE}{absolute(folder) / DATABASE}"
    if address.startswith(SQLITE):
        return f"{SQLITE}{absolute(Path(address.removeprefix(SQLITE)))}"
    if "://" in address:
        return address
    scheme = SCHEME.match(address)
    if scheme and scheme[1] != JOURNAL.rstrip(":"):
        raise ConfigError(f"--storage is {short(address)}. {nearest(scheme[1], SCHEMES)}")
    return f"{JOURNAL}{absolute(Path(address.removeprefix(JOURNAL)))}"


def without_password(address: str) -> str:
    """Hide the password of a URL, as messages and files show it."""
    return re.sub(r"(://[^/@:]*):[^/]*@", r"\1@", address)


def is_there(address: str) -> bool:
    """Whether the file of a storage exists; of a server, only asking it tells."""
    for begin in (JOURNAL, SQLITE):
        if address.startswith(begin):
            return Path(address.removeprefix(begin)).is_file()
    return True


def connect(address: str) -> Any:
    """Open a storage of optuna by its address in full.

    Raises ConfigError for one that cannot be, and RunError where it is out of reach or of another version.
    """
    check_installed()
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with reaching(address):
        if address.startswith(JOURNAL):
            path = Path(address.removeprefix(JOURNAL))
            if not path.parent.exists():  # of a shared disk that is not mounted, each machine would make its own
                raise ConfigError(
                    f"--storage is {address}, and there is no folder {path.parent}; make it, or mount its disk."
                )
            return optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(path)))
        return _open_database(_with_driver(address), _engine(address))


def _open_database(url: str, engine: dict[str, Any]) -> Any:
    """Open a database, again where another process made its tables at the same moment."""
    import optuna
    from sqlalchemy.exc import DatabaseError

    for pause in PAUSES:
        try:
            return optuna.storages.RDBStorage(url, engine_kwargs=dict(engine))
        except DatabaseError as error:
            if "exists" not in str(error):
                raise
            time.sleep(pause)
    return optuna.storages.RDBStorage(url, engine_kwargs=engine)


def _engine(address: str) -> dict[str, Any]:
    if address.startswith("sqlite"):
        return {"connect_args": {"timeout": WAIT}}
    return {"pool_pre_ping": True}  # a server may have been restarted since


def _with_driver(address: str) -> str:
    scheme, _, rest = address.partition("://")
    driver = DRIVERS.get(scheme)
    if driver and find_spec(driver) is None and find_spec("psycopg2") is None:
        raise ConfigError("a study in PostgreSQL needs a driver: pip install 'psycopg[binary]'.")
    return f"postgresql+{driver}://{rest}" if driver and find_spec(driver) else address


@contextmanager
def reaching(address: str) -> Iterator[None]:
    """Turn whatever a storage and its libraries raise into one sentence."""
    import optuna
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

    shown = without_password(address)
    try:
        yield
    except (ArgumentError, NoSuchModuleError, ImportError) as error:
        raise ConfigError(
            f"storage {shown} cannot be used: {_reason(error)}; give sqlite:///FILE, postgresql://..., or journal:FILE."
        ) from error
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError, OSError) as error:
        raise RunError(f"storage {shown} is out of reach: {_reason(error)}.") from error
    except (RuntimeError, AssertionError, ValueError) as error:
        if isinstance(error, optuna.exceptions.OptunaError):
            raise
        raise RunError(f"storage {shown} is not what optuna {optuna.__version__} writes: {_reason(error)}.") from error


def _reason(error: BaseException) -> str:
    """Find what went wrong: the first line of the error that a library's own was made of."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    cause = getattr(error, "orig", None) or error.__cause__
    if cause is not None and cause is not error:
        return _reason(cause)
    return (str(error).strip().splitlines() or [last_line(error)])[0].rstrip(".")
