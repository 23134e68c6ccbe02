"""Skips that CI turns into failures, whether there is a JIT, what no test may leave, a run without the training."""

import json
import os
import signal
import sys
from contextlib import chdir, contextmanager
from pathlib import Path

import numpy as np
import pytest

import minivae

os.environ["SCIPY_ARRAY_API"] = "1"     # before SciPy is imported: one of scikit-learn's checks skips without it

# a shell starts its background jobs with Ctrl-C ignored, and nohup with SIGHUP; the tests want both as at a terminal
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

JIT = os.environ.get("NUMBA_DISABLE_JIT", "0") != "1"


def skip(reason: str):
    """Skip with a reason, or fail where MINIVAE_NO_SKIP says that nothing may be skipped (CI)."""
    if os.environ.get("MINIVAE_NO_SKIP"):
        pytest.fail(f"would have skipped, but MINIVAE_NO_SKIP is set: {reason}")
    pytest.skip(reason)


def surroundings() -> dict:
    """What a test could change in this process for those that come after it."""
    umask = os.umask(0)
    os.umask(umask)
    # the first import of scikit-learn sets two variables of its OpenMP, KMP_..
    variables = {name: value for name, value in os.environ.items()
                 if name != "PYTEST_CURRENT_TEST" and not name.startswith("KMP_")}
    signals = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    found = {"the folder": os.getcwd(), "os.environ": variables, "sys.path": list(sys.path), "the umask": umask,
             "signals": signals, "np.errstate": np.geterr()}
    if "minivae.pool" in sys.modules:
        found["pool.parts"] = sys.modules["minivae.pool"].pool.parts
    return found


@pytest.fixture(autouse=True)
def nothing_is_left_behind():
    """The tests may come in any order."""
    before = surroundings()
    yield
    now = surroundings()
    assert [name for name in before if now[name] != before[name]] == [], "a test changed this and did not restore it"


@pytest.fixture
def mnist_dir():
    """The folder of the MNIST files: MINIVAE_DATA, or ../shared/data beside the checkout."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("MINIVAE_DATA", beside))
    if not any(folder.glob("**/train-images-idx3-ubyte*")):
        skip(f"MNIST not found in {folder}: set MINIVAE_DATA to the folder that holds mnist/")
    return folder


@pytest.fixture
def rng():
    return np.random.default_rng(20131220)


@pytest.fixture(scope="session")
def torch():
    try:
        import torch
    except ImportError:
        skip("PyTorch is not installed: pip install '.[oracle]'")
    return torch


@pytest.fixture
def parts():
    """Set the number of parts for a while."""
    from minivae import pool

    before = pool.pool.parts
    yield pool.set_parts
    pool.set_parts(before)


@contextmanager
def folder_of_images(tmp_path_factory, name):
    """Work for a while in a new folder that holds mine.npy, 30 images of 5x4 pixels."""
    with chdir(tmp_path_factory.mktemp(name)):
        np.save("mine.npy", np.random.default_rng(0).random((30, 5, 4)))
        yield Path.cwd()


def small_run(folder, **changed):
    """What `minivae train --data mine.npy` leaves in `folder`, but for the training and the pictures; the model."""
    from minivae.app.settings import RunSettings
    from minivae.app.train import Run
    from minivae.data import load_data

    settings = RunSettings.for_data("mine.npy", **{"hidden": [6], "latent": 3, **changed})
    Path(folder).mkdir(parents=True)
    run = Run(load_data("mine.npy"), settings, lambda: Path(folder))
    rng = np.random.default_rng(1)
    for _, param, _ in run.vae.named_params():             # as if it had been trained: no bias is 0
        param += 0.3 * rng.standard_normal(param.shape, param.dtype)
    minivae.save(run.vae, Path(folder) / "model.npz")
    (Path(folder) / "config.json").write_text(json.dumps(run.config()))
    return run.vae
