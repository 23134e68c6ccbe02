"""Every check that `minivae gradcheck` runs on the package itself, by name.

Two kinds.  Gradient checks hold each backward to its forward by finite differences.  Checks of the
forward pass see what those cannot: a gradient check says that backward matches forward, not that
forward is right.  Each takes a seed and returns a Report.
"""

import inspect
from collections.abc import Callable
from importlib import import_module

import numpy as np

from minivae import estimators
from minivae.gradcheck import FAIL, PASS, Node, Report, Row, check_layer, check_model, check_precision
from minivae.latents import GaussianLatent
from minivae.layers import Dense, ReLU, Sequential, Sigmoid, Softplus, Tanh
from minivae.likelihoods import BernoulliLikelihood, GaussianLikelihood
from minivae.training.optim import Adam
from minivae.vae import VAE

F8 = np.float64
K, B, D, H, Z = 3, 5, 7, 4, 2            # all different, so that a mix-up of sizes cannot hide


def _shaken(node, rng):
    """Move every parameter off its starting point: no zero biases, no zero log-variance."""
    for p in node.params.values():
        p += 0.3 * rng.standard_normal(p.shape)
    return node


def _layer(make: Callable, width: int = D, spread: float = 1.0) -> Callable[[int], Report]:
    def check(seed: int) -> Report:
        rng = np.random.default_rng(seed)
        layer = _shaken(make(rng), rng)
        return check_layer(layer, spread * rng.standard_normal((B, width)), rng=rng)

    return check


def _likelihood(make: Callable, binary: bool) -> Callable[[int], Report]:
    def check(seed: int) -> Report:
        rng = np.random.default_rng(seed)
        likelihood = _shaken(make(), rng)
        x = rng.random((B, D)) if binary else rng.standard_normal((B, D))
        # one sample per image for the contract's row-by-row clause, several in the test of the whole model
        return check_layer(likelihood, rng.standard_normal((B, likelihood.width(D))), x, rng=rng, title=type(likelihood).__name__)

    return check


def _latent(node: str, *shapes: tuple) -> Callable[[int], Report]:
    def check(seed: int) -> Report:
        rng, latent = np.random.default_rng(seed), GaussianLatent()
        backward = getattr(latent, f"{node}_backward")
        if node == "log_q":
            backward = lambda d: latent.log_q_backward(d, d)
        return check_layer(Node(getattr(latent, node), backward), *(rng.standard_normal(s) for s in shapes), rng=rng, title=f"GaussianLatent.{node}")

    return check


def kl_alone(t: estimators.Terms) -> estimators.Wires:
    """The KL without the reconstruction."""
    return estimators.elbo(t)._replace(decoder=np.zeros_like(t.log_px))


kl_alone.objective = lambda t: (-t.beta * t.kl, t.kl)


def _vae(samples: int, hidden: tuple[int, ...] = (H,), **settings) -> Callable[[int], Report]:
    def check(seed: int) -> Report:
        rng = np.random.default_rng(seed)
        vae = VAE.mlp(D, hidden, Z, rng=rng, dtype=F8, **{"beta": 1.7, "activation": "tanh", **settings})
        for _, p, _ in vae.named_params():
            p += 0.3 * rng.standard_normal(p.shape)
        return check_model(vae, rng.random((B, D)), rng.standard_normal((samples, B, Z)), rng=rng)

    return check


def _big(seed: int) -> Report:
    rng = np.random.default_rng(seed)
    vae = VAE.mlp(784, [400], 20, rng=rng, dtype=F8)
    return check_model(vae, (rng.random((16, 784)) < 0.2).astype(F8), rng.standard_normal((16, 20)), rng=rng, title="VAE 784-400-20, relu")


def _precision(make: Callable, *shapes: tuple, title: str | None = None) -> Callable[[int], Report]:
    def check(seed: int) -> Report:
        rng = np.random.default_rng(seed)
        return check_precision(make(rng, F8), make(rng, np.float32), *(rng.standard_normal(s) for s in shapes), rng=rng, title=title)

    return check


def _latent_precision(node: str, *shapes: tuple) -> Callable[[int], Report]:
    def make(rng, dtype):
        latent = GaussianLatent()
        return Node(getattr(latent, node), getattr(latent, f"{node}_backward") if node != "log_q" else lambda d: latent.log_q_backward(d, d))

    return _precision(make, *shapes, title=f"GaussianLatent.{node} in float32")


