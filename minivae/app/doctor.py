"""What a report of trouble needs: versions, threads, folders, data and speed.

A part that is broken is named in the report; its error is never raised.
"""

import os
import platform
import re
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module, metadata
from os import PathLike
from pathlib import Path
from time import perf_counter

from minivae.app.lines import hanging
from minivae.choices import some

SECONDS = 2.0                   # of the speed test, after the kernels are compiled
LIBRARIES = ("numpy", "numba", "scipy", "sklearn", "matplotlib", "PIL", "tqdm", "pooch",
             "joblib")
AMISS = re.compile(r"\b(BROKEN|DAMAGED|MISSING|NOT|WRONG)\b")      # what a finding says in words
CPU_MAX = Path("/sys/fs/cgroup/cpu.max")    # of Linux: microseconds of each so many, or "max"
VARIABLES = ("MINIVAE_DATA", "NUMBA_CACHE_DIR", "NUMBA_DISABLE_JIT", "OMP_NUM_THREADS",
             "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def examine(data_dir: str | PathLike | None = None) -> dict[str, dict]:
    """Look at every part of the installation.

    data_dir : where data sets are looked for first.
    Returns a dict of findings for each part; a finding is a text, a number or a list of texts.
    """
    parts = {"system": _system, "libraries": _libraries, "variables": _variables,
             "threads": _threads, "kernels": _kernels, "cache": _cache,
             "data": lambda: _data(data_dir), "speed": _speed}
    return {name: _examine_part(part) for name, part in parts.items()}


def clean() -> str:
    """Remove the compiled kernels that are kept on the disk, and say how many files they were.

    Downloaded data stay.  Of a folder that NUMBA_CACHE_DIR names only the files of this
    installation go: it may hold those of other programs.
    """
    import numba

    from minivae import kernels
    from minivae.kernel_cache import cache_folder

    folder = cache_folder().parent
    if numba.config.CACHE_DIR:
        folder = Path(kernels.add_bias.stats.cache_path)
    files = list(folder.rglob("*.nb[ic]*"))
    for path in files:
        path.unlink(missing_ok=True)
    return f"removed {len(files)} files of compiled kernels from\n{folder}"


def as_text(found: dict[str, dict]) -> str:
    """A line for each finding of `examine`, wrapped, and an empty line between the parts.

    The last line names the parts with a finding in CAPITALS, or says that nothing is broken.
    """
    lines = []
    for part, findings in found.items():
        for name, value in findings.items():
            for line in value if isinstance(value, list) else [value]:
                lines.append(hanging(f"{part:10s} {name:20s}", str(line), indent=32))
                part = name = ""
        lines.append("")
    marked = [part for part, findings in found.items() if AMISS.search(str(findings))]
    return "\n".join([*lines, f"look at: {', '.join(marked)}" if marked else "nothing is broken"])


def _examine_part(part: Callable[[], dict]) -> dict:
    """The findings of one part.  Whatever is wrong with it, the other parts are still wanted."""
    try:
        return part()
    except Exception as error:
        return {"broken": _in_words(error)}


def _in_words(error: Exception) -> str:
    return f"BROKEN: {type(error).__name__}: {' '.join(str(error).split())}"


def _system() -> dict:
    """The program, the Python and the machine."""
    import minivae

    cores, usable = os.cpu_count(), usable_cores()
    return {"minivae": f"{minivae.__version__} in {Path(minivae.__file__).parent}",
            "python": f"{platform.python_version()} at {sys.executable}",
            "platform": platform.platform(),
            "processor": f"{platform.machine()}, {cores} cores, {usable} of them for this process",
            "mpi": _mpi(usable)}


def usable_cores() -> int:
    """How many cores this process may use: its affinity, and its container's share of time."""
    cores = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    with suppress(OSError, ValueError):                    # no Linux, or no limit: "max 100000"
        quota, period = CPU_MAX.read_text().split()
        cores = min(cores, max(1, int(quota) // int(period)))
    return cores


def _mpi(cores: int) -> str:
    """Whether `mpiexec` can train, and on how many ranks.  Importing MPI here would start it."""
    try:
        version = metadata.version("mpi4py")
    except metadata.PackageNotFoundError:
        return "no mpi4py, which only training on several machines wants"
    return f"mpi4py {version}; a rank for each core: mpiexec -n {cores} minivae train"


def _libraries() -> dict:
    """The version of each library.  It is imported, because an install may be half there."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = import_module(name).__version__.removeprefix("v")
        except Exception as error:
            found[name] = _in_words(error)
    return found


def _variables() -> dict:
    """The environment variables that matter, as far as they are set."""
    found = {name: os.environ[name] for name in VARIABLES if name in os.environ}
    return found or {"set": f"none of {', '.join(VARIABLES)}"}


def _threads() -> dict:
    """The thread pools in this process: those of the BLAS libraries, and their like."""
    # a library is seen once it is loaded, and NumPy's own BLAS does the matrix products
    import_module("numpy.linalg")
    import_module("scipy.linalg")
    from threadpoolctl import threadpool_info

    pools = []
    for pool in threadpool_info():
        where = "/".join(Path(pool["filepath"]).parts[-2:])
        version = pool["version"] or "(no version)"
        pools.append(f"{pool['internal_api']} {version}, threads: {pool['num_threads']}, {where}")
    return {"pools": pools or "none that threadpoolctl knows"}


def _kernels() -> dict:
    """Whether Numba compiles, which library multiplies on how many threads, where code is kept."""
    import numba

    from minivae import kernels, pool
    from minivae.kernel_cache import damaged_files

    if numba.config.DISABLE_JIT:
        return {"jit": "off (NUMBA_DISABLE_JIT): every loop runs in Python, very slowly"}
    folder = getattr(kernels.add_bias.stats, "cache_path", None)
    kept = "nowhere: they are compiled anew in every process"
    if folder:
        kept = _writable(Path(folder))
        damaged = damaged_files(Path(folder))
        if damaged:
            kept += (f" (DAMAGED: {some([path.name for path in damaged])}; what is damaged is "
                     "compiled anew when it is needed, `minivae doctor --clean` removes all)")
    return {"jit": "on", **pool.about(), "kept in": kept}


def _cache() -> dict:
    """Where downloads go."""
    from minivae.data.published import cache_folder

    return {"downloads": _writable(cache_folder("mnist").parent)}


def _writable(folder: Path) -> str:
    """The folder, and whether a file can be written there: one is, and it does not stay."""
    exists = next(parent for parent in (folder, *folder.parents) if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=exists):
            if exists == folder:
                return f"{folder} (writable)"
            return f"{folder} (not made yet, {exists} is writable)"
    except OSError as error:
        return f"{folder} (NOT writable: {error.strerror})"


def _data(data_dir: str | PathLike | None) -> dict:
    """Where each data set is, and whether its bytes are those published.  Nothing is downloaded."""
    from minivae.data.published import PUBLISHED

    found = {}
    for name in ("digits", *PUBLISHED):
        try:
            found[name] = _where(name, data_dir)
        except Exception as error:
            found[name] = _in_words(error)
    return found


def _where(name: str, data_dir: str | PathLike | None) -> str | list[str]:
    """The folder of a data set, and a line for each of its files."""
    from minivae.data import load_data
    from minivae.data.published import PARTS, cache_folder, find_folder, is_published, path_of

    if name == "digits":
        return load_data("digits").note
    folder = find_folder(name, data_dir) or cache_folder(name)
    paths = {part: path_of(folder, part) for part in PARTS}
    if not any(paths.values()):
        return "not here: it is downloaded when it is first asked for"
    lines = [str(folder)]
    for part, path in paths.items():
        if path is None:
            verdict = "MISSING"
        elif is_published(name, part, path.read_bytes()):
            verdict = "as published"
        else:
            verdict = "NOT RECOGNISED as the published one"
        lines.append(f"  {part}: {verdict}")
    return lines


def _speed() -> dict:
    """Training steps a second of a 784-400-20 model on noise, batches of 128, float32."""
    import numpy as np

    from minivae.optim import Adam
    from minivae.vae import VAE

    rng = np.random.default_rng(0)
    vae = VAE.mlp(784, [400], 20, rng=rng)
    adam = Adam(vae.named_params())
    x = (rng.random((128, 784)) < 0.2).astype(np.float32)

    def step() -> float:
        result = vae.forward(x)
        vae.backward()
        adam.step()
        return result.loss

    start = perf_counter()
    step()
    first = perf_counter() - start
    steps = 0
    start = perf_counter()
    while (passed := perf_counter() - start) < SECONDS:
        loss = step()
        steps += 1
    found = {"first step": f"{first:.2f} s, with compiling or loading the kernels",
             "model": "784-400-20, batches of 128, float32",
             "steps a second": round(steps / passed, 1),
             "ms a step": round(1e3 * passed / steps, 3)}
    if not np.isfinite(loss):
        found["loss"] = f"{loss}: WRONG, it should be finite"
    return found
