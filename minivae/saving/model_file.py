"""A model as a file, and back: `minivae.save(model, path)` and `minivae.load(path)`.

A file holds the numbers (`Model.state`) and a description (`describe`) from which `build` makes the
same model again.  A checkpoint holds a model's file and more, so `load` reads it too.
"""

from os import PathLike
from pathlib import Path

import numpy as np

from minivae.choices import choose
from minivae.discrete import BernoulliLatent, ConcreteLatent, DiscreteVAE, StraightThroughLatent
from minivae.estimators import ESTIMATORS
from minivae.latents import GaussianLatent
from minivae.building import LIKELIHOODS
from minivae.model import Model
from minivae.saving import archive
from minivae.vae import VAE

TRAINING = "training."          # the names of a checkpoint's own arrays begin with this

# latent class -> model class
MODEL_OF = {GaussianLatent: VAE, BernoulliLatent: DiscreteVAE, ConcreteLatent: DiscreteVAE,
            StraightThroughLatent: DiscreteVAE}


def build(config: dict, rng=None) -> Model:
    """The VAE or DiscreteVAE that `describe` described, with fresh weights.

    Parameters
    ----------
    config : dict
        x_dim, hidden, z_dim, activation, estimator, beta, dtype; likelihood, baseline and latent by
        name, with their settings: {"name": "concrete", "temperature": 0.5}.
    rng : None, int or numpy.random.Generator, for the weights and the noise

    Raises
    ------
    ValueError
        For an unknown name or a setting out of range.
    """
    config = dict(config)
    dtype = np.dtype(config.pop("dtype"))
    settings = dict(config.pop("likelihood"))
    node = choose(settings.pop("name"), LIKELIHOODS, "likelihood")
    likelihood = node(**settings, dtype=dtype)
    estimator = choose(config.pop("estimator"), ESTIMATORS, "estimator")
    settings = dict(config.pop("latent"))
    by_name = {latent.name: latent for latent in MODEL_OF}
    latent = choose(settings.pop("name"), by_name, "latent")
    return MODEL_OF[latent].mlp(likelihood=likelihood, estimator=estimator,
                                baseline=config.pop("baseline"), latent=latent(**settings),
                                rng=rng, dtype=dtype, **config)


def describe(model: Model) -> dict:
    """What `build` needs, ready for JSON.

    Raises
    ------
    ValueError
        For a model that `build` could not make again.
    """
    if model.config is None:
        raise ValueError("only a model that mlp built can be saved, this one was put together by "
                         "hand: keep its numbers with model.state() and model.restore(state)")
    _name_in(LIKELIHOODS, type(model.likelihood))
    return model.config | {
        "likelihood": {"name": model.likelihood.name, **model.likelihood.settings},
        "latent": {"name": model.latent.name, **model.latent.settings},
        "estimator": _name_in(ESTIMATORS, model.estimator),
        "baseline": {"name": model.baseline.name, **model.baseline.settings},
        "beta": model.beta, "dtype": model.dtype.name}


def _name_in(table: dict, thing) -> str:
    """The name under which `thing` stands in `table`.  Raises ValueError where it does not."""
    for name, known in table.items():
        if known is thing:
            return name
    raise ValueError(f"save knows {', '.join(table)}, not {getattr(thing, '__name__', thing)}")


def save(model: Model, path: str | PathLike) -> None:
    """Write a model made by `mlp` to the file `path`, whole or not at all.

    Parameters
    ----------
    model : VAE or DiscreteVAE
    path : path of the file, e.g. "model.npz"

    Raises
    ------
    ValueError
        For a model that `load` could not build again, see `describe`.
    ArchiveError
        A ValueError of one line, where the file cannot be written.
    """
    archive.write(path, model.state(), {"config": describe(model)})


def load(path: str | PathLike, rng=None) -> Model:
    """The VAE or DiscreteVAE in a file of `save` or `fit`, or in a folder of `minivae train`.

    Parameters
    ----------
    path : file or folder
        Of a folder, best.npz is read where there is one, because training with patience writes its
        best model there; else model.npz, the last model.
    rng : None, int or numpy.random.Generator, for the noise that `forward` draws

    Raises
    ------
    ArchiveError
        A ValueError of one line, for a file that is missing, damaged or not written by minivae.
    """
    path = model_of(path)
    arrays, meta = archive.read(path)
    arrays = {name: a for name, a in arrays.items() if not name.startswith(TRAINING)}
    try:
        config = meta["config"]
        _check_size([config["x_dim"], *config["hidden"], config["z_dim"]], arrays)
        model = build(config, rng)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise archive.ArchiveError(f"{path} describes no model that this version knows: "
                                   f"{error}") from error
    archive.check_fit(path, model.state(), arrays)
    model.restore(arrays)
    return model


def model_of(path: str | PathLike) -> Path:
    """The file to read: `path` itself; of a folder best.npz, or model.npz where there is none."""
    path = Path(path)
    if not path.is_dir():
        return path
    return path / ("best.npz" if (path / "best.npz").exists() else "model.npz")


def _check_size(widths: list[int], arrays: dict[str, np.ndarray]) -> None:
    """Raise ValueError where a description asks for larger matrices than the file holds.

    Call it before any matrix is made: a damaged description could ask for any amount of memory.
    """
    largest = max((a.size for a in arrays.values()), default=0)
    for n_in, n_out in zip(widths[:-1], widths[1:]):
        if n_in * n_out > largest:
            raise ValueError(f"a matrix of {n_in} x {n_out} is larger than any that it holds")
