"""Every check that `minivae gradcheck` runs on the package itself, by name.

Two kinds.  Gradient checks hold each backward to its forward by finite differences.  Checks of the
forward pass see what those cannot: a gradient check says that backward matches forward, not that
forward is right.  Each takes a seed and returns a Report.
"""

import inspect
from collections.abc import Callable
from importlib import import_module

import numpy as np

from minivae import baselines, estimators
from minivae.discrete import BernoulliLatent, ConcreteLatent, DiscreteVAE, StraightThroughLatent
from minivae.estimators import sigmoid
from minivae.gradcheck import FAIL, PASS, Node, Report, Row, check_layer, check_model, check_precision
from minivae.latents import GaussianLatent
from minivae.kernels import FEW_ROWS
from minivae.layers import Dense, ReLU, Sequential, Sigmoid, Softplus, Tanh
from minivae.likelihoods import BernoulliLikelihood, GaussianLikelihood
from minivae.optim import Adam
from minivae.vae import VAE

F8 = np.float64
K, B, D, H, Z = 3, 5, 7, 4, 2            # all different, so that a mix-up of sizes cannot hide


def _shaken(node, rng):
    """Move every parameter off its starting point: no zero biases, no zero log-variance."""
    for p in node.params.values():
        p += 0.3 * rng.standard_normal(p.shape)
    return node


def _layer(make: Callable, width: int = D, spread: float = 1.0, rows: int = B) -> Callable[[int], Report]:
    def check(seed: int) -> Report:
        rng = np.random.default_rng(seed)
        layer = _shaken(make(rng), rng)
        return check_layer(layer, spread * rng.standard_normal((rows, width)), rng=rng)

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


estimators.estimator(lambda t: (-t.beta * t.kl, t.kl))(kl_alone)


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

        estimators.estimator(estimators.ESTIMATORS[name].objective)(expectation)
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


# --- discrete latents, and baselines with a memory ---------------------------------------------------


def _coin_node(name: str, latent: BernoulliLatent, z: np.ndarray, u: np.ndarray) -> Node:
    """One node as a function of a alone: what else it takes is data."""
    forward = {"kl": latent.kl, "log_q": lambda a: latent.log_q(z.astype(a.dtype), a), "sample": lambda a: latent.sample(a, u)}
    return Node(forward[name], getattr(latent, f"{name}_backward"))


def _coin_data(seed: int, samples: int = 1):
    rng = np.random.default_rng(seed)
    z, u = (rng.random((samples * B, Z)) < 0.5).astype(F8), rng.random((samples, B, Z))
    return rng, z, u, 2 * rng.standard_normal((B, Z))


def _coin(name: str) -> Callable[[int], Report]:
    def check(seed: int) -> Report:
        rng, z, u, a = _coin_data(seed, K)
        latent = ConcreteLatent(0.7) if name == "sample" else BernoulliLatent()
        return check_layer(_coin_node(name, latent, z, u), a, rng=rng, mixes_rows=True, title=f"{type(latent).__name__}.{name}")

    return check


def _coin_precision(name: str) -> Callable[[int], Report]:
    def check(seed: int) -> Report:
        rng, z, u, a = _coin_data(seed, K)
        latents = [ConcreteLatent(0.7) if name == "sample" else BernoulliLatent() for _ in range(2)]
        wide, narrow = (_coin_node(name, latent, z, u.astype(np.float32)) for latent in latents)
        return check_precision(wide, narrow, a, rng=rng, title=f"{type(latents[0]).__name__}.{name} in float32")

    return check


def _discrete(samples: int, hidden: tuple[int, ...] = (), **settings) -> Callable[[int], Report]:
    def check(seed: int) -> Report:
        rng = np.random.default_rng(seed)
        vae = DiscreteVAE.mlp(D, hidden, Z, rng=rng, dtype=F8, **{"beta": 1.7, "activation": "tanh", **settings})
        for _, p, _ in vae.named_params():
            p += 0.3 * rng.standard_normal(p.shape)
        title = f"DiscreteVAE, {vae.estimator.__name__}, {vae.latent.name}"
        return check_model(vae, rng.random((B, D)), vae.noise(samples, B, rng), rng=rng, title=title)

    return check


def _all_coins(n: int) -> np.ndarray:
    """Every row of n zeros and ones : (2^n, n)."""
    return ((np.arange(2**n)[:, None] >> np.arange(n)) & 1).astype(F8)


