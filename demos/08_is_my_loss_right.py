# %% [markdown]
# # Is my loss right?
#
# What people ask most about VAEs.  The loss has two numbers, and each may be a sum or a mean:
#
#     -ELBO = mean over images ( sum over pixels i: -log p(x_i|z)  +  sum over latents j: KL_j )
#
# A mean where a sum belongs is no matter of taste: it changes the KL's weight beside the
# reconstruction, which is called beta.  `minivae.which_loss` reads the convention off two numbers
# and the arrays they came from.

# %%
from pathlib import Path

import numpy as np
import pictures

from minivae import VAE, fit, load_data, which_loss
from minivae.app.loss import print_readings

# after the script's name: a folder for the picture, and the epochs of training
out, EPOCHS = pictures.arguments(Path("runs/demo-08"), 30)
D, Z, B = 64, 8, 100
data, rng = load_data("digits"), np.random.default_rng(0)
grey = data.x_test[:B].astype(float)
x = (rng.random(grey.shape) < grey).astype(float)          # black or white
eps = rng.standard_normal((B, Z))


def trained(beta):
    """A small VAE of the digits, whose KL has the weight beta."""
    vae = VAE.mlp(D, [64], Z, activation="tanh", beta=beta, rng=0, dtype=np.float64)
    fit(vae, data.x_train, epochs=EPOCHS, batch_size=50, lr=3e-3, rng=0)
    return vae


def decoded(vae, mu, logvar):
    """The logits of one z for each image."""
    return vae.to_out.forward(vae.dec.forward(mu + np.exp(logvar / 2) * eps))


vae = trained(beta=1)
mu, logvar = vae.encode(x)
logits = decoded(vae, mu, logvar)
prob = 1 / (1 + np.exp(-logits))
bce = -x * np.log(prob) - (1 - x) * np.log(1 - prob)                  # (B, D)
each_kl = -0.5 * (1 + logvar - mu**2 - np.exp(logvar))                # (B, Z)

print(f"1. A VAE of the digits ({D} pixels, {Z} latents), {B} test images\n")
loss = which_loss(bce.sum(1).mean(), each_kl.sum(1).mean(), x, logits, mu, logvar)
print(loss)
assert loss.named and loss.mending() == []

# %% [markdown]
# ## 2. What public code computes
#
# Each pattern is restated here in NumPy on the same images.  The first two numbers are what its
# user would see.

# %%
square = (x - prob)**2
log_std_kl = -0.5 * (1 + 2 * logvar - mu**2 - np.exp(logvar)**2)
PATTERNS = {
    # mean over pixels, KL summed: its pull request puts the factor D back
    "keras #3373": (bce.mean(), each_kl.sum(1).mean()),
    # the blog's version: both are means, over 64 pixels and over 8 latents
    "keras #6015": (bce.mean(), each_kl.mean()),
    # KLD /= batch * 784 beside a mean over the pixels: asked about three times, and right
    "pytorch/examples #234": (bce.mean(), each_kl.sum() / (B * D)),
    # what the example has had since: both summed over everything
    "pytorch/examples #824": (bce.sum(), each_kl.sum()),
    # mse_loss is a mean, its KL a sum over the batch as well
    "MMVAE PR #19": (square.mean(), each_kl.sum()),
    # kld_weight = 0.00025 beside a mean of squares: the beta that it amounts to is larger
    "PyTorch-VAE #56": (square.mean(), 0.00025 * each_kl.sum(1).mean()),
    # it prints -KLD; the loss itself has the sign right
    "PyTorch-VAE #68": (square.mean(), -each_kl.sum(1).mean()),
    # the formula for log std, on an array that is called logvar
    "gae-pytorch #3": (bce.sum(1).mean(), log_std_kl.sum(1).mean()),
    # the 5e-4 in place of 0.5: a weight of 0.001
    "deep-learning-with-python #120": (bce.mean(), 0.001 * each_kl.mean()),
}
print("\n2. Public code, by its thread\n")
print("   thread                             recon         kl      beta")
betas, readings = {}, {}
for thread, (recon, kl) in PATTERNS.items():
    loss = which_loss(recon, kl, x, logits, mu, logvar)
    readings[thread] = loss
    if kl > 0:                                             # a printed -KL is no loss
        betas[thread] = loss.beta
    assert loss.named, loss
    print(f"   {thread:31} {recon:9.5g} {kl:10.5g} {loss.beta:9.4g}")
    print(f"  recon: {loss.recon[0].words}\n  kl:    {loss.kl[0].words}")
