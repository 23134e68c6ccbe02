# %% [markdown]
# # Is it the ELBO that is differentiated, and how does that move the decoder?
#
#     log p(x) = ELBO + KL( q(z|x) || p(z|x) )
#
# Bayes' rule gives it: p(x) = p(x, z) / p(z|x) for every z.  Take the logarithm, add and subtract
# log q(z|x), and average over z ~ q:
#
#     log p(x) = E_q[ log p(x, z) - log q(z|x) ] + E_q[ log q(z|x) - log p(z|x) ]
#
# The right side has the encoder phi in both terms, the left side has only the decoder theta.  To
# watch all three numbers we need a VAE so small that each has a closed form: one pixel, one
# latent, everything Gaussian.
#
#     z ~ N(0, 1)     x | z ~ N(w z, 1)     theta is one number, w
#
# The encoder has one number as well, a.  It answers with the posterior that a decoder of weight a
# would have.  At a = w that is the true posterior.  At a = 0 it is the prior: an encoder that says
# nothing.

# %%
from pathlib import Path

import numpy as np
import pictures

from minivae import linear_gaussian as lg
from minivae.linear_gaussian import Decoder, Encoder

# after the script's name: a folder for the picture
(out,) = pictures.arguments(Path("runs/demo-04"))
s2 = 1.0
S = np.array([[5.0]])              # the data: mean 0, variance 5; the model sees nothing else
best_w = np.sqrt(S[0, 0] - s2)     # maximum likelihood: w^2 + s2 = 5
START = 1.5, 0.3                   # w, a: a fair decoder, an encoder that has hardly begun


def theta(w):
    return Decoder(np.array([[w]]), s2)


def phi(a):
    return lg.posterior(theta(a))


def values(w, a):
    """log p, ELBO, KL(q || posterior), nats per example, each from its own formula."""
    dec, enc = theta(w), phi(a)
    return lg.log_evidence(dec, S), lg.elbo(dec, enc, S), lg.kl_to_posterior(dec, enc, S)


def elbo_slopes(w, a):
    """d ELBO/dw and d ELBO/da.

    a enters through V = a / (a^2 + s2) and Sigma = s2 / (a^2 + s2): the chain rule.
    """
    dtheta, dphi = lg.elbo_grad(theta(w), phi(a), S)
    dV_da = (s2 - a**2) / (a**2 + s2) ** 2
    dSigma_da = -2 * a * s2 / (a**2 + s2) ** 2
    return dtheta.W.item(), dphi.V.item() * dV_da + dphi.Sigma.item() * dSigma_da


def log_p_slope(w):
    return lg.log_evidence_grad(theta(w), S).W.item()


def kl_slope(w, a):
    """d KL(q || posterior)/dw, with q held."""
    return lg.kl_to_posterior_grad(theta(w), phi(a), S)[0].W.item()


# %% [markdown]
# ## 1. log p = ELBO + KL, wherever theta and phi are

# %%
print("1. log p(x) = ELBO + KL(q || true posterior), in nats per example\n")
print("   decoder w   encoder a       ELBO  +     KL  =      sum     log p(x)")
for w, a in [(1.5, 0.0), START, (1.5, 1.5), (2.0, 0.3), (2.0, 2.0)]:
    log_p, elbo, kl = values(w, a)
    assert abs(log_p - elbo - kl) < 1e-12
    print(f"   {w:9.1f}   {a:9.1f}   {elbo:8.4f}  {kl:7.4f}  {elbo + kl:8.4f}     {log_p:8.4f}")

# %% [markdown]
# At a = w q is the posterior, and KL = 0.  Moving a moves log p from one term to the other; log p
# itself moves only with w.
#
# ## 2. What one step of gradient ascent on the ELBO does
#
# The step is taken in one number at a time; the change is measured, not derived.

# %%
STEP = 0.01


def encoder_step(w, a):
    return w, a + STEP * np.sign(elbo_slopes(w, a)[1])


def decoder_step(w, a):
    return w + STEP * np.sign(elbo_slopes(w, a)[0]), a


w, bad = START
STEPS = {"encoder steps, a = 0.3": (encoder_step, bad),
         "decoder steps, a = 1.5, q = posterior": (decoder_step, w),
         "decoder steps, a = 0.3, q a bad one": (decoder_step, bad)}
print(f"\n2. One step of length {STEP} up the gradient of the ELBO, from w = {w}")
print("\n   change of                                 log p      ELBO        KL")
changes = {}
for name, (step, a) in STEPS.items():
    changes[name] = np.array(values(*step(w, a))) - np.array(values(w, a))
    print("   {:37s} {:+10.6f} {:+9.6f} {:+9.6f}".format(name, *changes[name]))

