"""Errors: name an encoder of the user's own in what its code raises, or lacks."""

from collections.abc import Iterator
from contextlib import contextmanager

from regkit.base.errors import EncoderError, RegkitError
from regkit.base.failures import gone, last_line, ran_out


class LacksError(EncoderError, AttributeError):
    """Report what an encoder of the user's own lacks. It is an AttributeError too, so `hasattr` works."""


@contextmanager
def named(owner: str) -> Iterator[None]:
    """Turn whatever the user's code raises into an EncoderError that names it.

    Running out of memory is no fault, nor is another process that is gone.
    """
    try:
        yield
    except RegkitError:
        raise
    except (Exception, SystemExit) as error:
        if ran_out(error) or gone(error):
            raise
        raise EncoderError(f"{owner} failed: {last_line(error)}.") from error
