"""The points at which the package is checked: layers and models where no fault can hide.

All sizes are different, so that a mix-up of sizes cannot hide; every parameter is moved off its
start, because no bias of 0 shows a fault; beta is 1.7.  Each factory gives a check: a function from
a seed to a Report.
"""

from collections.abc import Callable

import numpy as np

from minivae import estimators
from minivae.baselines import NVIL
from minivae.discrete import BernoulliLatent, ConcreteLatent, DiscreteVAE
from minivae.gradcheck.of_layer import Node, check_layer
from minivae.gradcheck.of_model import check_model
from minivae.gradcheck.precision import check_precision
from minivae.gradcheck.report import Report
from minivae.gradcheck.strangers import params_of
from minivae.latents import GaussianLatent
from minivae.model import Model
from minivae.vae import VAE

Check = Callable[[int], Report]

F8 = np.float64
K, B, D, H, Z = 3, 5, 7, 4, 2


def perturbed(node, rng: np.random.Generator, by: float = 0.3):
    """Move every parameter of a layer or a model off its start, in place; returns it.

    Each entry moves by `by` times a normal number.
    """
    if isinstance(node, Model):
        params = [param for _, param, _ in node.named_params()]
    else:
        params = list(params_of(node).values())
    for param in params:
        param += by * rng.standard_normal(param.shape)
    return node


# --- layers, likelihoods, the Gaussian latent -----------------------------------------------------


def layer(make: Callable, width: int = D, spread: float = 1.0, rows: int = B) -> Check:
    """The layer make(rng), on normal inputs of standard deviation `spread`."""
    def check(seed: int) -> Report:
        rng = np.random.default_rng(seed)
        node = perturbed(make(rng), rng)
        return check_layer(node, spread * rng.standard_normal((rows, width)), rng=rng)

    return check


def images(make: Callable, *shape: int, rows: int = B) -> Check:
    """The layer make(rng), on normal images: shape is H, W, C of one."""
    def check(seed: int) -> Report:
        rng = np.random.default_rng(seed)
        node = perturbed(make(rng), rng)
        return check_layer(node, rng.standard_normal((rows, *shape)), rng=rng)

    return check


def likelihood(make: Callable, binary: bool) -> Check:
    """One sample per image, for the contract's clause on the batch; whole models have several."""
    def check(seed: int) -> Report:
        rng = np.random.default_rng(seed)
        node = perturbed(make(), rng)
        x = rng.random((B, D)) if binary else rng.standard_normal((B, D))
        out = rng.standard_normal((B, node.width(D)))
        return check_layer(node, out, x, rng=rng)

    return check


def gaussian_node(name: str) -> Node:
    """One of the four nodes of a GaussianLatent, as a layer."""
    latent = GaussianLatent()
    if name == "log_q":                                    # the plain derivative opens both wires
        return Node(latent.log_q, lambda d: latent.log_q_backward(d, d))
    return Node(getattr(latent, name), getattr(latent, f"{name}_backward"))


def gaussian(name: str, *shapes: tuple) -> Check:
    """One node of a GaussianLatent, on normal inputs."""
    def check(seed: int) -> Report:
        rng = np.random.default_rng(seed)
        inputs = [rng.standard_normal(shape) for shape in shapes]
        return check_layer(gaussian_node(name), *inputs, rng=rng, title=f"GaussianLatent.{name}")

    return check


def log_q_wires(seed: int) -> Report:
    """log q's two wires apart: z held while phi moves, phi held while z moves."""
    rng, latent = np.random.default_rng(seed), GaussianLatent()
    z = rng.standard_normal((K * B, Z))
    mu, logvar = rng.standard_normal((B, Z)), rng.standard_normal((B, Z))
    along_z = Node(lambda z: latent.log_q(z, mu, logvar),
                   lambda d: latent.log_q_backward(d, 0 * d)[0])
    along_phi = Node(lambda mu, logvar: latent.log_q(z, mu, logvar),
                     lambda d: latent.log_q_backward(0 * d, d)[1:])
    reports = [check_layer(along_z, z, rng=rng, mixes_rows=True),
               check_layer(along_phi, mu, logvar, rng=rng)]
    rows = [row for report in reports for row in report.rows]
    return Report("GaussianLatent.log_q, one wire at a time", rows)


# --- coins ----------------------------------------------------------------------------------------


def _coin_node(name: str, z: np.ndarray, u: np.ndarray) -> tuple[Node, str]:
    """One node of a binary latent as a function of its logits alone, and its title."""
    latent = ConcreteLatent(0.7) if name == "sample" else BernoulliLatent()
    forward = {"kl": latent.kl,
               "log_q": lambda a: latent.log_q(z.astype(a.dtype), a),
               "sample": lambda a: latent.sample(a, u)}
    title = f"{type(latent).__name__}.{name}"
    return Node(forward[name], getattr(latent, f"{name}_backward")), title


