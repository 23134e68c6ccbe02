"""Finite differences against every hand-written gradient: all parameters, all inputs, float64.

Sizes are all different, biases are non-zero, the upstream gradient is random and beta is 1.7, so
that a mix-up of any two of them cannot hide.
"""

import importlib
import pkgutil

import numpy as np
import pytest

import minivae
from minivae import estimators
from minivae.building import Planes
from minivae.convolutions import Conv, ConvTranspose, Reshape
from minivae.discrete import BernoulliLatent, ConcreteLatent, StraightThroughLatent
from minivae.gradcheck.cases import perturbed
from minivae.latents import GaussianLatent
from minivae.layers import Dense, Layer, ReLU, Sequential, Sigmoid, Softplus, Tanh
from minivae.learn.record import Skip
from minivae.likelihoods import BernoulliLikelihood, GaussianLikelihood
from minivae.vae import VAE

from numeric import assert_gradients

pytestmark = pytest.mark.gradients

K, B, D, H, Z = 3, 5, 7, 4, 2
F8 = np.float64


def away_from_zero(rng, *shape):
    """Normal numbers at least 0.01 from 0, where ReLU has its kink: a thousand finite-difference steps."""
    a = rng.standard_normal(shape)
    return a + 0.01 * np.sign(a)


def check_layer(layer, x, rng):
    """f = sum(dy * layer(x)) for a random dy, so that df/dy = dy."""
    dy = rng.standard_normal(layer.forward(x).shape)
    dx = layer.backward(dy).copy()
    pairs = [("x", x, dx)] + [(name, p, layer.grads[name]) for name, p in layer.params.items()]
    assert_gradients(lambda: (layer.forward(x) * dy).sum(), pairs)


def dense(rng):
    check_layer(perturbed(Dense(D, H, rng, F8), rng), rng.standard_normal((B, D)), rng)


def relu(rng):
    check_layer(ReLU(), away_from_zero(rng, B, D), rng)


def tanh(rng):
    check_layer(Tanh(), rng.standard_normal((B, D)), rng)


def skip(rng):
    check_layer(Skip(), rng.standard_normal((B, D)), rng)


def sigmoid(rng):
    check_layer(Sigmoid(), 2 * rng.standard_normal((B, D)), rng)


def softplus(rng):
    check_layer(Softplus(), 2 * rng.standard_normal((B, D)), rng)


def sequential(rng):
    layer = Sequential(Dense(D, H, rng, F8), Tanh(), Dense(H, Z, rng, F8))
    check_layer(perturbed(layer, rng), rng.standard_normal((B, D)), rng)


def conv(rng):
    for step in ((3, 1, 1), (4, 2, 1), (2, 3, 0), (3, 2, 2)):            # kernel, stride, padding
        check_layer(perturbed(Conv(2, 3, *step, rng, F8), rng), rng.standard_normal((3, 7, 5, 2)), rng)


def conv_transpose(rng):
    for step in ((3, 1, 1), (4, 2, 1), (2, 3, 0), (3, 2, 2)):
        layer = perturbed(ConvTranspose(3, 2, *step, (7, 5), rng, F8), rng)
        check_layer(layer, rng.standard_normal((3, *layer.in_shape, 3)), rng)


def planes(rng):
    check_layer(Planes(2), rng.standard_normal((3, 4, 5, 6)), rng)


def reshape(rng):
    check_layer(Reshape(2, 3, 2), rng.standard_normal((B, 12)), rng)


def check_likelihood(likelihood, x, rng):
    """log p(x|z) with K samples per x, each row with a weight of its own."""
    perturbed(likelihood, rng)
    out = rng.standard_normal((K * B, likelihood.width(D)))
    d = rng.standard_normal(K * B)
    likelihood.forward(out, x)
    dout = likelihood.backward(d).copy()
    pairs = [("out", out, dout)] + [(name, p, likelihood.grads[name]) for name, p in likelihood.params.items()]
    assert_gradients(lambda: (likelihood.forward(out, x) * d).sum(), pairs)


def bernoulli(rng):
    check_likelihood(BernoulliLikelihood(), rng.random((B, D)), rng)


def gaussian(rng):
    for logvar in ("per_pixel", "shared", -1.3):
        check_likelihood(GaussianLikelihood(logvar, F8), rng.standard_normal((B, D)), rng)


