"""Checks of the forward pass: what finite differences cannot see.

A gradient check says that backward matches forward, not that forward is right.  Here samples have
the moments that they should have, densities integrate to one, and numbers are those of a formula
worked elsewhere.  Each check takes a seed and returns a Report.
"""

import numpy as np

from minivae import estimators
from minivae.baselines import NVIL, RunningMean
from minivae.convolutions import Conv, ConvTranspose
from minivae.discrete import BernoulliLatent, ConcreteLatent
from minivae.gradcheck.cases import B, D, F8, H, K, Z
from minivae.gradcheck.exact_means import all_faces
from minivae.gradcheck.report import Report, claim
from minivae.latents import GaussianLatent
from minivae.layers import ReLU, Sigmoid, Softplus, Tanh, sigmoid
from minivae.likelihoods import BernoulliLikelihood, GaussianLikelihood
from minivae.optim import Adam
from minivae.vae import VAE


# --- the nodes ------------------------------------------------------------------------------------


def activations(seed: int) -> Report:
    """Each activation where its value is known on paper: at 0 and at log 3, on both sides."""
    x, log = np.array([[-np.log(3), 0.0, np.log(3)]]), np.log
    known = {ReLU: (0.0, 0.0, log(3)), Tanh: (-4 / 5, 0.0, 4 / 5), Sigmoid: (1 / 4, 1 / 2, 3 / 4),
             Softplus: (log(4 / 3), log(2), log(4))}
    return Report("activations", [
        claim(f"{act.__name__} at {at}", found, wanted, 1e-15, "not the value of its formula: is "
              "it stretched, scaled or mirrored, in forward and in backward?")
        for act, values in known.items()
        for at, found, wanted in zip(("-log 3", "0", "log 3"), act().forward(x)[0], values)])


def convolutions(seed: int) -> Report:
    """Values that others worked, and that the transpose of a convolution is its transpose.

    The last claim is on whole numbers, whose sums are exact.
    Source: assignment 2 of Stanford's CS231n, the check of conv_forward_naive
    """
    rng = np.random.default_rng(seed)
    layer = Conv(3, 3, 4, 2, 1, rng, F8)             # theirs: x (B, C, H, W), W (out, in, k, k)
    W = np.linspace(-0.2, 0.3, 144).reshape(3, 3, 4, 4)
    layer.params["W"][...] = W.transpose(2, 3, 1, 0).reshape(48, 3)
    layer.params["b"][...] = np.linspace(-0.1, 0.2, 3)
    x = np.linspace(-0.1, 0.5, 96).reshape(2, 3, 4, 4).transpose(0, 2, 3, 1)
    y = layer.forward(x)[0, :, :, 0].ravel()
    theirs = [-0.08759809, -0.10987781, -0.18387192, -0.2109216]

    one, back = Conv(1, 1, 3, 1, 0, rng, F8), ConvTranspose(1, 1, 3, 1, 0, (4, 4), rng, F8)
    one.params["W"][:, 0] = back.params["W"][:, 0] = np.arange(1, 10)
    corner = one.forward(np.arange(16.0).reshape(1, 4, 4, 1))[0, 0, 0, 0]
    middle = back.forward(np.ones((1, 2, 2, 1)))[0, 1, 1, 0]

    step, shape = (3, 2, 1), (7, 6)
    forth, back = Conv(2, 3, *step, rng, F8), ConvTranspose(3, 2, *step, shape, rng, F8)
    whole = rng.integers(-3, 4, forth.params["W"].shape)
    forth.params["W"][...] = back.params["W"][...] = whole
    x, v = rng.integers(-3, 4, (B, *shape, 2)), rng.integers(-3, 4, (B, *back.in_shape, 3))
    turned = "is the kernel turned, or are axes mixed up?"
    return Report("convolutions", [
        *(claim(f"CS231n, pixel {i}", found, wanted, 5e-9, f"not the public number: {turned}")
          for i, (found, wanted) in enumerate(zip(y, theirs))),
        claim("a corner by hand", corner, 303.0, 0.0, f"not the number worked on paper: {turned}"),
        claim("four patches overlap", middle, 1.0 + 2 + 4 + 5, 0.0,
              "a pixel must get the sum of the patches that overlap there"),
        claim("<conv x, v> - <x, convT v>", (forth.forward(x) * v).sum(),
              (x * back.forward(v)).sum(), 0.0, "the transpose is not the convolution's adjoint")])


