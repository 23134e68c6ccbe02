# %% [markdown]
# # Is it the ELBO that is differentiated, and how does that move the decoder?
#
#     log p(x) = ELBO + KL( q(z|x) || p(z|x) )
#
# The right side has the encoder phi in both terms, the left side has only the decoder theta.  To watch all three
# numbers we need a VAE so small that each has a closed form: one pixel, one latent, everything Gaussian.
#
#     z ~ N(0, 1)     x | z ~ N(w z, 1)     theta is one number, w
#
# The encoder has one number as well, a: it answers with the posterior that a decoder of weight a would have.
# At a = w that is the true posterior; at a = 0 it is the prior, which is an encoder that says nothing.

# %%
import sys
from pathlib import Path

import numpy as np

from minivae import linear_gaussian as lg
from minivae.linear_gaussian import Decoder, Encoder

out = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/demo-04")
s2 = 1.0
S = np.array([[5.0]])              # the data: mean 0, variance 5, and a Gaussian model sees nothing else of them
best_w = np.sqrt(S[0, 0] - s2)     # maximum likelihood: w^2 + s2 = 5
START = 1.5, 0.3                   # w, a: a fair decoder, an encoder that has hardly begun


def theta(w):
    return Decoder(np.array([[w]]), s2)


def phi(a):
    return lg.posterior(theta(a))


def values(w, a):
    """log p, ELBO, KL(q || posterior), nats per example, each from its own formula."""
    return lg.log_evidence(theta(w), S), lg.elbo(theta(w), phi(a), S), lg.kl_to_posterior(theta(w), phi(a), S)


def elbo_slopes(w, a):
    """d ELBO/dw, and d ELBO/da by the chain rule through V = a/(a^2 + s2) and Sigma = s2/(a^2 + s2)."""
    dtheta, dphi = lg.elbo_grad(theta(w), phi(a), S)
    dV_da, dSigma_da = (s2 - a**2) / (a**2 + s2) ** 2, -2 * a * s2 / (a**2 + s2) ** 2
    return dtheta.W.item(), dphi.V.item() * dV_da + dphi.Sigma.item() * dSigma_da


def log_p_slope(w):
    return lg.log_evidence_grad(theta(w), S).W.item()


# %% [markdown]
# ## 1. log p = ELBO + KL, wherever theta and phi are

# %%
print("1. log p(x) = ELBO + KL(q || true posterior), in nats per example\n")
print("     decoder w   encoder a        ELBO   +      KL   =    their sum      log p")
for w, a in [(1.5, 0.0), START, (1.5, 1.5), (2.0, 0.3), (2.0, 2.0)]:
    log_p, elbo, kl = values(w, a)
    assert abs(log_p - elbo - kl) < 1e-12
    remark = "   q is the posterior: KL = 0" if w == a else ""
    print(f"        {w:4.1f}       {a:4.1f}       {elbo:8.4f}   + {kl:7.4f}   =    {elbo + kl:8.4f}   {log_p:8.4f}{remark}")
print("   Moving a shares log p out anew between the two; log p itself moves only with w.")

# %% [markdown]
# ## 2. What one step of gradient ascent on the ELBO does
#
# The step is taken in one number at a time; the change is measured, not derived.

# %%
print("\n2. One step of length 0.01 up the gradient of the ELBO\n")
print("                                               change of log p    of the ELBO       of the KL")
w, a = START
steps = {"the encoder steps (w = 1.5, a = 0.3)": (w, a, 0.0, 0.01 * np.sign(elbo_slopes(w, a)[1])),
         "the decoder steps, q the posterior (a = 1.5)": (w, w, 0.01 * np.sign(elbo_slopes(w, w)[0]), 0.0),
         "the decoder steps, q a bad one (a = 0.3)": (w, a, 0.01 * np.sign(elbo_slopes(w, a)[0]), 0.0)}
moved = {}
for name, (w, a, dw, da) in steps.items():
    moved[name] = change = np.array(values(w + dw, a + da)) - np.array(values(w, a))
    print(f"   {name:45s}   {change[0]:+10.6f}     {change[1]:+10.6f}      {change[2]:+10.6f}")
