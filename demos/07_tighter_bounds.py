# %% [markdown]
# # What do more samples buy, and what do they cost?
#
# One sample of z gives the ELBO.  K samples, averaged inside the logarithm, give a tighter bound:
#
#     L_K = E log ( 1/K sum_k w_k ),   w_k = p(x, z_k) / q(z_k|x)
#
#     ELBO = L_1 <= L_2 <= ... <= log p(x)
#
# (Burda et al. 2016).  First the bound and its gradients are measured on the model of demo 04,
# where log p(x) and the posterior are known: one pixel, one latent, everything Gaussian.
#
#     z ~ N(0, 1)     x | z ~ N(w z, 1)     q(z|x) = N(mu, s^2)
#
# Then a VAE and an IWAE are trained on digits.

# %%
from pathlib import Path

import numpy as np
import pictures

from minivae import VAE, fit, load_data
from minivae import linear_gaussian as lg
from minivae.estimators import ESTIMATORS, Terms, dreg, iwae, log_mean_exp, log_weights
from minivae.likelihoods import GaussianLikelihood
from minivae.linear_gaussian import Decoder, Encoder
from minivae.training.metrics import ACTIVE_VARIANCE, measure

# after the script's name: a folder for the picture, and the epochs of the first part of training;
# two more parts of half as many follow, so each model is trained for twice as many in all
out, FIRST_PART = pictures.arguments(Path("runs/demo-07"), 80)

w, x = 1.5, 3.0
dec, S = Decoder(np.array([[w]]), 1.0), np.array([[x**2]])       # the data are this one x
true = lg.posterior(dec)
v, m = true.Sigma.item(), (true.V * x).item()              # p(z|x) = N(m, v)
delta, s2 = np.sqrt(v), 1.5 * v                            # q misses by one std, and is too wide:
mu = m + delta                                             # s^2 > 3v/4, so E w^4 is finite
log_p = lg.log_evidence(dec, S)
elbo = lg.elbo(dec, Encoder(np.array([[mu / x]]), np.array([[s2]])), S)

# the chi-squared divergence of p from q, Var_q[p(z|x) / q(z|x)] = E_q[(p/q)^2] - 1: a Gaussian
# integral
chi2 = s2 / np.sqrt(v * (2 * s2 - v)) * np.exp(delta**2 / (2 * s2 - v)) - 1

KS = 2 ** np.arange(10)
REPEATS, AT_ONCE = 20_000, 2**19                           # bounds for each K; draws at a time


def log_normal(a, mean, var):
    return -0.5 * ((a - mean) ** 2 / var + np.log(2 * np.pi * var))


def terms(z):
    """What an estimator is told.   z : (K, R), a column for each repeat."""
    return Terms(log_px=log_normal(x, w * z, 1.0), log_pz=log_normal(z, 0.0, 1.0),
                 log_qz=log_normal(z, mu, s2), kl=np.zeros(z.shape[1]), beta=1.0)


