"""The two rungs of the ladder on convolutions, cut from patches.py."""

from minivae.learn import patches
from minivae.learn.rung import Rung

# patches that overlap, and a width that does not divide
SIZES = "k, stride, padding = 3, 2, 1\nheight, width, C, C_out = 3, 4, Z, K"

RUNGS = [
    Rung("conv", "A convolution: Dense on patches",
         task="Images are (B, height, width, C), C numbers for each pixel.  patches cuts an image "
              "into overlapping patches of k x k pixels, one row for each output pixel, and every "
              "row goes through the same W and b.  dy comes in from above.  Fill in dW and dx.  "
              "patches and its adjoint add_patches are at hand; rows and d_out are matrices.",
         page=patches, functions=("conv_forward", "conv_backward"), gap=("dW", "dx"),
         given=("patches", "add_patches"),
         arrays=f"{SIZES}\nx = rng.standard_normal((B, height, width, C))\n"
                "W = rng.standard_normal((k * k * C, C_out))\nb = rng.standard_normal(C_out)",
         forward="y = conv_forward(x, W, b, k, stride, padding)",
         backward="dx, dW, db = conv_backward(x, W, dy, k, stride, padding)",
         wire="For one patch it is a Dense layer: dW (k*k*C, C_out) sums over all patches of all "
              "images.  dy W' says what each number of a patch gets; a pixel lies in several "
              "patches.",
         index="dW[r, d] = sum over all patches of rows[patch, r] _ _ _ ;  dx = add_patches of "
               "sum over d of dy[n, i, j, d] _ _ _",
         home=("convolutions.py", "Conv.backward"),
         learned="A convolution is Dense on patches; a pixel in several patches gets the sum of "
                 "what they send back."),
    Rung("conv-transpose", "The transposed convolution",
         task="It turns a small image into a large one: every pixel paints a patch of k x k "
              "pixels, and patches that overlap add up.  Forward is the dx of the exercise before "
              "this one.  dy, of the large image's shape, comes in from above.  Fill in rows, dx "
              "and dW; patches is at hand.",
         page=patches, functions=("conv_transpose_forward", "conv_transpose_backward"),
         gap=("rows", "dx", "dW"), given=("patches", "add_patches"),
         arrays=f"{SIZES}\n"
                "x = rng.standard_normal((B, 2, 2, C_out))\n"
                "W = rng.standard_normal((k * k * C, C_out))\nb = rng.standard_normal(C)",
         forward="y = conv_transpose_forward(x, W, b, k, stride, padding, (height, width))",
         backward="dx, dW, db = conv_transpose_backward(x, W, dy, k, stride, padding)",
         wire="x[n, i, j] reached every pixel of the patch that it painted: cut the same patches "
              "out of dy, as rows (B, high, wide, k*k*C).",
         index="rows = patches of _ _ _ ;  dx[n, i, j, d] = sum over r of rows[n, i, j, r] "
               "_ _ _ ;  dW[r, d] = sum over n, i, j of rows[n, i, j, r] _ _ _",
         home=("convolutions.py", "ConvTranspose.backward"),
         learned="Its backward is the forward of a convolution: P and P' change places."),
]
