# %% [markdown]
# # What is held constant, and why do the two gradients of a VAE look so different?
#
#     d/dphi  sum over z of q(z; phi) f(z)
#
# One answer: hold every z fixed and let its probability move, sum over z of f grad q, with f = log p(x, z) (for a
# discrete latent h: sum over h of log P grad Q).  That is the score function, the form that NVIL uses.
# The other answer: draw eps, set z = mu + sigma eps, and let z move.  That is reparameterisation.
# Here both are summed exactly, first on one number, then in a real VAE.

# %%
import sys
from pathlib import Path

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit
from scipy.stats import norm

from minivae import VAE, estimators, fit, load_data

out = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/demo-05")
draws = int(sys.argv[2]) if len(sys.argv) > 2 else 1500
NEITHER, SCORE, PATH, BOTH = "neither", "score", "path", "both"
OPEN = {NEITHER: (0, 0), SCORE: (0, 1), PATH: (1, 0), BOTH: (1, 1)}        # weights of the path and of the score

# Gauss-Hermite: a sum over 120 values of eps that is the mean over all eps, exact to rounding for what follows.
EPS, WEIGHT = np.polynomial.hermite_e.hermegauss(120)
WEIGHT = WEIGHT / WEIGHT.sum()


def four_answers(f, slope_of_f, mu, sigma):
    """For each answer: means (2,) and variances (2,) of one sample's gradient with respect to mu and sigma."""
    z = mu + sigma * EPS
    scores = np.stack([EPS, EPS**2 - 1]) / sigma           # d log q/dmu, d log q/dsigma, at fixed z
    moves = np.stack([np.ones_like(EPS), EPS])             # dz/dmu, dz/dsigma, at fixed eps
    answers = {}
    for name, (path, score) in OPEN.items():
        g = path * slope_of_f(z) * moves + score * f(z) * scores
        mean = g @ WEIGHT
        answers[name] = mean, (g - mean[:, None]) ** 2 @ WEIGHT
    return answers


# %% [markdown]
# ## 1. One gradient, four answers
#
# f = (z - k)^2 and z ~ N(mu, sigma^2).  Then E f = d^2 + sigma^2 with d = mu - k, and its slopes are 2d and 2 sigma.

# %%
mu, sigma, k = 1.0, 0.8, -0.5
d = mu - k
answers = four_answers(lambda z: (z - k) ** 2, lambda z: 2 * (z - k), mu, sigma)
fixed_z = np.linspace(mu - 12 * sigma, mu + 12 * sigma, 4001)              # values that know nothing of mu and sigma


def sum_over_fixed_z(mu, sigma):
    return ((fixed_z - k) ** 2 * norm.pdf(fixed_z, mu, sigma)).sum() * (fixed_z[1] - fixed_z[0])


h = 1e-4
moved = [(sum_over_fixed_z(mu + h, sigma) - sum_over_fixed_z(mu - h, sigma)) / (2 * h),
         (sum_over_fixed_z(mu, sigma + h) - sum_over_fixed_z(mu, sigma - h)) / (2 * h)]
meaning = {NEITHER: "z is taken as a constant, and so is q", SCORE: "z stays, the density moves: f * d log q",
           PATH: "eps stays, the samples move: df/dz * dz", BOTH: "score + path"}
print(f"""1. The gradient of E f, f = (z - k)^2, z ~ N(mu, sigma^2); mu = {mu}, sigma = {sigma}, k = {k}, d = mu - k = {d}

                                                        d/dmu    d/dsigma    variance of one sample's d/dmu
   the truth, 2d and 2 sigma                           {2 * d:6.4f}      {2 * sigma:6.4f}
   differences of the sum over fixed z of q f          {moved[0]:6.4f}      {moved[1]:6.4f}""")
for name, (mean, variance) in answers.items():
    print(f"   {name:8s} {meaning[name]:42s} {mean[0]:6.4f}      {mean[1]:6.4f}      {variance[0]:8.4f}")