print("\n   slope in the decoder's w of               log p      ELBO        KL")
for name, a in (("a = 1.5, q = posterior", w), ("a = 0.3, q a bad one", bad)):
    slopes = log_p_slope(w), elbo_slopes(w, a)[0], kl_slope(w, a)
    assert abs(slopes[0] - slopes[1] - slopes[2]) < 1e-12
    print("   {:37s} {:+10.6f} {:+9.6f} {:+9.6f}".format(name, *slopes))

# %% [markdown]
# The encoder: log p has no phi in it.  What the ELBO wins the KL loses, and log p stands still.
#
# The decoder: the ELBO holds w in its reconstruction term, E_q[log p(x|z)], so it has a gradient
# for w like any other function.  At the posterior that gradient is the one of log p.  The reason:
# the KL is never negative and it is 0 there, so that is its minimum and its slope is 0.
# Elsewhere the ELBO's slope is the one of log p minus the one of the KL.  Where q is bad enough,
# raising the ELBO can even lower log p for a while.
#
# ## 3. Gradient ascent and EM climb the same function
#
# EM takes turns: the E step sets a = w, the best phi for this theta; the M step sets w to the best
# theta for this q.  Gradient ascent moves both at once, a little.


# %%
def em_path(w, a, steps):
    path = [(w, a)]
    for _ in range(steps):
        path.append((w, w))                                # E step: q is the posterior
        w, a = lg.m_step(phi(w), S).W.item(), w            # M step (its W does not depend on s2)
        path.append((w, a))
    return np.array(path)


def gradient_path(slopes, w, a, lr, steps):
    path = [(w, a)]
    for _ in range(steps):
        dw, da = slopes(w, a)
        w, a = w + lr * dw, a + lr * da
        path.append((w, a))
    return np.array(path)


LR, STEPS_UP = 0.05, 1500
em = em_path(*START, 60)
ascent = gradient_path(elbo_slopes, *START, LR, STEPS_UP)
best_log_p = lg.log_evidence(theta(best_w), S)


def steps_until_best(path, tolerance=1e-6):
    """The first step at which the ELBO is within the tolerance of the largest log p."""
    gaps = np.array([best_log_p - values(w, a)[1] for w, a in path])
    return int(np.argmax(gaps < tolerance))


