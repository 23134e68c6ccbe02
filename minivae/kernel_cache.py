"""The machine code of the kernels on the disk: where it is kept, and what becomes of damage.

Numba runs whatever it finds in its cache.  Here each file ends in the sha256 of the rest, and a
file that does not is thrown away and compiled anew.
"""

import hashlib
import io
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import numba
from numba.core.caching import FunctionCache, IndexDataCacheFile

SEAL = hashlib.sha256().digest_size
SOURCES = ("kernels.py", "cores.py")


def cache_folder() -> Path:
    """Where machine code is kept, e.g. ~/.cache/minivae/kernels/numba-0.61.0-x86_64.

    NUMBA_CACHE_DIR, where it is set, goes first.
    """
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    name = f"numba-{numba.__version__}-{platform.machine()}"
    return Path(caches) / "minivae" / "kernels" / name


def keep(dispatcher) -> None:
    """Have Numba keep the machine code of a compiled function.  Without a folder, it keeps none.

    Numba's own choice is beside the source.  There it stays behind when pip uninstalls the package,
    and Python then takes the folder that is left for the package.
    """
    if numba.config.DISABLE_JIT:
        return
    before = numba.config.CACHE_DIR
    try:
        numba.config.CACHE_DIR = before or str(cache_folder())
        dispatcher._cache = KernelCache(dispatcher.py_func)
    except RuntimeError:                         # there is no home, or no folder can be written
        pass
    finally:
        numba.config.CACHE_DIR = before


def stamps(folder: Path = Path(__file__).parent) -> list[tuple]:
    """When each source was written, and its size: machine code of older ones is compiled anew.

    Numba asks only for the function's own file, but a loop of cores.py holds code of kernels.py.
    """
    found = [(folder / name).stat() for name in SOURCES]
    return [(file.st_mtime, file.st_size) for file in found]


def damaged_files(folder: Path) -> list[Path]:
    """The files of machine code in `folder` that are not as they were written."""
    return [path for path in sorted(folder.glob("*.nb[ic]")) if not _is_sealed(path.read_bytes())]


def _is_sealed(data: bytes) -> bool:
    return hashlib.sha256(data[:-SEAL]).digest() == data[-SEAL:]


class KernelCache(FunctionCache):
    """Numba's cache of one function, in sealed files; a full disk is told and no error."""

    def __init__(self, function):
        super().__init__(function)
        self._cache_file = SealedFile(self._cache_path, self._impl.filename_base,
                                      [self._impl.locator.get_source_stamp(), *stamps()])

    def save_overload(self, sig, data) -> None:
        try:
            super().save_overload(sig, data)
        except OSError as error:
            _say(f"compiled kernels cannot be kept in {self._cache_path} ({error.strerror}): every "
                 "start compiles them")


class SealedFile(IndexDataCacheFile):
    """Numba's files of one function.  Pickle reads to its own end, so the seal disturbs nobody."""

    @contextmanager
    def _open_for_write(self, path: str) -> Iterator[io.BytesIO]:
        content = io.BytesIO()
        yield content
        data = content.getvalue()
        with super()._open_for_write(path) as file:
            file.write(data + hashlib.sha256(data).digest())

    def _load_index(self) -> dict:
        return super()._load_index() if self._is_whole(self._index_path) else {}

    def _load_data(self, name: str):
        if not self._is_whole(self._data_path(name)):
            raise OSError                        # `load` takes it for a file that is not there
        return super()._load_data(name)

    def _is_whole(self, path: str) -> bool:
        """Whether the file is there as it was written.  One that is damaged is removed."""
        try:
            data = Path(path).read_bytes()
        except OSError:
            return False
        if _is_sealed(data):
            return True
        _say(f"compiled kernels in {self._cache_path} are damaged: compiling them anew")
        with suppress(OSError):
            os.unlink(path)
        return False


@cache
def _say(message: str) -> None:
    """Print a line on stderr, once in a process."""
    print(f"minivae: {message}", file=sys.stderr)
