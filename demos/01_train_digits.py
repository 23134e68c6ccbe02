# %% [markdown]
# # Train a VAE on real digits
#
# 1,797 handwritten digits of 8x8 pixels come with scikit-learn, so nothing is downloaded.
# Run it as a script, or cell by cell in an editor that knows `# %%`.

# %%
import sys
from pathlib import Path

import numpy as np

from minivae import VAE, fit, load_data

out = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/demo-01")
epochs = int(sys.argv[2]) if len(sys.argv) > 2 else 30
data = load_data("digits")
print(f"{data.note}: {data.x_train.shape} to train on, {data.x_test.shape} to test")

# %% [markdown]
# The model: 64 pixels -> 200 hidden units -> 8 latent dimensions, and back.
# A decoder that says "grey" everywhere pays 64 log 2 = 44.36 nats an image, and an untrained one about that.

# %%
vae = VAE.mlp(64, [200], 8, rng=0)
chance = 64 * np.log(2)
history = fit(vae, data.x_train, X_test=data.x_test, epochs=epochs, batch_size=32, lr=2e-3, rng=0)
for row in history[:: max(1, epochs // 6)] + history[-1:]:
    loss = f"loss {row['loss']:6.2f} = recon {row['recon']:6.2f} + kl {row['kl']:5.2f}"
    print(f"epoch {row['epoch']:3d}   {loss}   test ELBO {row['test_elbo']:7.2f} nats")

# %% [markdown]
# ## What it learned

# %%
from minivae.app import plots  # noqa: E402  (matplotlib, only now that it is wanted)

out.mkdir(parents=True, exist_ok=True)
plots.samples(vae.sample(100, rng=0), data.image_shape, out / "samples.png")
plots.reconstructions(data.x_test[:40], vae.reconstruct(data.x_test[:40]), data.image_shape, out / "reconstructions.png")
last = history[-1]
print(f"\nChance is {chance:.2f} nats an image; after {epochs} epochs the test ELBO is {last['test_elbo']:.2f}.")
print(f"Of the loss of {last['loss']:.2f}, {last['kl']:.2f} nats say where in latent space the image is (kl),")
print(f"and {last['recon']:.2f} say which pixels are black, given that (recon).")
print(f"wrote {out / 'samples.png'} and {out / 'reconstructions.png'}")
