"""One at a time: a lock that a process holds on a file, and that dies with the process."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:                              # Windows: there everybody goes on without a lock
    fcntl = None


class Locked(ValueError):
    """Another process holds the lock.  The message, one line, says which."""


@contextmanager
def locked(path: Path, what: str, wait: bool = False) -> Iterator[None]:
    """Within `with`, no other process is in a `with locked` of the same path.

    The file is made where there is none, and removed at the end.  Where a lock cannot be had, as on
    some network disks and in a folder that cannot be written, the block runs without one.

    Parameters
    ----------
    path : path of the file that is locked
    what : str
        What the holder does, for the message: "runs/digits is being trained".
    wait : bool
        Wait until the lock is free, and do not raise.

    Raises
    ------
    Locked
        Where another process holds it.
    """
    handle = _hold(path, what, wait)
    try:
        yield
    finally:
        if handle is not None:
            with suppress(OSError):
                os.unlink(path)
            os.close(handle)                     # which frees the lock


def _hold(path: Path, what: str, wait: bool) -> int | None:
    """The open file `path`, locked; None where a lock cannot be had."""
    for _ in range(100):
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError:
            return None
        try:
            _take(handle, what, wait)
            if _is_at(handle, path):
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)                         # its holder has removed it: the next one counts
    return None


def _is_at(handle: int, path: Path) -> bool:
    """Whether the open file is the one that stands at `path` now."""
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except OSError:
        return False


def _take(handle: int, what: str, wait: bool) -> None:
    """Lock the open file, and write into it who holds it."""
    if fcntl is None:
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        holder = os.pread(handle, 20, 0).decode(errors="replace").strip()
        raise Locked(f"{what} by process {holder or 'unknown'}: wait until it is done") from None
    except OSError:
        return
    with suppress(OSError):                      # a full disk: the lock holds without a name
        os.ftruncate(handle, 0)
        os.pwrite(handle, str(os.getpid()).encode(), 0)


def is_alive(pid: int) -> bool:
    """Whether a process of this number runs on this machine, as far as can be known."""
    if fcntl is None:                            # on Windows, kill with 0 is no question
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):             # it is another user's
        return True
    return True