def _coins(seed: int) -> Report:
    """The coins' law by enumeration, and the sampling node by where its step is."""
    rng, coin, soft = np.random.default_rng(seed), BernoulliLatent(), ConcreteLatent(0.3)
    a, z = rng.standard_normal((1, 3)), _all_coins(3)
    log_q, log_p = coin.log_q(z, a), coin.log_prior(z)
    u = ((np.arange(10_000) + 0.5) / 10_000).reshape(-1, 1, 1) * np.ones((1, 1, 3))          # evenly spread noise
    found, faces = coin.sample(a, u), soft.sample(a, u) > 0.5
    far = coin.kl(np.array([[800.0, -800.0, 0.0]]))[0]
    wrong = "a coin must show 1 with probability sigmoid(a)"
    return _claims("coins",
                   ("sum of q", np.exp(log_q).sum(), 1.0, 1e-14, "q does not sum to one"),
                   ("sum of the prior", np.exp(log_p).sum(), 1.0, 1e-14, "the prior does not sum to one"),
                   ("KL by enumeration", coin.kl(a)[0], (np.exp(log_q) * (log_q - log_p)).sum(), 1e-13,
                    "the analytic KL is not E_q[log q - log p]: another prior than fair coins?"),
                   ("KL far out", far, 2 * np.log(2), 1e-13, "a certain coin costs log 2: are probabilities clipped?"),
                   *((f"mean of z_{j}", found[:, j].mean(), sigmoid(a)[0, j], 1e-4, wrong) for j in range(3)),
                   ("soft and hard coins", np.abs(faces - found).max(), 0.0, 0.0, "Concrete's z lies on the other side of 1/2 from the coin's"))


def _discrete_unbiased(seed: int) -> Report:
    """Mean gradients by enumeration: every outcome of K samples of two coins is an example, weighted by its probability."""
    rng = np.random.default_rng(seed)
    vae = DiscreteVAE.mlp(3, [4], 2, rng=rng, dtype=F8, activation="tanh")
    for _, p, _ in vae.named_params():
        p += 0.3 * rng.standard_normal(p.shape)
    x = np.array([[1.0, 0.0, 1.0]])
    q1 = sigmoid(vae.encode(x)[0])

    def mean_gradient(estimator, u: np.ndarray, weight: np.ndarray) -> np.ndarray:
        def expectation(t):
            factor, wires = weight * len(weight), estimator(t)._asdict()
            return estimators.Wires(**{wire: w * (factor[:, None] if w.ndim == 3 else factor) if wire != "path" else w for wire, w in wires.items()})

        estimators.estimator(estimator.objective)(expectation)
        vae.estimator = expectation
        vae.forward(np.tile(x, (len(weight), 1)), u)
        vae.backward()
        return np.concatenate([g.ravel() for _, _, g in vae.named_params()])

    z = _all_coins(4).reshape(-1, 2, 2).swapaxes(0, 1)                                     # (K, 16, Z), K = 2
    weight = np.where(z == 1, q1, 1 - q1).prod(axis=(0, 2))
    u = np.where(z == 1, 1 - q1 / 2, (1 - q1) / 2)                                         # in the middle of what gives z
    edges = np.sort([np.zeros(2), q1, 1 - q1, np.ones(2)], axis=0)                         # between them the pair's outcome is one
    middle, width = (edges[1:] + edges[:-1]) / 2, np.diff(edges, axis=0)
    i, j = (g.ravel() for g in np.mgrid[:3, :3])
    first, pair_weight = np.stack([middle[i, 0], middle[j, 1]], axis=1), width[i, 0] * width[j, 1]
    pair = np.stack([first, 1 - first])

    vae.beta, claims, e = 1.7, [], estimators.ESTIMATORS
    right = mean_gradient(e["score_analytic_kl"], u, weight)
    for name, noise, w in (("score", u, weight), ("disarm", pair, pair_weight)):
        off = np.abs(mean_gradient(e[name], noise, w) - right).max()
        claims.append((f"{name} has the mean of score_analytic_kl", off, 0.0, 1e-12, f"{name} is biased"))

    def whole(t):                                                                          # d sum q f = sum q f grad log q, no baseline
        f, K, B = t.log_px, *t.log_px.shape
        return e["score_analytic_kl"](t)._replace(score=f / (K * B))

    def whole_bound(t):                                                                    # grad L_K = E sum_k (L - w~_k) grad log q_k
        logw = estimators.log_weights(t)
        return e["vimco"](t)._replace(score=(estimators.log_mean_exp(logw) - estimators.normalised(logw)) / logw.shape[1])

    whole.objective, whole_bound.objective = e["score"].objective, e["vimco"].objective
    off = np.abs(mean_gradient(whole, u, weight) - right).max()
    claims.append(("score_analytic_kl has the enumerated gradient", off, 0.0, 1e-12, "the baseline depends on its own sample"))
    vae.beta = 1.0
    off = np.abs(mean_gradient(e["vimco"], u, weight) - mean_gradient(whole_bound, u, weight)).max()
    claims.append(("vimco has the enumerated gradient", off, 0.0, 1e-12, "vimco is biased"))

    vae.estimator, refused = e["disarm"], 0.0
    try:
        vae.forward(np.tile(x, (16, 1)), u)
    except ValueError:
        refused = 1.0
    claims.append(("disarm refuses independent noise", refused, 1.0, 0.0, "disarm with u and another u is biased, and took them"))
    drawn = vae.noise(2, 5, rng)
    claims.append(("disarm draws u and 1 - u", np.abs(drawn.sum(axis=0) - 1).max(), 0.0, 1e-15, "the noises of the pair do not add up to 1"))
    return _claims("the mean of every discrete estimator", *claims)