# --- what finite differences cannot see -------------------------------------------------------------


def _claims(title: str, *claims: tuple[str, float, float, float, str]) -> Report:
    """Rows of (claim, found, wanted, allowed difference, what is wrong if it fails)."""
    rows = []
    for claim, found, wanted, allowed, wrong in claims:
        good = abs(found - wanted) <= allowed
        rows.append(Row(claim, (1,), None, float(found), float(wanted), float(allowed), PASS if good else FAIL, "" if good else wrong))
    return Report(title, rows)


def _sample_statistics(seed: int) -> Report:
    """mean, std and independence of the sample; five standard errors of room, so one false alarm in a million seeds."""
    rng, latent, n = np.random.default_rng(seed), GaussianLatent(), 20_000
    mu, logvar = np.array([[0.7], [-1.1]]), np.array([[-1.0], [1.2]])
    z = latent.sample(mu, logvar, rng.standard_normal((n, 2, 1))).reshape(n, 2)
    std, room = np.exp(logvar[:, 0] / 2), 5 / np.sqrt(n)
    shared = "two examples of a batch got the same noise, or the rows are not k*B + n"
    wrong = "z has not the std exp(logvar / 2): was the variance used as std?"
    off = "z is not centred on mu, or its rows are not k*B + n"
    return _claims("the sample z",
                   *((f"mean of example {i}", z[:, i].mean(), mu[i, 0], room * std[i], off) for i in (0, 1)),
                   *((f"std of example {i}", z[:, i].std(), std[i], room * std[i], wrong) for i in (0, 1)),
                   ("correlation of examples", np.corrcoef(z.T)[0, 1], 0.0, room, shared),
                   ("correlation of samples", np.corrcoef(z[:-1, 0], z[1:, 0])[0, 1], 0.0, room, "two samples of one example got the same noise"))


def _kl_by_sampling(seed: int) -> Report:
    rng, latent, n = np.random.default_rng(seed), GaussianLatent(), 20_000
    mu, logvar = np.array([[0.7, -0.4]]), np.array([[-1.0, 0.8]])
    z = mu + np.exp(logvar / 2) * rng.standard_normal((n, 2))
    ratio = latent.log_q(z, mu, logvar) - latent.log_prior(z)
    kl = latent.kl(mu, logvar)[0]
    grid = np.linspace(-15, 15, 3001)[:, None]
    step = grid[1, 0] - grid[0, 0]
    log_q = latent.log_q(grid, np.array([[0.5]]), np.array([[-0.7]]))
    return _claims("the densities of the latent",
                   ("KL by sampling", ratio.mean(), kl, 5 * ratio.std() / np.sqrt(n), "the analytic KL is not E_q[log q - log p]"),
                   ("KL at the prior", latent.kl(np.zeros((1, 2)), np.zeros((1, 2)))[0], 0.0, 0.0, "KL(p || p) must be 0"),
                   ("integral of q", np.exp(log_q).sum() * step, 1.0, 1e-12, "q does not integrate to one"),
                   ("integral of the prior", np.exp(latent.log_prior(grid)).sum() * step, 1.0, 1e-12, "the prior does not integrate to one"))


def _likelihoods_normalised(seed: int) -> Report:
    rng = np.random.default_rng(seed)
    logits = np.tile(rng.standard_normal((1, 4)), (16, 1))
    images = ((np.arange(16)[:, None] >> np.arange(4)) & 1).astype(F8)
    grid = np.linspace(-15, 15, 3001)[:, None]
    step = grid[1, 0] - grid[0, 0]
    gaussian = np.exp(GaussianLikelihood(-0.6, F8).forward(np.full((len(grid), 1), 0.3), grid)).sum() * step
    chance = -BernoulliLikelihood().forward(np.zeros((1, 784)), rng.random((1, 784)))[0]
    far = BernoulliLikelihood().forward(np.array([[1e4, -1e4]]), np.array([[0.0, 1.0]]))[0]
    total = np.exp(BernoulliLikelihood().forward(logits, images)).sum()
    rows = BernoulliLikelihood().forward(np.array([[1.0], [2.0], [3.0], [4.0]]), np.array([[0.0], [1.0]]))
    return _claims("the likelihoods",
                   ("Bernoulli, all images", total, 1.0, 1e-14, "the probabilities do not sum to one"),
                   ("Gaussian, integral", gaussian, 1.0, 1e-12, "the density does not integrate to one"),
                   ("chance, 784 log 2", chance, 784 * np.log(2), 1e-10, "a uniform predictor costs D log 2: mean and sum mixed?"),
                   ("far-out logits", far, -2e4, 1e-8, "log p at logits of 1e4 must be exact: are probabilities clipped?"),
                   ("row 2 is image 0", rows[2], -np.log1p(np.exp(3.0)), 1e-14, "row k*B + n must be judged against x[n]"))