def sample(seed: int) -> Report:
    """Mean, std and independence of the sample.

    The two means and the two correlations have five standard errors of room each: about two false
    alarms in a million seeds.
    """
    rng, latent, n = np.random.default_rng(seed), GaussianLatent(), 20_000
    mu, logvar = np.array([[0.7], [-1.1]]), np.array([[-1.0], [1.2]])
    z = latent.sample(mu, logvar, rng.standard_normal((n, 2, 1))).reshape(n, 2)
    std, room = np.exp(logvar[:, 0] / 2), 5 / np.sqrt(n)
    means = [claim(f"mean of example {i}", z[:, i].mean(), mu[i, 0], room * std[i],
                   "z is not centred on mu, or its rows are not k*B + n") for i in (0, 1)]
    stds = [claim(f"std of example {i}", z[:, i].std(), std[i], room * std[i],
                  "z has not the std exp(logvar / 2): was the variance used as std?")
            for i in (0, 1)]
    between_examples = np.corrcoef(z.T)[0, 1]
    between_samples = np.corrcoef(z[:-1, 0], z[1:, 0])[0, 1]
    return Report("the sample z", [
        *means, *stds,
        claim("correlation of examples", between_examples, 0.0, room,
              "two examples of a batch got the same noise, or the rows are not k*B + n"),
        claim("correlation of samples", between_samples, 0.0, room,
              "two samples of one example got the same noise")])


def densities(seed: int) -> Report:
    """The KL against its own definition, by sampling; q and the prior integrate to one."""
    rng, latent, n = np.random.default_rng(seed), GaussianLatent(), 20_000
    mu, logvar = np.array([[0.7, -0.4]]), np.array([[-1.0, 0.8]])
    z = mu + np.exp(logvar / 2) * rng.standard_normal((n, 2))
    ratio = latent.log_q(z, mu, logvar) - latent.log_prior(z)
    kl, room = latent.kl(mu, logvar)[0], 5 * ratio.std() / np.sqrt(n)
    nothing = np.zeros((1, 2))
    grid, step = _grid()
    q = np.exp(latent.log_q(grid, np.array([[0.5]]), np.array([[-0.7]])))
    prior = np.exp(latent.log_prior(grid))
    return Report("the densities of the latent", [
        claim("KL by sampling", ratio.mean(), kl, room,
              "the analytic KL is not E_q[log q - log p]"),
        claim("KL at the prior", latent.kl(nothing, nothing)[0], 0.0, 0.0, "KL(p || p) must be 0"),
        claim("integral of q", q.sum() * step, 1.0, 1e-12, "q does not integrate to one"),
        claim("integral of the prior", prior.sum() * step, 1.0, 1e-12,
              "the prior does not integrate to one")])


def _grid() -> tuple[np.ndarray, float]:
    """Points : (3001, 1) and their distance; fine enough to integrate a density to rounding."""
    grid = np.linspace(-15, 15, 3001)[:, None]
    return grid, grid[1, 0] - grid[0, 0]


def likelihoods(seed: int) -> Report:
    """Both likelihoods sum to one; logits far out are exact; samples meet their own image."""
    rng, bernoulli = np.random.default_rng(seed), BernoulliLikelihood()
    logits = np.tile(rng.standard_normal((1, 4)), (16, 1))
    total = np.exp(bernoulli.forward(logits, all_faces(4))).sum()
    grid, step = _grid()
    density = np.exp(GaussianLikelihood(-0.6, F8).forward(np.full((len(grid), 1), 0.3), grid))
    chance = -bernoulli.forward(np.zeros((1, 784)), rng.random((1, 784)))[0]
    far = bernoulli.forward(np.array([[1e4, -1e4]]), np.array([[0.0, 1.0]]))[0]
    two_images = np.array([[0.0], [1.0]])
    rows = bernoulli.forward(np.array([[1.0], [2.0], [3.0], [4.0]]), two_images)
    return Report("the likelihoods", [
        claim("Bernoulli, all images", total, 1.0, 1e-14, "the probabilities do not sum to one"),
        claim("Gaussian, integral", density.sum() * step, 1.0, 1e-12,
              "the density does not integrate to one"),
        claim("chance, 784 log 2", chance, 784 * np.log(2), 1e-10,
              "a uniform predictor costs D log 2: mean and sum mixed?"),
        claim("far-out logits", far, -2e4, 1e-8,
              "log p at logits of 1e4 must be exact: are probabilities clipped?"),
        claim("row 2 is image 0", rows[2], -np.log1p(np.exp(3.0)), 1e-14,
              "row k*B + n must be judged against x[n]")])


