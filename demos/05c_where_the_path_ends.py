# %% [markdown]
# # Where does the path fail?
#
# At a step, and at a discrete latent.  Score and path have the same mean where f has a slope
# everywhere (demo 05).  Take f = 1[z > 0], with z ~ N(mu, sigma^2).  Its slope is 0 wherever it has
# one, so the path carries nothing.  The density still moves across 0.

# %%
from pathlib import Path

import numpy as np
import pictures
from scipy.stats import norm

from minivae.layers import sigmoid

# after the script's name: a folder for the picture
(out,) = pictures.arguments(Path("runs/demo-05c"))

# %% [markdown]
# ## 1. A step
#
# Move mu by 0.05, and some samples jump over 0; move it by 1e-9, and none does.  Derivatives see
# slopes, not jumps.

# %%
m, s, tiny, small = 0.5, 1.0, 1e-9, 0.05
z = (np.arange(400_000) + 0.5) * 6e-5 - 12                 # the step lies between two of them
density, f, dlog_q = norm.pdf(z, m, s) * 6e-5, z > 0, (z - m) / s**2
truth, step_score = norm.pdf(m / s) / s, density @ (f * dlog_q)
noise_of_one = density @ (f * dlog_q) ** 2 - step_score**2
samples = m + s * np.random.default_rng(1).standard_normal(100_000)
step_path = np.mean([((samples + tiny > 0) * 1.0 - (samples > 0)) / tiny])     # eps held
jumped = int(((samples + small > 0) != (samples > 0)).sum())
per_mu = jumped / len(samples) / small
print(f"1. f = 1[z > 0], z ~ N({m}, {s:.0f}): the gradient of P(z > 0) for mu")
print(f"   truth, pdf(mu/sigma)/sigma   {truth:.6f}")
print(f"   score                        {step_score:.6f}   variance of one {noise_of_one:.4f}")
print(f"   path                         {step_path:.6f}")
print(f"   mu + {small}: {jumped} of {len(samples):,} samples jump, {per_mu:.3f} per unit of mu")

# %% [markdown]
# Make the step soft, f = sigmoid(z/t), and the path works again, at a price: what it differentiates
# is another f.  The harder the step, the less it is off and the noisier it is.  This is what
# Gumbel-softmax and Concrete do.

# %%
print("\n   f = sigmoid(z/t)   mean of the path      off by   variance of one")
for t in (0.5, 0.1, 0.02):
    slope = sigmoid(z / t) * sigmoid(-z / t) / t
    mean, square = density @ slope, density @ slope**2
    print(f"   t = {t:4.2f}   {mean:25.6f}   {mean - truth:+.6f}   {square - mean**2:15.4f}")

# %% [markdown]
# ## 2. A discrete h
#
# It is such a step of its noise u: h = 1[u < Q(h = 1)].  h cannot move a little, only its
# probability can.  So NVIL, whose h is binary, has no path to take: it must use the score.  Where h
# is drawn from Q, the sum over h of log P grad Q is the mean of log P grad log Q.

# %%
a, dx, log_P = 0.4, 1e-4, np.array([-3.0, -1.0])           # log P(x, h) for h = 0 and h = 1
q = sigmoid(a)                                             # Q(h = 1)
Q, grad_Q = np.array([1 - q, q]), np.array([-1, 1]) * q * (1 - q)
dq = (sigmoid(a + dx) - sigmoid(a - dx)) / (2 * dx)
u = (np.arange(100_000) + 0.5) / 100_000                   # evenly spread noise
h_path = ((log_P[(u < sigmoid(a + tiny)) * 1] - log_P[(u < q) * 1]) / tiny).mean()
print(f"\n2. A coin h: Q(h = 1) = sigmoid({a}), log P = {log_P[0]:.0f} or {log_P[1]:.0f}")
print(f"   differences in a of sum over h of Q log P       {log_P @ [-dq, dq]:.6f}")
print(f"   sum over h of log P grad Q                      {log_P @ grad_Q:.6f}")
print(f"   score, E_Q[log P (h - Q(h = 1))]                {Q @ (log_P * ([0, 1] - q)):.6f}")
print(f"   path, u held and h moved                        {h_path:.6f}")

# %% [markdown]
# ## The answer
#
# NVIL's gradient is the same derivative, written over h.  No gradient passes there from the decoder
# to the encoder, only the number log P: hence the noise.  Demo 06 compares the ways to live with
# it.

# %%
print(f"\nAt a step the path gives {step_path:.0f}; the truth is {truth:.3f}.")
print(f"For a coin the path gives {h_path:.0f}; the truth is {log_P @ grad_Q:.3f}.")
print("The score has the truth as its mean, both times.")
with pictures.panels(out / "where_the_path_ends.png", size=(8, 4.8)) as (axes,):
    pictures.draw_step(axes, m, s, truth, step_score, step_path)