def _baselines(seed: int) -> Report:
    """A baseline with a memory uses past steps only, and the numbers are those of its formula."""
    rng = np.random.default_rng(seed)
    x, steps = rng.random((B, D)), [rng.standard_normal((K, B)) - 5 for _ in range(4)]
    running, nvil = baselines.RunningMean(0.9), baselines.NVIL(D, hidden=4, decay=0.8, lr=1e-9, rng=rng, dtype=F8)
    C = nvil.value(x)                                      # C hardly learns at this lr: what moves is c and v
    mean = c = v = 0.0
    off, off_nvil = [], []
    for t, f in enumerate(steps):
        off.append(np.abs(running(f, x) - (f - (mean / (1 - 0.9**t) if t else 0.0))).max())
        off_nvil.append(np.abs(nvil(f, x) - (f - C - c) / max(1.0, np.sqrt(v))).max())
        running.update(), nvil.update()
        mean, c, v = 0.9 * mean + 0.1 * f.mean(), 0.8 * c + 0.2 * (f - C).mean(), 0.8 * v + 0.2 * (f - C).var()
    wild = baselines.NVIL(D, hidden=4, rng=rng, dtype=F8)
    wild.v = 25.0
    scaled = np.abs(wild(steps[0], x) - (steps[0] - wild.value(x)) / 5).max()
    return _claims("baselines with a memory",
                   ("running mean of past steps", max(off), 0.0, 1e-13, "not the mean of past steps: does it hold the present one?"),
                   ("NVIL of past steps", max(off_nvil), 0.0, 1e-6, "not (f - C(x) - c) / max(1, sqrt(v)) of past steps"),
                   ("NVIL at v = 25", scaled, 0.0, 1e-13, "not divided by max(1, sqrt(v)): is v taken for the standard deviation, or left out?"))


def _nvil(seed: int) -> Report:
    """C's gradient: its cost as a function of its weights."""
    rng = np.random.default_rng(seed)
    nvil = baselines.NVIL(D, hidden=H, rng=rng, dtype=F8)
    nvil.c, f = 0.4, rng.standard_normal((K, B))
    _shaken(nvil.net, rng)

    class Cost:
        params, grads = nvil.net.params, nvil.net.grads

        def forward(self, x):
            self.residual = f - nvil.value(x)
            return np.array([[(self.residual**2).mean() / 2]])

        def backward(self, dcost):
            return nvil.net.backward(dcost * nvil.backward(self.residual))

    return check_layer(Cost(), rng.random((B, D)), rng=rng, mixes_rows=True, title="NVIL, the cost of C")


CHECKS: dict[str, Callable[[int], Report]] = {
    "Dense": _layer(lambda rng: Dense(D, H, rng, F8)),
    "Dense.square": _layer(lambda rng: Dense(H, H, rng, F8), width=H),
    "Dense.many_rows": _layer(lambda rng: Dense(2, 1, rng, F8), width=2, rows=FEW_ROWS + 1),
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
    "BernoulliLatent.kl": _coin("kl"),
    "BernoulliLatent.log_q": _coin("log_q"),
    "ConcreteLatent.sample": _coin("sample"),
    "NVIL": _nvil,
    "forward.sample": _sample_statistics,
    "forward.kl": _kl_by_sampling,
    "forward.likelihoods": _likelihoods_normalised,
    "forward.Adam": _adam,
    "forward.coins": _coins,
    "forward.baselines": _baselines,
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
    "float32.BernoulliLatent.kl": _coin_precision("kl"),
    "float32.BernoulliLatent.log_q": _coin_precision("log_q"),
    "float32.ConcreteLatent.sample": _coin_precision("sample"),
    "VAE.elbo": _vae(1, hidden=(6, H)),
    "VAE.elbo, K=3": _vae(K),
    "VAE.elbo, relu": _vae(K, hidden=(6, H), activation="relu"),
    "VAE.elbo, gaussian": _vae(K, likelihood="gaussian", activation="softplus"),
    "VAE.recon alone": _vae(K, beta=0.0),
    "VAE.kl alone": _vae(K, estimator=kl_alone),
    "VAE.elbo_mc": _vae(1, estimator=estimators.elbo_mc),
    "VAE.elbo_mc, K=3": _vae(K, estimator=estimators.elbo_mc),
    **{f"VAE.{name}, K=3": _vae(K, hidden=(), estimator=estimator, beta=1.0)
       for name, estimator in estimators.ESTIMATORS.items() if name not in ("elbo", "elbo_mc", "disarm")},
    "VAE.by hand": _worked_by_hand,
    "VAE.objective": _objective,
    "forward.bound": _bound,
    "forward.estimators": _estimators_unbiased,
    "DiscreteVAE.elbo, concrete": _discrete(K, hidden=(H,), latent=ConcreteLatent(0.7)),
    "DiscreteVAE.elbo, straight-through": _discrete(K, latent=StraightThroughLatent()),
    **{f"DiscreteVAE.{name}": _discrete(2, estimator=estimators.ESTIMATORS[name], beta=beta)
       for name, beta in (("score", 1.7), ("score_analytic_kl", 1.7), ("disarm", 1.7), ("rws", 1.0), ("vimco", 1.0))},
    "forward.discrete estimators": _discrete_unbiased,
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