assert np.allclose(answers[SCORE][1], [d**4 / sigma**2 + 14 * d**2 + 15 * sigma**2, 2 * d**4 / sigma**2 + 60 * d**2 + 74 * sigma**2])
assert np.allclose(answers[PATH][1], [4 * sigma**2, 4 * d**2 + 8 * sigma**2])
mean_score = abs(EPS / sigma @ WEIGHT)
by_score, by_path, by_both = (answers[name][0][0] for name in (SCORE, PATH, BOTH))
print(f"""
   Score and path are the same number, {by_score:.4f} = 2d: two ways to write one derivative.  Both together count it twice, {by_both:.4f} = 4d.
   z is an integration variable, like h in a sum over h: there is no mu in it, so "does z depend on mu?" has no answer until one
   says how the integral is written.  Written over z, all of mu is in q(z).  Written over eps, all of mu is in z = mu + sigma eps.
   The product rule, at a fixed z: d(q f) = q df + f dq.  This f has no mu of its own, so df = 0 and all of it is f dq = q f d log q.
   The ELBO's f has some, in log q(z|x).  That adds the mean of -d log q, which is 0 (here {mean_score:.0e}): nothing changes.
   For the same reason a baseline b may be taken off f in the score: the mean of b d log q is 0 too.""")

# %% [markdown]
# ## 2. The same in a VAE
#
# The package has one backward pass with a weight on every wire.  The four answers are two wires, each open or cut.

# %%
IMAGES, L, EPOCHS = 8, 8, 8
data = load_data("digits")
vae = VAE.mlp(64, [16], 2, activation="tanh", rng=0, dtype=np.float64)
fit(vae, data.x_train, epochs=EPOCHS, batch_size=32, lr=1e-2, rng=0)
x = (data.x_train[:IMAGES] > 0.5).astype(float)


def is_phi(name):
    return name.startswith(("enc", "to_mu", "to_logvar"))


def gradient(estimator, images, eps, phi=True):
    """d loss/d phi (or theta), all in one vector."""
    vae.estimator = estimator
    vae.forward(images, eps)
    vae.backward()
    return np.concatenate([g.ravel() for name, _, g in vae.named_params() if is_phi(name) == phi])


def wires(path, score, baseline=True):
    """estimators.elbo and estimators.score_analytic_kl differ in two columns of the table: take each or leave it."""

    def estimator(t):
        pathwise, scored = estimators.elbo(t), estimators.score_analytic_kl(t)
        weight = scored.score if baseline else t.log_px / t.log_px.size
        return pathwise._replace(path=path * pathwise.path, score=score * weight)

    estimators.estimator(estimators.analytic_elbo)(estimator)
    return estimator


def averaged(estimator, weights):
    """The mean over eps: every row is one value of eps for one image, and counts as much as its quadrature weight says."""

    def expectation(t):
        w, factor = estimator(t), weights * len(weights) / IMAGES
        return w._replace(decoder=w.decoder * factor, score=w.score * factor, kl=w.kl * factor)

    estimators.estimator(estimator.objective)(expectation)
    return expectation


nodes, weights = np.polynomial.hermite_e.hermegauss(30)
weights = weights / weights.sum()
eps_grid = np.stack(np.meshgrid(nodes, nodes), axis=-1).reshape(-1, 2)     # two latents: every pair of nodes
weight_grid = np.tile(np.outer(weights, weights).ravel(), IMAGES)
exact = {name: gradient(averaged(wires(*on, baseline=False), weight_grid), np.repeat(x, len(eps_grid), axis=0), np.tile(eps_grid, (IMAGES, 1)))
         for name, on in OPEN.items()}
from_kl = exact[NEITHER]                                   # what is left when both are cut
size = np.linalg.norm(exact[PATH] - from_kl)               # the reconstruction's gradient
along = (exact[PATH] - from_kl) / size                     # its direction, to make one number of a long vector
apart = np.abs(exact[PATH] - exact[SCORE]).max()

rng = np.random.default_rng(1)
noise = rng.standard_normal((draws, L, IMAGES, 2))
cut = gradient(wires(0, 0), x, noise[0])                   # no eps reaches phi: from_kl, to rounding
slopes = {name: np.array([along @ (gradient(wires(*on), x, eps) - cut) for eps in noise]) for name, on in OPEN.items()}
theta = [gradient(wires(*on), x, noise[0], phi=False) for on in OPEN.values()]
theta_apart = max(np.abs(g - theta[0]).max() for g in theta)

print(f"""
2. The encoder's gradient in a VAE (64-16-2, digits, {EPOCHS} epochs), {IMAGES} images, {len(along)} parameters phi
   The KL is analytic and gives phi a gradient of norm {np.linalg.norm(from_kl):.4f}, whatever the wires.  Below it is taken off: the
   reconstruction's gradient, measured along its own exact direction.  Exact: the mean over all eps, by quadrature.
   Drawn: {draws} times, L = {L} z per image, so that the score has a baseline, the mean of the image's other samples.

   answer     path wire   score wire       exact     mean of the draws       spread of one draw""")
