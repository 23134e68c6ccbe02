"""A model as a file, and back: `minivae.save(model, path)` and `minivae.load(path)`.

A file holds the numbers (`Model.state`) and a description (`describe`).  A model that mlp or conv
built is made again from the description, by `build`.  Of one put together by hand the description
is an inventory: the caller makes the model, with a function called builder, and it must fit.

A checkpoint holds a model's file and more, so `load` reads it too.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path

import numpy as np

from minivae.choices import check_kind, choose, generator
from minivae.discrete import BernoulliLatent, ConcreteLatent, DiscreteVAE, StraightThroughLatent
from minivae.estimators import ESTIMATORS
from minivae.latents import GaussianLatent
from minivae.building import LIKELIHOODS, conv_shapes
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
        The sizes and activation of `Model.mlp` or `Model.conv`; estimator, beta, dtype;
        likelihood, baseline and latent by name, with their settings:
        {"name": "concrete", "temperature": 0.5}.
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
    kind = MODEL_OF[latent]
    make = kind.conv if "channels" in config else kind.mlp
    return make(likelihood=likelihood, estimator=estimator,
                baseline=config.pop("baseline"), latent=latent(**settings), rng=rng, dtype=dtype,
                **config)


def describe(model: Model) -> dict:
    """What `build` needs, ready for JSON; of a model put together by hand, an inventory.

    Raises
    ------
    ValueError
        For a model that mlp or conv built, and `build` could not make again.
    """
    if model.config is None:
        return inventory(model)
    _name_in(LIKELIHOODS, type(model.likelihood))
    return model.config | {
        "likelihood": {"name": model.likelihood.name, **model.likelihood.settings},
        "latent": {"name": model.latent.name, **model.latent.settings},
        "estimator": _name_in(ESTIMATORS, model.estimator),
        "baseline": {"name": model.baseline.name, **model.baseline.settings},
        "beta": model.beta, "dtype": model.dtype.name}


def inventory(model: Model) -> dict:
    """What a model put together by hand is made of, ready for JSON: names of classes, and sizes."""
    layers = {name: type(layer).__name__ for name, layer in model.named_layers()}
    return {"layers": layers, "model": type(model).__name__, "x_dim": model.x_dim,
            "z_dim": model.z_dim, "estimator": model.estimator.__name__,
            "baseline": type(model.baseline).__name__, "beta": model.beta,
            "dtype": model.dtype.name}


def _name_in(table: dict, thing) -> str:
    """The name under which `thing` stands in `table`.  Raises ValueError where it does not."""
    for name, known in table.items():
        if known is thing:
            return name
    raise ValueError(f"save knows {', '.join(table)}, not {getattr(thing, '__name__', thing)}")


def save(model: Model, path: str | PathLike) -> None:
    """Write a model to the file `path`, whole or not at all.

    Parameters
    ----------
    model : VAE or DiscreteVAE
    path : path of the file, e.g. "model.npz"

    Raises
    ------
    ValueError
        For a model that `load` could not make again, see `describe`.
    ArchiveError
        A ValueError of one line, where the file cannot be written.
    """
    check_kind(model, Model, "model", "a VAE or DiscreteVAE")
    check_kind(path, str | PathLike, "path", "a path")
    archive.write(path, model.state(), {"config": describe(model)})


def load(path: str | PathLike, rng=None, *, builder: Callable[[], Model] | None = None) -> Model:
    """The VAE or DiscreteVAE in a file of `save` or `fit`, or in a folder of `minivae train`.

    Parameters
    ----------
    path : file or folder
        Of a folder, best.npz is read where there is one, because training with patience writes its
        best model there; else model.npz, the last model.
    rng : None, int or numpy.random.Generator, for the noise that `forward` draws
    builder : function of nothing -> model
        For a model put together by hand: it makes one with the same layers, and `load` puts the
        numbers in.

    Raises
    ------
    ArchiveError
        A ValueError of one line, for a file that is missing, damaged or not written by minivae; for
        one that wants a builder; and where the builder's model has another layer, array or shape.
    """
    check_kind(path, str | PathLike, "path", "a path")
    check_kind(builder, Callable | None, "builder", "a function that makes the model")
    rng = rng if rng is None else generator(rng)
    path = model_of(path)
    arrays, meta = archive.read(path)
    arrays = {name: a for name, a in arrays.items() if not name.startswith(TRAINING)}
    if builder is not None:
        model = builder()
        check_kind(model, Model, "builder's model", "a VAE or DiscreteVAE")
        with errors_named(path):
            check_made_alike(path, meta["config"], arrays, model)
        model.rng = model.rng if rng is None else rng
    else:
        with errors_named(path):
            model = _made_again(path, meta["config"], arrays, rng)
        archive.check_fit(path, model.state(), arrays)
    model.restore(arrays)
    return model


@contextmanager
def errors_named(path: Path) -> Iterator[None]:
    """What a description of wrong fields raises in the block becomes one line that names `path`."""
    try:
        yield
    except archive.ArchiveError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise archive.ArchiveError(f"{path} describes no model that this version knows: "
                                   f"{error}") from error


def _made_again(path: Path, config: dict, arrays: dict[str, np.ndarray], rng) -> Model:
    """The model of a description, with fresh weights."""
    if "layers" in config:
        raise archive.ArchiveError(f"{path} holds a model that was put together by hand: "
                                   "load(path, builder=..), with a function that makes it")
    _check_size(config, arrays)
    return build(config, rng)


def check_made_alike(path: str | PathLike, config: dict, arrays: dict[str, np.ndarray],
                     model: Model) -> None:
    """Raise ArchiveError, which names it, for the first layer, array or setting that is another.

    config and arrays came from the file `path`.
    """
    here = json.loads(json.dumps(inventory(model) if "layers" in config else describe(model)))
    for before, now in ((config.get("layers", {}), here.get("layers", {})),
                        (_shapes(arrays), _shapes(model.state())), (config, here)):
        for name in [*before, *now]:
            there, made = before.get(name, "missing"), now.get(name, "missing")
            if there != made:
                raise archive.ArchiveError(f"{path} does not fit the model: {name} is {there} in "
                                           f"the file, {made} in the model")


def _shapes(arrays: dict[str, np.ndarray]) -> dict[str, str]:
    """Of each array its dtype and shape, in words."""
    return {name: f"{a.dtype} of shape {a.shape}" for name, a in arrays.items()}


def model_of(path: str | PathLike) -> Path:
    """The file to read: `path` itself; of a folder best.npz, or model.npz where there is none."""
    path = Path(path)
    if not path.is_dir():
        return path
    return path / ("best.npz" if (path / "best.npz").exists() else "model.npz")


def _check_size(config: dict, arrays: dict[str, np.ndarray]) -> None:
    """Raise ValueError where a description asks for larger matrices than the file holds.

    Call it before any matrix is made: a damaged description could ask for any amount of memory.
    """
    largest = max((a.size for a in arrays.values()), default=0)
    for n_in, n_out in _matrices(config):
        if n_in * n_out > largest:
            raise ValueError(f"a matrix of {n_in} x {n_out} is larger than any that it holds")


def _matrices(config: dict) -> list[tuple[int, int]]:
    """The shapes of the encoder's matrices, one for each layer."""
    if "channels" not in config:
        widths = [config["x_dim"], *config["hidden"], config["z_dim"]]
        return list(zip(widths[:-1], widths[1:]))
    channels = [(*config["image_shape"], 1)[2], *config["channels"]]
    H, W = conv_shapes(config)[-1]
    of_convs = [(config["kernel"] ** 2 * n_in, n_out)
                for n_in, n_out in zip(channels[:-1], channels[1:])]
    return [*of_convs, (H * W * channels[-1], config["z_dim"])]