def repeats(K, seed):
    """REPEATS columns of K draws from q, some of them at a time."""
    rng = np.random.default_rng([seed, K])
    for first in range(0, REPEATS, AT_ONCE // K):
        yield mu + np.sqrt(s2) * rng.standard_normal((K, min(AT_ONCE // K, REPEATS - first)))


# %% [markdown]
# ## 1. The bound rises to log p(x)
#
# The mean of w is p(x) exactly, so  mean_k w_k / p(x) - 1  has mean 0.  Subtracting it from
# log mean_k w_k moves no mean and removes nearly all noise.  What stays is the curvature of the
# logarithm, which is the gap itself.


# %%
def bound(K):
    """L_K and its standard error."""
    found = []
    for z in repeats(K, 1):
        log_ratio = log_mean_exp(log_weights(terms(z))) - log_p
        found.append(log_p + log_ratio - np.expm1(log_ratio))
    found = np.concatenate(found)
    return found.mean(), found.std() / np.sqrt(REPEATS)


L, L_error = np.array([bound(K) for K in KS]).T
gap, gap_error, limit = KS * (log_p - L), KS * L_error, 0.5 * chi2
print("1. The bound L_K, nats")
print(f"   the exact log p(x) is {log_p:.5f}, the exact ELBO {elbo:.5f}\n")
print("      K         L_K     log p - L_K     K (log p - L_K)")
for row in zip(KS, L, log_p - L, gap, gap_error):
    print("   {:4d}    {:8.5f}      {:8.5f}     {:8.4f} +- {:.4f}".format(*row))
print("   K (log p - L_K) tends to 1/2 Var_q[p(z|x)/q(z|x)],")
print(f"   in closed form {limit:.4f}")
assert abs(L[0] - elbo) < 5 * L_error[0] and (L < log_p).all() and (np.diff(L) > 0).all()

# %% [markdown]
# ## 2. The encoder's gradient: IWAE drowns it, DReG does not
#
# The tighter the bound, the less it depends on the encoder: its gradient for phi falls as 1/K.  The
# noise of IWAE's estimator falls only as 1/sqrt(K).  DReG cuts the score wire and weighs the path
# with w~ once more; its noise falls as K^(-3/2) (Rainforth et al. 2018; Tucker et al. 2018).  The
# weights are those of the table in estimators.py.  The decoder has no such trouble: its gradient
# tends to that of log p(x), which is not 0.


# %%
def gradients(estimator, z):
    """The ascent directions for mu and for the decoder's w : (R,) each, one for every repeat."""
    wires, R = estimator(terms(z)), z.shape[1]             # the table divides by R, as by a batch
    dz = wires.decoder * (x - w * z) * w + wires.latent * ((z - mu) / s2 - z)
    dmu = wires.path * dz + wires.score * (z - mu) / s2
    return R * dmu.sum(axis=0), R * (wires.decoder * (x - w * z) * z).sum(axis=0)


def through_the_package(estimator, z):
    """The same from VAE.backward, the mean over the repeats.

    The encoder has weights of 0, so it answers mu and s^2 whatever x is.
    """
    vae = VAE.mlp(1, [], 1, likelihood=GaussianLikelihood(0.0, np.float64), estimator=estimator,
                  dtype=np.float64)
    values = {"to_mu.b": mu, "to_logvar.b": np.log(s2), "to_mean.W": w}
    for name, param, _ in vae.named_params():
        param[...] = values.get(name, 0.0)
    vae.forward(np.full((z.shape[1], 1), x), (z[..., None] - mu) / np.sqrt(s2))
    vae.backward()                                         # of the loss, hence the sign
    return -vae.to_mu.grads["b"].item(), -vae.to_out.grads["W"].item()


def mean_and_std(estimator, K):
    """For mu and for w: the mean and the standard deviation of a single gradient."""
    found = np.concatenate([gradients(estimator, z) for z in repeats(K, 2)], axis=1)
    return found.mean(axis=1), found.std(axis=1)


def power(y):
    """The power of K that y follows, fitted where K >= 16."""
    late = KS >= 16
    return np.polyfit(np.log(KS[late]), np.log(y[late]), 1)[0]


few = next(repeats(4, 0))[:, :50]
here = [np.mean(gradients(e, few), axis=1) for e in (iwae, dreg)]
difference = np.abs(np.subtract(here, [through_the_package(e, few) for e in (iwae, dreg)])).max()
assert difference < 1e-12

# (mu or w, K) each
iwae_mean, iwae_std = np.array([mean_and_std(iwae, K) for K in KS]).transpose(1, 2, 0)
dreg_mean, dreg_std = np.array([mean_and_std(dreg, K) for K in KS]).transpose(1, 2, 0)
size = np.abs(dreg_mean[0])                                # IWAE's own is lost in its noise
snr = {"IWAE": size / iwae_std[0], "DReG": size / dreg_std[0],
       "decoder": np.abs(iwae_mean[1]) / iwae_std[1]}
powers = {name: power(y) for name, y in snr.items()}
dlog_p_dw = lg.log_evidence_grad(dec, S).W.item()
mean_limit = -(chi2 + 1) * delta / (2 * s2 - v)          # d/dmu of -1/2 Var_q[p/q]
print("\n2. The encoder's gradient d L_K/d mu: its mean, and the mean beside the noise\n")
print("                          standard deviation    mean / standard deviation")
print("      K          mean        IWAE       DReG         IWAE       DReG")
for i, K in enumerate(KS):
    row = K, dreg_mean[0, i], iwae_std[0, i], dreg_std[0, i], snr["IWAE"][i], snr["DReG"][i]
    print("   {:4d}   {:11.6f}   {:9.6f}  {:9.6f}   {:10.4f} {:10.4f}".format(*row))
print(f"   VAE.backward and this page, on the same draws: they differ by {difference:.0e}")
print("\n   powers of K, fitted for K >= 16")
print(f"   mean                      K^{power(size):+.2f}")
print(f"   noise, IWAE               K^{power(iwae_std[0]):+.2f}")
print(f"   noise, DReG               K^{power(dreg_std[0]):+.2f}")
print(f"   signal to noise, IWAE     K^{powers['IWAE']:+.2f}   theory -1/2")
print(f"   signal to noise, DReG     K^{powers['DReG']:+.2f}   theory +1/2")
print(f"   signal to noise, decoder  K^{powers['decoder']:+.2f}   theory +1/2 in the end")
print(f"\n   K times the mean at K = {KS[-1]}: {KS[-1] * dreg_mean[0, -1]:.4f},"
      f" its limit {mean_limit:.4f}")
print(f"   the decoder's d L_K/dw at K = 1: {iwae_mean[1, 0]:.4f},"
      f" at K = {KS[-1]}: {iwae_mean[1, -1]:.4f}")
print(f"   its limit d log p/dw is {dlog_p_dw:.4f}")

# %% [markdown]
# The decoder's gradient has the same weights in both, IWAE and DReG.  Its signal to noise grows as
# K^(1/2) once its mean has settled.  The ratio alone would prove nothing: a biased estimator can
# have a high one.
#
# ## 3. Three models of the digits, five samples each
#
# Same start, same data, same number of steps and draws; only the weights on the wires differ.  A
# latent is active where the variance of its posterior mean over the images exceeds 0.01 (Burda et
# al. 2016).

# %%
digits = load_data("digits")
rng = np.random.default_rng(0)
x_test = (rng.random(digits.x_test.shape, np.float32) < digits.x_test).astype(np.float32)
Z, K, DRAWS = 20, 5, min(500, 20 * FIRST_PART)
# epochs and learning rates: smaller steps at the end, so that unused latents come to rest
PLAN = [(FIRST_PART, 2e-3), (FIRST_PART // 2, 5e-4), (FIRST_PART // 2, 1e-4)]
epochs = sum(n for n, _ in PLAN)
print(f"\n3. Trained on {len(digits.x_train)} digits with K = {K} for {epochs} epochs,")
print(f"   judged on {len(x_test)} others with {DRAWS} draws each; nats per image\n")
print(f"   estimator       ELBO     log p(x)   log p(x) - ELBO   active units of {Z}")
reports, active = {}, {}
for name in ("elbo", "iwae", "dreg"):
    vae = VAE.mlp(x_test.shape[1], [200], Z, estimator=ESTIMATORS[name], rng=0)
    for part, (n, lr) in enumerate(PLAN):
        if n:
            fit(vae, digits.x_train, epochs=n, batch_size=32, lr=lr, samples=K, rng=[0, part])
    reports[name] = r = measure(vae, x_test, DRAWS, rng=1)
    active[name] = int((r.mu_variance > ACTIVE_VARIANCE).sum())
    row = name, r.elbo.mean(), r.log_px.mean(), (r.log_px - r.elbo).mean(), active[name]
    print("   {:9s}   {:8.2f}     {:8.2f}   {:15.2f}   {:15d}".format(*row), flush=True)

# %% [markdown]
# ## The answer
#
# What do more samples buy?  A tighter bound.  What do they cost?  A bound that needs the encoder
# less tells it less: IWAE's gradient becomes small beside its noise.  DReG's weights on the same
# wires give the same mean with less noise.
#
# The ELBO wants the posterior to be like q and pays for it in latents.  L_K is content when one of
# its K draws is good, and lets q be further from the posterior (Burda et al. 2016).  This is one
# seed: a latent more or 0.1 nats may be chance.

# %%
print(f"\nThe ELBO, L_1, misses log p(x) by {log_p - elbo:.4f} nats.")
print(f"L_{KS[-1]} misses it by {log_p - L[-1]:.6f}.")
print(f"K times what is missing came to {gap[-1]:.4f}; the exact limit is {limit:.4f}.")
print(f"Signal to noise of the encoder's gradient, from K = 1 to K = {KS[-1]}:")
for name, y in list(snr.items())[:2]:
    print(f"   {name}   from {y[0]:6.3f} to {y[-1]:6.3f}, as K^{powers[name]:+.2f}")
with pictures.panels(out / "tighter_bounds.png", 2, 2, size=(11, 8)) as panels:
    pictures.draw_bound(panels[0], KS, L, log_p, elbo)
    pictures.draw_scaled_gap(panels[1], KS, gap, gap_error, limit)
    pictures.draw_signal_to_noise(panels[2], KS, snr, powers)
    variances = {name: report.mu_variance for name, report in reports.items()}
    pictures.draw_units(panels[3], variances, active, ACTIVE_VARIANCE)