for name, (path, score) in OPEN.items():
    s = slopes[name]
    print(f"   {name:8s}   {'open' if path else 'cut ':10s}  {'open' if score else 'cut ':10s}   {along @ (exact[name] - from_kl):9.4f}"
          f"     {s.mean():7.3f} +- {s.std() / np.sqrt(draws):5.3f}       {s.std():7.3f}")
print(f"""   Path and score agree in every one of the {len(along)} exact numbers to {apart:.0e}.  With neither, only the KL is left; both is twice.
   theta's gradient is the same under all four answers (largest difference {theta_apart:.1f}): the question is about phi alone.""")

# %% [markdown]
# ## Where z comes from
#
# In training from q(z|x), in generation from the prior.

# %%
x_test = (data.x_test > 0.5).astype(float)
z_mean, z_logvar = vae.encode(x_test)
z_std = np.exp(z_logvar / 2)
noise = rng.standard_normal((20, *z_mean.shape))           # 20 z for each image
z_q, z_prior = z_mean + z_std * noise, noise


def log_px(z):
    """log p(x|z) of every test image for its own z : (20, N)."""
    pixels = vae.decode(z.reshape(-1, 2)).reshape(len(z), *x_test.shape)
    return np.log(np.where(x_test, pixels, 1 - pixels)).sum(axis=-1)


f_q, f_prior = log_px(z_q), log_px(z_prior)
f_spread = f_q.std(axis=0).mean()                          # how much f differs between the z of one image
before = vae.sample(100, rng=0)
phi_params = {name: p.copy() for name, p, _ in vae.named_params() if is_phi(name)}
for name, p, _ in vae.named_params():
    if is_phi(name):
        p[...] = np.nan                                    # an encoder that can answer nothing
same_to_the_bit = np.array_equal(before, vae.sample(100, rng=0))
for name, p, _ in vae.named_params():
    if is_phi(name):
        p[...] = phi_params[name]
print(f"""
   Where z comes from.  In training from q(z|x) = N(mu, sigma^2) with mu and sigma from the encoder: for the first
   test image mu = ({z_mean[0, 0]:.2f}, {z_mean[0, 1]:.2f}), sigma = ({z_std[0, 0]:.2f}, {z_std[0, 1]:.2f}).
   Over all {len(x_test)} of them log p(x|z) is {f_q.mean():.2f} nats for z from q,
   and {f_prior.mean():.2f} for z from the prior, which knows nothing of x.
   The prior N(0, 1) enters training through the KL alone, which keeps q near it: z ~ q over all test images has
   mean ({z_q[..., 0].mean():.2f}, {z_q[..., 1].mean():.2f}) and std ({z_q[..., 0].std():.2f}, {z_q[..., 1].std():.2f}).
   In generation from the prior, as there is no x to encode: with every weight of the encoder set to NaN,
   100 new images {'are the same to the bit' if same_to_the_bit else 'CHANGED'}.""")

# %% [markdown]
# ## 3. Equal means, unequal variances
#
# First against L, the number of z drawn for each image, in the same VAE.  The variance is the sum over all of phi.