def gaussian_latent(rng):
    latent = GaussianLatent()
    mu, logvar, eps = rng.standard_normal((B, Z)), rng.standard_normal((B, Z)), rng.standard_normal((K, B, Z))
    z, dz = rng.standard_normal((K * B, Z)), rng.standard_normal((K * B, Z))
    d, dkl = rng.standard_normal(K * B), rng.standard_normal(B)

    latent.sample(mu, logvar, eps)
    dmu, dlogvar = latent.sample_backward(dz)
    assert_gradients(lambda: (latent.sample(mu, logvar, eps) * dz).sum(),
                     [("sample mu", mu, dmu), ("sample logvar", logvar, dlogvar)])

    latent.kl(mu, logvar)
    dmu, dlogvar = latent.kl_backward(dkl)
    assert_gradients(lambda: (latent.kl(mu, logvar) * dkl).sum(), [("kl mu", mu, dmu), ("kl logvar", logvar, dlogvar)])

    latent.log_q(z, mu, logvar)
    dz_q, dmu, dlogvar = latent.log_q_backward(d, d)
    assert_gradients(lambda: (latent.log_q(z, mu, logvar) * d).sum(),
                     [("log_q z", z, dz_q), ("log_q mu", mu, dmu), ("log_q logvar", logvar, dlogvar)])

    latent.log_prior(z)
    assert_gradients(lambda: (latent.log_prior(z) * d).sum(), [("log_prior z", z, latent.log_prior_backward(d))])


def coins(rng, latent=None):
    latent = latent or BernoulliLatent()
    a, z = rng.standard_normal((B, Z)), 1.0 * (rng.random((K * B, Z)) < 0.5)
    d, dkl = rng.standard_normal(K * B), rng.standard_normal(B)
    latent.kl(a)
    assert_gradients(lambda: (latent.kl(a) * dkl).sum(), [("kl a", a, latent.kl_backward(dkl))])
    latent.log_q(z, a)
    assert_gradients(lambda: (latent.log_q(z, a) * d).sum(), [("log_q a", a, latent.log_q_backward(d))])
    each = rng.standard_normal((K * B, Z))                 # a weight for each latent dimension, as disarm has
    latent.log_q(z, a)
    assert_gradients(lambda: (latent.log_q_each(z, a) * each).sum(),
                     [("log_q a, by dimension", a, latent.log_q_backward(each))])


def concrete(rng):
    latent, a = ConcreteLatent(0.7), rng.standard_normal((B, Z))
    u, dz = rng.random((K, B, Z)), rng.standard_normal((K * B, Z))
    coins(rng, latent)
    latent.sample(a, u)
    assert_gradients(lambda: (latent.sample(a, u) * dz).sum(), [("sample a", a, latent.sample_backward(dz))])


def straight_through(rng):
    """Held to the function that it claims: sigmoid(a) in the place of the coin."""
    latent, a = StraightThroughLatent(), rng.standard_normal((B, Z))
    u, dz = rng.random((K, B, Z)), rng.standard_normal((K * B, Z))
    coins(rng, latent)
    latent.sample(a, u)
    assert_gradients(lambda: (np.tile(1 / (1 + np.exp(-a)), (K, 1)) * dz).sum(),
                     [("sample a", a, latent.sample_backward(dz))])


CASES = {
    Dense: dense, ReLU: relu, Tanh: tanh, Sigmoid: sigmoid, Softplus: softplus, Sequential: sequential,
    Conv: conv, ConvTranspose: conv_transpose, Reshape: reshape, Planes: planes,
    BernoulliLikelihood: bernoulli, GaussianLikelihood: gaussian, GaussianLatent: gaussian_latent,
    BernoulliLatent: coins, ConcreteLatent: concrete, StraightThroughLatent: straight_through,
    Skip: skip,                                            # the layer of an exercise
}


@pytest.mark.parametrize("node", CASES, ids=lambda node: node.__name__)
def test_every_gradient_of(node, rng):
    CASES[node](rng)