em_steps = -(-steps_until_best(em) // 2)                   # the path has two points for each step
ascent_steps = steps_until_best(ascent)
dip = min(lg.log_evidence(theta(w), S) for w, _ in ascent)
print(f"\n3. Two ways up the same ELBO, from w = {START[0]}, a = {START[1]}")
print(f"   the largest log p there is: {best_log_p:.6f}, at w = {best_w:.4f}\n")
print("                           w        a        ELBO   steps to within 1e-6 nats")
for name, path, steps in (("EM", em, em_steps), ("gradient ascent", ascent, ascent_steps)):
    w, a = path[-1]
    print(f"   {name:18s} {w:6.4f}   {a:6.4f}   {values(w, a)[1]:9.6f}   {steps:4d}")
print(f"   (gradient ascent in steps of {LR} times the gradient)")
print(f"   log p on gradient ascent's way: from {values(*START)[0]:.4f} down to {dip:.4f}, then up")

# %% [markdown]
# On EM's way log p never falls, because its q is the posterior.
#
# ## 4. A common misreading: minimise KL(q || posterior) over both
#
# For phi alone it is the same as maximising the ELBO.  For theta it is not: the posterior moves
# with w, and the cheapest way to be close to a bad encoder is to become a decoder for which it is
# right.


# %%
def kl_slopes_down(w, a):
    """The way down in w and a.   -dKL = dELBO - dlog p, and log p has no a."""
    return -kl_slope(w, a), elbo_slopes(w, a)[1]


def only_phi(w, a):
    return 0.0, kl_slopes_down(w, a)[1]


def only_theta(w, a):
    return kl_slopes_down(w, a)[0], 0.0


WAYS = {"phi alone": only_phi, "theta and phi": kl_slopes_down, "theta alone": only_theta}
print(f"\n4. Descending KL(q || posterior) instead, from w = {START[0]}, a = {START[1]}")
print("\n   over                  w        a         KL     log p   change of log p")
for name, slopes in WAYS.items():
    path = gradient_path(slopes, *START, LR, STEPS_UP)
    w, a = path[-1]
    log_p, _, kl = values(w, a)
    change = log_p - values(*START)[0]
    print(f"   {name:15s} {w:7.4f}  {a:7.4f}   {abs(kl):8.6f}   {log_p:7.4f}   {change:+15.4f}")
    if name == "theta and phi":
        descent = path
log_p_mute, _, kl_mute = values(0.0, 0.0)
print(f"   at w = a = 0          KL {kl_mute:.1f}, log p {log_p_mute:.4f}")

# %% [markdown]
# KL = 0 holds all along the line a = w.  It holds also at w = a = 0, where the decoder draws
# nothing and the encoder says nothing.  Where on that line the walk stops depends on who moves
# faster; log p has no say.
#
# ## The same with every number free
#
# Six pixels, two latents, all of W, s2, V and Sigma.

# %%
rng = np.random.default_rng(0)
_, S_big = lg.second_moment(lg.sample(Decoder(rng.standard_normal((6, 2)), 0.5), 1000, rng))
dec = Decoder(0.5 * rng.standard_normal((6, 2)), 1.0)
enc = Encoder(0.1 * rng.standard_normal((2, 6)), 0.5 * np.eye(2))
parts = lg.elbo(dec, enc, S_big) + lg.kl_to_posterior(dec, enc, S_big)
error = abs(lg.log_evidence(dec, S_big) - parts)
for _ in range(200):
    dec = lg.em_step(dec, S_big)
big_best = lg.max_likelihood(S_big, 2)
print("\n   6 pixels, 2 latents, every number of W, s2, V, Sigma free:")
print(f"   |log p - ELBO - KL|                     {error:.0e}")
print(f"   log p after 200 EM steps            {lg.log_evidence(dec, S_big):9.6f}")
print(f"   log p of probabilistic PCA, exact   {lg.log_evidence(big_best, S_big):9.6f}")

# %% [markdown]
# ## 5. What q becomes when the posterior is known
#
# The encoder of a VAE gives independent latents.  The posterior N(0, [[1, r], [r, 1]]) has
# dependent ones.  KL(q || p), which is the ELBO's, and KL(p || q) choose different compromises.

# %%
r = 0.9
known = np.array([[1, r], [r, 1]])
reverse, forward = lg.fit_reverse_kl(known), lg.fit_forward_kl(known)
print(f"\n5. A q with independent latents, fitted to a known posterior, correlation {r}")
print("\n   least        variance   the KL that is left")
print(f"   KL(q || p)     {reverse[0, 0]:.4f}   {lg.gaussian_kl(reverse, known):.4f}")
print(f"   KL(p || q)     {forward[0, 0]:.4f}   {lg.gaussian_kl(known, forward):.4f}")
print(f"   exact for KL(q || p): variance {1 - r**2:.4f} = 1 - r^2,")
print(f"                         KL {-np.log(1 - r**2) / 2:.4f} = -1/2 log(1 - r^2)")

# %% [markdown]
# The ELBO's q is too narrow: it stays where p is large.  The other covers p, and much that p does
# not.
#
# ## The answer
#
# Is it the ELBO that is differentiated?  Yes, the ELBO and nothing else: a VAE's loss is -ELBO (at
# beta = 1).  log p and the true posterior have no closed form in a real VAE and never enter.  The
# one gradient does two things:
#
# - For the encoder (phi), raising the ELBO is lowering KL(q || posterior).  The bound moves up to
#   log p.
# - For the decoder (theta), the ELBO is an explicit function of theta, through E_q[log p(x|z)].
#   Where q is the posterior, its gradient is that of log p.  Elsewhere theta climbs log p - KL, and
#   may give up some log p for a posterior nearer to q.  As q nears the posterior the two become
#   one.
#
# The KL is the gap, the ELBO is the goal.

# %%
print("\nOne step up the ELBO changed                 ELBO        KL     log p")
for name, (log_p, elbo, kl) in changes.items():
    print(f"   {name:37s} {elbo:+.4f}   {kl:+.4f}   {log_p:+.4f}")
print("Many steps over both theta and phi, from one start:")
print(f"   raising the ELBO brought log p from {values(*START)[0]:.4f}"
      f" to {values(*ascent[-1])[0]:.4f}, its maximum;")
print(f"   minimising KL(q || posterior) brought the KL to {abs(values(*descent[-1])[2]):.4f},")
print(f"   while log p fell to {values(*descent[-1])[0]:.4f}.")

# %% [markdown]
# ## The picture

# %%
with pictures.panels(out / "what_is_maximised.png", 2, 2, size=(11, 9)) as panels:
    pictures.draw_bounds(panels[0], values, shown=[0.4 * em[1, 0], em[1, 0], best_w])
    pictures.draw_walks(panels[1], values, em, ascent, descent, best_w)
    pictures.draw_gap(panels[2], values, ascent, descent, best_log_p, LR)
    pictures.draw_ellipses(panels[3], known, reverse, forward)