def _worked_by_hand(seed: int) -> Report:
    """Two pixels, one latent; the arithmetic stands in the README."""
    vae = VAE.mlp(2, [], 1, rng=0, dtype=F8)
    values = ([[0.5], [-1]], [0.5], [[np.log(2)], [1]], [np.log(2)], [[2, -2]], [0, 1])
    for (_, param, _), value in zip(vae.named_params(), values):
        param[...] = value
    r = vae.forward(np.array([[1.0, 0.0]]), np.array([[-0.25]]))
    vae.backward()
    grads = {name: g.ravel() for name, _, g in vae.named_params()}
    wrong = "not the number worked on paper"
    return _claims("a pass worked by hand",
                   ("recon", r.recon[0], 1.00640887, 1e-8, wrong), ("kl", r.kl[0], 1.30685282, 1e-8, wrong),
                   ("loss", r.loss, 2.31326169, 1e-8, wrong),
                   ("dmu", grads["to_mu.b"][0], -0.53788284, 1e-8, wrong), ("dlogvar", grads["to_logvar.b"][0], 1.88447071, 1e-8, wrong))


def _objective(seed: int) -> Report:
    """The loss is what its name says, whatever backward does."""
    rng = np.random.default_rng(seed)
    vae = VAE.mlp(D, [H], Z, rng=rng, dtype=F8, beta=1.7)
    x, eps = rng.random((B, D)), rng.standard_normal((K, B, Z))
    r = vae.forward(x, eps)
    one = [vae.forward(x[n : n + 1], eps[:, n : n + 1]).loss for n in range(B)]
    vae.estimator = estimators.elbo_mc
    sampled = vae.forward(x, eps)
    return _claims("the objective",
                   ("loss", r.loss, (r.recon + 1.7 * r.kl).mean(), 1e-13, "the loss is not mean(recon + beta * kl)"),
                   ("loss of a batch", r.loss, np.mean(one), 1e-12, "the loss of a batch is not the mean over its examples: mean and sum mixed?"),
                   ("elbo of the samples", sampled.elbo.mean(), sampled.logw.mean(), 1e-12, "the ELBO is not the mean log-weight"))


def _bound(seed: int) -> Report:
    """L_K is log mean w, between the ELBO and the largest log w."""
    rng = np.random.default_rng(seed)
    vae = VAE.mlp(D, [H], Z, rng=rng, dtype=F8, estimator=estimators.iwae)
    r = vae.forward(rng.random((B, D)), rng.standard_normal((K, B, Z)))
    by_definition = np.log(np.exp(r.logw).mean(axis=0)).mean()
    return _claims("the multi-sample bound", ("L_K", -r.loss, by_definition, 1e-12, "L_K is not log mean_k w_k: a sum for the mean?"))


