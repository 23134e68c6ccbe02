# %% [markdown]
# # What if the latent is discrete?
#
#     sum over h of log P(x|h) grad Q(h|x)
#
# A coin has no slope: dz/da = 0, so no gradient can walk from the decoder to the encoder, and the path of
# reparameterisation is gone.  What is left is the sum above (h in NVIL's paper; here z).  With four coins it has 16
# terms, and can be done exactly: every estimator below is held to it, bias and spread, by enumerating what it may see.

# %%
import sys
from itertools import product
from pathlib import Path

import numpy as np

from minivae import DiscreteVAE, estimators, fit, load_data
from minivae.baselines import NVIL, RunningMean, none
from minivae.discrete import BernoulliLatent, ConcreteLatent, StraightThroughLatent, sigmoid

out = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/demo-06")
epochs = int(sys.argv[2]) if len(sys.argv) > 2 else 80
COINS, IMAGES, DRAWS = 4, 20, 4000
data = load_data("digits")
X = (data.x_train > 0.5).astype(float)

# %% [markdown]
# ## 1. One gradient, nine answers
#
# A small model, half trained.  Each estimator gets two z for each image (two evaluations of the decoder), the KL is on
# paper and left out (beta = 0): what is compared is the reconstruction's gradient with respect to the logits a.

# %%
vae = DiscreteVAE.mlp(64, [32], COINS, estimator=estimators.disarm, activation="tanh", rng=0, dtype=np.float64)
fit(vae, X, epochs=8, batch_size=32, lr=5e-3, samples=2, rng=0)
vae.beta = 0.0
caught = []
to_a_backward = vae.to_a.backward


def catch(da):
    """da has one row for each row of the batch: look at it before to_a sums over them."""
    caught.append(da.copy())
    return to_a_backward(da)


vae.to_a.backward = catch


def gradients(x, u, estimator, latent, baseline):
    """Minus d loss/da for the one image x, for each of N noises u (2, N, Z) : (N, Z)."""
    vae.estimator, vae.latent, vae.baseline = estimator, latent, baseline
    vae.forward(np.repeat(x, u.shape[1], axis=0), u)
    vae.backward()
    return -caught.pop() * u.shape[1]


def two_coins_rows(theta):
    """All 256 outcomes of two rows of four coins: a noise that gives each, and its probability."""
    z = np.array(list(product([0, 1], repeat=2 * COINS))).reshape(-1, 2, COINS).swapaxes(0, 1)
    return np.where(z == 1, 1 - theta / 2, (1 - theta) / 2), np.where(z == 1, theta, 1 - theta).prod(axis=(0, 2))


def antithetic_pairs(theta):
    """All 81 outcomes of u and 1 - u: between the edges 0, theta, 1 - theta, 1 nothing changes."""
    edges = np.sort([0 * theta, theta, 1 - theta, 0 * theta + 1], axis=0)
    piece = np.array(list(product(range(3), repeat=COINS)))
    u = ((edges[1:] + edges[:-1]) / 2)[piece, np.arange(COINS)]
    return np.stack([u, 1 - u]), np.diff(edges, axis=0)[piece, np.arange(COINS)].prod(axis=1)


def truth(x):
    """sum over z of log P(x|z) dQ(z)/da : (Z,), term by term, and the terms."""
    z = np.array(list(product([0.0, 1.0], repeat=COINS)))
    a = vae.encode(x)[0]
    p = vae.decode(z)
    log_P = (np.log(p) @ x[0]) + np.log1p(-p) @ (1 - x[0])
    Q = np.where(z == 1, sigmoid(a), sigmoid(-a)).prod(axis=1)
    grad_Q = Q[:, None] * (z - sigmoid(a))                 # dQ/da = Q dlog Q/da
    return log_P @ grad_Q, log_P, Q, grad_Q


rng = np.random.default_rng(1)
running, nvil = RunningMean(0.9), NVIL(64, lr=1e-2, rng=0, dtype=np.float64)
for baseline in (running, nvil):                           # each learns on the frozen model, one batch after another
    vae.estimator, vae.latent, vae.baseline = estimators.score, BernoulliLatent(), baseline
    for _ in range(1500):
        vae.forward(X[rng.integers(len(X), size=32)], rng.random((2, 32, COINS)))
        baseline.update()
nvil_divisor = max(1.0, np.sqrt(nvil.v))
nvil.v = 0.0                                               # its division is a scale, the same for all: taken out here

