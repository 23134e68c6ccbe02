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

# %%
from pathlib import Path

import numpy as np
import pictures
from scipy.optimize import brentq
from scipy.stats import norm

from minivae import VAE, fit, load_data
from minivae.baselines import Baseline
from minivae.estimators import analytic_elbo, elbo, estimator, score_analytic_kl
from minivae.layers import sigmoid

# after the script's name: a folder for the picture, and the number of draws
out, draws = pictures.arguments(Path("runs/demo-05"), 1500)
# the four answers: is the path open, is the score open
OPEN = {"neither": (0, 0),         # z is taken as a constant, and so is q
        "score": (0, 1),           # z stays, the density moves: f * d log q
        "path": (1, 0),            # eps stays, the samples move: df/dz * dz
        "both": (1, 1)}
# Gauss-Hermite: a weighted sum over 120 values of eps that equals the mean over all eps
EPS, WEIGHT = np.polynomial.hermite_e.hermegauss(120)
WEIGHT = WEIGHT / WEIGHT.sum()


def four_answers(f, slope_of_f, mu, sigma):
    """For each answer: mean (2,) and variance (2,) of one sample's gradient for mu and sigma."""
    z = mu + sigma * EPS
    scores = np.stack([EPS, EPS**2 - 1]) / sigma           # d log q/dmu, d log q/dsigma, z fixed
    moves = np.stack([np.ones_like(EPS), EPS])             # dz/dmu, dz/dsigma, eps fixed
    answers = {}
    for name, (path, score) in OPEN.items():
        g = path * slope_of_f(z) * moves + score * f(z) * scores
        answers[name] = g @ WEIGHT, (g - (g @ WEIGHT)[:, None]) ** 2 @ WEIGHT
    return answers


# %% [markdown]
# ## 1. One gradient, four answers
#
# f = (z - k)^2 and z ~ N(mu, sigma^2).  Then E f = d^2 + sigma^2 with d = mu - k.

# %%
mu, sigma, k, dx = 1.0, 0.8, -0.5, 1e-4
d = mu - k
answers = four_answers(lambda z: (z - k) ** 2, lambda z: 2 * (z - k), mu, sigma)
z = np.linspace(mu - 12 * sigma, mu + 12 * sigma, 4001)    # these z stay where they are
sums = [norm.pdf(z, mu + a, sigma + b) @ (z - k) ** 2 * (z[1] - z[0])
        for a, b in ((dx, 0), (-dx, 0), (0, dx), (0, -dx))]
by_mu, by_sigma = (sums[0] - sums[1]) / (2 * dx), (sums[2] - sums[3]) / (2 * dx)
print("1. The gradient of E f, f = (z - k)^2, z ~ N(mu, sigma^2)")
print(f"   mu = {mu}, sigma = {sigma}, k = {k}, d = mu - k = {d}\n")
print("                             d/dmu    d/dsigma    variance of one d/dmu")
print(f"   the truth, 2d, 2 sigma   {2 * d:6.4f}      {2 * sigma:6.4f}")
print(f"   differences, z fixed     {by_mu:6.4f}      {by_sigma:6.4f}")
for name, (mean, variance) in answers.items():
    print(f"   {name:22s}   {mean[0]:6.4f}      {mean[1]:6.4f}      {variance[0]:8.4f}")
print(f"   score and path are the same number, {answers['path'][0][0]:.4f} = 2d")
print(f"   both together count it twice, {answers['both'][0][0]:.4f} = 4d")
print(f"   the mean of d log q/dmu: {abs(EPS / sigma @ WEIGHT):.0e}")
variance_score = [d**4 / sigma**2 + 14 * d**2 + 15 * sigma**2,
                  2 * d**4 / sigma**2 + 60 * d**2 + 74 * sigma**2]
assert np.allclose(answers["score"][1], variance_score)
assert np.allclose(answers["path"][1], [4 * sigma**2, 4 * d**2 + 8 * sigma**2])

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


