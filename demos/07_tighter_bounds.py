# %% [markdown]
# # What do more samples buy, and what do they cost?
#
# One sample of z gives the ELBO.  K samples, averaged inside the logarithm, give a tighter bound:
#
#     L_K = E log ( 1/K sum_k w_k ),   w_k = p(x, z_k) / q(z_k|x),       ELBO = L_1 <= L_2 <= ... <= log p(x)
#
# (Burda et al. 2016).  First the bound and its gradients are measured on the model of demo 04, where log p(x) and
# the posterior are known: one pixel, one latent, everything Gaussian.
#
#     z ~ N(0, 1)     x | z ~ N(w z, 1)     q(z|x) = N(mu, s^2)
#
# Then a VAE and an IWAE are trained on digits.

# %%
import sys
from pathlib import Path

import numpy as np

from minivae import VAE, estimators, fit
from minivae import linear_gaussian as lg
from minivae.data import load_data
from minivae.estimators import Terms, log_mean_exp
from minivae.likelihoods import GaussianLikelihood
from minivae.linear_gaussian import Decoder, Encoder
from minivae.training.batches import draw
from minivae.training.metrics import ACTIVE, measure

out = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/demo-07")
EPOCHS = int(sys.argv[2]) if len(sys.argv) > 2 else 80

w, x = 1.5, 3.0
dec, xc = Decoder(np.array([[w]]), 1.0), np.array([[x]])         # the data are this one x, their mean 0
true = lg.posterior(dec)
v, m = true.Sigma.item(), (true.V * x).item()                    # p(z|x) = N(m, v)
delta, s2 = np.sqrt(v), 1.5 * v                                  # q misses by one std, and is too wide: s^2 > 3v/4, so E w^4 is finite
mu = m + delta
log_p = lg.log_evidence_rows(dec, xc).item()
elbo = lg.elbo(dec, Encoder(np.array([[mu / x]]), np.array([[s2]])), xc @ xc.T)

# Var_q[ p(z|x) / q(z|x) ] = E_q[(p/q)^2] - 1, a Gaussian integral
spread = s2 / np.sqrt(v * (2 * s2 - v)) * np.exp(delta**2 / (2 * s2 - v)) - 1

KS = 2 ** np.arange(10)
REPEATS, ROWS = 20_000, 2**19                                    # bounds for each K; draws of z at a time


def log_normal(a, mean, var):
    return -0.5 * ((a - mean) ** 2 / var + np.log(2 * np.pi * var))


def terms(z):
    """What an estimator is told.   z : (K, R), a column for each repeat."""
    return Terms(log_normal(x, w * z, 1.0), log_normal(z, 0.0, 1.0), log_normal(z, mu, s2), np.zeros(z.shape[1]), 1.0)


