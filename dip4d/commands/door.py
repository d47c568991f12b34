"""The door between the library and whoever types a command: what is logged is printed, an error is one line."""

from __future__ import annotations

import atexit
import logging
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping

_CACHES = ("MPLCONFIGDIR", "XDG_CACHE_HOME", "XDG_DATA_HOME", "TRITON_CACHE_DIR")  # of matplotlib, numba, W&B, Triton


class _Printer(logging.Handler):
    """Prints what the library says, to wherever the standard output is at that moment; warnings are marked."""

    def emit(self, record: logging.LogRecord) -> None:
        mark = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
        print(f"{mark}{record.getMessage()}", flush=True)


def open_door() -> None:
    """From now on, what the library logs is printed; calling it again changes nothing."""
    library = logging.getLogger("dip4d")
    library.setLevel(logging.INFO)
    library.propagate = False
    if not any(isinstance(handler, _Printer) for handler in library.handlers):
        library.addHandler(_Printer())


def through_the_door(run: Callable[[], int | None], *, arguments: Mapping[str, str]) -> int:
    """Runs a command; returns 0 or the code that it returns, 2 for what the user gave and cannot be used or what the
    disk refuses, 130 for Ctrl-C, 143 for SIGTERM.

    arguments: what the users of the command write for an argument of the library, such as "key data.exclude".
    """
    from dip4d.errors import InputError, TerminatedError, in_words
    from dip4d.experiment.signals import Handlers

    open_door()
    _cache_beside_home()
    handlers = Handlers()
    handlers.set(signal.SIGTERM, _terminate)
    try:
        return run() or 0
    except BrokenPipeError:  # whoever reads what is printed has seen enough, as `head` does
        sys.stdout = None
        return 0
    except InputError as error:
        hint = arguments.get(error.argument or "")
        return _refused(f"{error}" + (f" ({hint})" if hint else ""))
    except OSError as error:
        return _refused(in_words(error))
    except MemoryError as error:
        return _refused(f"not enough memory ({error}): smaller images, with data.bin, need less")
    except KeyboardInterrupt:
        return 130
    except TerminatedError:
        return 143
    finally:
        handlers.restore()


def _cache_beside_home() -> None:
    """Where the home folder cannot be written, what libraries keep there goes to a temporary folder until the end."""
    unset = [name for name in _CACHES if name not in os.environ]
    if unset and not os.access(os.path.expanduser("~"), os.W_OK):
        folder = tempfile.mkdtemp(prefix="dip4d-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        os.environ.update(dict.fromkeys(unset, folder))


def _refused(why: str) -> int:
    print(f"error: {why}", file=sys.stderr)
    return 2


def _terminate() -> None:
    from dip4d.errors import TerminatedError

    raise TerminatedError
