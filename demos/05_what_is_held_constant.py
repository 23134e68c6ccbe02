# %% [markdown]
# # What is held constant, and why do the two gradients of a VAE look so different?
#
#     d/dphi  sum over z of q(z; phi) f(z)
#
# One answer: hold every z fixed and let its probability move.  That is the sum over z of f grad q
# with f = log p(x, z), or for a discrete latent h the sum over h of log P grad Q.  It is the score
# function, the form that NVIL uses.  The other answer: draw eps, set z = mu + sigma eps, and let z
# move.  That is reparameterisation.  Here both are summed exactly, first on one number, then in a
# real VAE.
#
# Two more demos go on from here: 05b asks why the score is so much noisier, 05c where the path
# fails.

# %%
from pathlib import Path

import numpy as np
import pictures
from scipy.stats import norm

from minivae import VAE, fit, load_data
from minivae.estimators import analytic_elbo, elbo, estimator, score_analytic_kl

# after the script's name: a folder for the picture, and the number of draws
out, draws = pictures.arguments(Path("runs/demo-05"), 1500)
# the four answers: is the path open, is the score open
OPEN = {"neither": (0, 0),         # z is taken as a constant, and so is q
        "score": (0, 1),           # z stays, the density moves: f * d log q
        "path": (1, 0),            # eps stays, the samples move: df/dz * dz
        "both": (1, 1)}

# %% [markdown]
# ## 1. One gradient, four answers
#
# f = (z - k)^2 and z ~ N(mu, sigma^2).  Then E f = d^2 + sigma^2 with d = mu - k.

# %%
mu, sigma, k, dx = 1.0, 0.8, -0.5, 1e-4
d = mu - k
# Gauss-Hermite: a weighted sum over 120 values of eps that equals the mean over all eps
eps, weight = np.polynomial.hermite_e.hermegauss(120)
weight = weight / weight.sum()
z = mu + sigma * eps
f, slope_of_f = (z - k) ** 2, 2 * (z - k)
scores = np.stack([eps, eps**2 - 1]) / sigma               # d log q/dmu, d log q/dsigma, z fixed
moves = np.stack([np.ones_like(eps), eps])                 # dz/dmu, dz/dsigma, eps fixed
means, variances = {}, {}                                  # of one sample's gradient : (2,) each
for name, (path, score) in OPEN.items():
    g = path * slope_of_f * moves + score * f * scores
    means[name] = g @ weight
    variances[name] = (g - means[name][:, None]) ** 2 @ weight

# the same by differences: these z stay where they are, and the density moves
z = np.linspace(mu - 12 * sigma, mu + 12 * sigma, 4001)
sums = [norm.pdf(z, mu + a, sigma + b) @ (z - k) ** 2 * (z[1] - z[0])
        for a, b in ((dx, 0), (-dx, 0), (0, dx), (0, -dx))]
by_mu, by_sigma = (sums[0] - sums[1]) / (2 * dx), (sums[2] - sums[3]) / (2 * dx)
print("1. The gradient of E f, f = (z - k)^2, z ~ N(mu, sigma^2)")
print(f"   mu = {mu}, sigma = {sigma}, k = {k}, d = mu - k = {d}\n")
print("                             d/dmu    d/dsigma    variance of one d/dmu")
print(f"   the truth, 2d, 2 sigma   {2 * d:6.4f}      {2 * sigma:6.4f}")
print(f"   differences, z fixed     {by_mu:6.4f}      {by_sigma:6.4f}")
for name, mean in means.items():
    print(f"   {name:22s}   {mean[0]:6.4f}      {mean[1]:6.4f}      {variances[name][0]:8.4f}")
print(f"   score and path are the same number, {means['path'][0]:.4f} = 2d")
print(f"   both together count it twice, {means['both'][0]:.4f} = 4d")
print(f"   the mean of d log q/dmu: {abs(eps / sigma @ weight):.0e}")
variance_score = [d**4 / sigma**2 + 14 * d**2 + 15 * sigma**2,
                  2 * d**4 / sigma**2 + 60 * d**2 + 74 * sigma**2]
assert np.allclose(variances["score"], variance_score)
assert np.allclose(variances["path"], [4 * sigma**2, 4 * d**2 + 8 * sigma**2])

# %% [markdown]
# Score and path are two ways to write one derivative.  z is an integration variable, like h in a
# sum over h: there is no mu in it.  So "does z depend on mu?" has no answer until one says how the
# integral is written.  Over z, all of mu is in q(z).  Over eps, all of mu is in z = mu + sigma eps.
# Integration by parts joins them: dq/dmu = -dq/dz, so int f dq/dmu dz = int q df/dz dz.
#
# The product rule, at a fixed z: d(q f) = q df + f dq.  This f has no mu of its own, so df = 0 and
# all of it is f dq = q f d log q.  The ELBO's f has some, in log q(z|x).  That adds the mean of
# -d log q, which is 0.  For the same reason a baseline b may be taken off f in the score.
#
# ## 2. The same in a VAE
#
# The package has one backward pass with a weight on every wire.  The four answers are two wires,
# each open (1) or cut (0).

# %%
IMAGES, L, EPOCHS = 8, 8, 8
data = load_data("digits")
vae = VAE.mlp(64, [16], 2, activation="tanh", rng=0, dtype=np.float64)
fit(vae, data.x_train, epochs=EPOCHS, batch_size=32, lr=1e-2, rng=0)
x = (data.x_train[:IMAGES] > 0.5).astype(float)
phi = [p for name, p, _ in vae.named_params() if name.startswith(("enc", "to_mu", "to_logvar"))]
n_phi = sum(param.size for param in phi)


