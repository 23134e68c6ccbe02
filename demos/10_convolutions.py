# %% [markdown]
# # How does a gradient pass a convolution?
#
# Cut the image into patches, P(x), and multiply: y = P(x) @ W.  The way back multiplies, too, and
# adds the patches where they were cut: dx = P^T(dy @ W.T).  So the backward of a convolution is the
# forward of a transposed one, and the other way round.

# %%
from pathlib import Path

import numpy as np
import pictures

from minivae import VAE, check_layer, check_model, fit, load_data
from minivae.convolutions import Conv, ConvTranspose
from minivae.explain.trace import trace

# after the script's name: a folder for the picture, and the number of epochs
out, epochs = pictures.arguments(Path("runs/demo-10"), 8)
rng = np.random.default_rng(0)

# %% [markdown]
# ## 1. By hand
#
# A 4 x 4 image with the pixels 0 to 15, a kernel of 2 x 2, and dy = 1 in every output pixel.  With
# stride 2 each pixel is in one patch.  With stride 1 the patches overlap, and a pixel gets the sum
# of what comes back from each.


# %%
def in_columns(**arrays) -> None:
    """Print small matrices side by side, each with its name above it."""
    texts = [np.array2string(a, formatter={"float": lambda v: f"{v:3.0f}"}).splitlines()
             for a in arrays.values()]
    rows = [list(arrays), *zip(*(text + [""] * (4 - len(text)) for text in texts))]
    for row in rows[: 1 + max(map(len, texts))]:
        print("   " + "".join(f"{cell:22s}" for cell in row).rstrip())


x = np.arange(16.0).reshape(1, 4, 4, 1)
for stride in (2, 1):
    conv = Conv(1, 1, 2, stride, 0, rng, np.float64)
    conv.params["W"][:, 0] = [1, 2, 3, 4]
    y = conv.forward(x)[0, :, :, 0].copy()
    dx = conv.backward(np.ones((1, *y.shape, 1)))[0, :, :, 0]
    print(f"{'1.' if stride == 2 else '  '} stride {stride}: {y.size} patches")
    in_columns(x=x[0, :, :, 0], y=y, dx=dx, dW=conv.grads["W"].reshape(2, 2))

# %% [markdown]
# ## 2. The backward of the one is the forward of the other
#
# Give a Conv and a ConvTranspose the same W and no b.  Then <conv(x), y> = <x, transpose(y)> for
# every x and y.  This makes one the adjoint of the other.  It needs no finite differences.

# %%
conv = Conv(3, 5, 3, 2, 1, rng, np.float64)
transpose = ConvTranspose(5, 3, 3, 2, 1, (8, 9), rng, np.float64)
transpose.params["W"][...] = conv.params["W"]
x, y = rng.standard_normal((2, 8, 9, 3)), rng.standard_normal((2, 4, 5, 5))
left, right = (conv.forward(x) * y).sum(), (x * transpose.forward(y)).sum()
there, back = conv.backward(y).copy(), transpose.forward(y).copy()
turned = transpose.backward(x).copy()
print("\n2. 8 x 9 pixels with 3 channels to 4 x 5 with 5, and back")
print(f"   <conv(x), y>        {left:.12f}")
print(f"   <x, transpose(y)>   {right:.12f}")
print(f"   backward of conv less forward of transpose    {np.abs(there - back).max():g}")
print(f"   backward of transpose less forward of conv    "
      f"{np.abs(turned - conv.forward(x)).max():g}")

# %% [markdown]
# ## 3. The matrix
#
# A convolution is linear, so it is a matrix: column j is what it makes of an image that is 1 in
# pixel j and 0 elsewhere.  The matrix of the transposed one is the transpose, hence the name.  In
# each row stand all nine numbers of W.  The matrix holds each nine times: the weights are shared.

# %%
small = Conv(1, 1, 3, 1, 0, rng, np.float64)
small.params["W"][:, 0] = np.arange(1.0, 10)
small_transpose = ConvTranspose(1, 1, 3, 1, 0, (5, 5), rng, np.float64)
small_transpose.params["W"][...] = small.params["W"]
A = small.forward(np.eye(25).reshape(25, 5, 5, 1)).reshape(25, 9).T.copy()
A_T = small_transpose.forward(np.eye(9).reshape(9, 3, 3, 1)).reshape(9, 25).T.copy()
print(f"\n3. 5 x 5 pixels to 3 x 3: a matrix of {A.shape[0]} x {A.shape[1]}")
print(f"   of its {A.size} numbers {np.count_nonzero(A)} are not 0, "
      f"and {len(np.unique(A)) - 1} are different")
