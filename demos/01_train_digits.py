# %% [markdown]
# # Train a VAE on real digits
#
# 1,797 handwritten digits of 8x8 pixels come with scikit-learn, so nothing is downloaded.
# Run it as a script, or cell by cell in a notebook or an editor that knows `# %%`.

# %%
from pathlib import Path

import numpy as np
import pictures

from minivae import VAE, fit, load_data

# after the script's name: a folder for the pictures, and the number of epochs
out, epochs = pictures.arguments(Path("runs/demo-01"), 30)
data = load_data("digits")
print(data.note)
print(f"to train on: {data.x_train.shape}, to test: {data.x_test.shape}")

# %% [markdown]
# The model: 64 pixels -> 200 hidden units -> 8 latent dimensions, and back.
# A decoder that says "grey" everywhere pays 64 log 2 = 44.36 nats an image.
# An untrained decoder pays about as much.

# %%
vae = VAE.mlp(64, [200], 8, rng=0)
history = fit(vae, data.x_train, X_test=data.x_test, epochs=epochs, batch_size=32, lr=2e-3, rng=0)
last = history[-1]
shown = {*range(0, epochs, max(1, epochs // 6)), epochs - 1}
print("\nepoch     loss  =  recon   +    kl    test ELBO    (nats per image)")
for row in (history[i] for i in sorted(shown)):
    print(f"{row['epoch']:5d}   {row['loss']:6.2f}    {row['recon']:6.2f}    {row['kl']:6.2f}"
          f"   {row['test_elbo']:10.2f}")

# %% [markdown]
# ## What it learned
#
# The loss has two parts.  kl is what it costs to say where in latent space the image is;
# recon is what it then costs to say which pixels are black.

# %%
print(f"\nChance is {64 * np.log(2):.2f} nats an image.")
print(f"After {epochs} epochs the test ELBO is {last['test_elbo']:.2f}.")
print(f"Of the loss of {last['loss']:.2f}")
print(f"   {last['kl']:5.2f} nats say where in latent space the image is (kl),")
print(f"   {last['recon']:5.2f} nats say which pixels are black, given that (recon).")

# %% [markdown]
# The second picture has rows in pairs: images of the test set, and below each what the model
# makes of it.

# %%
new = vae.sample(100, rng=0)
x = data.x_test[:40]
rows = [a.reshape(4, 10, 64) for a in (x, vae.reconstruct(x))]
pairs = np.stack(rows, axis=1).reshape(80, 64)             # ten images, then what becomes of them
shape = data.image_shape
pictures.sheet(out / "samples.png", new, shape, 10, "new images: z from N(0, I), decoded")
pictures.sheet(out / "reconstructions.png", pairs, shape, 10, "images, and below each its copy")