score, coin = estimators.score_analytic_kl, BernoulliLatent()
METHODS = {
    "REINFORCE": (score, coin, none), "running mean": (score, coin, running), "NVIL": (estimators.score, coin, nvil),
    "leave-one-out": (score, coin, estimators.others), "DisARM": (estimators.disarm, coin, estimators.others),
    "Concrete, T = 1": (estimators.elbo, ConcreteLatent(1.0), estimators.others),
    "Concrete, T = 0.5": (estimators.elbo, ConcreteLatent(0.5), estimators.others),
    "Concrete, T = 0.1": (estimators.elbo, ConcreteLatent(0.1), estimators.others),
    "straight-through": (estimators.elbo, StraightThroughLatent(), estimators.others),
}
x_images = (data.x_test[:IMAGES] > 0.5).astype(float)
bias, spread, size, one_coin = dict.fromkeys(METHODS, 0.0), dict.fromkeys(METHODS, 0.0), 0.0, {}
means = {name: [] for name in METHODS}
truths = []
for n in range(IMAGES):
    x = x_images[n : n + 1]
    exact = truth(x)[0]
    truths.append(exact)
    size += (exact**2).sum() / IMAGES
    theta = sigmoid(vae.encode(x)[0])
    drawn = rng.random((2, DRAWS, COINS)), np.full(DRAWS, 1 / DRAWS)       # Concrete's z is a continuum: drawn, not enumerated
    for name, (estimator, latent, baseline) in METHODS.items():
        u, weights = antithetic_pairs(theta) if name == "DisARM" else two_coins_rows(theta) if not name.startswith("Concrete") else drawn
        g = gradients(x, u, estimator, latent, baseline)
        mean = weights @ g
        means[name].append(mean)
        variance = (weights @ (g - mean) ** 2).sum()
        noise = variance / DRAWS if name.startswith("Concrete") else 0.0   # what the mean of the draws still has of it
        bias[name] += (((mean - exact) ** 2).sum() - noise) / IMAGES
        spread[name] += variance / IMAGES
        if n == 0:
            one_coin[name] = g, weights
size = np.sqrt(size)
bias = {name: np.sqrt(max(b, 0.0)) / size for name, b in bias.items()}
spread = {name: np.sqrt(v) / size for name, v in spread.items()}
exact, log_P, Q, grad_Q = truth(x_images[:1])
j = int(np.abs(exact).argmax())
likeliest = np.argsort(-Q)[:4]
print(f"""1. A VAE with {COINS} coins, 8x8 digits.  The first test image, coin {j}: a = {vae.encode(x_images[:1])[0, j]:.3f}

   z (likeliest first)     Q(z|x)    log P(x|z)    dQ/da_{j}    log P dQ/da_{j}""")
for i in likeliest:
    coins = " ".join(str(i >> b & 1) for b in reversed(range(COINS)))
    print(f"   {coins:20s} {Q[i]:9.4f} {log_P[i]:12.3f} {grad_Q[i, j]:11.4f} {log_P[i] * grad_Q[i, j]:13.4f}")
print(f"""   and {len(Q) - 4} more; the sum over all is the gradient                    {exact[j]:9.4f}
   P stands still while Q moves: z is summed over, so there is nothing in it that could depend on the encoder.
   The dQ add up to {abs(grad_Q[:, j].sum()):.0e}: what all log P have in common, {Q @ log_P:.1f} nats, cancels in the sum, not in a few samples.

   mean over {IMAGES} images of the gradient with respect to the {COINS} logits, two evaluations each; size of the gradient = 1
                          bias      spread of one estimate""")
for name in METHODS:
    print(f"   {name:18s} {bias[name]:8.4f}     {spread[name]:8.3f}{f'   (its division by {nvil_divisor:.2f} undone)' if name == 'NVIL' else ''}")
unbiased = ("REINFORCE", "running mean", "NVIL", "leave-one-out", "DisARM")
worst = max(np.abs(np.array(means[name]) - truths).max() for name in unbiased)
print(f"   The first five have the enumerated sum as their mean, in all {IMAGES * COINS} numbers to {worst:.0e}; they differ in spread only.")

# %% [markdown]
# ## 2. The price of a temperature
#
# One coin and f(z) = (z - t)^2, by quadrature in y = (a + logit(u)) / T.  The closed forms are the leading terms for small T.

# %%
t_f, a1 = 0.45, 0.8
theta1 = sigmoid(a1)
y = np.linspace(-40, 40, 20_001)
temperatures = np.geomspace(0.02, 2, 25)
concrete = []
for T in temperatures:
    z = sigmoid(y)
    density = T * sigmoid(T * y - a1) * sigmoid(a1 - T * y) * (y[1] - y[0])
    g = 2 * (z - t_f) * z * (1 - z) / T
    concrete.append([density @ g - theta1 * (1 - theta1) * (1 - 2 * t_f), density @ g**2 - (density @ g) ** 2])