print(f"   the matrix of the transposed one less its transpose   {np.abs(A_T - A.T).max():g}")

# %% [markdown]
# ## 4. Finite differences
#
# They know nothing of patches.  The three gradients of each node, with patches that overlap.

# %%
print("\n4. by hand, and by differences")
for layer, shape in ((Conv(2, 3, 3, 2, 1, rng, np.float64), (2, 6, 6, 2)),
                     (ConvTranspose(3, 2, 3, 2, 1, (6, 6), rng, np.float64), (2, 3, 3, 3))):
    report = check_layer(layer, rng.standard_normal(shape))
    report.raise_if_wrong()
    print("   " + "\n   ".join(str(report).splitlines()[:5]))

# %% [markdown]
# ## 5. A VAE of convolutions
#
# 8 x 8 pixels, then 4 x 4 with 8 channels, 2 x 2 with 16, and 8 latents; the decoder goes back the
# same way.  Beside it stands a dense model with 1.5 times as many parameters.

# %%
data = load_data("digits")
shape, channels = data.image_shape, (8, 16)
twin = VAE.conv(shape, channels, 8, kernel=3, activation="tanh", dtype=np.float64, rng=0)
check_model(twin, data.x_train[:3].round(), rng.standard_normal((3, 8))).raise_if_wrong()
vae, dense = VAE.conv(shape, channels, 8, kernel=3, rng=0), VAE.mlp(64, [40], 8, rng=0)
sizes = [sum(param.size for _, param, _ in model.named_params()) for model in (vae, dense)]
print(f"\n5. {sizes[0]:,} parameters, of dense layers {sizes[1]:,}.  In float64, with tanh, every\n"
      "   gradient of the convolutions passes its check")
print("   epoch   test ELBO: convolutions    dense   (nats per image)")
histories = [fit(model, data.x_train, X_test=data.x_test, epochs=epochs, batch_size=32, lr=3e-3,
                 rng=0) for model in (vae, dense)]
for a, b in zip(*histories):
    print(f"   {a['epoch']:5d}   {a['test_elbo']:23.2f}   {b['test_elbo']:6.2f}")

# %% [markdown]
# ## 6. What each filter gets
#
# A column of W is a filter of 3 x 3 pixels.  Its gradient sums over all patches of all images,
# because every patch used it: dW = P(x).T @ dy.  backward is linear in what enters it, so each
# gradient is the sum of what came from the reconstruction and of what came from the KL.  After some
# training these pull against each other, so each may be larger than dW, their sum.

# %%
x = data.x_test[:100].round()
t = trace(vae, x, rng.standard_normal((1, len(x), 8)), entries=0)
W = t.params["enc.1.W"]                                    # of the first Conv; enc.0 is a Reshape
print(f"\n6. {W.grad.shape[1]} filters, gradients summed over {len(x) * 16:,} patches; norms:")
print("   filter      W     dW   from the reconstruction   from the KL")
for j in range(W.grad.shape[1]):
    size = [np.linalg.norm(a[:, j]) for a in (W.value, W.grad, *W.parts.values())]
    print(f"   {j:6d}  {size[0]:5.2f}  {size[1]:5.3f}   {size[2]:23.3f}   {size[3]:11.3f}")

# %% [markdown]
# ## The answer

# %%
print("\nA gradient passes a convolution as it passes a Dense layer, patch by patch.")
print("Then it is added where the patches were cut: that is the transposed convolution.")
elbos = [history[-1]["test_elbo"] for history in histories]
print(f"Test ELBO on 8 x 8 pixels: {elbos[0]:.2f} with {sizes[0]:,} parameters.")
print(f"Of the dense model: {elbos[1]:.2f} with {sizes[1]:,}.")
with pictures.panels(out / "convolutions.png", 2, 2, size=(11, 7.4)) as axes:
    pictures.draw_matrix(axes[0], A, "The matrix of a convolution, 5x5 to 3x3 pixels")
    pictures.draw_matrix(axes[1], A_T, "That of the transposed one: its transpose")
    pictures.draw_filters(axes[2], W.value, W.grad)
    pictures.draw_images(axes[3], vae.sample(32, rng=0).reshape(4, 8, 8, 8),
                         f"New images, after {epochs} epochs")
