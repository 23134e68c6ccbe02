# %% [markdown]
# # Why is the score so much noisier than the path?
#
# Both have the same mean: demo 05 shows it.  A single draw of the score says only how good its z
# was, one number f = log p(x|z).  A single draw of the path is told by df/dz which way to go.
# Here the price is measured in a VAE, with and without a baseline.  At the end comes an f for which
# the path is the noisier one.

# %%
from pathlib import Path

import numpy as np
import pictures
from scipy.optimize import brentq

from minivae import VAE, fit, load_data
from minivae.baselines import Baseline, Others
from minivae.estimators import elbo, score_analytic_kl

# after the script's name: a folder for the picture, and the number of draws
out, draws = pictures.arguments(Path("runs/demo-05b"), 500)

# %% [markdown]
# ## 1. Against L, the number of z for each image
#
# The variance is the sum over all of phi.  A baseline b is taken off f; the mean of d log q is 0,
# so b moves no mean.  Here b is the mean of f over the image's other z, so it wants L > 1.

# %%
IMAGES, EPOCHS = 8, 8
data = load_data("digits")
vae = VAE.mlp(64, [16], 2, activation="tanh", rng=0, dtype=np.float64)
fit(vae, data.x_train, epochs=EPOCHS, batch_size=32, lr=1e-2, rng=0)
x = (data.x_train[:IMAGES] > 0.5).astype(float)
# in the vector of all gradients the encoder's come first
n_phi = sum(param.size for name, param, _ in vae.named_params()
            if name.startswith(("enc", "to_mu", "to_logvar")))


def encoder_gradient(estimator, baseline, eps):
    """d loss/d phi in one vector."""
    vae.estimator, vae.baseline = estimator, baseline
    vae.forward(x, eps)
    vae.backward()
    return vae.gradient()[:n_phi]


rng = np.random.default_rng(1)
LS = np.array([1, 2, 4, 8, 16, 32])
noises = [rng.standard_normal((draws, L, IMAGES, 2)) for L in LS]
KINDS = {"score": (score_analytic_kl, Baseline()),         # takes nothing off
         "score, baseline": (score_analytic_kl, Others()),
         "path": (elbo, Others())}                         # has no use for a baseline
variances = {}
print(f"1. Variance of the encoder's gradient in a VAE (64-16-2, digits, {EPOCHS} epochs),")
print(f"   {IMAGES} images, from {draws} draws\n")
print("   L =            " + "".join(f"{L:9d}" for L in LS) + " falls")
for name, kind in KINDS.items():
    grads = ([encoder_gradient(*kind, eps) for eps in noise] for noise in noises)
    v = variances[name] = np.array([np.var(g, axis=0, ddof=1).sum() for g in grads])
    if name == "score, baseline":
        v[0] = np.nan                                      # a lone sample has no others
    there = np.isfinite(v)
    power = np.polyfit(np.log(LS[there]), np.log(v[there]), 1)[0]
    print(f"   {name:15s}" + "".join(f"{value:9.3f}" for value in v) + f" L^{power:.2f}")
plain, based, _ = (np.exp(np.log(v / variances["path"])[1:].mean()) for v in variances.values())
mu, logvar = vae.encode(x)
p = vae.decode((mu + np.exp(logvar / 2) * noises[-1][0]).reshape(-1, 2)).reshape(-1, *x.shape)
f = np.log(np.where(x, p, 1 - p)).sum(axis=-1)             # log p(x|z) : (L, IMAGES)
print(f"   one z of the path is worth {plain:.0f} of the score, {based:.0f} with a baseline")
print(f"   f = log p(x|z): mean {f.mean():.1f} nats,"
      f" std over the z of one image {f.std(axis=0).mean():.1f}")

# %% [markdown]
# All are means of L draws and fall as 1/L (with a baseline a little faster: it gets better, too).
# They differ in height.  The score multiplies d log q, whose mean is 0, by all of f.  It learns
# only from how f differs between the z of one image.  A baseline takes the common part off: here
# the mean of f over the image's other z, in NVIL a small network of x.  The path has df/dz in every
# single sample.
#
# ## 2. Where the path is noisier
#
# The path feels the slope of f, and f = cos(k z) can be steep and small.  With z = mu + sigma eps
# and mu = sigma = 1 the variances are exact: a weighted sum over 120 values of eps.

# %%
eps, weight = np.polynomial.hermite_e.hermegauss(120)      # Gauss-Hermite
weight = weight / weight.sum()
moves = np.stack([np.ones_like(eps), eps])                 # dz/dmu, dz/dsigma, eps fixed
scores = np.stack([eps, eps**2 - 1])                       # d log q/dmu, d log q/dsigma, z fixed


def cos_variances(k):
    """The variances of one sample of the path and of the score, for mu and sigma : (2,) each."""
    z = 1 + eps
    both = -k * np.sin(k * z) * moves, np.cos(k * z) * scores
    return [(g - (g @ weight)[:, None]) ** 2 @ weight for g in both]


cross = {name: brentq(lambda k, i: np.subtract(*cos_variances(k))[i], 0.5, 1.5, args=(i,))
         for i, name in enumerate(("mu", "sigma"))}
print("\n2. f = cos(k z), mu = sigma = 1, exact variances of one sample\n")
print("   k      mu: path      score    sigma: path      score")
for k_shown in (0.5, 1.0, 1.5, 3.0):
    table = np.transpose(cos_variances(k_shown)).ravel()
    print("   {:3.1f}    {:8.4f}   {:8.4f}       {:8.4f}   {:8.4f}".format(k_shown, *table))
print(f"   the path is noisier above k = {cross['mu']:.2f} for mu,"
      f" above k = {cross['sigma']:.2f} for sigma")

# %% [markdown]
# ## The answer

# %%
print(f"\nThe score's variance is {plain:.0f} times the path's, or {based:.0f} with a baseline.")
print("More draws do not change that: both fall as 1/L.")
print(f"For f = cos(k z) and mu it is the other way round above k = {cross['mu']:.2f}.")
with pictures.panels(out / "why_is_the_score_noisier.png", 1, 2, size=(11, 4.5)) as axes:
    pictures.draw_variance_against_L(axes[0], LS, variances)
    pictures.draw_waves(axes[1], cos_variances, cross)
