# %% [markdown]
# # What if the latent is discrete?
#
#     sum over h of log P(x|h) grad Q(h|x)
#
# A coin has no slope: dz/da = 0, so no gradient can walk from the decoder to the encoder, and the
# path of reparameterisation is gone.  What is left is the sum above (h in NVIL's paper; here z).
# With four coins it has 16 terms and can be done exactly.  Every estimator below is compared with
# it, in bias and spread, by going through all outcomes of its noise.

# %%
from itertools import product
from pathlib import Path

import numpy as np
import pictures

from minivae import DiscreteVAE, fit, load_data
from minivae.baselines import NVIL, Baseline, Others, RunningMean
from minivae.discrete import BernoulliLatent, ConcreteLatent, StraightThroughLatent
from minivae.estimators import disarm, elbo, score, score_analytic_kl
from minivae.gradcheck.exact_means import all_coins, all_pairs
from minivae.layers import sigmoid

# after the script's name: a folder for the picture, and the number of epochs
out, epochs = pictures.arguments(Path("runs/demo-06"), 80)
COINS, IMAGES, DRAWS = 4, 20, 4000
data = load_data("digits")
X = (data.x_train > 0.5).astype(float)

# %% [markdown]
# ## 1. One gradient, nine answers
#
# A small model, half trained.  Each estimator gets two z for each image (two evaluations of the
# decoder).  The KL is analytic and left out (beta = 0): what is compared is the reconstruction's
# gradient with respect to the logits a.

# %%
vae = DiscreteVAE.mlp(64, [32], COINS, estimator=disarm, activation="tanh", rng=0,
                      dtype=np.float64)
fit(vae, X, epochs=8, batch_size=32, lr=5e-3, samples=2, rng=0)
vae.beta = 0.0
caught = []
to_a_backward = vae.to_a.backward


def catch(da):
    """Keep da, which has a row for each row of the batch: to_a sums over them."""
    caught.append(da.copy())
    return to_a_backward(da)


vae.to_a.backward = catch


def gradients(x, u, estimator, latent, baseline):
    """Minus d loss/da for the one image x, for each of N noises u (2, N, Z) : (N, Z)."""
    vae.estimator, vae.latent, vae.baseline = estimator, latent, baseline
    vae.forward(np.repeat(x, u.shape[1], axis=0), u)
    vae.backward()
    return -caught.pop() * u.shape[1]


def enumerate_z(x):
    """log P(x|z) : (16,), Q(z|x) : (16,) and dQ/da : (16, Z), for every z."""
    z = np.array(list(product([0.0, 1.0], repeat=COINS)))
    a, p = vae.encode(x)[0], vae.decode(z)
    log_P = np.log(p) @ x[0] + np.log1p(-p) @ (1 - x[0])
    Q = np.where(z == 1, sigmoid(a), sigmoid(-a)).prod(axis=1)
    return log_P, Q, Q[:, None] * (z - sigmoid(a))         # dQ/da = Q dlog Q/da


rng = np.random.default_rng(1)
coin, running, nvil = BernoulliLatent(), RunningMean(0.9), NVIL(64, lr=1e-2, rng=0, dtype=float)
for baseline in (running, nvil):                           # each learns; the model does not
    vae.estimator, vae.latent, vae.baseline = score, coin, baseline
    for _ in range(1500):
        vae.forward(X[rng.integers(len(X), size=32)], rng.random((2, 32, COINS)))
        baseline.update()
nvil_divisor = max(1.0, np.sqrt(nvil.v))
nvil.v = 0.0                                               # takes out its division, a mere scale