print("\n   All that is said of the first one:\n")
print(readings["keras #3373"])

# %% [markdown]
# A squared error counts as that of a Gaussian of variance 1.  A beta of 1 need not look like 1:
# "divided by 784" on both sides cancels.
#
# ## 3. Two numbers alone
#
# From the arrays the formula is seen, too.  From two numbers, `minivae loss` lists every way
# to have added them up that a model can have: here for the first pattern.

# %%
recon, kl = PATTERNS["keras #3373"]
print("\n3. Two numbers alone: minivae loss --recon .. --kl ..\n")
print_readings(float(f"{recon:.5g}"), float(f"{kl:.5g}"), D, Z, B, as_json=False)

# %% [markdown]
# ## 4. When it cannot tell, it says so
#
# With one image, sum and mean over the batch are one number.  With a free weight every formula
# gives any number: from three digits the weight and the formula cannot be told apart, from one
# number for each image they can.

# %%
print("\n4. Cannot tell\n")
one = which_loss(bce[0].sum(), each_kl[0].sum(), x[:1], logits[:1], mu[:1], logvar[:1])
print(one, "\n")
rough = which_loss(bce.sum(1).mean(), float(f"{4 * each_kl.sum(1).mean():.3g}"),
                   x, logits, mu, logvar)
print(rough, "\n")
told = which_loss(bce.sum(1), 4 * each_kl.sum(1), x, logits, mu, logvar)
print(told)
assert not one.named and not rough.named and told.named

# %% [markdown]
# ## 5. What a mean over pixels does
#
# Adam takes the same steps for a loss times a constant, so a reconstruction divided by D is a KL
# times D.  The latents are then too dear to say anything: their KL falls to 0, and every image gets
# the same reconstruction.  It is called posterior collapse.

# %%
collapsed = trained(beta=D)
kl_of = {1: vae.q_mean_and_kl(x)[1].mean(0), D: collapsed.q_mean_and_kl(x)[1].mean(0)}
recon_of = {}
for beta, model in ((1, vae), (D, collapsed)):
    out_logits = decoded(model, *model.encode(x))
    recon_of[beta] = (np.logaddexp(0, out_logits) - x * out_logits).sum(1).mean()
print(f"\n5. The same VAE, trained with a mean over pixels (beta = {D})\n")
print("   KL of each latent, nats" + " " * 32 + "sum   recon")
for beta, kl in kl_of.items():
    print(f"   beta {beta:3} " + "".join(f"{one:6.3f}" for one in kl)
          + f"{kl.sum():8.3f}{recon_of[beta]:8.2f}")

# %% [markdown]
# ## 6. Grey pixels
#
# A cross-entropy of grey pixels does not fall to 0.  Its least value is the entropy of the pixels,
# where every probability is the grey level itself (pytorch/examples #460).

# %%
grey_bce = np.logaddexp(0, logits) - grey * logits
of_grey = which_loss(grey_bce.sum(1).mean(), each_kl.sum(1).mean(), grey, logits, mu, logvar)
with np.errstate(divide="ignore", invalid="ignore"):
    entropy = np.nan_to_num(-grey * np.log(grey) - (1 - grey) * np.log(1 - grey)).sum(1)
print("\n6. The same reconstructions, scored on the grey pixels themselves\n")
print(of_grey)
assert f"{entropy.mean():.6g}" in of_grey.notes[0]

# %% [markdown]
# ## The answer

# %%
print("\nSum over pixels and latents, mean over the batch.  With a mean over pixels\n"
      f"beta is {betas['keras #3373']:.0f}, and the KL of all latents falls from "
      f"{kl_of[1].sum():.2f} to\n{kl_of[D].sum():.4f} nats.")
print(f"Grey digits cost at least {entropy.mean():.2f} nats an image, whatever the model.")
with pictures.panels(out / "is_my_loss_right.png", 2, 2) as panels:
    pictures.draw_betas(panels[0], betas)
    pictures.draw_kl_of_latents(panels[1], kl_of)
    pictures.draw_rows_of_images(panels[2], {"images": x[:8], "beta = 1": vae.reconstruct(x[:8]),
                                             f"beta = {D}": collapsed.reconstruct(x[:8])})
    pictures.draw_floor(panels[3], entropy, grey_bce.sum(1))