encoder_step, good_step, bad_step = moved.values()
w, a = START
here, good, bad = log_p_slope(w), elbo_slopes(w, w)[0], elbo_slopes(w, a)[0]           # d/dw of log p, and of the ELBO at both q
print(f"""
   encoder: log p has no phi in it, so what the ELBO wins the KL loses, and log p stands still.
   decoder: the ELBO holds w in its reconstruction term, E_q[log p(x|z)], so it has a gradient for w like any other function.
            At the posterior that gradient is the one of log p: {good:.6f} and {here:.6f}.
            Elsewhere it is the one of log p minus the one of the KL: {here:.4f} - {here - bad:.4f} = {bad:.4f}.
            Where q is bad enough, raising the ELBO can even lower log p for a while.""")

# %% [markdown]
# ## 3. Gradient ascent and EM climb the same function
#
# EM takes turns: the E step sets a = w, the best phi for this theta; the M step sets w to the best theta for this q.
# Gradient ascent moves both at once, a little.


# %%
def em_path(w, a, steps):
    path = [(w, a)]
    for _ in range(steps):
        path.append((w, w))                                # E step: q is the posterior
        w, a = lg.m_step(phi(w), S).W.item(), w            # M step at s2 = 1: the formula for W has no s2 in it
        path.append((w, a))
    return np.array(path)


def gradient_path(slopes, w, a, lr, steps):
    path = [(w, a)]
    for _ in range(steps):
        dw, da = slopes(w, a)
        w, a = w + lr * dw, a + lr * da
        path.append((w, a))
    return np.array(path)


LR, STEPS = 0.05, 1500
em = em_path(*START, 60)
ascent = gradient_path(elbo_slopes, *START, LR, STEPS)
best_log_p = lg.log_evidence(theta(best_w), S)


def steps_until_best(path, tolerance=1e-6):
    """The first step from which on the ELBO is within the tolerance of the largest log p."""
    gaps = np.array([best_log_p - values(w, a)[1] for w, a in path])
    return int(np.argmax(gaps < tolerance))