def answer(path, score, baseline=True, rows=1.0):
    """The estimator with these two wires; `rows` weighs the rows of the batch."""
    @estimator(analytic_elbo)
    def weights(t):
        w = elbo(t)
        scored = score_analytic_kl(t if baseline else t._replace(baseline=Baseline())).score
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
full = {name: gradient(answer(*on, baseline=False, rows=rows), every_x, every_eps)[0]
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
# baseline, the mean of the image's other samples.  With neither wire only the KL is left; with
# both, the reconstruction's gradient is counted twice.  theta's gradient is the same in all four:
# the question is about phi alone.
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
# ## 3. Equal means, unequal variances
#
# First against L, in the same VAE.  The variance is the sum over all of phi.

# %%
LS, repeats = np.array([1, 2, 4, 8, 16, 32]), max(draws // 3, 50)
noises = [rng.standard_normal((repeats, n, IMAGES, 2)) for n in LS]
KINDS = {"score": answer(0, 1, baseline=False), "score, baseline": answer(0, 1),
         "path": answer(1, 0)}
variances = {}
print(f"\n3. Variance of the encoder's gradient, from {repeats} draws\n")
print("   L =            " + "".join(f"{n:9d}" for n in LS) + " falls")
for name, weights in KINDS.items():
    grads = ([gradient(weights, x, eps)[0] for eps in noise] for noise in noises)
    v = variances[name] = np.array([np.var(g, axis=0, ddof=1).sum() for g in grads])
    if name == "score, baseline":
        v[0] = np.nan                                      # a lone sample has no others
    there = np.isfinite(v)
    power = np.polyfit(np.log(LS[there]), np.log(v[there]), 1)[0]
    print(f"   {name:15s}" + "".join(f"{value:9.3f}" for value in v) + f" L^{power:.2f}")
plain, based, _ = (np.exp(np.log(v / variances["path"])[1:].mean()) for v in variances.values())
print(f"   one z of the path is worth {plain:.0f} of the score, {based:.0f} with a baseline")
print(f"   std of log p(x|z) over the z of one image: {f_q.std(axis=0).mean():.1f} nats")

# %% [markdown]
# All are means of L draws and fall as 1/L (with a baseline a little faster: it gets better, too).
# They differ in height.  The score multiplies d log q, whose mean is 0, by all of f = log p(x|z),
# and learns only from how f differs between the z of one image.  A baseline takes the common part
# off: here the mean of f over the image's other z, in NVIL a small network of x.  The path is told
# by df/dz which way to go, in every single sample.
#
# Pathwise is not always better: it feels the slope of f, and f = cos(k z) can be steep and small.


# %%
def cos_variances(k):
    answers = four_answers(lambda z: np.cos(k * z), lambda z: -k * np.sin(k * z), 1.0, 1.0)
    return answers["path"][1], answers["score"][1]


cross = {name: brentq(lambda k, i: np.subtract(*cos_variances(k))[i], 0.5, 1.5, args=(i,))
         for i, name in enumerate(("mu", "sigma"))}
print("\n   f = cos(k z), mu = sigma = 1, exact variances of one sample\n")
print("   k      mu: path      score    sigma: path      score")
for k_shown in (0.5, 1.0, 1.5, 3.0):
    table = np.transpose(cos_variances(k_shown)).ravel()
    print("   {:3.1f}    {:8.4f}   {:8.4f}       {:8.4f}   {:8.4f}".format(k_shown, *table))
print(f"   the path is noisier above k = {cross['mu']:.2f} for mu,"
      f" above k = {cross['sigma']:.2f} for sigma")

# %% [markdown]
# ## 4. Where pathwise fails: a step, and a discrete h
#
# f = 1[z > 0].  Its slope is 0 wherever it has one, so the path carries nothing.  The density still
# moves across 0.  Move mu by 0.05, and some samples jump; move it by 1e-9, and none does.
# Derivatives see slopes, not jumps.  Make the step soft, f = sigmoid(z/t), and the path works
# again, at a price.  This is what Gumbel-softmax and Concrete do.

# %%
m, s, tiny, small = 0.5, 1.0, 1e-9, 0.05
z = (np.arange(400_000) + 0.5) * 6e-5 - 12                 # the step lies between two of them
density, f, dlog_q = norm.pdf(z, m, s) * 6e-5, z > 0, (z - m) / s**2
truth, step_score = norm.pdf(m / s) / s, density @ (f * dlog_q)
noise_of_one = density @ (f * dlog_q) ** 2 - step_score**2
samples = m + s * rng.standard_normal(100_000)
step_path = np.mean([((samples + tiny > 0) * 1.0 - (samples > 0)) / tiny])     # eps held
jumped = int(((samples + small > 0) != (samples > 0)).sum())
per_mu = jumped / len(samples) / small
print(f"\n4. f = 1[z > 0], z ~ N({m}, {s:.0f}): the gradient of P(z > 0) for mu")
print(f"   truth, pdf(mu/sigma)/sigma   {truth:.6f}")
print(f"   score                        {step_score:.6f}   variance of one {noise_of_one:.4f}")
print(f"   path                         {step_path:.6f}")
print(f"   mu + {small}: {jumped} of {len(samples):,} samples jump, {per_mu:.3f} per unit of mu\n")
print("   f = sigmoid(z/t)   mean of the path      off by   variance of one")
for t in (0.5, 0.1, 0.02):
    slope = sigmoid(z / t) * sigmoid(-z / t) / t
    mean, square = density @ slope, density @ slope**2
    print(f"   t = {t:4.2f}   {mean:25.6f}   {mean - truth:+.6f}   {square - mean**2:15.4f}")

# %% [markdown]
# A discrete h is such a step of its noise u: h = 1[u < Q(h = 1)].  h cannot move a little, only its
# probability can.  So NVIL, whose h is binary, has no path to take: it must use the score.  Where h
# is drawn from Q, the sum over h of log P grad Q is the mean of log P grad log Q.

# %%
a, log_P = 0.4, np.array([-3.0, -1.0])                     # log P(x, h) for h = 0 and h = 1
q = sigmoid(a)                                             # Q(h = 1)
Q, grad_Q = np.array([1 - q, q]), np.array([-1, 1]) * q * (1 - q)
dq = (sigmoid(a + dx) - sigmoid(a - dx)) / (2 * dx)
u = (np.arange(100_000) + 0.5) / 100_000                   # evenly spread noise
h_path = ((log_P[(u < sigmoid(a + tiny)) * 1] - log_P[(u < q) * 1]) / tiny).mean()
print(f"\n   A coin h: Q(h = 1) = sigmoid({a}), log P = {log_P[0]:.0f} or {log_P[1]:.0f}")
print(f"   differences in a of sum over h of Q log P       {log_P @ [-dq, dq]:.6f}")
print(f"   sum over h of log P grad Q                      {log_P @ grad_Q:.6f}")
print(f"   score, E_Q[log P (h - Q(h = 1))]                {Q @ (log_P * ([0, 1] - q)):.6f}")
print(f"   path, u held and h moved                        {h_path:.6f}")

# %% [markdown]
# ## The answer
#
# theta's gradient holds phi, phi's gradient holds theta: plain partial derivatives, both from one
# backward pass.  x is data, always held.  For phi one must also say what becomes of z.  To hold
# something is, in code, to cut its wire.  NVIL's gradient is the same derivative, written over h.
# No gradient passes there from the decoder to the encoder, only the number log P: hence the noise.

# %%
print(f"\nScore and path are each the whole gradient: in the VAE equal to {apart:.0e}.")
print(f"The score's variance is {plain:.0f} times the path's, or {based:.0f} with a baseline.")
print(f"At a step the path gives {step_path:.0f}; the truth is {truth:.3f}.")
with pictures.four_panels(out / "what_is_held_constant.png") as panels:
    pictures.draw_answers(panels[0], slopes, exact, L)
    pictures.draw_variance_against_L(panels[1], LS, variances)
    pictures.draw_waves(panels[2], cos_variances, cross)
    pictures.draw_step(panels[3], m, s, truth, step_score, step_path)