# name: its noise, its estimator, its latent, its baseline.  The noise goes through all outcomes
# where they can be counted; Concrete's z is a continuum, so its noise is drawn.
METHODS = {
    "REINFORCE": ("all rows", score_analytic_kl, coin, Baseline()),
    "running mean": ("all rows", score_analytic_kl, coin, running),
    "NVIL": ("all rows", score, coin, nvil),
    "leave-one-out": ("all rows", score_analytic_kl, coin, Others()),
    "DisARM": ("all pairs", disarm, coin, Others()),
    "Concrete, T = 1": ("drawn", elbo, ConcreteLatent(1.0), Others()),
    "Concrete, T = 0.5": ("drawn", elbo, ConcreteLatent(0.5), Others()),
    "Concrete, T = 0.1": ("drawn", elbo, ConcreteLatent(0.1), Others()),
    "straight-through": ("all rows", elbo, StraightThroughLatent(), Others()),
}
UNBIASED = ("REINFORCE", "running mean", "NVIL", "leave-one-out", "DisARM")
x_images = (data.x_test[:IMAGES] > 0.5).astype(float)
bias, spread = dict.fromkeys(METHODS, 0.0), dict.fromkeys(METHODS, 0.0)
size, worst, outcomes = 0.0, 0.0, {}                       # all squared, the roots come last
for n in range(IMAGES):
    x = x_images[n : n + 1]
    theta = sigmoid(vae.encode(x)[0])
    log_P, Q, grad_Q = enumerate_z(x)
    exact = log_P @ grad_Q                                 # the truth : (Z,)
    size += (exact**2).sum() / IMAGES
    # two rows of four coins have 256 outcomes; the pair u and 1 - u has 81
    noises = {"all rows": all_coins(theta, K=2), "all pairs": all_pairs(theta),
              "drawn": (rng.random((2, DRAWS, COINS)), np.full(DRAWS, 1 / DRAWS))}
    for name, (kind, *method) in METHODS.items():
        u, weights = noises[kind]
        g = gradients(x, u, *method)
        mean = weights @ g
        variance = (weights @ (g - mean) ** 2).sum()
        left = variance / DRAWS if kind == "drawn" else 0.0            # noise of the mean itself
        bias[name] += (((mean - exact) ** 2).sum() - left) / IMAGES
        spread[name] += variance / IMAGES
        if name in UNBIASED:
            worst = max(worst, np.abs(mean - exact).max())
        if n == 0:
            outcomes[name] = g, weights
size = np.sqrt(size)
bias = {name: np.sqrt(max(square, 0.0)) / size for name, square in bias.items()}
spread = {name: np.sqrt(square) / size for name, square in spread.items()}

log_P, Q, grad_Q = enumerate_z(x_images[:1])
exact = log_P @ grad_Q
j = int(np.abs(exact).argmax())
a_j = vae.encode(x_images[:1])[0, j]
print(f"1. A VAE with {COINS} coins, 8x8 digits.  First test image, coin {j}: a = {a_j:.3f}\n")
print(f"   z (likeliest first)    Q(z|x)   log P(x|z)    dQ/da_{j}   log P dQ/da_{j}")
for i in np.argsort(-Q)[:4]:
    z = " ".join(str(i >> b & 1) for b in reversed(range(COINS)))
    row = z, Q[i], log_P[i], grad_Q[i, j], log_P[i] * grad_Q[i, j]
    print("   {:20s}   {:6.4f}   {:10.3f}   {:8.4f}   {:13.4f}".format(*row))
print(f"   and {len(Q) - 4} more; the sum over all is the gradient {exact[j]:20.4f}")
print(f"   the sum over all of dQ: {abs(grad_Q[:, j].sum()):.0e}")
print(f"   what all log P have in common: {Q @ log_P:.1f} nats")

# %% [markdown]
# P stands still while Q moves: z is summed over, so nothing in it could depend on the encoder.
# The dQ add up to 0: what all log P have in common cancels in the sum, but not in a few samples.

# %%
print(f"\n   Gradients for the {COINS} logits, two evaluations each, mean over {IMAGES} images")
print("   in units of the size of the true gradient\n")
print("                          bias     spread of one estimate")
for name in METHODS:
    remark = f"   (its division by {nvil_divisor:.2f} undone)" if name == "NVIL" else ""
    print(f"   {name:18s} {bias[name]:8.4f}     {spread[name]:8.3f}{remark}")
print("   the first five have the enumerated sum as their mean,")
print(f"   in all {IMAGES * COINS} numbers to {worst:.0e}; they differ in spread only")

# %% [markdown]
# ## 2. The price of a temperature
#
# One coin and f(z) = (z - t)^2, by quadrature in y = (a + logit(u)) / T.  The closed forms are the
# leading terms for small T.

# %%
t, a = 0.45, 0.8
theta = sigmoid(a)
slope = theta * (1 - theta)                                # d sigmoid(a)/da
truth = slope * (1 - 2 * t)
y = np.linspace(-40, 40, 20_001)
z = sigmoid(y)
temperatures = np.geomspace(0.02, 2, 25)
biases, variances = np.empty(25), np.empty(25)
for i, T in enumerate(temperatures):
    density = T * sigmoid(T * y - a) * sigmoid(a - T * y) * (y[1] - y[0])
    g = 2 * (z - t) * z * (1 - z) / T
    biases[i], variances[i] = density @ g - truth, density @ g**2 - (density @ g) ** 2
