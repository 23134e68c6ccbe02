"""What the page needs to run the model itself: weights, images, and the recorded pass to meet.

The model in JavaScript is model.js, its layers layers.js, its estimators estimators.js.  When the
page opens, agree.js makes the recorded pass once more and compares every array with Python's.
"""

from __future__ import annotations

import base64

import numpy as np

from minivae.building import Planes
from minivae.convolutions import Conv, ConvTranspose, Reshape, conv_shape
from minivae.discrete import BernoulliLatent
from minivae.explain.figures import Arrays
from minivae.explain.names import names_of_inputs, output_name, parts_of
from minivae.explain.subject import Subject, test_images
from minivae.explain.trace import Trace
from minivae.latents import GaussianLatent
from minivae.layers import Dense, ReLU, Sigmoid, Softplus, Tanh
from minivae.likelihoods import BernoulliLikelihood, GaussianLikelihood
from minivae.model import Model
from minivae.pixels import scale_of

# the layers that layers.js knows
KINDS = (Dense, ReLU, Tanh, Sigmoid, Softplus, Conv, ConvTranspose, Reshape, Planes)
LIKELIHOODS = (BernoulliLikelihood, GaussianLikelihood)
LATENTS = (GaussianLatent, BernoulliLatent)
PARAMETERS = 810_000     # 4.3 MB of weights; with more the page would be larger than 6 MB
WHOLE = 60_000           # up to so many parameters their gradients go in whole, else as sums
TEST_PIXELS = 100_000    # so many bytes of test images, at most
TRAIN_PIXELS = 120_000   # larger training data stay out: the 1,500 digits are 96,000 bytes


def live(t: Trace, subject: Subject, arrays: Arrays) -> dict:
    """{"live": False, "reason"} for a model that the page cannot run, else all that it needs.

    That is spec, the model with its weights; recorded, the pass of `t`; and images.
    """
    reason = why_not(subject.vae)
    if reason:
        return {"live": False, "reason": reason}
    return {"live": True, "reason": None, "spec": spec(subject.vae),
            "recorded": recorded(t, arrays), "images": images(subject)}


def why_not(vae: Model) -> str | None:
    """Why the page shows the recorded pass alone, in words; None where it can run the model."""
    unknown = [type(layer).__name__ for name, layer in vae.named_layers()
               if name not in ("latent", "likelihood") and type(layer) not in KINDS]
    if unknown:
        return f"it has a layer that this page cannot compute: {unknown[0]}"
    if type(vae.likelihood) not in LIKELIHOODS:
        return ("it has a likelihood that this page cannot compute: "
                f"{type(vae.likelihood).__name__}")
    if type(vae.latent) not in LATENTS:
        return f"it has a latent that this page cannot compute: {type(vae.latent).__name__}"
    size = sum(param.size for _, param, _ in vae.named_params())
    if size > PARAMETERS:
        return f"it has {size:,} parameters, more than the {PARAMETERS:,} that go into a page"
    return None


def spec(vae: Model) -> dict:
    """The model as makeVAE of model.js takes it; the weights as float32.

    A float64 model's weights are rounded: the page then agrees to float32 only.
    """
    return {
        "D": vae.x_dim, "Z": vae.z_dim, "beta": vae.beta, "latent": vae.latent.name,
        "parts": parts(vae),
        "out": vae.likelihood.out_name, "likelihood": vae.likelihood.name,
        "logvar": getattr(vae.likelihood, "logvar", None),
        "params": {name: float32(param) for name, param, _ in vae.named_params()}}