em_steps, ascent_steps = -(-steps_until_best(em) // 2), steps_until_best(ascent)
dip = min(lg.log_evidence(theta(w), S) for w, _ in ascent)
elbo_em, elbo_ascent = values(*em[-1])[1], values(*ascent[-1])[1]
print(f"""
3. Two ways up the same ELBO, from w = {START[0]}, a = {START[1]}; the largest log p there is, {best_log_p:.6f}, is at w = {best_w:.4f}
   EM:               w = {em[-1, 0]:.4f}, a = {em[-1, 1]:.4f}, ELBO {elbo_em:.6f};  within 1e-6 nats after {em_steps} steps
   gradient ascent:  w = {ascent[-1, 0]:.4f}, a = {ascent[-1, 1]:.4f}, ELBO {elbo_ascent:.6f};  within 1e-6 nats after {ascent_steps} steps of {LR}
   On its way gradient ascent let log p dip from {values(*START)[0]:.4f} to {dip:.4f} before it rose; EM, whose q is the posterior, never does.""")

# %% [markdown]
# ## 4. A common misreading: minimise KL(q || posterior) over both
#
# For phi alone it is the same as maximising the ELBO.  For theta it is not: the posterior moves with w, and the
# cheapest way to be close to a bad encoder is to become a decoder for which it is right.


# %%
def kl_slopes_down(w, a):
    dw, da = elbo_slopes(w, a)
    return dw - log_p_slope(w), da                         # -dKL = dELBO - dlog p; log p has no a


def only_phi(w, a):
    return 0.0, kl_slopes_down(w, a)[1]


def only_theta(w, a):
    return kl_slopes_down(w, a)[0], 0.0


descent = gradient_path(kl_slopes_down, *START, LR, STEPS)
print(f"""
4. Descending KL(q || posterior) instead, from the same w = {START[0]}, a = {START[1]}
                                      w        a         KL       log p     change of log p""")
for name, slopes in {"over phi alone": only_phi, "over theta and phi": kl_slopes_down, "over theta alone": only_theta}.items():
    w, a = gradient_path(slopes, *START, LR, STEPS)[-1]
    log_p, _, kl = values(w, a)
    print(f"     {name:26s}   {w:6.4f}   {a:6.4f}   {abs(kl):8.6f}   {log_p:9.4f}      {log_p - values(*START)[0]:+8.4f}")
log_p_mute = values(0.0, 0.0)
print(f"""   KL = 0 holds all along the line a = w, also at w = a = 0, a decoder that draws nothing and an encoder that says nothing
   (KL {log_p_mute[2]:.1f}, log p {log_p_mute[0]:.4f}).  Where on that line it stops depends on who moves faster; log p has no say.""")

# %% [markdown]
# ## The same with every number free
#
# Six pixels, two latents, all of W, s2, V and Sigma.

# %%
rng = np.random.default_rng(0)
_, S_big = lg.second_moment(lg.sample(Decoder(rng.standard_normal((6, 2)), 0.5), 1000, rng))
dec, enc = Decoder(0.5 * rng.standard_normal((6, 2)), 1.0), Encoder(0.1 * rng.standard_normal((2, 6)), 0.5 * np.eye(2))
error = abs(lg.log_evidence(dec, S_big) - lg.elbo(dec, enc, S_big) - lg.kl_to_posterior(dec, enc, S_big))
for _ in range(200):
    dec = lg.em_step(dec, S_big)
big_best = lg.max_likelihood(S_big, 2)
print(f"""
   With 6 pixels, 2 latents and every number of W, s2, V, Sigma free: |log p - ELBO - KL| = {error:.0e};
   200 EM steps reach log p = {lg.log_evidence(dec, S_big):.6f}, and probabilistic PCA in closed form has {lg.log_evidence(big_best, S_big):.6f}.""")

# %% [markdown]
# ## 5. What q becomes when the posterior is known
#
# The encoder of a VAE gives independent latents.  The posterior N(0, [[1, r], [r, 1]]) has dependent ones.
# KL(q || p) and KL(p || q) choose different compromises.

# %%
r = 0.9
known = np.array([[1, r], [r, 1]])
reverse, forward = lg.fit_reverse_kl(known), lg.fit_forward_kl(known)
print(f"""
5. A q with independent latents, fitted to a known posterior with correlation {r}
   least KL(q || p), the ELBO's:  variance {reverse[0, 0]:.4f} = 1 - r^2;  the KL left is {lg.gaussian_kl(reverse, known):.4f} = -1/2 log(1 - r^2)
   least KL(p || q):              variance {forward[0, 0]:.4f};           the KL left is {lg.gaussian_kl(known, forward):.4f}
   The ELBO's q is too narrow: it stays where p is large.  The other covers p, and much that p does not.""")

# %% [markdown]
# ## The picture

# %%
from minivae.app import plots  # noqa: E402  (matplotlib, only now that it is wanted)
from minivae.app.plots import BLUE, GREY, ORANGE, plt  # noqa: E402

out.mkdir(parents=True, exist_ok=True)
with plt.rc_context(plots.STYLE):
    figure, ((bounds, surface), (time, ellipses)) = plt.subplots(2, 2, figsize=(11, 9), layout="constrained")

    # the bounds that EM puts under log p, one for each q
    ws = np.linspace(-0.2, 3.4, 200)
    bounds.plot(ws, [lg.log_evidence(theta(w), S) for w in ws], color=BLUE, lw=2.5, label="log p(x), no q in it")
    for i, w in enumerate((em[1, 0] * 0.4, em[1, 0], best_w)):
        bounds.plot(ws, [values(v, w)[1] for v in ws], color=ORANGE, lw=1.2, label="ELBO(w), for three encoders a" if i == 0 else None)
        bounds.plot(w, values(w, w)[0], "o", color=ORANGE, ms=6, label="a = w: they touch" if i == 0 else None)
    bounds.set(title="Every ELBO lies below log p and touches it at a = w", xlabel="decoder w", ylabel="nats per example", ylim=(-3.6, -1.75))
    bounds.legend(loc="upper left")

    # the surface, and three walks on it
    grid = np.linspace(0, 3, 90)
    heights = np.array([[values(w, a)[1] for w in grid] for a in grid])
    levels = best_log_p - np.geomspace(2.5, 0.004, 14)
    surface.contour(grid, grid, heights, levels=levels, colors=GREY, linewidths=0.6, linestyles="-", alpha=0.6)
    surface.plot(grid, grid, color=GREY, lw=1, ls=":")
    surface.text(0.5, 0.53, "a = w: KL = 0", color="#2d3748", fontsize=9, rotation=39, ha="center", va="bottom")
    surface.plot(*em.T, color="#2d3748", lw=1.3, marker="o", ms=3, label="EM, in turns")
    surface.plot(*ascent.T, color=BLUE, lw=2.2, label="gradient ascent of the ELBO")
    surface.plot(*descent.T, color=ORANGE, lw=2.2, label="gradient descent of the KL")
    surface.plot(*descent[-1], "o", color=ORANGE, ms=6)
    surface.plot(*START, "o", color="white", mec="black", ms=8, zorder=5, label="start")
    surface.plot(best_w, best_w, "*", color="black", ms=13, zorder=5, label="maximum likelihood")
    surface.set(title="The ELBO as a landscape: three walks from one start", xlabel="decoder w (theta)", ylabel="encoder a (phi)",
                xlim=(0, 3), ylim=(0, 3))
    surface.legend(loc="upper left", fontsize=8.5, frameon=True, framealpha=1, edgecolor="white")

    # the same walks in time: line log p, shaded the KL below it
    shown = 160
    for path, color, label in ((ascent, BLUE, "ascending the ELBO"), (descent, ORANGE, "descending the KL")):
        log_p, elbo, _ = np.array([values(w, a) for w, a in path[: shown + 1]]).T
        time.plot(log_p, color=color, lw=2.2, label=f"log p, {label}")
        time.plot(elbo, color=color, lw=1, ls="--", label="ELBO on the same walk")
        time.fill_between(np.arange(shown + 1), elbo, log_p, color=color, alpha=0.15, lw=0, label="their gap, the KL")
    time.axhline(best_log_p, color=GREY, lw=0.8, ls=":")
    time.text(shown, best_log_p, "the largest log p", color=GREY, ha="right", va="bottom", fontsize=8.5)
    time.set(title="Both walks close the gap, only one of them gains", xlabel=f"gradient steps of {LR}",
             ylabel="nats per example", ylim=(-3.05, -2.15))
    time.legend(fontsize=8.5)

    # a known posterior and the two fits
    angle = np.linspace(0, 2 * np.pi, 200)
    circle = np.stack([np.cos(angle), np.sin(angle)])
    fits = [(known, GREY, "-", f"posterior p, correlation {r}"),
            (reverse, BLUE, "-", f"least KL(q || p): variance {reverse[0, 0]:.2f}"),
            (forward, ORANGE, "--", f"least KL(p || q): variance {forward[0, 0]:.2f}")]
    for cov, color, style, label in fits:
        ellipses.plot(*(2 * np.linalg.cholesky(cov) @ circle), style, color=color, lw=2, label=label)
    ellipses.fill(*(2 * np.linalg.cholesky(known) @ circle), color=GREY, alpha=0.15, lw=0)
    ellipses.set(title="A q with independent latents, drawn at 2 std", xlabel="z1", ylabel="z2", xlim=(-3.4, 3.4), ylim=(-2.3, 3.5))
    ellipses.set_aspect("equal")
    ellipses.legend(loc="upper left", fontsize=8.5)
    figure.savefig(out / "what_is_maximised.png")
    plt.close(figure)

# %% [markdown]
# ## The answer

# %%
log_p_start, log_p_ascent = values(*START)[0], values(*ascent[-1])[0]
log_p_descent, _, kl_descent = values(*descent[-1])
print(f"""
Is it the ELBO that is differentiated?  Yes, the ELBO and nothing else: a VAE's loss is -ELBO (at beta = 1).  log p and the true
posterior have no closed form in a real VAE and never enter.  The one gradient does two things:
- For the encoder (phi), raising the ELBO is lowering KL(q || posterior): a step changed them by {encoder_step[1]:+.4f} and {encoder_step[2]:+.4f},
  and log p by {abs(encoder_step[0]):.4f}.  The bound moves up to log p.
- For the decoder (theta), the ELBO is an explicit function of theta, through E_q[log p(x|z)].  Where q is the posterior, its gradient is
  that of log p: a step raised the ELBO by {good_step[1]:.4f} and log p by {good_step[0]:.4f}.  Elsewhere theta climbs log p - KL, and may give up
  some log p for a posterior nearer to q (log p {bad_step[0]:+.4f}, ELBO {bad_step[1]:+.4f}); as q nears the posterior the two become one.
Together they brought log p from {log_p_start:.4f} to {log_p_ascent:.4f}, its maximum.  Minimising KL(q || posterior) over both, from the same
start, brought the KL to {abs(kl_descent):.4f} as well, while log p fell to {log_p_descent:.4f}: the KL is the gap, the ELBO is the goal.
wrote {out / 'what_is_maximised.png'}""")