concrete = np.array(concrete)
bias_rate = -theta1 * (1 - theta1) * (1 - 2 * theta1)
variance_rate = theta1 * (1 - theta1) * 4 * (1 / 20 - t_f / 6 + t_f**2 / 6)
st_bias = theta1 * (1 - theta1) * (2 * theta1 - 1)
print(f"""
2. Concrete on one coin, sigmoid(a) = {theta1:.3f}, f = (z - {t_f})^2: the truth is {theta1 * (1 - theta1) * (1 - 2 * t_f):.4f}

   temperature       bias    bias / T     variance    T * variance""")
for T in (0, 8, 16, 24):
    b, v = concrete[T]
    print(f"   {temperatures[T]:11.3f}   {b:8.5f}    {b / temperatures[T]:8.4f}     {v:8.4f}        {v * temperatures[T]:8.4f}")
print(f"""   to 0: bias / T -> {bias_rate:.4f} and T * variance -> {variance_rate:.4f}, in closed form
   Soft coins are biased, hard ones are noisy.  Straight-through is off by {st_bias:.4f}, here the same slope with T = 1, and has nothing to turn.""")

# %% [markdown]
# ## 3. What it does to training
#
# Digits again, 16 coins, 64-200-16-200-64, two z for each image, Adam 2e-3: only the estimator differs.  Judged on coins.

# %%
RUNS = {"REINFORCE": (estimators.score_analytic_kl, None, "none"), "running mean": (estimators.score_analytic_kl, None, "running-mean"),
        "NVIL": (estimators.score, None, "nvil"), "leave-one-out": (estimators.score_analytic_kl, None, "others"),
        "DisARM": (estimators.disarm, None, "others"), "Concrete, T = 0.5": (estimators.elbo, ConcreteLatent(0.5), "others"),
        "straight-through": (estimators.elbo, StraightThroughLatent(), "others")}
curves, soft_elbo = {}, None
for name, (estimator, latent, baseline) in RUNS.items():
    trained = DiscreteVAE.mlp(64, [200], 16, estimator=estimator, latent=latent, baseline=baseline, rng=0)
    history = fit(trained, data.x_train, X_test=data.x_test, epochs=epochs, batch_size=32, lr=2e-3, samples=2, rng=0)
    curves[name] = np.array([row["test_elbo"] for row in history])
    if latent is not None and name.startswith("Concrete"):
        binary = (rng.random(data.x_test.shape) < data.x_test).astype(np.float32)
        soft_elbo = trained.forward(binary, trained.noise(10, len(binary), rng)).elbo.mean()       # of its own soft z, on the same test images
last = {name: curve[-5:].mean() for name, curve in curves.items()}
print(f"""
3. Test ELBO in nats per image after {epochs} epochs (mean of the last {min(5, epochs)})
""" + "\n".join(f"   {name:18s} {value:8.2f}" for name, value in sorted(last.items(), key=lambda pair: -pair[1])))

# %% [markdown]
# ## The picture

# %%
from minivae.app import plots  # noqa: E402  (matplotlib, only now that it is wanted)
from minivae.app.plots import BLUE, GREY, ORANGE, plt  # noqa: E402

DARK, GREEN = "#2d3748", "#2f855a"
COLOR = {"REINFORCE": GREY, "running mean": "#b7791f", "NVIL": ORANGE, "leave-one-out": "#4299e1", "DisARM": BLUE,
         "Concrete, T = 0.5": GREEN, "straight-through": "#9b2c2c"}
