# %% [markdown]
# # Does backprop start at the decoder and run all the way to the encoder?
#
# Yes.  This is `VAE.backward`, one node at a time, with the size of the gradient at each (without the two nodes
# whose weight is 0 here, because the KL is analytic).
# Then every parameter's gradient is taken apart: what came from the reconstruction, what from the KL.

# %%
import sys

import numpy as np

from minivae import VAE, fit, load_data
from minivae.estimators import Terms, elbo

epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 5
data = load_data("digits")
vae = VAE.mlp(64, [32], 4, rng=0, dtype=np.float64)
fit(vae, data.x_train, epochs=epochs, batch_size=32, lr=2e-3, rng=0)        # a little, so that the KL has something to say
x = (data.x_train[:50] > 0.5).astype(float)
eps = np.random.default_rng(1).standard_normal((1, 50, 4))


def show(name, array, remark):
    print(f"  {name:10s} {str(array.shape):10s} norm {np.linalg.norm(array):9.5f}   {remark}")


# %% [markdown]
# ## Forward, left to right

# %%
print(f"\nforward, on {len(x)} digits after {epochs} epochs of training")
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

# %%
wires = elbo(Terms(log_px[None], log_pz[None], log_qz[None], kl, beta=1.0))
print("\nbackward")
show("dlog_px", -wires.decoder, "1. it enters here: d loss / d log p(x|z) = -1/B for each image")
dlogits = vae.likelihood.backward(-wires.decoder[0])
show("dlogits", dlogits, "   (sigmoid(logits) - x) / B")
dg = vae.to_out.backward(dlogits)
show("dg", dg, "   through the decoder's last matrix")
dz = vae.dec.backward(dg)
show("dz", dz, "2. the decoder is crossed: theta's gradients are final")
dmu_z, dlogvar_z = vae.latent.sample_backward(dz)
show("dmu", dmu_z, "3. it splits at the sampling node: dmu = dz")
show("dlogvar", dlogvar_z, "   and dlogvar = dz * eps * std / 2;  eps is a dead end")
dmu_kl, dlogvar_kl = vae.latent.kl_backward(-wires.kl)
show("dmu_kl", dmu_kl, "4. the KL joins: + mu / B")
show("dlogvar_kl", dlogvar_kl, "   and + (exp(logvar) - 1) / 2B")
dh = vae.to_logvar.backward(dlogvar_z + dlogvar_kl) + vae.to_mu.backward(dmu_z + dmu_kl)
show("dh", dh, "5. both heads send back to h: their sum")
vae.enc.backward(dh, input_grad=False)
show("denc.0.W", vae.enc.grads["0.W"], "   the encoder's gradients are final: the walk ends")
by_hand = {name: grad.copy() for name, _, grad in vae.named_params()}

# %% [markdown]
# ## Each parameter's gradient, taken apart
#
# backward is linear in what enters, so the gradient is a sum of two: with the KL's wire cut, and with the decoder's wire cut.


# %%
def recon_only(t):
    return elbo(t)._replace(kl=np.zeros_like(t.kl))


def kl_only(t):
    return elbo(t)._replace(decoder=np.zeros_like(t.log_px))


for wires in (recon_only, kl_only):
    estimators.estimator(elbo.objective)(wires)
parts = {}
for estimator in (elbo, recon_only, kl_only):
    vae.estimator = estimator
    vae.forward(x, eps)
    vae.backward()
    parts[estimator] = {name: grad.copy() for name, _, grad in vae.named_params()}
whole, from_recon, from_kl = parts[elbo], parts[recon_only], parts[kl_only]

print("\nnorm of each gradient      whole  =  reconstruction  +  KL   (the arrays add up, their norms need not)")
for name in whole:
    assert np.allclose(whole[name], by_hand[name], rtol=0, atol=1e-13)          # the walk above is VAE.backward
    assert np.allclose(whole[name], from_recon[name] + from_kl[name], rtol=0, atol=1e-13)
    owner = "theta" if name.startswith(("dec", "to_logits")) else "phi"
    norms = [np.linalg.norm(part[name]) for part in (whole, from_recon, from_kl)]
    print(f"  {name:12s} {owner:6s} {norms[0]:11.6f}     {norms[1]:11.6f}     {norms[2]:11.6f}")

theta = sum(np.linalg.norm(g) for name, g in from_kl.items() if name.startswith(("dec", "to_logits")))
phi = {part: np.sqrt(sum((g**2).sum() for name, g in parts[part].items() if name.startswith(("enc", "to_mu", "to_logvar")))) for part in parts}
print(f"\nBackprop starts at the decoder's output and ends at the encoder's first matrix.  The KL gives the decoder (theta) exactly {theta:.1f};")
print(f"the encoder (phi) hears both: {phi[recon_only]:.4f} through the decoder and z, {phi[kl_only]:.4f} from the KL, {phi[elbo]:.4f} together.")