def _estimators_unbiased(seed: int) -> Report:
    """Mean gradients over the noise, exactly: a Gauss-Hermite sum over two samples of one latent, in one backward pass.

    Every combination of nodes is an example, and the weights on the wires carry the quadrature's.  The
    model is a gentle one, so that 30 nodes are exact to 1e-8; a bias of an estimator is far larger.
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(30)
    eps = np.stack([g.ravel() for g in np.meshgrid(nodes, nodes)])[..., None]
    weight = np.outer(weights, weights).ravel() / weights.sum() ** 2
    rng = np.random.default_rng(seed)
    vae = VAE.mlp(3, [4], 1, rng=3, dtype=F8, activation="tanh")
    for _, p, _ in vae.named_params():
        p += 0.1 * rng.standard_normal(p.shape)
    vae.dec.layers[0].params["W"] *= 0.15

    def mean_gradient(name: str, beta: float) -> np.ndarray:
        def expectation(t):
            wires = estimators.ESTIMATORS[name](t)
            return estimators.Wires(*(w if wire == "path" else w * weight * weight.size for wire, w in zip(wires._fields, wires)))

        expectation.objective = estimators.ESTIMATORS[name].objective
        vae.estimator, vae.beta = expectation, beta
        vae.forward(np.tile([[1.0, 0.0, 1.0]], (weight.size, 1)), eps)
        vae.backward()
        return np.concatenate([g.ravel() for _, _, g in vae.named_params()])

    claims = []
    for reference, names, beta in (("elbo", ("elbo_mc", "stl", "score", "score_analytic_kl"), 1.7), ("iwae", ("dreg", "vimco"), 1.0)):
        right = mean_gradient(reference, beta)
        for name in names:
            off = np.abs(mean_gradient(name, beta) - right).max()
            claims.append((f"{name} has the mean of {reference}", off, 0.0, 1e-7, f"{name} is biased"))
    phi = slice(0, sum(p.size for n, p, _ in vae.named_params() if n.startswith(("enc", "to_mu", "to_logvar"))))
    off = mean_gradient("iwae_stl", 1.0)[phi] - mean_gradient("iwae", 1.0)[phi] - mean_gradient("rws", 1.0)[phi]
    claims.append(("iwae_stl is off by rws", np.abs(off).max(), 0.0, 1e-7, "iwae_stl's bias must be E sum w~ grad log q, which rws climbs"))
    return _claims("the mean of every estimator", *claims)


def _adam(seed: int) -> Report:
    """Both moments are freed of their zero start: steps 1 and 2 move by lr, whatever the gradient's size."""
    claims = []
    wrong = "a constant gradient must move a parameter by lr a step from the first step on: is the bias correction there?"
    for size in (1e-3, 1.0, 50.0):
        param = np.zeros(1)
        adam = Adam([("p", param, np.array([size]))], lr=0.01)
        for t in (1, 2):
            adam.step()
            claims.append((f"after step {t}, grad {size:g}", -param[0], 0.01 * t, 1e-6, wrong))
    rng, param, m, v = np.random.default_rng(seed), np.zeros(1), 0.0, 0.0
    grad = np.zeros(1)
    adam, by_hand = Adam([("p", param, grad)], lr=0.01), 0.0
    for t in (1, 2, 3, 4):                                 # algorithm 1 of Kingma & Ba, as printed
        grad[0] = g = rng.standard_normal()
        adam.step()
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        by_hand -= 0.01 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    claims.append(("after four other gradients", param[0], by_hand, 1e-12, "not algorithm 1 of Kingma & Ba: are the betas right?"))
    return _claims("Adam", *claims)


def _log_q_wires(seed: int) -> Report:
    """log q's two wires apart: z held while phi moves, phi held while z moves."""
    rng, latent = np.random.default_rng(seed), GaussianLatent()
    z, mu, logvar = rng.standard_normal((K * B, Z)), rng.standard_normal((B, Z)), rng.standard_normal((B, Z))
    along_z = Node(lambda z: latent.log_q(z, mu, logvar), lambda d: latent.log_q_backward(d, 0 * d)[0])
    along_phi = Node(lambda mu, logvar: latent.log_q(z, mu, logvar), lambda d: latent.log_q_backward(0 * d, d)[1:])
    rows = check_layer(along_z, z, rng=rng, mixes_rows=True).rows + check_layer(along_phi, mu, logvar, rng=rng).rows
    return Report("GaussianLatent.log_q, one wire at a time", rows)