def coins(seed: int) -> Report:
    """The coins' law by enumeration, and the sampling node by where its step is."""
    rng, coin, soft = np.random.default_rng(seed), BernoulliLatent(), ConcreteLatent(0.3)
    a, z = rng.standard_normal((1, 3)), all_faces(3)
    log_q, log_p = coin.log_q(z, a), coin.log_prior(z)
    kl = (np.exp(log_q) * (log_q - log_p)).sum()
    evenly = ((np.arange(10_000) + 0.5) / 10_000).reshape(-1, 1, 1)
    u = np.tile(evenly, (1, 1, 3))
    hard, side = coin.sample(a, u), soft.sample(a, u) > 0.5
    far = coin.kl(np.array([[800.0, -800.0, 0.0]]))[0]
    means = [claim(f"mean of z_{j}", hard[:, j].mean(), sigmoid(a)[0, j], 1e-4,
                   "a coin must show 1 with probability sigmoid(a)") for j in range(3)]
    return Report("coins", [
        claim("sum of q", np.exp(log_q).sum(), 1.0, 1e-14, "q does not sum to one"),
        claim("sum of the prior", np.exp(log_p).sum(), 1.0, 1e-14,
              "the prior does not sum to one"),
        claim("KL by enumeration", coin.kl(a)[0], kl, 1e-13,
              "the analytic KL is not E_q[log q - log p]: another prior than fair coins?"),
        claim("KL far out", far, 2 * np.log(2), 1e-13,
              "a certain coin costs log 2: are probabilities clipped?"),
        *means,
        claim("soft and hard coins", np.abs(side - hard).max(), 0.0, 0.0,
              "Concrete's z lies on the other side of 1/2 from the coin's")])


# --- whole models ---------------------------------------------------------------------------------


def by_hand(seed: int) -> Report:
    """Two pixels, one latent.  The arithmetic: tests/README.md, "One pass, worked by hand"."""
    vae = VAE.mlp(2, [], 1, rng=0, dtype=F8)
    values = ([[0.5], [-1]], [0.5], [[np.log(2)], [1]], [np.log(2)], [[2, -2]], [0, 1])
    for (_, param, _), value in zip(vae.named_params(), values):
        param[...] = value
    found = vae.forward(np.array([[1.0, 0.0]]), np.array([[-0.25]]))
    vae.backward()
    dmu, dlogvar = vae.to_mu.grads["b"][0], vae.to_logvar.grads["b"][0]
    on_paper = [("recon", found.recon[0], 1.00640887), ("kl", found.kl[0], 1.30685282),
                ("loss", found.loss, 2.31326169), ("dmu", dmu, -0.53788284),
                ("dlogvar", dlogvar, 1.88447071)]
    return Report("a pass worked by hand",
                  [claim(*numbers, 1e-8, "not the number worked on paper") for numbers in on_paper])