def parts(vae: Model) -> dict[str, list[dict]]:
    """The layers of enc, of each head, of dec and of the decoder's last part, in their order.

    name : that of its parameters;  takes, gives : its input and its output in the pass.
    image, step, grid : of a convolution, (H, W, C) of the images that are cut into patches or
    added up from them, (kernel, stride, padding), and (H', W'), how many patches there are.
    planes : of a layer Planes, with image.
    """
    found, shape = {part: [] for part in parts_of(vae)}, None
    for name, layer in vae.named_layers():
        if name in ("latent", "likelihood"):
            continue
        about = {"name": name, "kind": type(layer).__name__, "gives": output_name(vae, name, "y"),
                 "takes": names_of_inputs(vae, name, ("x",))["x"]}
        if isinstance(layer, Reshape):
            shape = layer.shape
        elif isinstance(layer, Conv):
            grid = conv_shape(shape[:2], *layer.step)
            about |= {"image": shape, "step": layer.step, "grid": grid}
            shape = (*grid, len(layer.params["b"]))
        elif isinstance(layer, ConvTranspose):
            shape = (*layer.out_shape, len(layer.params["b"]))
            about |= {"image": shape, "step": layer.step, "grid": layer.in_shape}
        elif isinstance(layer, Planes):
            about |= {"image": shape, "planes": layer.n}
        found[name.partition(".")[0]].append(about)
    return found


def recorded(t: Trace, arrays: Arrays) -> dict:
    """Every value and gradient of the pass, by the names of model.js.

    Values and gradients are keys of `arrays`.  The gradient of a parameter is stored whole, as
    float32; in a large model as the sums of its rows and columns, in float64.
    """
    def stored(name: str, array: np.ndarray) -> str:
        return arrays.store(f"live/{name}", array)

    values, grads, parts = {}, {}, {}
    for node in t.passes.values():
        values[node.called] = stored(node.called, node.output)
        if node.incoming is not None:
            grads[node.called] = stored(f"d{node.called}", node.incoming)
        for value, name in node.passed_on.items():
            if name != f"d{value}":                        # one of several that meet there
                parts[name] = stored(name, node.outgoing[value])
    values["loss"] = stored("loss", np.array([t.loss]))
    whole = sum(p.grad.size for p in t.params.values()) <= WHOLE
    params = {name: float32(p.grad) for name, p in t.params.items() if whole}
    sums = {name: {"columns": p.grad.shape[-1], "sums": stored(f"sums {name}", sums_of(p.grad))}
            for name, p in t.params.items() if not whole}
    return {"x": stored("x", t.x), "eps": stored("eps", t.eps), "beta": t.vae.beta,
            "estimator": t.estimator, "values": values, "grads": grads, "parts": parts,
            "params": params, "sums": sums}


def sums_of(grad: np.ndarray) -> np.ndarray:
    """The sum of each row, then of each column."""
    matrix = grad.reshape(-1, grad.shape[-1])
    return np.concatenate([matrix.sum(axis=1), matrix.sum(axis=0)])


def images(subject: Subject) -> dict:
    """Test images as the model sees them, and all training images where they are few.

    binarize says what is done to a training image before it is used, see pixels.BINARIZE.
    """
    vae, data, train = subject.vae, subject.data, None
    n = min(len(data.x_test), max(1, TEST_PIXELS // vae.x_dim))
    labels = None if data.y_test is None else [str(label) for label in data.y_test[:n]]
    if data.x_train.size <= TRAIN_PIXELS:
        train = packed(data.x_train / scale_of(data.x_train))
    return {"shape": subject.image_shape, "binarize": subject.binarize, "labels": labels,
            "test": packed(test_images(vae, data, subject.binarize, range(n))), "train": train}


def packed(x: np.ndarray) -> dict:
    """Images (N, D) as bytes, each the place of its grey level among `levels`.

    Up to 256 levels are kept exactly; more are rounded to 256 evenly spaced ones.
    """
    levels = np.unique(x)
    if len(levels) > 256:
        levels = np.linspace(x.min(), x.max(), 256)
    middles = (levels[1:] + levels[:-1]) / 2
    places = np.searchsorted(middles, x).astype(np.uint8)
    return {"count": len(x), "levels": levels.astype(float).tolist(),
            "base64": base64.b64encode(places.tobytes()).decode()}


def float32(array: np.ndarray) -> dict:
    """An array as base64 of float32."""
    raw = np.ascontiguousarray(array, "<f4").tobytes()
    return {"shape": array.shape, "base64": base64.b64encode(raw).decode()}