out.mkdir(parents=True, exist_ok=True)
with plt.rc_context(plots.STYLE):
    figure, ((bars, training), (outcomes, price)) = plt.subplots(2, 2, figsize=(11.5, 8.6), layout="constrained")

    # bias and spread
    place = np.arange(len(METHODS))[::-1]
    bars.barh(place + 0.2, list(spread.values()), 0.38, color=BLUE, label="spread of one estimate")
    bars.barh(place - 0.2, list(bias.values()), 0.38, color=ORANGE, label="bias")
    bars.set(xscale="log", xlim=(0.04, 80))
    for at, name in zip(place, METHODS):
        bars.text(1.08 * spread[name], at + 0.2, f"{spread[name]:.2f}", va="center", fontsize=8.5, color=DARK)
        bars.text(*((0.044, at - 0.2, "0") if name in unbiased else (1.08 * bias[name], at - 0.2, f"{bias[name]:.2f}")), va="center", fontsize=8.5,
                  color=DARK)
    bars.set_yticks(place, list(METHODS))
    bars.set(title="Five are right on average, the others are off", xlabel="size of the true gradient = 1")
    bars.legend(loc="lower right", fontsize=9)

    # training
    for name, curve in curves.items():
        training.plot(np.arange(1, epochs + 1), curve, color=COLOR[name], lw=1.6, label=name,
                      ls="--" if name.startswith(("Concrete", "straight")) else "-")
    training.set(title="Training on digits, 16 coins", xlabel="epoch", ylabel="test ELBO, nats per image",
                 ylim=(max(min(c.min() for c in curves.values()), max(last.values()) - 5.5), None))
    training.legend(loc="lower right", fontsize=9, ncols=2)

    # what one estimate may say
    shown = ["REINFORCE", "NVIL", "leave-one-out", "DisARM", "Concrete, T = 0.5", "straight-through"]
    reach = 1.05 * max(np.abs(one_coin[name][0][:, j]).max() for name in shown[1:])
    bins = np.linspace(-reach, reach, 81)
    for row, name in enumerate(reversed(shown)):
        g, weights = one_coin[name]
        if name == "REINFORCE":
            outcomes.text(0, row + 0.35, f"far off the scale, from {g[:, j].min():.0f} to {g[:, j].max():.0f}", ha="center", va="center", fontsize=9,
                          color=DARK)
            continue
        height, _ = np.histogram(g[:, j], bins, weights=weights)
        outcomes.bar((bins[1:] + bins[:-1]) / 2, 0.85 * height / height.max(), bins[1] - bins[0], bottom=row, color=COLOR[name])
        outcomes.plot([weights @ g[:, j]] * 2, [row, row + 0.9], color=DARK, lw=1.4)
    outcomes.plot([exact[j]] * 2, [0, len(shown) - 1], color=DARK, lw=0.9, ls=":")
    outcomes.set_yticks(np.arange(len(shown)) + 0.35, reversed(shown))
    outcomes.tick_params(axis="y", length=0)
    outcomes.set(title=f"What one estimate of d/da_{j} may say (first test image)", xlim=(-reach, reach), ylim=(0, len(shown)),
                 xlabel="dark: its mean; dotted: the sum over z of log P grad Q")
    outcomes.spines["left"].set_visible(False)

    # the temperature
    price.loglog(temperatures, concrete[:, 1], "o", ms=4, color=BLUE, label="variance")
    price.loglog(temperatures, variance_rate / temperatures, color=BLUE, lw=1, label="its closed form, 1 / T")
    price.loglog(temperatures, np.abs(concrete[:, 0]), "o", ms=4, color=ORANGE, label="|bias|")
    price.loglog(temperatures, np.abs(bias_rate) * temperatures, color=ORANGE, lw=1, label="its closed form, T")
    price.axhline(st_bias, color=COLOR["straight-through"], lw=1, ls="--", label="|bias| of straight-through")
    price.set(title="The price of a temperature: less bias, more variance", xlabel="temperature T", ylabel=f"one coin, f = (z - {t_f})^2")
    price.legend(fontsize=9)
    figure.savefig(out / "discrete_latents.png")
    plt.close(figure)

# %% [markdown]
# ## The answer

# %%
best, soft, st = max(last, key=last.get), "Concrete, T = 0.5", "straight-through"
wide = {name: f"{value:.1f}" for name, value in spread.items()}
print(f"""
What if the latent is discrete?
- The path is gone: a coin's z does not move with a, and backprop ends at the decoder.  What remains is the sum over z of
  log P grad Q, with P held still: here {exact[j]:.4f} for one logit, by enumeration.  REINFORCE, NVIL, leave-one-out and DisARM
  all have that sum as their mean, to {worst:.0e}.
- They differ in noise.  REINFORCE spreads {wide['REINFORCE']} times the size of the gradient; a running mean brings it to
  {wide['running mean']}, NVIL's C(x) to {wide['NVIL']}, leave-one-out to {wide['leave-one-out']}, DisARM to {wide['DisARM']}.  \
A baseline takes off what all log P have in common.
- Concrete puts a path back by making the coin soft: spread {wide[soft]} and bias {bias[soft]:.2f} at T = 0.5.  Towards T = 0
  the bias goes and the variance grows as 1 / T.  Straight-through pretends: spread {wide[st]}, bias {bias[st]:.2f}, and
  there is nothing that makes it smaller.
- After {epochs} epochs on digits the test ELBO is {last[best]:.2f} with {best}, {last['REINFORCE']:.2f} with REINFORCE, one seed each.
  For Concrete it is {last[soft]:.2f} on coins, and {soft_elbo:.2f} on the soft ones it was trained with, which are no bound on
  this model's log p(x): judge a relaxed model on what it is meant to be.
wrote {out / 'discrete_latents.png'}""")