CHECKS: dict[str, Callable[[int], Report]] = {
    "Dense": _layer(lambda rng: Dense(D, H, rng, F8)),
    "Dense.square": _layer(lambda rng: Dense(H, H, rng, F8), width=H),
    "ReLU": _layer(lambda rng: ReLU()),
    "Tanh": _layer(lambda rng: Tanh()),
    "Sigmoid": _layer(lambda rng: Sigmoid(), spread=2),
    "Softplus": _layer(lambda rng: Softplus(), spread=2),
    "Sequential": _layer(lambda rng: Sequential(Dense(D, H, rng, F8), Tanh(), Dense(H, H, rng, F8), Softplus())),
    "BernoulliLikelihood": _likelihood(BernoulliLikelihood, binary=True),
    "GaussianLikelihood.per_pixel": _likelihood(lambda: GaussianLikelihood("per_pixel", F8), binary=False),
    "GaussianLikelihood.shared": _likelihood(lambda: GaussianLikelihood("shared", F8), binary=False),
    "GaussianLikelihood.fixed": _likelihood(lambda: GaussianLikelihood(-1.3, F8), binary=False),
    "GaussianLatent.sample": _latent("sample", (B, Z), (B, Z), (K, B, Z)),
    "GaussianLatent.kl": _latent("kl", (B, Z), (B, Z)),
    "GaussianLatent.log_q": _latent("log_q", (K * B, Z), (B, Z), (B, Z)),
    "GaussianLatent.log_q, wires": _log_q_wires,
    "GaussianLatent.log_prior": _latent("log_prior", (K * B, Z)),
    "forward.sample": _sample_statistics,
    "forward.kl": _kl_by_sampling,
    "forward.likelihoods": _likelihoods_normalised,
    "forward.Adam": _adam,
    "float32.Dense": _precision(lambda rng, dtype: Dense(D, H, rng, dtype), (B, D)),
    "float32.ReLU": _precision(lambda rng, dtype: ReLU(), (B, D)),
    "float32.Tanh": _precision(lambda rng, dtype: Tanh(), (B, D)),
    "float32.Sigmoid": _precision(lambda rng, dtype: Sigmoid(), (B, D)),
    "float32.Softplus": _precision(lambda rng, dtype: Softplus(), (B, D)),
    "float32.BernoulliLikelihood": _precision(lambda rng, dtype: BernoulliLikelihood(), (B, D), (B, D)),
    "float32.GaussianLikelihood": _precision(lambda rng, dtype: GaussianLikelihood("per_pixel", dtype), (B, 2 * D), (B, D)),
    "float32.GaussianLatent.sample": _latent_precision("sample", (B, Z), (B, Z), (K, B, Z)),
    "float32.GaussianLatent.kl": _latent_precision("kl", (B, Z), (B, Z)),
    "float32.GaussianLatent.log_q": _latent_precision("log_q", (K * B, Z), (B, Z), (B, Z)),
    "float32.GaussianLatent.log_prior": _latent_precision("log_prior", (K * B, Z)),
    "VAE.elbo": _vae(1, hidden=(6, H)),
    "VAE.elbo, K=3": _vae(K),
    "VAE.elbo, relu": _vae(K, hidden=(6, H), activation="relu"),
    "VAE.elbo, gaussian": _vae(K, likelihood="gaussian", activation="softplus"),
    "VAE.recon alone": _vae(K, beta=0.0),
    "VAE.kl alone": _vae(K, estimator=kl_alone),
    "VAE.elbo_mc": _vae(1, estimator=estimators.elbo_mc),
    "VAE.elbo_mc, K=3": _vae(K, estimator=estimators.elbo_mc),
    **{f"VAE.{name}, K=3": _vae(K, hidden=(), estimator=estimator, beta=1.0)
       for name, estimator in estimators.ESTIMATORS.items() if name not in ("elbo", "elbo_mc")},
    "VAE.by hand": _worked_by_hand,
    "VAE.objective": _objective,
    "forward.bound": _bound,
    "forward.estimators": _estimators_unbiased,
    "VAE.784-400-20": _big,
}


def user_check(spec: str, seed: int) -> Report:
    """Check `module:name`: a layer class made as cls() or cls(n_in, n_out, rng, dtype), or a function returning (layer, *inputs)."""
    module_name, _, name = spec.partition(":")
    rng = np.random.default_rng(seed)
    try:
        thing = getattr(import_module(module_name), name)
        if isinstance(thing, type):
            taken = inspect.signature(thing)
            for arguments in ((), (D, H), (D, H, rng), (D, H, rng, F8)):
                try:
                    taken.bind(*arguments)
                except TypeError:
                    continue
                found = _shaken(thing(*arguments), rng), rng.standard_normal((B, D))
            layer, *inputs = found
        else:
            layer, *inputs = thing()
    except Exception as error:                             # whatever a module of somebody else's raises
        raise ValueError(f"{spec} gives no layer to check ({type(error).__name__}: {error}); name a class that is made as {name}() or "
                         f"{name}(n_in, n_out, rng, dtype), or a function that returns (layer, *inputs)") from None
    try:
        return check_layer(layer, *inputs, rng=rng, title=spec)
    except Exception as error:
        raise ValueError(f"{spec} cannot be checked, {type(error).__name__} in forward or backward: {error}") from error
