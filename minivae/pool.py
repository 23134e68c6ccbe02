"""The pool of threads: who multiplies, on how many cores, and whether neighbours need them.

There is ONE pool, that of GNU OpenMP, which is Numba's "omp" layer.  Two pools wait for each other
by spinning: NumPy's own BLAS threads beside Numba's made a training step of 3 ms take 50.

Who multiplies: oneDNN where it is installed (`pip install '.[fast]'`), else the OpenBLAS that NumPy
brings, told to use one thread for each part.  Without GNU OpenMP (macOS, Windows), or without the
JIT, there is no pool: np.matmul multiplies, and every loop runs on one core.

`about()` says what was found; `minivae doctor` prints it.
"""

import ctypes
import os
import threading
from importlib import metadata
from pathlib import Path
from time import perf_counter

import numba
import numpy as np

NOBODY, OPENBLAS, ONEDNN = 0, 1, 2      # who multiplies; NOBODY: np.matmul does
SPINS = "20000"         # about 0.1 ms; to wake a sleeping thread takes nearly as long
NO_BIAS = np.empty(0, np.float32)
MOST_PARTS = 1024       # more cores than any machine has for one process
SMALL_PRODUCT = 400_000     # multiplications, some 10 microseconds: a second core would not help


class Neighbours:
    """Whether other processes want our cores: then one thread is faster than several that wait.

    The system counts how often it took a core away from this process.  With every core busy that
    is some hundreds of times a second, on a quiet machine a few dozen.
    """

    LOOK_EVERY, LONGEST = 0.1, 10.0     # seconds between two looks; between two attempts
    BUSY, IN_A_ROW = 120.0, 2           # times a second, in so many looks one after another

    def __init__(self):
        self.since, self.taken_away, self.busy_looks = perf_counter(), _taken_away(), 0
        self.wait, self.next_look = self.LOOK_EVERY, self.since + self.LOOK_EVERY

    def leave_room(self, together: bool) -> bool:
        """Whether to work together from now on.  To be asked at `next_look`, and not before.

        Each time that working together fails, the wait before the next attempt doubles.
        """
        now = perf_counter()
        taken_away = _taken_away()
        often = (taken_away - self.taken_away) / (now - self.since) > self.BUSY
        self.busy_looks = self.busy_looks + 1 if often else 0
        busy = self.busy_looks >= self.IN_A_ROW or (often and not together)
        if together:
            self.wait = min(2 * self.wait, self.LONGEST) if busy else self.LOOK_EVERY
        self.since, self.taken_away = now, taken_away
        self.next_look = now + (self.wait if busy else self.LOOK_EVERY)
        return not busy


def _taken_away() -> int:
    """How often the system took a core away from a thread of this process."""
    import resource                     # not on Windows, where there is no pool either

    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