def answer(path, score, rows=1.0):
    """The estimator with these two wires; `rows` weighs the rows of the batch."""
    @estimator(analytic_elbo)
    def weights(t):
        w, scored = elbo(t), score_analytic_kl(t).score
        return w._replace(decoder=rows * w.decoder, path=path * w.path,
                          score=rows * score * scored, kl=rows * w.kl)

    return weights


def gradient(weights, images, eps):
    """d loss/d phi and d loss/d theta, a vector each.  The encoder's parameters come first."""
    vae.estimator = weights
    vae.forward(images, eps)
    vae.backward()
    return np.split(vae.gradient(), [n_phi])


# the mean over all eps: every pair of 30 nodes for each image, a row each
node, weight = np.polynomial.hermite_e.hermegauss(30)
pairs = np.stack(np.meshgrid(node, node), axis=-1).reshape(-1, 2)
every_eps, every_x = np.tile(pairs, (IMAGES, 1)), np.repeat(x, len(pairs), axis=0)
rows = np.tile(np.outer(weight, weight).ravel() / weight.sum() ** 2, IMAGES) * len(pairs)
full = {name: gradient(answer(*on, rows=rows), every_x, every_eps)[0]
        for name, on in OPEN.items()}
from_kl = full["neither"]                                  # what is left when both are cut
direction = (full["path"] - from_kl) / np.linalg.norm(full["path"] - from_kl)
exact = {name: direction @ (g - from_kl) for name, g in full.items()}
apart = np.abs(full["path"] - full["score"]).max()

rng = np.random.default_rng(1)
noise = rng.standard_normal((draws, L, IMAGES, 2))
cut = gradient(answer(0, 0), x, noise[0])[0]               # no eps reaches phi: from_kl again
slopes = {name: np.array([direction @ (gradient(answer(*on), x, eps)[0] - cut) for eps in noise])
          for name, on in OPEN.items()}
thetas = np.array([gradient(answer(*on), x, noise[0])[1] for on in OPEN.values()])
print(f"\n2. The encoder's gradient in a VAE (64-16-2, digits, {EPOCHS} epochs)")
print(f"   {IMAGES} images, {n_phi} parameters phi, {draws} draws, L = {L} z per image")
print(f"   the analytic KL's part, of norm {np.linalg.norm(from_kl):.4f}, is taken off\n")
print("   answer    path   score     exact   mean of the draws   spread of one")
for name, s in slopes.items():
    row = name, *OPEN[name], exact[name], s.mean(), s.std() / np.sqrt(draws), s.std()
    print("   {:8s}{:6d}{:8d}{:10.4f}     {:6.3f} +- {:5.3f}          {:6.3f}".format(*row))
print(f"   path and score, {n_phi} exact numbers: largest difference {apart:.0e}")
print("   theta's gradient is the same under all four answers"
      f" (largest difference {np.ptp(thetas, axis=0).max():.1f})")

# %% [markdown]
# The reconstruction's gradient is measured along its own exact direction.  L > 1 gives the score a
# baseline, the mean of the image's other samples (see 05b).  With neither wire only the KL is left;
# with both, the reconstruction's gradient is counted twice.  theta's gradient is the same in all
# four: the question is about phi alone.
#
# Where does z come from?  In training from q(z|x) = N(mu, sigma^2), with mu and sigma from the
# encoder.  The prior N(0, 1) enters training through the KL alone, which keeps q near it.  In
# generation from the prior, as there is no x to encode: the encoder may hold anything, even NaN.

# %%
x_test = (data.x_test > 0.5).astype(float)
z_mean, z_logvar = vae.encode(x_test)
z_std = np.exp(z_logvar / 2)
noise = rng.standard_normal((20, *z_mean.shape))           # 20 z for each image
z = np.stack([z_mean + z_std * noise, noise])              # from q, and from the prior
p = vae.decode(z.reshape(-1, 2)).reshape(2, 20, *x_test.shape)
f_q, f_prior = np.log(np.where(x_test, p, 1 - p)).sum(axis=-1)         # log p(x|z) : (20, N)
before, state = vae.sample(100, rng=0), vae.state()
for param in phi:
    param[...] = np.nan
same = np.array_equal(before, vae.sample(100, rng=0))
vae.restore(state)
of_all = *z[0].mean((0, 1)), *z[0].std((0, 1))
print("\n   first test image: mu {:.2f} {:.2f}, sigma {:.2f} {:.2f}".format(*z_mean[0], *z_std[0]))
print("   z ~ q over all {}: mean {:.2f} {:.2f}, std {:.2f} {:.2f}".format(len(x_test), *of_all))
print(f"   log p(x|z), nats: {f_q.mean():.2f} for z from q, {f_prior.mean():.2f} from the prior")
print(f"   encoder set to NaN: 100 new images {'are the same to the bit' if same else 'CHANGED'}")

# %% [markdown]
# ## The answer
#
# theta's gradient holds phi, phi's gradient holds theta: plain partial derivatives, both from one
# backward pass.  x is data, always held.  For phi one must also say what becomes of z.  To hold
# something is, in code, to cut its wire.

# %%
print(f"\nScore and path are each the whole gradient: in the VAE equal to {apart:.0e}.")
print("Neither gives none of it, both together count it twice:"
      f" {exact['both'] / exact['path']:.4f} times.")
with pictures.panels(out / "what_is_held_constant.png", size=(9, 4.8)) as (axes,):
    pictures.draw_answers(axes, slopes, exact, L)
