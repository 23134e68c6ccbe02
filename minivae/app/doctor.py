"""What a report of trouble needs: versions, threads, folders, data and speed.  A broken part is named, never raised."""

import os
import platform
import sys
import tempfile
from importlib import import_module
from os import PathLike
from pathlib import Path
from time import perf_counter

SECONDS = 2.0                   # of the speed probe, after the kernels are compiled
LIBRARIES = ("numpy", "numba", "scipy", "sklearn", "matplotlib", "tqdm", "pooch")
VARIABLES = ("MINIVAE_DATA", "NUMBA_CACHE_DIR", "NUMBA_DISABLE_JIT", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def examine(data_dir: str | PathLike | None = None) -> dict[str, dict]:
    """Every part with its findings, each a text, a number or a list; a part that is broken says so in words.

    `data_dir` is where data sets are looked for first.
    """
    parts = {"system": _system, "libraries": _libraries, "variables": _variables, "threads": _threads, "kernels": _kernels,
             "cache": _cache, "data": lambda: _data(data_dir), "speed": _speed}
    return {name: _guarded(part) for name, part in parts.items()}


def as_text(found: dict[str, dict]) -> str:
    """A line for each finding, those of one part together."""
    lines = []
    for part, findings in found.items():
        for name, value in findings.items():
            for line in value if isinstance(value, list) else [value]:
                lines.append(f"{part:10s} {name:20s} {line}")
                part = name = ""
        lines.append("")
    return "\n".join(lines[:-1])


def _guarded(part) -> dict:
    try:
        return part()
    except Exception as error:                             # whatever is wrong with it, the other parts are still wanted
        return {"broken": _in_words(error)}


def _in_words(error: Exception) -> str:
    return f"BROKEN: {type(error).__name__}: {' '.join(str(error).split())}"


def _system() -> dict:
    import minivae

    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"minivae": f"{minivae.__version__} in {Path(minivae.__file__).parent}", "python": f"{platform.python_version()} at {sys.executable}",
            "platform": platform.platform(), "processor": f"{platform.machine()}, {os.cpu_count()} cores, {usable} of them for this process"}


def _libraries() -> dict:
    """Imported, not only looked up: an install may be half there."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = import_module(name).__version__.removeprefix("v")
        except Exception as error:
            found[name] = _in_words(error)
    return found


def _variables() -> dict:
    found = {name: os.environ[name] for name in VARIABLES if name in os.environ}
    return found or {"set": f"none of {', '.join(VARIABLES)}"}


def _threads() -> dict:
    """The BLAS libraries and their kin in this process: NumPy's own does the matrix products."""
    import_module("numpy.linalg"), import_module("scipy.linalg")         # a library is seen once it is loaded
    from threadpoolctl import threadpool_info

    pools = []
    for pool in threadpool_info():
        where = "/".join(Path(pool["filepath"]).parts[-2:])
        pools.append(f"{pool['internal_api']} {pool['version'] or '(no version)'}, threads: {pool['num_threads']}, {where}")
    return {"pools": pools or "none that threadpoolctl knows"}


def _kernels() -> dict:
    import numba

    from minivae import kernels

    if numba.config.DISABLE_JIT:
        return {"jit": "off (NUMBA_DISABLE_JIT): every loop runs in Python, very slowly"}
    try:
        layer = numba.threading_layer()
    except ValueError:                                     # Numba chooses one when the first parallel kernel runs
        layer = "not started: the kernels here run on one thread"
    folder = getattr(kernels.add_bias.stats, "cache_path", None)
    return {"jit": "on", "threading": f"{layer} (configured: {numba.config.THREADING_LAYER})",
            "kept in": _writable(Path(folder)) if folder else "nowhere: they are compiled anew in every process"}


def _cache() -> dict:
    from minivae.data.published import cache_folder

    return {"downloads": _writable(cache_folder("mnist").parent)}


def _writable(folder: Path) -> str:
    """The folder, and whether a file can be put there, by trying; nothing stays behind."""
    there = next(place for place in (folder, *folder.parents) if place.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            return f"{folder} ({'writable' if there == folder else f'not made yet, {there} is writable'})"
    except OSError as error:
        return f"{folder} (NOT writable: {error.strerror})"


def _data(data_dir) -> dict:
    """Where each data set is, and whether its bytes are the published ones; nothing is downloaded."""
    from minivae.data.published import PUBLISHED

    found = {}
    for name in ("digits", *PUBLISHED):
        try:
            found[name] = _where(name, data_dir)
        except Exception as error:
            found[name] = _in_words(error)
    return found


def _where(name: str, data_dir) -> str | list[str]:
    from minivae.data import load_data
    from minivae.data.published import PARTS, cache_folder, find_folder, is_published, path_of

    if name == "digits":
        return load_data("digits").note
    folder = find_folder(name, data_dir) or cache_folder(name)
    paths = {part: path_of(folder, part) for part in PARTS}
    if not any(paths.values()):
        return "not here: it is downloaded when it is first asked for"
    words = {None: "MISSING", True: "as published", False: "NOT RECOGNISED as the published one"}
    verdicts = {part: path and is_published(name, part, path.read_bytes()) for part, path in paths.items()}
    return [str(folder), *(f"  {part}: {words[verdict]}" for part, verdict in verdicts.items())]


def _speed() -> dict:
    """Training steps a second of a 784-400-20 model on noise, batches of 128, float32."""
    import numpy as np

    from minivae.optim import Adam
    from minivae.vae import VAE

    rng = np.random.default_rng(0)
    vae = VAE.mlp(784, [400], 20, rng=rng)
    adam, x = Adam(vae.named_params()), (rng.random((128, 784)) < 0.2).astype(np.float32)

    def step() -> float:
        result = vae.forward(x)
        vae.backward()
        adam.step()
        return result.loss

    start = perf_counter()
    step()
    first, steps, start = perf_counter() - start, 0, perf_counter()
    while (passed := perf_counter() - start) < SECONDS:
        loss, steps = step(), steps + 1
    found = {"first step": f"{first:.2f} s, with compiling or loading the kernels", "model": "784-400-20, batches of 128, float32",
             "steps a second": round(steps / passed, 1), "ms a step": round(1e3 * passed / steps, 3)}
    return found if np.isfinite(loss) else found | {"loss": f"{loss}: WRONG, it should be finite"}
