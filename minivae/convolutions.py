"""Convolutions: the backward of the one is the forward of the other.  Page 7 of the lesson.

P cuts images into patches: row (n, i, j) of P(x) holds the k x k pixels, with all their channels,
of patch (i, j) in image n.  P only copies, so it is linear.  P^T, its adjoint, adds each number of
a patch to the pixel that it was copied from.  With P a convolution is a Dense layer that reads
every patch.  The other arrays have a row for each pixel here:

    Conv           y = P(x) @ W + b        dW = P(x).T @ dy      dx = P^T(dy @ W.T)
    ConvTranspose  y = P^T(x @ W.T) + b    dW = P(dy).T @ x      dx = P(dy) @ W

db is the sum of dy over images and pixels.  W has a row for each number of a patch in both: Conv
goes with it from a patch to a pixel, ConvTranspose from a pixel to a patch.

Images are (B, H, W, C); in a shape, W is the width.  Patches of k x k pixels start `stride` pixels
apart; `padding` zeros stand around the image.  H' x W' patches fit into it.  By hand, for a 4 x 4
image of one channel, no padding, W = [1, 2, 3, 4] (k = 2), and dy = 1 in every output pixel:

    x =  0  1  2  3        stride 2, no overlap       dx =  1 2 1 2     each pixel is in one patch
         4  5  6  7        P(x) =  0  1  4  5               3 4 3 4
         8  9 10 11                2  3  6  7               1 2 1 2
        12 13 14 15                8  9 12 13               3 4 3 4
                                  10 11 14 15
                           y  =  34  54                dW = sum of the rows of P(x)
                                114 134                   = [20, 24, 36, 40]

With stride 1 there are nine patches.  They overlap: pixel (1, 1) is in four of them, once in each
corner, so its dx is 1 + 2 + 3 + 4 = 10; the corner (0, 0) is in one, and its dx is 1.

Sources: Dumoulin & Visin (2016), arXiv:1603.07285, sections 2 to 4; for the patches Chellapilla et
al. (2006), "High performance convolutional neural networks for document processing", section 3.
"""

import numpy as np

from minivae import cores, kernels
from minivae.layers import Layer, as_rows


class Conv(Layer):
    """y = P(x) @ W + b: every output pixel is a Dense layer of the patch that it sees.

    Parameters
    ----------
    n_in, n_out : int
        Channels of one input and of one output pixel.
    kernel, stride, padding : int
        The size k of a patch; the distance of two patches; the pixels of 0 around the image.
    rng : numpy.random.Generator
        Draws W from U(-a, a) with a = sqrt(6 / (k*k*n_in + k*k*n_out)), as Dense; b starts at 0.
    dtype : float32 for training or float64 for checking.

    Raises
    ------
    ValueError
        For a kernel or stride below 1, or a padding below 0.
    """

    linear = True               # in x, up to b
    skips_input_grad = True     # its backward takes input_grad=False

    def __init__(self, n_in: int, n_out: int, kernel: int, stride: int, padding: int,
                 rng: np.random.Generator, dtype=np.float32):
        super().__init__()
        self.step = checked_step(kernel, stride, padding)
        self.params, self.grads = _weights(kernel, n_in, n_out, n_out, rng, dtype)

    def forward(self, x: np.ndarray) -> np.ndarray:
        """x : (B, H, W, n_in)  ->  y : (B, H', W', n_out).  ValueError where no patch fits."""
        W, b = self.params["W"], self.params["b"]
        n_in = len(W) // self.step[0] ** 2
        x = as_rows(x, (None, None, None, n_in), W.dtype, "x of Conv")
        y = self._work("y", (len(x), *conv_shape(x.shape[1:3], *self.step), len(b)), W.dtype)
        cores.patches_times(x, W, self.step, y, b)             # y = P(x) @ W + b
        self._cache["forward"] = (x, y.shape)
        return y

    def backward(self, dy: np.ndarray, input_grad: bool = True) -> np.ndarray | None:
        """dy : (B, H', W', n_out)  ->  dx : (B, H, W, n_in).  Fills grads["W"] and grads["b"].

        As in Dense: every patch used the same W and b, so their gradients sum over all patches.  A
        pixel that was copied into several patches gets the sum of what comes back from them.
        input_grad=False leaves dx out (None).
        """
        x, y_shape = self._take()
        W = self.params["W"]
        dy = as_rows(dy, y_shape, W.dtype, "dy of Conv")
        cores.patches_transpose_times(x, dy, self.step, self.grads["W"])       # dW = P(x).T @ dy
        cores.sum_pixels(dy, self.grads["b"])                  # db = dy.sum(axis=(0, 1, 2))
        if not input_grad:
            return None
        dx = self._work("dx", x.shape, W.dtype)
        cores.add_patches_times(dy, W, self.step, dx)                          # dx = P^T(dy @ W.T)
        return dx