def test_every_layer_of_the_package_has_a_gradient_case():
    for module in pkgutil.walk_packages(minivae.__path__, "minivae."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)

    def subclasses(cls):
        for child in cls.__subclasses__():
            if child.__module__.startswith("minivae."):
                yield child
            yield from subclasses(child)

    def has_a_backward(cls):                               # the base class of the latents has none
        return any(name.endswith("backward") for name in dir(cls))

    layers = {cls.__name__ for cls in subclasses(Layer) if has_a_backward(cls)}
    missing = layers - {cls.__name__ for cls in CASES}
    assert not missing, f"no gradient case in test_gradients.py for {sorted(missing)}"


def test_log_q_weighs_its_two_wires_apart(rng):
    """dz hears along_z only, dmu and dlogvar hear along_phi only."""
    latent = GaussianLatent()
    mu, logvar, z = rng.standard_normal((B, Z)), rng.standard_normal((B, Z)), rng.standard_normal((K * B, Z))
    a, b = rng.standard_normal(K * B), rng.standard_normal(K * B)
    latent.log_q(z, mu, logvar)
    dz, dmu, dlogvar = latent.log_q_backward(a, b)
    assert_gradients(lambda: (latent.log_q(z, mu, logvar) * a).sum(), [("z", z, dz)])
    assert_gradients(lambda: (latent.log_q(z, mu, logvar) * b).sum(), [("mu", mu, dmu), ("logvar", logvar, dlogvar)])


# --- the whole model ---------------------------------------------------------------------------


def sampled_kl(t):
    """-beta KL, and the KL, from the samples."""
    kl = estimators.sampled_elbo(t)[1]
    return -t.beta * kl, kl


@estimators.estimator(lambda t: (-t.beta * t.kl, t.kl), is_derivative=True)
def kl_alone(t):
    """The KL without the reconstruction."""
    return estimators.elbo(t)._replace(decoder=np.zeros_like(t.log_px))


@estimators.estimator(sampled_kl, is_derivative=True)
def sampled_kl_alone(t):
    """The same, from the samples."""
    return estimators.elbo_mc(t)._replace(decoder=np.zeros_like(t.log_px))


def check_vae(vae, x, eps, rng):
    perturbed(vae, rng)
    vae.forward(x, eps)
    vae.backward()
    assert_gradients(lambda: vae.forward(x, eps).loss, [(n, p, g.copy()) for n, p, g in vae.named_params()])


LIKELIHOODS = {"bernoulli": "bernoulli", "gaussian shared": GaussianLikelihood("shared", F8),
               "gaussian per_pixel": GaussianLikelihood("per_pixel", F8), "gaussian fixed": GaussianLikelihood(0.4, F8)}
TERMS = {"recon alone": (estimators.elbo, 0.0), "kl alone": (kl_alone, 1.7),
         "sampled kl alone": (sampled_kl_alone, 1.7),
         "together": (estimators.elbo, 1.7), "together, sampled kl": (estimators.elbo_mc, 1.7)}


@pytest.mark.parametrize("samples", [None, 1, 3])
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("terms", TERMS)
def test_every_gradient_of_the_vae(terms, likelihood, samples, rng):
    estimator, beta = TERMS[terms]
    vae = VAE.mlp(D, [6, H], Z, likelihood=LIKELIHOODS[likelihood], activation="tanh", beta=beta,
                  estimator=estimator, rng=rng, dtype=F8)
    shape = (B, Z) if samples is None else (samples, B, Z)
    check_vae(vae, rng.random((B, D)), rng.standard_normal(shape), rng)


@pytest.mark.parametrize("hidden", [(), (6,), (6, 4, 3)], ids=["linear", "one hidden layer", "three hidden layers"])
@pytest.mark.parametrize("activation", ["relu", "sigmoid", "softplus"])
def test_every_gradient_of_the_vae_with(activation, hidden, rng):
    vae = VAE.mlp(D, hidden, Z, activation=activation, beta=1.7, rng=rng, dtype=F8)
    check_vae(vae, rng.random((B, D)), rng.standard_normal((K, B, Z)), rng)


def test_no_gradient_flows_into_the_decoder_from_the_kl(rng):
    vae = VAE.mlp(D, [H], Z, estimator=kl_alone, rng=rng, dtype=F8)
    vae.forward(rng.random((B, D)))
    vae.backward()
    for name, _, grad in vae.named_params():
        of_theta = name.startswith(("dec", "to_logits"))
        assert (np.abs(grad).max() == 0) == of_theta, name
