"""What a run is trained with.  Every setting stands here once: its default, its help, its type.

The command line makes an option of every field, `--batch-size` of `batch_size`, and config.json
holds every field.  Nothing that imports NumPy is imported here: `minivae --help` reads this file.
"""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from math import prod
from types import UnionType
from typing import get_args, get_type_hints

from minivae.choices import check_choice


MOST = 10**9                    # of anything that is counted


def positive_int(text: str, most: int = MOST, least: int = 1) -> int:
    """A whole number from `least` to `most`, from the command line.

    Raises ArgumentTypeError for others.
    """
    value = int(text) if text.isdecimal() and len(text) < 1000 else 0
    if value < least:
        raise ArgumentTypeError(f"wanted a whole number of at least {least}, "
                                f"got {shortened(text)!r}")
    if value > most:
        raise ArgumentTypeError(f"wanted a whole number of at most {most:,}, "
                                f"got {shortened(text)!r}")
    return value


def natural_number(text: str) -> int:
    """A whole number of at least 0, from the command line.  Raises ArgumentTypeError for others."""
    if not (text.isdecimal() and len(text) < 1000):
        raise ArgumentTypeError(f"wanted a whole number of at least 0, got {shortened(text)!r}")
    return int(text)


def shortened(text: str) -> str:
    """A text of at most 60 letters."""
    return text if len(text) <= 60 else text[:60] + " .."


def widths(text: str) -> list[int]:
    """Whole numbers of at least 1 with commas between them, or "" for none, from the command line.

    Raises ArgumentTypeError for anything else.
    """
    return [positive_int(part.strip()) for part in text.split(",")] if text else []


def setting(default, text: str, *, default_text: str | None = None, **option):
    """A field of RunSettings, with all that argparse wants for its option.

    default_text says in words what the default is, where the value itself does not say it.
    """
    if default_text is None:
        default_text = str(default)
    option["help"] = f"{text} (default: {default_text})"
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=option)
    return field(default=default, metadata=option)


def _is_of(value, kind) -> bool:
    """Whether a value that came from JSON is of the type that a field is annotated with."""
    if isinstance(kind, UnionType):
        return any(_is_of(value, one) for one in get_args(kind))
    if kind == list[int]:
        return isinstance(value, list) and all(type(n) is int for n in value)
    if kind is float:
        return type(value) is float or (type(value) is int and abs(value) <= MOST)
    return type(value) is kind


BY_DATA = "see below"
LATER = ("key", "conv")         # settings that the first runs do not have