bias_rate = -slope * (1 - 2 * theta)
variance_rate = 4 * slope * (1 / 20 - t / 6 + t**2 / 6)
st_bias = slope * (2 * theta - 1)
print(f"\n2. Concrete on one coin, sigmoid(a) = {theta:.3f}, f = (z - {t})^2")
print(f"   the truth is {truth:.4f}\n")
print("   temperature       bias    bias / T    variance    T * variance")
for i in (0, 8, 16, 24):
    T, b, v = temperatures[i], biases[i], variances[i]
    print(f"   {T:11.3f}   {b:8.5f}    {b / T:8.4f}    {v:8.4f}        {T * v:8.4f}")
print(f"   to 0: bias / T -> {bias_rate:.4f} and T * variance -> {variance_rate:.4f},"
      " in closed form")
print(f"   straight-through is off by {st_bias:.4f}")

# %% [markdown]
# Soft coins are biased, hard ones are noisy.  Straight-through is the same slope with T = 1 here,
# and has no temperature to lower.
#
# ## 3. What it does to training
#
# Digits again, 16 coins, 64-200-16-200-64, two z for each image, Adam 2e-3: only the estimator
# differs.  All are judged on coins.

# %%
RUNS = {"REINFORCE": (score_analytic_kl, None, "none"),
        "running mean": (score_analytic_kl, None, "running-mean"),
        "NVIL": (score, None, "nvil"),
        "leave-one-out": (score_analytic_kl, None, "others"),
        "DisARM": (disarm, None, "others"),
        "Concrete, T = 0.5": (elbo, ConcreteLatent(0.5), "others"),
        "straight-through": (elbo, StraightThroughLatent(), "others")}
curves = {}
for name, (estimator, latent, baseline) in RUNS.items():
    trained = DiscreteVAE.mlp(64, [200], 16, estimator=estimator, latent=latent,
                              baseline=baseline, rng=0)
    history = fit(trained, data.x_train, X_test=data.x_test, epochs=epochs, batch_size=32, lr=2e-3,
                  samples=2, rng=0)
    curves[name] = np.array([row["test_elbo"] for row in history])
    if name == "Concrete, T = 0.5":                        # the ELBO of its own soft z
        binary = (rng.random(data.x_test.shape) < data.x_test).astype(np.float32)
        soft_elbo = trained.forward(binary, trained.noise(10, len(binary), rng)).elbo.mean()
last = {name: curve[-5:].mean() for name, curve in curves.items()}
print(f"\n3. Test ELBO in nats per image after {epochs} epochs (mean of the last {min(5, epochs)})")
for name in sorted(last, key=last.get, reverse=True):
    print(f"   {name:18s} {last[name]:8.2f}")
print(f"   Concrete on the soft coins that it was trained with: {soft_elbo:.2f}")
print("   (no bound on log p(x): judge a relaxed model on what it is meant to be)")

# %% [markdown]
# ## The answer
#
# The path is gone: a coin's z does not move with a, and backprop ends at the decoder.  What remains
# is the sum over z of log P grad Q, with P held still.  REINFORCE, NVIL, leave-one-out and DisARM
# all have that sum as their mean.  They differ in noise: a baseline takes off what all log P have
# in common.
#
# Concrete puts a path back by making the coin soft.  Towards T = 0 its bias goes and its variance
# grows as 1 / T.  Straight-through goes back as if there were no step, and nothing makes its bias
# smaller.  Each training above is one seed.

# %%
print(f"\nThe enumerated gradient of one logit is {exact[j]:.4f}.")
print(f"The first five estimators have it as their mean, to {worst:.0e}.")
print("In units of its size, one estimate spreads")
for name in UNBIASED:
    print(f"   {spread[name]:4.1f} with {name}")
for name in ("Concrete, T = 0.5", "straight-through"):
    print(f"   {spread[name]:4.1f} with {name}, and is off by {bias[name]:.2f}")
with pictures.panels(out / "discrete_latents.png", 2, 2) as panels:
    pictures.draw_bias_and_spread(panels[0], bias, spread, UNBIASED)
    pictures.draw_training(panels[1], curves, last)
    estimates = {name: (g[:, j], weights) for name, (g, weights) in outcomes.items()}
    pictures.draw_outcomes(panels[2], estimates, exact[j], j)
    pictures.draw_temperature(panels[3], temperatures, biases, variances, bias_rate,
                              variance_rate, st_bias)