class Pool:
    """What was found when the first product was asked for, and how the parts run just now."""

    def __init__(self):
        self.ready = self.forked = False
        self.library, self.name, self.file = NOBODY, "NumPy's matmul", ""
        self.parts = numba.config.NUMBA_NUM_THREADS
        self.lock = threading.Lock()    # held while OpenBLAS is told to use one thread

    def begin(self) -> None:
        """Find GNU OpenMP and a library that multiplies, once.  Says nothing if there is none."""
        with self.lock:
            if self.ready:
                return
            if not numba.config.DISABLE_JIT and self._share_gomp():
                self._find_onednn() or self._find_openblas()
            self._together = self.library != NOBODY
            self._neighbours = Neighbours() if self._together else None
            self.ready = True

    def together(self) -> bool:
        """Whether the parts run on all cores; else one by one, with the same bits.

        A forked child has none of the threads of its parent, so there they run one by one.
        """
        if not self.ready:
            self.begin()
        if self.library == NOBODY or self.forked or self.parts == 1:
            return False
        if perf_counter() >= self._neighbours.next_look:
            told_one = self._gomp.omp_get_max_threads() == 1       # by OMP_NUM_THREADS, or joblib
            self._together = self._neighbours.leave_room(self._together) and not told_one
        return self._together

    def _share_gomp(self) -> bool:
        """Load GNU OpenMP, and have Numba take its threads from it.  False where that cannot be.

        A thread that waits spins for SPINS rounds and then sleeps.  By default it would spin for
        seconds, and so slow down every neighbour.  The number is read once, as the library loads.
        """
        if numba.config.THREADING_LAYER not in ("default", "omp") or not hasattr(os, "fork"):
            return False
        told = "GOMP_SPINCOUNT" in os.environ or "OMP_WAIT_POLICY" in os.environ
        try:
            if not told:
                os.environ["GOMP_SPINCOUNT"] = SPINS
            self._gomp = ctypes.CDLL("libgomp.so.1")
            from numba.np.ufunc import omppool  # noqa: F401  (some builds of Numba lack it)

            for name in ("omp_get_max_threads", "omp_set_num_threads"):
                _make_known(name, self._gomp, name)
        except (OSError, ImportError, AttributeError):
            return False
        finally:
            if not told:
                os.environ.pop("GOMP_SPINCOUNT", None)
        numba.config.THREADING_LAYER = "omp"
        return True

    def _find_onednn(self) -> bool:
        try:
            files = metadata.files("onednn-cpu-gomp") or ()
            path = next(file.locate() for file in files if file.name == "libdnnl.so").resolve()
            library = ctypes.CDLL(str(path))
            for symbol in ("onednn_sgemm", "openblas_sgemm"):   # the second is never called
                _make_known(symbol, library, "dnnl_sgemm")
        except (metadata.PackageNotFoundError, StopIteration, OSError, AttributeError):
            return False
        self.library, self.file = ONEDNN, str(path)
        self.name = f"oneDNN {metadata.version('onednn-cpu-gomp')}"
        return True

    def _find_openblas(self) -> bool:
        folder = Path(np.__file__).parent.parent / "numpy.libs"
        for path in sorted(folder.glob("*openblas*")):
            try:
                library = ctypes.CDLL(str(path))
                for symbol in ("openblas_sgemm", "onednn_sgemm"):   # the second is never called
                    _make_known(symbol, library, "scipy_cblas_sgemm64_")
                self._get_threads = library.scipy_openblas_get_num_threads64_
                self._set_threads = library.scipy_openblas_set_num_threads64_
            except (OSError, AttributeError):
                continue
            self.library, self.file = OPENBLAS, str(path)
            self.name = f"OpenBLAS of NumPy {np.__version__}"
            return True
        return False

    def multiply(self, product, ta: bool, tb: bool, a: np.ndarray, b: np.ndarray,
                 out: np.ndarray, bias: np.ndarray = NO_BIAS) -> None:
        """Run the product of cores.py, out = op(a) @ op(b) + bias, a small one in one part."""
        self.run(product, a.size * out.shape[1], ta, tb, a, b, out, bias)

    def run(self, product, multiplications: int, *arguments) -> None:
        """Call product(library, parts, *arguments), in one part where it is small.

        OpenBLAS is told to use one thread meanwhile: the pool has the others.
        """
        parts = self.parts if multiplications > SMALL_PRODUCT else 1
        if self.library == ONEDNN:
            product(ONEDNN, parts, *arguments)
            return
        with self.lock:
            before = self._get_threads()
            if before != 1:
                self._set_threads(1)
            try:
                product(OPENBLAS, parts, *arguments)
            finally:
                if before != 1:
                    self._set_threads(before)


def _make_known(symbol: str, library: ctypes.CDLL, name: str) -> None:
    """Tell the compiler where to find `minivae_<symbol>`: at the function `name` of a library."""
    from llvmlite import binding

    address = ctypes.cast(getattr(library, name), ctypes.c_void_p).value
    binding.add_symbol(f"minivae_{symbol}", address)


def _in_forked_child() -> None:
    pool.forked, pool.lock = True, threading.Lock()


pool = Pool()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_forked_child)


def set_parts(n: int) -> None:
    """Cut products into n parts, as another process did whose bits are wanted again.

    Raises ValueError for n below 1.
    """
    if n < 1:
        raise ValueError(f"parts must be at least 1, got {n}")
    pool.parts = int(n)


def identity() -> dict:
    """What the bits of a float32 product depend on: who multiplies, and in how many parts."""
    if not pool.ready:
        pool.begin()
    return {"multiplies": pool.name, "parts": pool.parts}


def about() -> dict:
    """The same, with the threads at work just now, their layer, and the library's file."""
    threads = numba.config.NUMBA_NUM_THREADS if pool.together() else 1
    layer = "omp (GNU OpenMP)" if pool.library != NOBODY else "none"
    found = identity() | {"threads": threads, "layer": layer}
    return found | {"file": pool.file} if pool.file else found