class ConvTranspose(Layer):
    """y = P^T(x @ W.T) + b: every input pixel paints a patch, and patches that overlap add up.

    It is the dx of a Conv, run forward: from small images to large ones.

    Parameters
    ----------
    n_in, n_out : int
        Channels of one input and of one output pixel.
    kernel, stride, padding : int
        Those of the Conv that would lead back, from y to x.
    out_shape : (int, int)
        H and W of y.  They must be told: with a stride above 1 several sizes give one H', W'.
    rng, dtype : as for Conv

    Raises
    ------
    ValueError
        As Conv; also where no patch fits into out_shape.
    """

    linear = True               # in x, up to b
    skips_input_grad = True     # its backward takes input_grad=False

    def __init__(self, n_in: int, n_out: int, kernel: int, stride: int, padding: int,
                 out_shape: tuple[int, int], rng: np.random.Generator, dtype=np.float32):
        super().__init__()
        self.step, self.out_shape = checked_step(kernel, stride, padding), tuple(out_shape)
        self.in_shape = conv_shape(self.out_shape, *self.step)
        self.params, self.grads = _weights(kernel, n_out, n_in, n_out, rng, dtype)

    def forward(self, x: np.ndarray) -> np.ndarray:
        """x : (B, H', W', n_in)  ->  y : (B, H, W, n_out)."""
        W, b = self.params["W"], self.params["b"]
        x = as_rows(x, (None, *self.in_shape, W.shape[1]), W.dtype, "x of ConvTranspose")
        y = self._work("y", (len(x), *self.out_shape, len(b)), W.dtype)
        cores.add_patches_times(x, W, self.step, y, b)         # y = P^T(x @ W.T) + b
        self._cache["forward"] = (x, y.shape)
        return y

    def backward(self, dy: np.ndarray, input_grad: bool = True) -> np.ndarray | None:
        """dy : (B, H, W, n_out)  ->  dx : (B, H', W', n_in).  Fills grads["W"] and grads["b"].

        dy is cut into patches, as x is in Conv.  P(dy) gives both dW and dx.
        input_grad=False leaves dx out (None).
        """
        x, y_shape = self._take()
        W = self.params["W"]
        dy = as_rows(dy, y_shape, W.dtype, "dy of ConvTranspose")
        cores.patches_transpose_times(dy, x, self.step, self.grads["W"])       # dW = P(dy).T @ x
        cores.sum_pixels(dy, self.grads["b"])                  # db = dy.sum(axis=(0, 1, 2))
        if not input_grad:
            return None
        dx = self._work("dx", x.shape, W.dtype)
        cores.patches_times(dy, W, self.step, dx)                              # dx = P(dy) @ W
        return dx


class Reshape(Layer):
    """The same numbers in another shape: rows to images, or images to rows.

    shape : of one example, e.g. Reshape(28, 28, 1) for images and Reshape(784) for rows.
    """

    linear = True

    def __init__(self, *shape: int):
        super().__init__()
        self.shape = shape

    def forward(self, x: np.ndarray) -> np.ndarray:
        """x : (B, ..)  ->  y : (B, *shape).  ValueError where the number of pixels differs."""
        x = np.ascontiguousarray(x)
        if x[:1].size != np.prod(self.shape) * len(x[:1]):
            raise ValueError(f"x of Reshape must have {np.prod(self.shape)} numbers for each "
                             f"example, to become {self.shape}, got shape {x.shape}")
        self._cache["forward"] = (x.shape,)
        return x.reshape(len(x), *self.shape)

    def backward(self, dy: np.ndarray, input_grad: bool = True) -> np.ndarray | None:
        """dy : (B, *shape)  ->  dx, of x's shape."""
        (x_shape,) = self._take()
        dy = as_rows(dy, (x_shape[0], *self.shape), None, "dy of Reshape")
        return dy.reshape(x_shape)


def conv_shape(shape: tuple[int, int], kernel: int, stride: int, padding: int) -> tuple[int, int]:
    """H', W' of a Conv:  H' = floor((H + 2 padding - kernel) / stride) + 1.

    Raises ValueError where the kernel is larger than the image with its padding.
    """
    H, W = shape
    if min(H, W) + 2 * padding < kernel:
        raise ValueError(f"a kernel of {kernel} x {kernel} does not fit into images of {H} x {W} "
                         f"with a padding of {padding}: take a smaller kernel or fewer layers")
    return tuple((side + 2 * padding - kernel) // stride + 1 for side in (H, W))


def checked_step(kernel: int, stride: int, padding: int) -> tuple[int, int, int]:
    """kernel, stride, padding.  Raises ValueError for one that is out of range."""
    given = ("kernel", kernel, 1), ("stride", stride, 1), ("padding", padding, 0)
    for name, value, least in given:
        if int(value) != value or value < least:
            raise ValueError(f"{name} must be a whole number of at least {least}, got {value}")
    return int(kernel), int(stride), int(padding)


def _weights(kernel: int, n_cut: int, n_pixel: int, n_bias: int, rng: np.random.Generator, dtype
             ) -> tuple[dict, dict]:
    """params and grads: W (k*k*n_cut, n_pixel) and b.  The patches have n_cut channels."""
    shapes = {"W": (kernel**2 * n_cut, n_pixel), "b": n_bias}
    params, grads = ({name: kernels.aligned_zeros(shape, dtype) for name, shape in shapes.items()}
                     for _ in range(2))
    bound = np.sqrt(6.0 / (kernel**2 * (n_cut + n_pixel)))
    params["W"][...] = rng.uniform(-bound, bound, shapes["W"])
    return params, grads