@dataclass(frozen=True)
class RunSettings:
    """The settings of one run of `minivae train`.  The defaults are those for the digits.

    `for_data` gives the defaults for other data.  The fields are explained in
    `minivae train --help`.

    >>> RunSettings(epochs=5).batch_size
    32
    >>> RunSettings.for_data("mnist", epochs=5).batch_size
    128
    >>> RunSettings.for_data("mine.npy", x_dim=28 * 28).hidden
    [400, 200]
    """

    data: str = setting(
        "digits", "what to train on: digits, mnist, fashion-mnist or kmnist; or images of yours: "
        "a .npy, .npz or .csv, or a folder of .png or .jpg files", metavar="NAME|PATH")
    key: str | None = setting(
        None, "which array of a .npz holds the images", metavar="NAME",
        default_text="x_train, or its only array")
    data_dir: str | None = setting(
        None, "where mnist/ is, or fashion-mnist/ or kmnist/", metavar="DIR",
        default_text="the environment variable MINIVAE_DATA, then a cache folder, to which they "
                     "are downloaded")
    epochs: int = setting(
        60, "passes over the training images", type=positive_int, metavar="N", default_text=BY_DATA)
    batch_size: int = setting(
        32, "images per step", type=positive_int, metavar="B", default_text=BY_DATA)
    hidden: list[int] = setting(
        [200], "widths of the encoder's hidden layers; the decoder mirrors them; '' leaves "
        "them out", type=widths, metavar="N,N,..", default_text=BY_DATA)
    conv: list[int] | None = setting(
        None, "channels of the encoder's convolutions, e.g. 32,64, in the place of --hidden; each "
        "halves the sides of its images, and the decoder mirrors them", type=widths,
        metavar="C,C,..", default_text="dense layers")
    latent: int = setting(
        8, "latent dimensions", type=positive_int, metavar="Z", default_text=BY_DATA)
    likelihood: str = setting("bernoulli", "bernoulli or gaussian", metavar="NAME")
    activation: str = setting("relu", "relu, tanh, sigmoid or softplus", metavar="NAME")
    beta: float = setting(
        1.0, "weight of the KL; 1 is the ELBO", type=float, default_text="1")
    estimator: str = setting(
        "elbo", "elbo, elbo_mc, stl, score, score_analytic_kl, iwae, iwae_stl, dreg, rws, vimco or "
        "disarm; iwae to vimco tighten the bound with --samples", metavar="NAME",
        default_text="elbo; disarm for a bernoulli latent")
    samples: int = setting(
        1, "draws of z per image", type=positive_int, metavar="K",
        default_text="1; 2 for a bernoulli latent")
    latent_kind: str = setting(
        "gaussian", "gaussian; bernoulli (0 or 1); or 0/1 with a biased gradient: concrete, "
        "straight-through", metavar="KIND",
        choices=("gaussian", "bernoulli", "concrete", "straight-through"))
    temperature: float = setting(
        0.5, "temperature of the concrete latent; lower: less bias, more variance", type=float)
    baseline: str = setting(
        "others", "what is subtracted from the signal of score and score_analytic_kl; others is "
        "the mean over the image's other samples",
        choices=("none", "others", "running-mean", "nvil"))
    lr: float = setting(2e-3, "Adam's step size", type=float, default_text=BY_DATA)
    warmup: float = setting(
        0.0, "epochs in which beta rises from 0 to its value, a little at every batch", type=float,
        metavar="EPOCHS", default_text="0")
    decay: float = setting(
        1.0, "the factor by which lr shrinks in each epoch, e.g. 0.97", type=float,
        metavar="FACTOR", default_text="1, no decay")
    patience: int | None = setting(
        None, "stop after so many epochs without a better ELBO on a tenth of the training images, "
        "held out; the best model goes into best.npz", type=positive_int, metavar="EPOCHS",
        default_text="never")
    seed: int = setting(0, "random seed of weights and training", type=natural_number)
    dtype: str = setting("float32", "precision", choices=("float32", "float64"))
    binarize: str | None = setting(
        None, "grey pixels to black and white: drawn afresh at every pass, cut at one half, or "
        "left grey", choices=("dynamic", "threshold", "none"),
        default_text="dynamic for bernoulli, none for gaussian")

    @classmethod
    def for_data(cls, data: str = "digits", x_dim: int | None = None, **given) -> RunSettings:
        """The settings for `data`: its recipe, except where something else is given.

        data : the name of a data set, or a path, as in `load_data`.
        x_dim : D, the numbers of an image; they choose the recipe of images of one's own.
        given : any other fields.
        Raises ValueError for two settings that do not go together.
        """
        if given.get("conv") and given.get("hidden"):
            raise ValueError("--conv with --hidden: a model has convolutions or hidden layers, "
                             "give one of the two")
        kind = given.get("latent_kind", cls.latent_kind)
        if "temperature" in given and kind != "concrete":
            raise ValueError(f"--temperature {given['temperature']:g} goes with --latent-kind "
                             f"concrete, and not with {kind}")
        own = "own, large" if x_dim is not None and x_dim >= LARGE else "own, small"
        recipe = RECIPES[data if data in RECIPES else own]
        coins = COINS if given.get("latent_kind") == "bernoulli" else {}
        return cls(**{"data": data, **recipe, **coins, **given})

    def check(self) -> None:
        """Raise ValueError, in one line, for a choice or a number that no training can have.

        Names and estimators are checked later, when the model is built.
        """
        from minivae.training.loop import check_settings       # heavy: it brings NumPy and Numba

        for f in fields(self):
            value, choices = getattr(self, f.name), f.metadata.get("choices")
            if choices and value != f.default:
                check_choice(value, choices, f.name)
        check_settings(self.epochs, self.batch_size, self.samples, self.lr, self.warmup, self.decay,
                       self.patience)

    def model_config(self, image_shape: Sequence[int]) -> dict:
        """What `saving.model_file.build` makes the model from, for images of that shape."""
        latent = {"name": self.latent_kind}
        if self.latent_kind == "concrete":
            latent["temperature"] = self.temperature
        if self.conv:
            sizes = {"image_shape": list(image_shape), "channels": self.conv}
        else:
            sizes = {"x_dim": prod(image_shape), "hidden": self.hidden}
        return {**sizes, "z_dim": self.latent,
                "activation": self.activation, "likelihood": {"name": self.likelihood},
                "beta": self.beta, "estimator": self.estimator,
                "baseline": {"name": self.baseline}, "latent": latent, "dtype": self.dtype}

    def to_json(self) -> dict:
        """Every field by name, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, found: dict) -> RunSettings:
        """What `to_json` gave.  A run of before there was a setting had none of it.

        Raises ValueError for an unknown or a missing name, or a value of another type.
        """
        found = {**dict.fromkeys(LATER), **found}
        names = {f.name for f in fields(cls)}
        unknown, missing = sorted(found.keys() - names), sorted(names - found.keys())
        if unknown:
            raise ValueError(f"no setting of a run is called {', '.join(unknown)}")
        if missing:
            raise ValueError(f"the settings of the run lack {', '.join(missing)}")
        for name, kind in get_type_hints(cls).items():
            if not _is_of(found[name], kind):
                raise ValueError(f"the run's setting {name} is of type "
                                 f"{type(found[name]).__name__}")
        return cls(**found)


_MNIST = {"epochs": 30, "batch_size": 128, "hidden": [400, 200], "latent": 30, "lr": 1e-3}

# Images of one's own are large from so many numbers on, H * W or in colour H * W * 3.
LARGE = 400

# What for_data takes in the place of the defaults.  The defaults are made for the digits.
RECIPES = {
    "digits": {},
    "mnist": _MNIST,
    "fashion-mnist": _MNIST,
    "kmnist": _MNIST,
    "own, small": {"epochs": 30, "batch_size": 64, "hidden": [200], "latent": 10, "lr": 1e-3},
    "own, large": {**_MNIST, "batch_size": 64},
}
# A row of coins lets no gradient through, so the ELBO's estimator cannot train it; disarm can.
COINS = {"estimator": "disarm", "samples": 2}


def recipes_in_words() -> str:
    """A line for each data set: its settings that differ from data set to data set."""
    lines = []
    for data, recipe in RECIPES.items():
        s = RunSettings(**recipe)
        shown = {name: getattr(s, name) for name in _MNIST}
        shown["hidden"] = ",".join(map(str, s.hidden))
        options = ", ".join(f"{name.replace('_', '-')} {value}" for name, value in shown.items())
        lines.append(f"  {data:13s} {options}")
    return "\n".join([*lines, f"  Images of your own are large from {LARGE} numbers on: H * W, in "
                              "colour H * W * 3."])
