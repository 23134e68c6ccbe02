"""How `VAE.mlp` and `VAE.conv` build a model: its layers, from sizes; and what they check first.

`dense_layers` and `conv_layers` give the layers of one kind of model, as a dict of enc, heads, dec
and to_out.  The decoder is the encoder's mirror image, with weights of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from numbers import Integral

import numpy as np

from minivae import baselines
from minivae.choices import check_kind, choose, generator, in_short, number, whole_number
from minivae.convolutions import Conv, ConvTranspose, Reshape, checked_step, conv_shape
from minivae.estimators import ESTIMATORS, elbo
from minivae.layers import (Dense, Layer, ReLU, Sequential, Sigmoid, Softplus, Tanh, as_rows,
                            grads_of, params_of)
from minivae.likelihoods import BernoulliLikelihood, GaussianLikelihood, Likelihood

ACTIVATIONS = {"relu": ReLU, "tanh": Tanh, "sigmoid": Sigmoid, "softplus": Softplus}
LIKELIHOODS = {"bernoulli": BernoulliLikelihood, "gaussian": GaussianLikelihood}


# --- layers ---------------------------------------------------------------------------------------


def dense_layers(sizes: dict, n_heads: int, width: int, act: Callable[[], Layer],
                 rng: np.random.Generator, dtype) -> dict:
    """The layers of `Model.mlp`.

    Parameters
    ----------
    sizes : dict of x_dim, hidden and z_dim
    n_heads : how many heads the encoder has
    width : how many numbers the likelihood wants, see `Likelihood.width`
    act : an activation's class
    rng, dtype : for the weights
    """
    def stack(widths: list[int]) -> Sequential:
        pairs = zip(widths[:-1], widths[1:])
        return Sequential(*(layer for n_in, n_out in pairs
                            for layer in (Dense(n_in, n_out, rng, dtype), act())))

    hidden, z_dim = sizes["hidden"], sizes["z_dim"]
    down, up = [sizes["x_dim"], *hidden], [z_dim, *reversed(hidden)]
    return {"enc": stack(down),
            "heads": [Dense(down[-1], z_dim, rng, dtype) for _ in range(n_heads)],
            "dec": stack(up),
            "to_out": Dense(up[-1], width, rng, dtype)}


def conv_layers(sizes: dict, n_heads: int, width: int, act: Callable[[], Layer],
                rng: np.random.Generator, dtype) -> dict:
    """The layers of `Buildable.conv`; sizes as in its config, the others as in `dense_layers`."""
    H, W, C = (*sizes["image_shape"], 1)[:3]
    step = sizes["kernel"], sizes["stride"], sizes["padding"]
    # planes of C channels that the likelihood wants side by side, e.g. means and log-variances
    planes, rest = divmod(width, H * W * C)
    if rest or not planes:
        raise ValueError(f"a conv model gives every pixel as many numbers as the others, and the "
                         f"likelihood wants {width} for {H * W * C}")
    shapes, channels = conv_shapes(sizes), [C, *sizes["channels"]]
    smallest, z_dim = (*shapes[-1], channels[-1]), sizes["z_dim"]
    n = math.prod(smallest)

    down = [Reshape(H, W, C)]
    for n_in, n_out in zip(channels[:-1], channels[1:]):
        down += [Conv(n_in, n_out, *step, rng, dtype), act()]
    heads = [Dense(n, z_dim, rng, dtype) for _ in range(n_heads)]
    up = [Dense(z_dim, n, rng, dtype), act(), Reshape(*smallest)]
    for i in range(len(channels) - 1, 1, -1):
        up += [ConvTranspose(channels[i], channels[i - 1], *step, shapes[i - 1], rng, dtype), act()]
    last = ConvTranspose(channels[1], planes * C, *step, shapes[0], rng, dtype)
    return {"enc": Sequential(*down, Reshape(n)), "heads": heads, "dec": Sequential(*up),
            "to_out": Sequential(last, Planes(planes) if planes > 1 else Reshape(width))}


def conv_shapes(sizes: dict) -> list[tuple[int, int]]:
    """(H, W) of the image and after each Conv, for the sizes of `Buildable.conv`.

    Raises ValueError where a kernel does not fit.
    """
    step = checked_step(sizes["kernel"], sizes["stride"], sizes["padding"])
    shapes = [tuple(sizes["image_shape"][:2])]
    for _ in sizes["channels"]:
        shapes.append(conv_shape(shapes[-1], *step))
    return shapes


class Planes(Layer):
    """Images of n planes as rows with one plane after the other: y[b] = x[b, plane 0], x[b, 1], ..

    n : the planes.  The C channels of a plane lie together in x.
    """

    linear = True

    def __init__(self, n: int):
        super().__init__()
        self.n = n

    def forward(self, x: np.ndarray) -> np.ndarray:
        """x : (B, H, W, n*C)  ->  y : (B, n*H*W*C)."""
        x = as_rows(x, (None, None, None, None), None, "x of Planes")
        B, H, W, C = x.shape
        self._cache["forward"] = (x.shape,)
        planes = x.reshape(B, H * W, self.n, C // self.n)
        return np.ascontiguousarray(planes.swapaxes(1, 2)).reshape(B, H * W * C)

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """dy : (B, n*H*W*C)  ->  dx : (B, H, W, n*C)."""
        ((B, H, W, C),) = self._take()
        dy = as_rows(dy, (B, H * W * C), None, "dy of Planes")
        planes = dy.reshape(B, self.n, H * W, C // self.n)
        return np.ascontiguousarray(planes.swapaxes(1, 2)).reshape(B, H, W, C)


# --- what the caller chose ------------------------------------------------------------------------


def whole_numbers(values, what: str) -> list[int]:
    """`values` as a list of int, each at least 1; one number alone counts as a list of one.

    Raises TypeError for what is no sequence of whole numbers, ValueError for one below 1.
    """
    if isinstance(values, Integral):
        values = [values]
    no_list = isinstance(values, str | bytes) or getattr(values, "shape", None) == ()
    if no_list or not isinstance(values, Sequence | np.ndarray):
        raise TypeError(f"{what} must be a sequence of whole numbers, e.g. (200, 100), "
                        f"got {in_short(values)}")
    return [whole_number(n, f"{what}[{i}]") for i, n in enumerate(values)]


def checked_dtype(dtype) -> np.dtype:
    """float32 or float64.  Raises ValueError for another dtype, TypeError for what is none."""
    try:
        known = np.dtype(dtype)
    except TypeError:
        known = None
    if dtype is None or known is None:                     # for NumPy, None means float64
        raise TypeError(f"dtype must be float32 or float64, got {in_short(dtype)}")
    if known not in (np.float32, np.float64):
        raise ValueError(f"dtype must be float32 or float64, got {known}")
    return known


def checked_likelihood(likelihood, dtype: np.dtype) -> Likelihood:
    """The likelihood itself, or the one of that name.

    Raises ValueError for an unknown name or parameters of another dtype, TypeError for what is no
    likelihood.
    """
    if isinstance(likelihood, str):
        return choose(likelihood, LIKELIHOODS, "likelihood")(dtype=dtype)
    if not isinstance(likelihood, Likelihood):
        raise TypeError(f"likelihood must be one of {', '.join(LIKELIHOODS)} or an object of "
                        f"minivae.likelihoods, got {in_short(likelihood)}")
    for name, param in likelihood.params.items():
        if param.dtype != dtype:
            raise ValueError(f"the likelihood's {name} is {param.dtype}, the model "
                             f"{dtype}: give the likelihood that dtype too")
    return likelihood


def checked_estimator(estimator) -> Callable:
    """The estimator itself, or the one of that name.

    Raises ValueError for an unknown name, TypeError for what is no estimator.
    """
    if isinstance(estimator, str):
        return choose(estimator, ESTIMATORS, "estimator")
    if not (callable(estimator) and hasattr(estimator, "objective")):
        raise TypeError("estimator must be a name or a function of minivae.estimators, "
                        f"got {in_short(estimator)}")
    return estimator


def checked_beta(beta) -> float:
    """beta as a float.  Raises TypeError for what is no number, ValueError below 0 and for NaN."""
    found = number(beta, "beta")
    if not 0 <= found < math.inf:
        raise ValueError(f"beta must be a number >= 0, got {in_short(beta)}")
    return found


# --- layers of one's own --------------------------------------------------------------------------


def want_layer(layer, name: str) -> None:
    """Raise TypeError for what has no forward or no backward."""
    for method in ("forward", "backward"):
        if not callable(getattr(layer, method, None)):
            raise TypeError(f"{name} is no layer: {type(layer).__name__} has no {method}")


def common_dtype(named_layers) -> np.dtype | None:
    """The dtype that all parameters have, or None where there is no parameter.

    named_layers : (name, layer) pairs.
    Raises TypeError for what is no layer, ValueError where a gradient is missing or does not fit
    its parameter, or where two parameters differ in dtype.
    """
    first = None                                           # (name, dtype) of the first parameter
    for name, layer in named_layers:
        want_layer(layer, name)
        for key, param in params_of(layer).items():
            whole = f"{name}.{key}"
            if getattr(param, "dtype", None) not in (np.float32, np.float64):
                raise ValueError(f"{whole} must be an array of float32 or float64, got "
                                 f"{getattr(param, 'dtype', type(param).__name__)}")
            if getattr(grads_of(layer).get(key), "shape", None) != param.shape:
                raise ValueError(f"{name}, a {type(layer).__name__}: grads[{key!r}] must be an "
                                 f"array of shape {param.shape}, like params[{key!r}]")
            first = first or (whole, param.dtype)
            if param.dtype != first[1]:
                raise ValueError(f"all parameters must have one dtype: {first[0]} is {first[1]}, "
                                 f"{whole} is {param.dtype}")
    return None if first is None else first[1]


def size_of(name: str, told: int | None, ends: list[tuple[str, Layer, int]]) -> int:
    """A size of the model: read off the layers where they are Dense, or what the caller told.

    name : "x_dim" or "z_dim";  ends : (where it stands, layer, axis of its W), axis 0 for what
    goes in, 1 for what comes out.
    Raises ValueError where no end is a Dense and nothing was told, or where two sizes differ.
    """
    found = [] if told is None else [(f"{name}=", whole_number(told, name))]
    found += [(where, layer.params["W"].shape[axis]) for where, layer, axis in ends
              if isinstance(layer, Dense)]
    if not found:
        where, layer, _ = ends[0]
        raise ValueError(f"{name} can be read off a Dense only, and {where} is a "
                         f"{type(layer).__name__}: hand it in, {name}=..")
    for where, size in found[1:]:
        if size != found[0][1]:
            raise ValueError(f"{name} is {found[0][1]} by {found[0][0]} and {size} by {where}")
    return found[0][1]


# --- the model ------------------------------------------------------------------------------------


class Buildable:
    """How a model is built: from sizes by mlp and conv, or from any layers by its class."""

    heads: tuple[str, ...]      # the layers that give the parameters of q(z|x)
    latent_class: type          # its latent is one of this class
    config: dict | None = None  # how mlp or conv built it; None for one put together by hand

    @classmethod
    def mlp(cls, x_dim: int, hidden: Sequence[int], z_dim: int, *, likelihood="bernoulli",
            activation: str = "relu", beta: float = 1.0, estimator=elbo,
            baseline="others", latent=None, rng=None, dtype=np.float32):
        """A VAE of dense layers: the encoder, its heads, and the decoder as its mirror image.

        Parameters
        ----------
        x_dim, z_dim : int
            D pixels and Z latent dimensions.
        hidden : sequence of int
            Widths of the encoder's hidden layers, e.g. (400,) or (200, 200); the decoder has them
            in reverse.  Empty for a linear VAE.
        likelihood : "bernoulli", "gaussian" (one learned variance), or a likelihood object
        activation : "relu", "tanh", "sigmoid" or "softplus"
        beta : float
            Weight of the KL; 1 gives the ELBO.
        estimator : function of minivae.estimators, or its name
        baseline : "none", "others", "running-mean", "nvil", or an object of minivae.baselines
            What is subtracted from f, see estimators.py; "nvil" goes with `score` alone.  A dict
            gives a name its settings: {"name": "nvil", "hidden": 50}.
        latent : the latent node
            Default: GaussianLatent() for a VAE, BernoulliLatent() for a DiscreteVAE.
        rng : None, int or numpy.random.Generator
            Draws the initial weights, then the noise of `forward`.
        dtype : float32 for training, float64 for checking

        Raises
        ------
        TypeError
            For an argument of the wrong kind, e.g. a size that is no whole number.
        ValueError
            For an unknown name, a size below 1, a negative beta, a latent of the other kind of
            model, or a baseline that the estimator does not take.
        """
        sizes = {"x_dim": whole_number(x_dim, "x_dim"),
                 "hidden": whole_numbers(hidden, "hidden"),
                 "z_dim": whole_number(z_dim, "z_dim")}
        return cls._built(dense_layers, sizes, x_dim, likelihood, activation, beta,
                          estimator, baseline, latent, rng, dtype)

    @classmethod
    def conv(cls, image_shape: Sequence[int], channels: Sequence[int] = (32, 64), z_dim: int = 20,
             *, kernel: int = 4, stride: int = 2, padding: int = 1, likelihood="bernoulli",
             activation: str = "relu", beta: float = 1.0, estimator=elbo, baseline="others",
             latent=None, rng=None, dtype=np.float32):
        """A VAE of convolutions: the encoder, its heads, and the decoder as its mirror image.

        It takes rows, as every model: (B, D) with D = H*W, or H*W*C in colour.

        Parameters
        ----------
        image_shape : (H, W), or (H, W, C) with C channels, e.g. 3 for colour
        channels : sequence of int
            Those of each Conv of the encoder, at least one; the decoder has them in reverse.
        z_dim : int
        kernel, stride, padding : int
            Of every Conv, see convolutions.py.  These halve an image's sides at each.
        likelihood, activation, beta, estimator, baseline, latent, rng, dtype : as `mlp`

        Raises
        ------
        TypeError, ValueError
            As `mlp`; also for an image that is smaller than a kernel.
        """
        image_shape = whole_numbers(image_shape, "image_shape")
        if len(image_shape) not in (2, 3):
            raise ValueError(f"image_shape must be (H, W) or (H, W, C), got {tuple(image_shape)}")
        sizes = {"image_shape": image_shape, "channels": whole_numbers(channels, "channels"),
                 "z_dim": whole_number(z_dim, "z_dim"), "kernel": whole_number(kernel, "kernel"),
                 "stride": whole_number(stride, "stride"),
                 "padding": whole_number(padding, "padding", at_least=0)}
        if not sizes["channels"]:
            raise ValueError("channels must name at least one Conv, e.g. (32, 64); "
                             "a model without any is mlp's")
        conv_shapes(sizes)                                 # raises where a kernel does not fit
        return cls._built(conv_layers, sizes, math.prod(image_shape), likelihood, activation, beta,
                          estimator, baseline, latent, rng, dtype)

    @classmethod
    def _built(cls, make_layers, sizes, x_dim, likelihood, activation, beta, estimator, baseline,
               latent, rng, dtype):
        """What mlp and conv share: the layers of these sizes, and a model of them."""
        dtype, beta = checked_dtype(dtype), checked_beta(beta)
        likelihood = checked_likelihood(likelihood, dtype)
        estimator = checked_estimator(estimator)
        act = choose(activation, ACTIVATIONS, "activation")
        cls._check_latent(latent)
        rng = generator(rng)
        try:
            made = make_layers(sizes, len(cls.heads), likelihood.width(x_dim), act, rng, dtype)
        except (MemoryError, OverflowError):
            raise ValueError(f"a model of {sizes} does not fit into memory") from None
        if isinstance(baseline, str):
            baseline = {"name": baseline}
        if isinstance(baseline, dict) and "name" in baseline:
            baseline = baselines.make(**baseline, x_dim=x_dim, rng=rng, dtype=dtype)
        model = cls(made["enc"], *made["heads"], made["dec"], made["to_out"], likelihood=likelihood,
                    latent=latent, estimator=estimator, baseline=baseline, beta=beta, rng=rng,
                    x_dim=x_dim, z_dim=sizes["z_dim"], dtype=dtype)
        model.config = sizes | {"activation": activation}
        return model

    def _settle(self, x_dim: int | None, z_dim: int | None, dtype) -> None:
        """The end of __init__: check the parts, and find the sizes.

        Raises TypeError for a part of the wrong kind, ValueError for sizes or dtypes that are not
        known or do not fit each other.
        """
        for name in ("enc", "dec"):
            if not isinstance(getattr(self, name), Sequential):
                raise TypeError(f"{name} must be a Sequential, got a "
                                f"{type(getattr(self, name)).__name__}: Sequential(layer, ..)")
        for name in (*self.heads, "to_out"):
            want_layer(getattr(self, name), name)
        check_kind(self.likelihood, Likelihood, "likelihood", "an object of minivae.likelihoods")
        self._check_latent(self.latent)
        self.latent = self.latent_class() if self.latent is None else self.latent
        self.baseline = baselines.Others() if self.baseline is None else self.baseline
        self.estimator, self.beta = checked_estimator(self.estimator), checked_beta(self.beta)
        baselines.check(self.baseline, self.estimator)
        self.rng = generator(self.rng)
        found = common_dtype((name, layer) for name, layer in self.named_layers()
                                      if name != "latent")
        self._dtype = checked_dtype(np.float32 if dtype is None else dtype)
        if found is not None and dtype is not None and found != self._dtype:
            raise ValueError(f"dtype={self._dtype} was handed in, but the layers have {found}")
        enc, dec = list(self._leaves("enc")), list(self._leaves("dec"))
        heads = [list(self._leaves(head)) for head in self.heads]
        to_out = list(self._leaves("to_out"))
        self.x_dim = size_of("x_dim", x_dim, [(*[*enc, *heads[0]][0], 0)])
        self.z_dim = size_of("z_dim", z_dim, [*((*head[-1], 1) for head in heads),
                                                       (*[*dec, *to_out][0], 0)])
        width = self.likelihood.width(self.x_dim)
        size_of("the likelihood's width", width, [(*to_out[-1], 1)])

    @classmethod
    def _check_latent(cls, latent) -> None:
        """Raise ValueError for a latent of the other kind of model; None is the default one."""
        if latent is not None and not isinstance(latent, cls.latent_class):
            got = latent if isinstance(latent, str) else type(latent).__name__
            raise ValueError(f"the latent of a {cls.__name__} is a {cls.latent_class.__name__} or "
                             f"made from it, got {got}")