def repeats(K, seed):
    """REPEATS columns of K draws from q, a part of them at a time."""
    rng = np.random.default_rng([seed, K])
    for first in range(0, REPEATS, ROWS // K):
        yield mu + np.sqrt(s2) * rng.standard_normal((K, min(ROWS // K, REPEATS - first)))


# %% [markdown]
# ## 1. The bound rises to log p(x)
#
# The mean of w is p(x) exactly, so  mean_k w_k / p(x) - 1  has mean 0.  Subtracting it from log mean_k w_k moves no
# mean and removes nearly all noise: what stays is the curvature of the logarithm, which is the gap itself.


# %%
def bound(K):
    """L_K and its standard error."""
    found = []
    for z in repeats(K, 1):
        log_ratio = log_mean_exp(estimators.log_weights(terms(z))) - log_p
        found.append(log_p + log_ratio - np.expm1(log_ratio))
    found = np.concatenate(found)
    return found.mean(), found.std() / np.sqrt(REPEATS)


L, L_error = np.array([bound(K) for K in KS]).T
gap, limit = KS * (log_p - L), 0.5 * spread
print(f"""1. The bound L_K, nats; the exact log p(x) is {log_p:.5f}, the exact ELBO {elbo:.5f}

      K         L_K      log p - L_K     K (log p - L_K)""")
for K, bound_K, error in zip(KS, L, L_error):
    print(f"   {K:4d}    {bound_K:8.5f}       {log_p - bound_K:8.5f}      {K * (log_p - bound_K):8.4f} +- {K * error:.4f}")
print(f"   K (log p - L_K) tends to 1/2 Var_q[p(z|x)/q(z|x)], in closed form {limit:.4f}.")
assert abs(L[0] - elbo) < 5 * L_error[0] and (L < log_p).all() and (np.diff(L) > 0).all()

# %% [markdown]
# ## 2. The encoder's gradient: IWAE drowns it, DReG does not
#
# The tighter the bound, the less it depends on the encoder: its gradient for phi falls as 1/K.  The noise of IWAE's
# estimator falls only as 1/sqrt(K).  DReG cuts the score wire and weighs the path with w~ once more; its noise falls
# as K^(-3/2) (Rainforth et al. 2018; Tucker et al. 2018).  The weights are those of the table in estimators.py.
# The decoder has no such trouble: its gradient tends to that of log p(x), which is not 0.


# %%
def gradients(estimator, z):
    """The ascent directions for mu and for the decoder's w : (R,) each, one of each for every repeat."""
    t = terms(z)
    wires, R = estimator(t), z.shape[1]                          # the table divides by the number of columns, as by a batch
    dz = wires.path * (wires.decoder * (x - w * z) * w + wires.latent * ((z - mu) / s2 - z))
    dmu = dz + wires.score * (z - mu) / s2
    return R * dmu.sum(axis=0), R * (wires.decoder * (x - w * z) * z).sum(axis=0)


def through_the_package(estimator, z):
    """The same from VAE.backward, averaged over the repeats: an encoder that answers mu and s^2 whatever x is."""
    vae = VAE.mlp(1, [], 1, likelihood=GaussianLikelihood(0.0, np.float64), estimator=estimator, dtype=np.float64)
    values = {"to_mu.W": 0.0, "to_mu.b": mu, "to_logvar.W": 0.0, "to_logvar.b": np.log(s2), "to_mean.W": w, "to_mean.b": 0.0}
    for name, param, _ in vae.named_params():
        param[...] = values[name]
    vae.forward(np.full((z.shape[1], 1), x), (z[..., None] - mu) / np.sqrt(s2))
    vae.backward()                                               # of the loss, hence the sign
    return -vae.to_mu.grads["b"].item(), -vae.to_out.grads["W"].item()


def mean_and_std(estimator, K):
    """For mu and for w: the mean and the standard deviation of a single gradient with K samples."""
    found = np.concatenate([gradients(estimator, z) for z in repeats(K, 2)], axis=1)
    return found.mean(axis=1), found.std(axis=1)


def slope(y):
    """The power of K that y follows, fitted where K >= 16."""
    late = KS >= 16
    return np.polyfit(np.log(KS[late]), np.log(y[late]), 1)[0]


few = next(repeats(4, 0))[:, :50]
difference = max(np.abs(np.mean(gradients(e, few), axis=1) - through_the_package(e, few)).max() for e in (estimators.iwae, estimators.dreg))
assert difference < 1e-12
iwae_mean, iwae_std = np.array([mean_and_std(estimators.iwae, K) for K in KS]).transpose(1, 2, 0)     # (mu or w, K) each
dreg_mean, dreg_std = np.array([mean_and_std(estimators.dreg, K) for K in KS]).transpose(1, 2, 0)
size = np.abs(dreg_mean[0])                                      # the mean both have; IWAE's own is lost in its noise
snr = {"IWAE": size / iwae_std[0], "DReG": size / dreg_std[0], "decoder": np.abs(iwae_mean[1]) / iwae_std[1]}
slopes = {name: slope(y) for name, y in snr.items()}
dlog_p_dw = lg.log_evidence_grad(dec, xc @ xc.T).W.item()
mean_limit = -(spread + 1) * delta / (2 * s2 - v)                # d/dmu of -1/2 Var_q[p/q]
print("""
2. The encoder's gradient d L_K/d mu: its mean, and how large the mean is beside the noise of one estimate

                          standard deviation     mean / standard deviation
      K          mean         IWAE       DReG         IWAE       DReG""")
for i, K in enumerate(KS):
    print(f"   {K:4d}    {dreg_mean[0, i]:10.6f}   {iwae_std[0, i]:10.6f} {dreg_std[0, i]:10.6f}   {snr['IWAE'][i]:10.4f} {snr['DReG'][i]:10.4f}")
print(f"""   VAE.backward and this page, on the same draws: they differ by {difference:.0e}.
   Fitted for K >= 16: the mean falls as K^{slope(size):.2f}, IWAE's noise as K^{slope(iwae_std[0]):.2f}, DReG's as K^{slope(dreg_std[0]):.2f}.
   Signal to noise, fitted: IWAE K^{slopes['IWAE']:+.2f}, DReG K^{slopes['DReG']:+.2f}; theory -1/2 and +1/2.
   K times the mean tends to {mean_limit:.4f}; at K = {KS[-1]} it is {KS[-1] * dreg_mean[0, -1]:.4f}.
   The decoder's gradient d L_K/dw: {iwae_mean[1, 0]:.4f} at K = 1, {iwae_mean[1, -1]:.4f} at K = {KS[-1]}; d log p/dw is {dlog_p_dw:.4f}.
   Its signal to noise grows as K^{slopes['decoder']:+.2f}, with the weights of either; theory +1/2 once the mean has settled.""")

# %% [markdown]
# ## 3. Three models of the digits, five samples each
#
# Same start, same data, same number of steps and draws; only the weights on the wires differ.  A latent is active
# where the variance of its posterior mean over the images exceeds 0.01 (Burda et al. 2016).

# %%
digits = load_data("digits")
rng = np.random.default_rng(0)
x_test = draw(digits.x_test, np.arange(len(digits.x_test)), 1.0, "dynamic", rng, np.dtype(np.float32))
Z, K, DRAWS = 20, 5, min(500, 20 * EPOCHS)
PLAN = [(EPOCHS, 2e-3), (EPOCHS // 2, 5e-4), (EPOCHS // 2, 1e-4)]       # smaller steps at the end: unused latents come to rest
epochs = sum(n for n, _ in PLAN)
reports = {}
print(f"""
3. Trained on {len(digits.x_train)} digits with K = {K} for {epochs} epochs, judged on {len(x_test)} others with {DRAWS} draws each; nats per image

   estimator       ELBO     log p(x)      gap   active units of {Z}""")
for name in ("elbo", "iwae", "dreg"):
    vae = VAE.mlp(x_test.shape[1], [200], Z, estimator=estimators.ESTIMATORS[name], rng=0)
    for part, (n, lr) in enumerate(PLAN):
        if n:
            fit(vae, digits.x_train, epochs=n, batch_size=32, lr=lr, samples=K, rng=[0, part])
    reports[name] = r = measure(vae, x_test, DRAWS, rng=1)
    print(f"   {name:9s}   {r.elbo.mean():8.2f}     {r.log_px.mean():8.2f}   {(r.log_px - r.elbo).mean():6.2f}   {(r.mu_variance > ACTIVE).sum():6d}",
          flush=True)
active = {name: int((r.mu_variance > ACTIVE).sum()) for name, r in reports.items()}
log_px = {name: r.log_px.mean() for name, r in reports.items()}
wide = {name: (r.log_px - r.elbo).mean() for name, r in reports.items()}

# %% [markdown]
# ## The picture

# %%
from minivae.app import plots  # noqa: E402  (matplotlib, only now that it is wanted)
from minivae.app.plots import BLUE, GREY, ORANGE, plt  # noqa: E402

out.mkdir(parents=True, exist_ok=True)
with plt.rc_context(plots.STYLE):
    figure, ((bounds, scaled), (noise, units)) = plt.subplots(2, 2, figsize=(11, 8), layout="constrained")
    for axes in (bounds, scaled, noise):
        axes.set_xscale("log", base=2)
        axes.set_xticks(KS, KS)
        axes.set_xlabel("samples K")

    bounds.axhline(log_p, color=GREY, lw=1.2, ls="--")
    bounds.text(1, log_p + 0.012, "log p(x), exact", color=GREY)
    bounds.fill_between(KS, L, log_p, color=BLUE, alpha=0.12, lw=0)
    bounds.plot(KS, L, "o-", color=BLUE, ms=5)
    bounds.annotate("K = 1: the ELBO", (1, elbo), (1.5, elbo), color=BLUE, va="center")
    bounds.set(title="1. The bound L_K rises to log p(x)", ylabel="nats", ylim=(elbo - 0.06, log_p + 0.07))

    scaled.errorbar(KS, gap, KS * L_error, fmt="o-", color=BLUE, ms=5, capsize=3)
    scaled.axhline(limit, color=GREY, lw=1.2, ls="--")
    scaled.text(1, limit - 0.006, "half the variance of p(z|x)/q(z|x), exact", color=GREY, va="top")
    scaled.set(title="K times what is missing has a limit", ylabel="K (log p - L_K), nats", ylim=(limit - 0.05, gap.max() + 0.03))

    late = KS >= 16
    for name, color, marker in (("DReG", BLUE, "o"), ("IWAE", ORANGE, "s")):
        power = slopes[name]
        noise.loglog(KS, snr[name], marker, color=color, ms=5, label=f"{name}: {'grows' if power > 0 else 'falls'} as $K^{{{power:.2f}}}$")
        middle, centre = np.exp(np.log(snr[name][late]).mean()), np.exp(np.log(KS[late]).mean())
        noise.loglog(KS[late], middle * (KS[late] / centre) ** power, color=color, lw=1.5)
    noise.set_xscale("log", base=2)
    noise.set_xticks(KS, KS)
    noise.set(title="2. The encoder's gradient beside its noise; the lines are fitted", ylabel="mean / standard deviation")
    noise.set_ylim(snr["IWAE"].min() / 1.6, snr["DReG"].max() * 6)
    noise.legend(loc="upper left")

    for name, color, marker in (("elbo", GREY, "^"), ("iwae", ORANGE, "s"), ("dreg", BLUE, "o")):
        units.semilogy(np.arange(1, Z + 1), np.sort(reports[name].mu_variance)[::-1], marker + "-", color=color, ms=5, lw=1,
                       label=f"{name}, K = {K}: {active[name]} active")
    units.axhline(ACTIVE, color="#2d3748", lw=1, ls="--")
    units.text(0.8, ACTIVE * 1.06, "active above 0.01", color="#2d3748", va="bottom")
    units.set(title="3. How far each latent's mean moves over the digits", xlabel="latents, the busiest first",
              ylabel="variance of the posterior mean", ylim=(8e-4, 1.3))
    units.xaxis.get_major_locator().set_params(integer=True)
    units.legend(loc="lower left")
    figure.savefig(out / "tighter_bounds.png")
    plt.close(figure)

# %% [markdown]
# ## The answer

# %%
(iwae_first, *_, iwae_last), (dreg_first, *_, dreg_last) = snr["IWAE"], snr["DReG"]


def in_turn(numbers, form):
    """"a under elbo, b under iwae and c under dreg"."""
    first, second, third = (f"{number:{form}} under {name}" for name, number in numbers.items())
    return f"{first}, {second} and {third}"


print(f"""
What do more samples buy?  A tighter bound: L_1, the ELBO, missed log p(x) by {log_p - elbo:.4f} nats, L_{KS[-1]} by {log_p - L[-1]:.6f}, and K times
what is missing came to {gap[-1]:.4f}, where the exact limit is {limit:.4f}.
What do they cost?  A bound that needs the encoder less tells it less.  Signal to noise of IWAE's gradient went from
{iwae_first:.3f} at K = 1 to {iwae_last:.3f} at K = {KS[-1]}, as K^{slopes['IWAE']:.2f}.  With DReG's weights on the same wires it went
from {dreg_first:.2f} to {dreg_last:.2f}, as K^{slopes['DReG']:+.2f}, and the mean is the same.
The ratio alone would prove nothing: a biased estimator can have a high one.
On digits with K = {K}, {Z} latents:
   active units        {in_turn(active, 'd')}
   log p(x)            {in_turn(log_px, '.2f')}
   log p(x) - ELBO     {in_turn(wide, '.2f')}
The ELBO wants the posterior to be like q and pays for it in latents; L_K is content when one of its K draws is good, and
lets q be further from the posterior (Burda et al. 2016).  This is one seed and {epochs} epochs: a latent more or 0.1 nats may be chance.
wrote {out / 'tighter_bounds.png'}""")