# %%
LS = np.array([1, 2, 4, 8, 16, 32])
KINDS = {"score": wires(0, 1, baseline=False), "score with baseline": wires(0, 1), "path": wires(1, 0)}
variances = {name: [] for name in KINDS}
for n in LS:
    eps = rng.standard_normal((max(draws // 3, 50), n, IMAGES, 2))
    for name, estimator in KINDS.items():
        grads = np.array([gradient(estimator, x, e) for e in eps])
        variances[name].append(grads.var(axis=0, ddof=1).sum())
variances = {name: np.array(v) for name, v in variances.items()}
variances["score with baseline"][0] = np.nan               # a lone sample has no others to take a baseline from
more, more_baseline = (np.exp(np.log(variances[name] / variances["path"])[1:].mean()) for name in ("score", "score with baseline"))
print(f"""
3. Variance of the encoder's gradient against L, the number of z per image ({len(eps)} draws each)

   L                    {''.join(f'{n:10d}' for n in LS)}     falls as""")
for name, v in variances.items():
    there = np.isfinite(v)
    row = "".join(f"{value:10.3f}" if np.isfinite(value) else "         -" for value in v)
    print(f"   {name:20s} {row}     L^{np.polyfit(np.log(LS[there]), np.log(v[there]), 1)[0]:.2f}")
print(f"""   A mean of L draws: all fall as 1/L (with a baseline a little faster, as the baseline gets better too).  They differ in height.
   To be as sure as pathwise with one z, the score function needs about {more:.0f} z, and about {more_baseline:.0f} with a baseline.
   Why: it multiplies d log q, whose mean is 0, by all of f = log p(x|z), {f_q.mean():.1f} nats, and learns only from how f differs
   between the z of one image, some {f_spread:.1f} nats.  A baseline takes the common part off: here the mean of f over the image's other z,
   in NVIL a small network of x.  The path is told by df/dz which way to go, in every single sample.""")


# %% [markdown]
# Then against the shape of f.  Pathwise is not always better: it feels the slope of f, and f = cos(k z) can be steep and small.

# %%
def cos_variances(k):
    answers = four_answers(lambda z: np.cos(k * z), lambda z: -k * np.sin(k * z), 1.0, 1.0)
    return answers[PATH][1], answers[SCORE][1]


def crossing(i):
    """The first k at which the pathwise variance passes the score function's; i = 0 for mu, 1 for sigma."""
    grid = np.linspace(0.02, 3, 300)
    above = np.array([np.subtract(*cos_variances(k))[i] > 0 for k in grid])
    first = int(np.argmax(above))
    return brentq(lambda k: np.subtract(*cos_variances(k))[i], grid[first - 1], grid[first])


k_mu, k_sigma = crossing(0), crossing(1)
print("""
   f = cos(k z), mu = sigma = 1, exact variances of one sample

   k            mu: path      score       sigma: path      score""")
for k_shown in (0.5, 1.0, 1.5, 3.0):
    path, score = cos_variances(k_shown)
    print(f"   {k_shown:3.1f}         {path[0]:9.4f}  {score[0]:9.4f}         {path[1]:9.4f}  {score[1]:9.4f}")
print(f"   Pathwise wins for slow waves and loses for fast ones: above k = {k_mu:.2f} for mu, above k = {k_sigma:.2f} for sigma.")

# %% [markdown]
# ## 4. Where pathwise fails: a step, and a discrete h
#
# f = 1[z > 0].  Its slope is 0 wherever it has one, so the path carries nothing.  The density still moves across 0.

# %%
m, s = 0.5, 1.0
t, w = np.polynomial.legendre.leggauss(200)
z = (t + 1) / 2 * (m + 12 * s)                             # the half where f = 1; on the other half f = 0
step_truth = norm.pdf(m / s) / s
step_score = (w * norm.pdf(z, m, s) * (z - m) / s**2).sum() * (m + 12 * s) / 2
step_score_variance = (w * norm.pdf(z, m, s) * ((z - m) / s**2) ** 2).sum() * (m + 12 * s) / 2 - step_score**2
samples = m + s * rng.standard_normal(100_000)
tiny, small = 1e-9, 0.05
step_path = np.mean([((samples + tiny > 0) * 1.0 - (samples > 0)) / tiny])      # eps held, every sample's own slope
jumped = int(((samples + small > 0) != (samples > 0)).sum())
by_jumps = jumped / len(samples) / small
far = m + s * np.linspace(-12, 12, 400_001)                # fine enough for the steepest sigmoid below
print(f"""
4. f = 1[z > 0], z ~ N({m}, {s:.0f}): the gradient of its mean P(z > 0) with respect to mu
   truth, pdf(mu/sigma)/sigma   {step_truth:.6f}
   score                        {step_score:.6f}    variance of one sample {step_score_variance:.4f}
   path                         {step_path:.6f}
   f is flat wherever a sample lies, so each sample's slope is 0.  Move mu by {small} and {jumped} of {len(samples):,} jump across 0:
   {by_jumps:.3f} per sample and unit of mu, near the truth.  Move it by {tiny:.0e} and none does: derivatives see slopes, not jumps.
   Make the step soft, f = sigmoid(z/t), and the path works again, at a price (this is what Gumbel-softmax and Concrete do):""")
for soft in (0.5, 0.1, 0.02):
    p = expit(far / soft)
    slope, density = p * (1 - p) / soft, norm.pdf(far, m, s) * (far[1] - far[0])
    mean, square = (density * slope).sum(), (density * slope**2).sum()
    print(f"   t = {soft:4.2f}:  mean of the path {mean:.6f}, off by {mean - step_truth:+.6f};  variance of one sample {square - mean**2:.4f}")

a, log_P = 0.4, np.array([-3.0, -1.0])                     # log P(x, h) for h = 0 and h = 1


def Q(a):
    return np.array([1 - expit(a), expit(a)])


grad_Q = np.array([-1, 1]) * expit(a) * (1 - expit(a))
u = (np.arange(100_000) + 0.5) / 100_000                   # evenly spread noise
h_path = ((log_P[(u < expit(a + tiny)) * 1] - log_P[(u < expit(a)) * 1]) / tiny).mean()
print(f"""
   A discrete h is such a step of its noise: h = 1[u < Q(h = 1)].  With Q(h = 1) = sigmoid({a}), log P = {log_P[0]:.0f} or {log_P[1]:.0f}:
   d/da of sum over h of Q log P, by differences   {(log_P @ (Q(a + h) - Q(a - h))) / (2 * h):.6f}
   sum over h of log P grad Q                      {log_P @ grad_Q:.6f}
   score, E_Q[log P (h - Q(h = 1))]                {Q(a) @ (log_P * (np.arange(2) - expit(a))):.6f}
   path, u held and h moved                        {h_path:.6f}
   h cannot move a little, only its probability can.  So NVIL, whose h is binary, has no path to take: it must use the score.""")

# %% [markdown]
# ## The picture

# %%
from minivae.app import plots  # noqa: E402  (matplotlib, only now that it is wanted)
from minivae.app.plots import BLUE, GREY, ORANGE, plt  # noqa: E402

DARK = "#2d3748"
out.mkdir(parents=True, exist_ok=True)
with plt.rc_context(plots.STYLE):
    figure, ((four, against_L), (waves, step)) = plt.subplots(2, 2, figsize=(11, 8.6), layout="constrained")

    # the four answers in the VAE
    bins = np.linspace(-0.6 * size, 4.4 * size, 95)
    for name, color, label in ((PATH, BLUE, "path: z moves"), (SCORE, ORANGE, "score: the density moves"), (BOTH, GREY, "both")):
        four.hist(slopes[name], bins=bins, density=True, histtype="stepfilled", color=color, alpha=0.2, lw=0)
        four.hist(slopes[name], bins=bins, density=True, histtype="step", color=color, lw=1.3, label=label)
    top = four.get_ylim()[1]
    for name, words in ((NEITHER, "neither\n0"), (PATH, "path, score\nthe gradient"), (BOTH, "both\ntwice")):
        centre = along @ (exact[name] - from_kl)
        four.vlines(centre, 0, top, color=DARK, lw=1, ls=":")
        four.text(centre, 1.02 * top, words, ha="center", va="bottom", fontsize=9, color=DARK)
    four.set(title="Path and score have one mean; both together count it twice", yticks=[], ylim=(0, 1.2 * top), xlim=(bins[0], bins[-1]),
             xlabel=f"one draw of the encoder's gradient, KL taken off (digits, L = {L})")
    four.spines["left"].set_visible(False)
    four.legend(loc="upper right", bbox_to_anchor=(1, 0.84), title="dotted: the exact means", title_fontsize=9, alignment="left")

    # the variance against L
    for name, color, style, fill in (("score", ORANGE, "-", ORANGE), ("score with baseline", ORANGE, "--", "white"), ("path", BLUE, "-", BLUE)):
        v = variances[name]
        at_one = np.exp(np.nanmean(np.log(v * LS)))        # the 1/L line through the middle of the dots
        against_L.loglog(LS, at_one / LS, style, color=color, lw=1, alpha=0.6)
        against_L.loglog(LS, v, "o", color=color, ms=6, mfc=fill)
        against_L.text(4.4, at_one / 4.4 * 1.4, name, color=color, fontsize=9.5, va="bottom")
    against_L.set(title="Every variance falls as 1/L, from different heights", xlabel="L, samples of z per image",
                  ylabel="variance of the encoder's gradient")
    against_L.set_xticks(LS, LS)
    against_L.minorticks_off()

    # the variance against the frequency
    ks = np.linspace(0.1, 3, 250)
    path_v, score_v = np.array([cos_variances(k) for k in ks]).transpose(1, 2, 0)
    for i, (style, symbol, k_cross) in enumerate((("-", "mu", k_mu), ("--", "sigma", k_sigma))):
        waves.semilogy(ks, path_v[i], style, color=BLUE, lw=2, label=f"path, {symbol}")
        waves.semilogy(ks, score_v[i], style, color=ORANGE, lw=2, label=f"score, {symbol}")
        height = cos_variances(k_cross)[0][i]
        waves.plot(k_cross, height, "o", color="white", mec=DARK, ms=7, zorder=5)
        waves.annotate(f"k = {k_cross:.2f}", (k_cross, height), xytext=((10, -17), (-10, 17))[i], textcoords="offset points",
                       ha=("left", "right")[i], fontsize=9, color=DARK)
    waves.set(title="f = cos(k z): pathwise loses where f is steep", xlabel="k, the frequency of f", ylabel="variance of one sample", ylim=(3e-3, 9))
    waves.legend(loc="lower right", ncols=2)

    # the step: the density crosses it, hardly a sample does
    shift = 0.3
    zs = np.linspace(-3, 4.2, 401)
    now, then, left = norm.pdf(zs, m, s), norm.pdf(zs, m + shift, s), zs <= 0
    step.plot(zs, now, color=GREY, lw=1.5, label="q(z)")
    step.plot(zs, then, color=ORANGE, lw=1.5, label="q(z), mu a little larger")
    step.fill_between(zs[left], then[left], now[left], color=ORANGE, alpha=0.3, lw=0)
    step.annotate("score: this much probability\nhas moved to f = 1", (-0.4, 0.24), xytext=(-3, 0.36), fontsize=9, color=ORANGE, va="bottom",
                  arrowprops={"arrowstyle": "-", "color": ORANGE, "lw": 0.8})
    step.plot([-3, 0, 0, 4.2], [0.62, 0.62, 0.72, 0.72], color=DARK, lw=2)
    step.text(-3, 0.635, "f = 0", fontsize=9, color=DARK)
    step.text(4.2, 0.735, "f = 1", fontsize=9, color=DARK, ha="right")
    step.axvline(0, color=GREY, lw=0.7, ls=":")
    for z0 in norm.ppf([0.04, 0.13, 0.25, 0.4, 0.55, 0.7, 0.83, 0.93], m, s):
        color = DARK if z0 < 0 < z0 + shift else BLUE
        step.annotate("", (z0 + shift, -0.04), (z0, -0.04), arrowprops={"arrowstyle": "->", "color": color, "lw": 1.3, "shrinkA": 0, "shrinkB": 0})
        step.plot(z0, -0.04, "o", color=color, ms=4)
    step.text(4.2, -0.1, "path: each sample slides where f is flat; a jump (dark) has no slope", fontsize=9, color=BLUE, ha="right", va="top")
    step.set(title=f"f = 1[z > 0]: the truth is {step_truth:.3f}, score {step_score:.3f}, path {step_path:.0f}",
             xlabel="z", yticks=[], ylim=(-0.16, 0.78))
    step.spines["left"].set_visible(False)
    step.legend(loc="upper right", bbox_to_anchor=(1, 0.84))
    figure.savefig(out / "what_is_held_constant.png")
    plt.close(figure)

# %% [markdown]
# ## The answer

# %%
print(f"""
Which parameters are held constant when?
- theta's gradient holds phi, phi's gradient holds theta: plain partial derivatives, both from one backward pass.  x is data, always held.
- For phi there is one more thing to say: what becomes of z.  The score function holds z and moves its probability.  Reparameterisation
  holds eps and moves z.  Each is the whole gradient: {by_score:.4f} and {by_path:.4f} where the truth is {2 * d:.4f}; in the VAE equal
  to {apart:.0e}.  Holding both z and q leaves 0, moving both gives {by_both:.4f}, twice the truth.  In code, to hold is to cut a wire.
Why does NVIL look so different from reparameterisation with L samples?
- It is the same derivative written over h instead of eps.  Where h is drawn from Q, the sum over h of log P grad Q is the mean of
  log P grad log Q.  No gradient passes from the decoder to the encoder, only the number log P: hence the noise, {more:.0f} times the
  path's variance in this VAE, {more_baseline:.0f} times with a baseline.  More samples help both alike, as 1/L.
- The path is not always better: for f = cos(k z) it loses above k = {k_mu:.2f} (mu) and {k_sigma:.2f} (sigma).  At a step, and so for a discrete h,
  it gives {step_path:.0f} where the truth is {step_truth:.3f}.  NVIL's h is discrete: the score is what it has.
Where does z come from?  In training from q(z|x), {f_q.mean():.2f} nats a test image against {f_prior.mean():.2f} from the prior; in generation from
the prior, and the encoder is not asked.
wrote {out / 'what_is_held_constant.png'}""")
