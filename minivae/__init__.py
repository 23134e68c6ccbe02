"""minivae: a variational autoencoder from scratch, every gradient written by hand and checked.

Read layers.py, likelihoods.py, latents.py, estimators.py, vae.py, in that order.
"""

import os
import sys
from importlib import import_module

__version__ = "0.1.0"



def _choose_blas_kernels() -> None:
    """Let OpenBLAS use AVX-512 on an AMD processor that has it: NumPy's wheels carry those kernels but choose AVX2 there.

    A large matrix product takes 0.6 of the time.  OpenBLAS reads the variable once, as NumPy is loaded, so this
    does nothing when NumPy came first; a value that the user set stays.
    """
    if "numpy" in sys.modules or "OPENBLAS_CORETYPE" in os.environ or not sys.platform.startswith("linux"):
        return
    try:
        with open("/proc/cpuinfo") as file:
            words = set(file.read(4096).split())
    except OSError:
        return
    if {"AuthenticAMD", "avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl"} <= words:
        os.environ["OPENBLAS_CORETYPE"] = "SKYLAKEX"


_choose_blas_kernels()

# Loaded at first use, so that `import minivae` stays light.
_HOMES = {
    "VAE": "minivae.vae",
    "fit": "minivae.training.loop",
    "load_data": "minivae.data",
    "check_layer": "minivae.gradcheck",
    "check_model": "minivae.gradcheck",
}
__all__ = list(_HOMES)


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module 'minivae' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