def objective(seed: int) -> Report:
    """The loss is what its name says, whatever backward does."""
    rng = np.random.default_rng(seed)
    vae = VAE.mlp(D, [H], Z, rng=rng, dtype=F8, beta=1.7)
    x, eps = rng.random((B, D)), rng.standard_normal((K, B, Z))
    found = vae.forward(x, eps)
    alone = [vae.forward(x[n : n + 1], eps[:, n : n + 1]).loss for n in range(B)]
    vae.estimator = estimators.elbo_mc
    sampled = vae.forward(x, eps)
    return Report("the objective", [
        claim("loss", found.loss, (found.recon + 1.7 * found.kl).mean(), 1e-13,
              "the loss is not mean(recon + beta * kl)"),
        claim("loss of a batch", found.loss, np.mean(alone), 1e-12,
              "the loss of a batch is not the mean over its examples: mean and sum mixed?"),
        claim("elbo of the samples", sampled.elbo.mean(), sampled.logw.mean(), 1e-12,
              "the ELBO is not the mean log-weight")])


def bound(seed: int) -> Report:
    """L_K is log mean_k w_k."""
    rng = np.random.default_rng(seed)
    vae = VAE.mlp(D, [H], Z, rng=rng, dtype=F8, estimator=estimators.iwae)
    found = vae.forward(rng.random((B, D)), rng.standard_normal((K, B, Z)))
    by_definition = np.log(np.exp(found.logw).mean(axis=0)).mean()
    return Report("the multi-sample bound", [
        claim("L_K", -found.loss, by_definition, 1e-12,
              "L_K is not log mean_k w_k: a sum for the mean?")])


# --- what has a memory ----------------------------------------------------------------------------


def adam(seed: int) -> Report:
    """Both moments are freed of their zero start, and a step is algorithm 1 of Kingma & Ba."""
    rows = []
    for size in (1e-3, 1.0, 50.0):
        param = np.zeros(1)
        optimiser = Adam([("p", param, np.array([size]))], lr=0.01)
        for t in (1, 2):
            optimiser.step()
            rows.append(claim(f"after step {t}, grad {size:g}", -param[0], 0.01 * t, 1e-6,
                              "a constant gradient must move a parameter by lr a step from the "
                              "first step on: is the bias correction there?"))
    rng, param, grad = np.random.default_rng(seed), np.zeros(1), np.zeros(1)
    optimiser = Adam([("p", param, grad)], lr=0.01)
    wanted = m = v = 0.0
    for t in (1, 2, 3, 4):                                 # as printed
        grad[0] = g = rng.standard_normal()
        optimiser.step()
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        wanted -= 0.01 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    rows.append(claim("after four other gradients", param[0], wanted, 1e-12,
                      "not algorithm 1 of Kingma & Ba: are the betas right?"))
    return Report("Adam", rows)


def baselines(seed: int) -> Report:
    """A baseline with a memory uses past steps only, and the numbers are those of its formula."""
    rng = np.random.default_rng(seed)
    x, steps = rng.random((B, D)), [rng.standard_normal((K, B)) - 5 for _ in range(4)]
    running = RunningMean(0.9)
    nvil = NVIL(D, hidden=4, decay=0.8, lr=1e-9, rng=rng, dtype=F8)
    C = nvil.value(x)                                      # it hardly learns at this lr
    mean = c = v = 0.0
    off, off_nvil = [], []
    for t, f in enumerate(steps):
        past = mean / (1 - 0.9**t) if t else 0.0
        off.append(np.abs(running(f, x) - (f - past)).max())
        off_nvil.append(np.abs(nvil(f, x) - (f - C - c) / max(1.0, np.sqrt(v))).max())
        running.update()
        nvil.update()
        mean = 0.9 * mean + 0.1 * f.mean()
        c, v = 0.8 * c + 0.2 * (f - C).mean(), 0.8 * v + 0.2 * (f - C).var()
    wild = NVIL(D, hidden=4, rng=rng, dtype=F8)
    wild.v = 25.0
    scaled = np.abs(wild(steps[0], x) - (steps[0] - wild.value(x)) / 5).max()
    return Report("baselines with a memory", [
        claim("running mean of past steps", max(off), 0.0, 1e-13,
              "not the mean of past steps: does it hold the present one?"),
        claim("NVIL of past steps", max(off_nvil), 0.0, 1e-6,
              "not (f - C(x) - c) / max(1, sqrt(v)) of past steps"),
        claim("NVIL at v = 25", scaled, 0.0, 1e-13,
              "not divided by max(1, sqrt(v)): is v taken for the standard deviation, or left "
              "out?")])