def _coin_inputs(seed: int):
    """rng, faces z : (K*B, Z), noise u : (K, B, Z), logits a : (B, Z)."""
    rng = np.random.default_rng(seed)
    z, u = (rng.random((K * B, Z)) < 0.5).astype(F8), rng.random((K, B, Z))
    return rng, z, u, 2 * rng.standard_normal((B, Z))


def coin(name: str) -> Check:
    """One node of a binary latent."""
    def check(seed: int) -> Report:
        rng, z, u, a = _coin_inputs(seed)
        node, title = _coin_node(name, z, u)
        return check_layer(node, a, rng=rng, mixes_rows=True, title=title)

    return check


# --- float32 --------------------------------------------------------------------------------------


def precision(make: Callable, *shapes: tuple, title: str | None = None) -> Check:
    """The layer make(rng, dtype) in float32 beside its float64 twin."""
    def check(seed: int) -> Report:
        rng = np.random.default_rng(seed)
        wide, narrow = make(rng, F8), make(rng, np.float32)
        inputs = [rng.standard_normal(shape) for shape in shapes]
        return check_precision(wide, narrow, *inputs, rng=rng, title=title)

    return check


def gaussian_precision(name: str, *shapes: tuple) -> Check:
    """One node of a GaussianLatent in float32."""
    return precision(lambda rng, dtype: gaussian_node(name), *shapes,
                     title=f"GaussianLatent.{name} in float32")


def coin_precision(name: str) -> Check:
    """One node of a binary latent in float32."""
    def check(seed: int) -> Report:
        rng, z, u, a = _coin_inputs(seed)
        u = u.astype(np.float32)
        (wide, title), (narrow, _) = _coin_node(name, z, u), _coin_node(name, z, u)
        return check_precision(wide, narrow, a, rng=rng, title=f"{title} in float32")

    return check


# --- whole models ---------------------------------------------------------------------------------


def vae(samples: int, hidden: tuple[int, ...] = (H,), **settings) -> Check:
    """A small VAE with K = samples."""
    def check(seed: int) -> Report:
        rng = np.random.default_rng(seed)
        settled = {"beta": 1.7, "activation": "tanh", **settings}
        model = perturbed(VAE.mlp(D, hidden, Z, rng=rng, dtype=F8, **settled), rng)
        x, eps = rng.random((B, D)), rng.standard_normal((samples, B, Z))
        return check_model(model, x, eps, rng=rng)

    return check


def discrete(samples: int, hidden: tuple[int, ...] = (), **settings) -> Check:
    """A small DiscreteVAE with K = samples."""
    def check(seed: int) -> Report:
        rng = np.random.default_rng(seed)
        settled = {"beta": 1.7, "activation": "tanh", **settings}
        model = perturbed(DiscreteVAE.mlp(D, hidden, Z, rng=rng, dtype=F8, **settled), rng)
        title = f"DiscreteVAE, {model.estimator.__name__}, {model.latent.name}"
        x, u = rng.random((B, D)), model.noise(samples, B, rng)
        return check_model(model, x, u, rng=rng, title=title)

    return check


def big_vae(seed: int) -> Report:
    """The size of MNIST: big arrays are checked along directions."""
    rng = np.random.default_rng(seed)
    model = VAE.mlp(784, [400], 20, rng=rng, dtype=F8)
    x, eps = (rng.random((16, 784)) < 0.2).astype(F8), rng.standard_normal((16, 20))
    return check_model(model, x, eps, rng=rng, title="VAE 784-400-20, relu")


@estimators.estimator(lambda t: (-t.beta * t.kl, t.kl), is_derivative=True)
def kl_alone(t: estimators.Terms) -> estimators.Wires:
    """The KL without the reconstruction."""
    return estimators.elbo(t)._replace(decoder=np.zeros_like(t.log_px))


# --- NVIL's network -------------------------------------------------------------------------------


class NVILCost:
    """The squared error of NVIL's C as a layer: x -> mean_kn (f - C(x) - c)^2 / 2 : (1, 1)."""

    def __init__(self, nvil: NVIL, f: np.ndarray):
        self.nvil, self.f = nvil, f
        self.params, self.grads = nvil.net.params, nvil.net.grads

    def forward(self, x: np.ndarray) -> np.ndarray:
        """x : (B, D)  ->  the cost : (1, 1)."""
        self.residual = self.f - self.nvil.value(x)
        return np.array([[(self.residual**2).mean() / 2]])

    def backward(self, dcost: np.ndarray) -> np.ndarray:
        """dcost : (1, 1)  ->  dx : (B, D)."""
        return self.nvil.net.backward(dcost * self.nvil.backward(self.residual))


def nvil(seed: int) -> Report:
    """C's gradient: its cost as a function of its weights."""
    rng = np.random.default_rng(seed)
    baseline = NVIL(D, hidden=H, rng=rng, dtype=F8)
    baseline.c = 0.4
    cost = NVILCost(baseline, rng.standard_normal((K, B)))
    perturbed(baseline.net, rng)
    return check_layer(cost, rng.random((B, D)), rng=rng, mixes_rows=True,
                       title="NVIL, the cost of C")
