# %% [markdown]
# # Does backprop start at the decoder and run all the way to the encoder?
#
# Yes.  This is `VAE.backward`, one node at a time, with the size of the gradient at each.
# (Two nodes are left out: their weight is 0 here, because the KL is analytic.)
# Then every parameter's gradient is taken apart: what came from the reconstruction, what from
# the KL.

# %%
import numpy as np
import pictures

from minivae import VAE, fit, load_data
from minivae.estimators import Terms, analytic_elbo, elbo, estimator

# after the script's name: the number of epochs
(epochs,) = pictures.arguments(5)
data = load_data("digits")
vae = VAE.mlp(64, [32], 4, rng=0, dtype=np.float64)
# a little training first, so that the KL is not 0
fit(vae, data.x_train, epochs=epochs, batch_size=32, lr=2e-3, rng=0)
x = (data.x_train[:50] > 0.5).astype(float)
eps = np.random.default_rng(1).standard_normal((1, 50, 4))


def show(name, array, remark):
    print(f"  {name:10s} {str(array.shape):8s} {np.linalg.norm(array):9.5f}   {remark}")


# %% [markdown]
# ## Forward, left to right

# %%
print(f"\nforward, on {len(x)} digits after {epochs} epochs of training")
print("  array      shape         norm")
show("x", x, "the images")
h = vae.enc.forward(x)
show("h", h, "encoder")
mu, logvar = vae.to_mu.forward(h), vae.to_logvar.forward(h)
show("mu", mu, "where q(z|x) is")
show("logvar", logvar, "how wide it is")
kl = vae.latent.kl(mu, logvar)
z = vae.latent.sample(mu, logvar, eps)
show("z", z, "z = mu + exp(logvar/2) * eps")
log_qz, log_pz = vae.latent.log_q(z, mu, logvar), vae.latent.log_prior(z)
g = vae.dec.forward(z)
show("g", g, "decoder")
logits = vae.to_out.forward(g)
show("logits", logits, "one per pixel")
log_px = vae.likelihood.forward(logits, x)
loss = (kl - log_px).mean()
print(f"  loss = {loss:.4f} nats an image = recon {-log_px.mean():.4f} + kl {kl.mean():.4f}")

# %% [markdown]
# ## Backward, right to left: the same lines from the bottom up
#
# eps is a dead end: it is drawn, so no parameter lies behind it.

# %%
wires = elbo(Terms(log_px[None], log_pz[None], log_qz[None], kl, beta=1.0))
print("\nbackward")
print("  array      shape         norm")
show("dlog_px", -wires.decoder, "1. it enters here: d loss/d log p(x|z) = -1/B")
dlogits = vae.likelihood.backward(-wires.decoder[0])
show("dlogits", dlogits, "   (sigmoid(logits) - x) / B")
dg = vae.to_out.backward(dlogits)
show("dg", dg, "   through the decoder's last matrix")
dz = vae.dec.backward(dg)
show("dz", dz, "2. the decoder is crossed, theta is filled")
dmu_z, dlogvar_z = vae.latent.sample_backward(dz)
show("dmu", dmu_z, "3. it splits at the sampling node: dmu = dz")
show("dlogvar", dlogvar_z, "   and dlogvar = dz * eps * std / 2")
dmu_kl, dlogvar_kl = vae.latent.kl_backward(-wires.kl)
show("dmu_kl", dmu_kl, "4. the KL joins: + mu / B")
show("dlogvar_kl", dlogvar_kl, "   and + (exp(logvar) - 1) / 2B")
dh = vae.to_logvar.backward(dlogvar_z + dlogvar_kl) + vae.to_mu.backward(dmu_z + dmu_kl)
show("dh", dh, "5. both heads send back to h: their sum")
vae.enc.backward(dh, input_grad=False)
show("denc.0.W", vae.enc.grads["0.W"], "   the encoder is filled: the walk ends")
by_hand = vae.gradient()                                   # every gradient, in one vector

# %% [markdown]
# ## Each parameter's gradient, taken apart
#
# backward is linear in what enters.  So the gradient is the sum of two: one with the KL's wire
# cut, and one with the decoder's wire cut.  An estimator is the weights on those wires.


# %%
@estimator(analytic_elbo)
def recon_only(t):
    """The ELBO's weights with the KL's wire cut."""
    return elbo(t)._replace(kl=np.zeros_like(t.kl))


@estimator(analytic_elbo)
def kl_only(t):
    """The ELBO's weights with the decoder's wire cut."""
    return elbo(t)._replace(decoder=np.zeros_like(t.log_px))


def gradient(weights):
    """Every gradient, in one vector, with these weights on the wires."""
    vae.estimator = weights
    vae.forward(x, eps)
    vae.backward()
    return vae.gradient()


whole, from_recon, from_kl = gradient(elbo), gradient(recon_only), gradient(kl_only)
assert np.allclose(whole, by_hand, rtol=0, atol=1e-13)     # the walk above is VAE.backward
assert np.allclose(whole, from_recon + from_kl, rtol=0, atol=1e-13)


def norms(part):
    """The norm of this part of the vector: of the whole, of the reconstruction's, of the KL's."""
    return [np.linalg.norm(g[part]) for g in (whole, from_recon, from_kl)]


print("\nnorm of each gradient       whole   reconstruction         KL")
start, n_phi = 0, 0                                        # in the vector the encoder comes first
for name, param, _ in vae.named_params():
    part = slice(start, start + param.size)
    start = part.stop
    if name.startswith(("enc", "to_mu", "to_logvar")):
        owner, n_phi = "phi", part.stop
    else:
        owner = "theta"
    print("  {:12s} {:6s} {:11.6f} {:16.6f} {:10.6f}".format(name, owner, *norms(part)))
phi, theta = slice(0, n_phi), slice(n_phi, None)
print("The arrays add up, whole = reconstruction + KL; their norms need not.")

# %% [markdown]
# In the encoder the two parts are each larger than their sum.  They pull against each other: the
# reconstruction wants q(z|x) narrow and far from those of other images, the KL wants it at the
# prior.  Training brings the two towards their balance, where the sum is 0 on average.

# %%
print("\nBackprop starts at the decoder's output.")
print("It ends at the encoder's first matrix.")
print(f"The KL gives the decoder (theta) exactly {norms(theta)[2]:.1f}.")
print("The encoder (phi) gets both.  The norm of its gradient is")
for name, norm in zip(("together", "through the decoder and z", "from the KL"), norms(phi)):
    print(f"   {norm:.4f} {name}")
