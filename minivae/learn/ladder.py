"""The ladder: every step of the backward pass as an exercise, from a bias to the whole VAE.

A table.  An entry says which functions of a page are shown, which of their lines are open, and
what is said about them; rung.py cuts the files and grades what comes back.
"""

from minivae.learn import twins
from minivae.learn.rung import Rung

DENSE = dict(
    page=twins, functions=("dense_forward", "dense_backward"),
    arrays="x = rng.standard_normal((B, D))\n"
           "W = rng.standard_normal((D, H))\n"
           "b = rng.standard_normal(H)",
    forward="y = dense_forward(x, W, b)",
    backward="dx, dW, db = dense_backward(x, W, dy)")

RUNGS = [
    Rung("bias", "The gradient of a bias",
         task="A layer adds the same b to every row of its output: y = x W + b.  dy, the gradient "
              "of the loss by y, comes in from above.  Fill in db, which has b's shape.  dx and "
              "dW are the next two exercises; leave them open.",
         **DENSE, gap=("db",), later=("dx", "dW"),
         wire="b (H,) reached every one of the B rows of y, and dy is (B, H): db needs one number "
              "for each column.",
         index="db[j] = sum over _ _ _ of dy[n, j]",
         home=("kernels.py", "sum_rows"),
         learned="A value that every row used gets the sum over the rows."),
    Rung("dense-dx", "A Dense layer: the gradient of its input",
         task="y = x W + b, and dy comes in from above.  Fill in dx, which goes on to the layer "
              "below and has x's shape.  dW is the next exercise; leave it open.",
         **DENSE, gap=("dx",), later=("dW",),
         wire="x[n, i] reached every output y[n, j], each through its own weight W[i, j].  dy is "
              "(B, H) and W is (D, H); dx is (B, D).",
         index="dx[n, i] = sum over j of dy[n, j] W[_ _ _]",
         home=("layers.py", "Dense.backward"),
         learned="Forward multiplies by W, backward by W transposed: the sum runs over outputs."),
    Rung("dense-dw", "A Dense layer: the gradient of its weights",
         task="y = x W + b, and dy comes in from above.  Fill in dW, which has W's shape.  These "
              "are the numbers that Adam will move W by.",
         **DENSE, gap=("dW",),
         wire="Every row n used the same W[i, j], to carry x[n, i] to y[n, j].  x is (B, D), dy "
              "is (B, H); dW is (D, H).",
         index="dW[i, j] = sum over _ _ _ of x[n, i] dy[n, j]",
         home=("layers.py", "Dense.backward"),
         learned="A weight's gradient is what came in at its foot times what came back at its "
                 "head, summed over the batch."),
    Rung("relu", "ReLU: a mask",
         task="y = max(x, 0), number by number, behind a Dense layer.  dy comes in from above.  "
              "Fill in dx.",
         page=twins, functions=("relu_forward", "relu_backward"), gap=("dx",),
         arrays="x = rng.choice([-1, 1], (B, D)) * (0.3 + rng.random((B, D)))",
         forward="y = relu_forward(x)", backward="dx = relu_backward(x, dy)",
         wire="Every x[n, j] reached y[n, j] alone, so dx, x and dy all have the shape (B, D).",
         index="dx[n, j] = dy[n, j] where _ _ _ > 0, and 0 elsewhere",
         home=("kernels.py", "relu_backward"),
         learned="A unit that was shut in forward is shut in backward: the mask is that of x."),
]

EXERCISES = {rung.name: rung for rung in RUNGS}
