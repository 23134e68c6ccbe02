"""minivae: a variational autoencoder from scratch, every gradient written by hand and checked.

Read first.py, a whole VAE on one page; then layers.py, likelihoods.py, latents.py, vae.py,
estimators.py, discrete.py and convolutions.py, in that order.
"""

from importlib import import_module

__version__ = "0.1.0"

# Loaded at first use, so that `import minivae` stays light.
_HOMES = {
    "VAE": "minivae.vae",
    "DiscreteVAE": "minivae.discrete",
    "fit": "minivae.training.loop",
    "evaluate": "minivae.training.evaluation",
    "elbo": "minivae.training.evaluation",
    "measure": "minivae.training.metrics",
    "interpolate": "minivae.training.metrics",
    "load": "minivae.saving.model_file",
    "save": "minivae.saving.model_file",
    "load_data": "minivae.data",
    "VAEEstimator": "minivae.sklearn_api",
    "check_function": "minivae.gradcheck",
    "check_layer": "minivae.gradcheck",
    "check_model": "minivae.gradcheck",
    "check_vjp": "minivae.gradcheck",
    "which_loss": "minivae.learn.which_loss",
}
__all__ = list(_HOMES)


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module 'minivae' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
