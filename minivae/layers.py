"""Layers: one node of a network each, forward beside backward.  Page 1 of the lesson.

Reading order: 0 first, 1 layers, 2 likelihoods, 3 latents, 4 vae, 5 estimators, 6 discrete,
7 convolutions.
This page turns the lines `... @ W + b` and `tanh(..)` of page 0, and the lines that undo them, into
classes.

Shape letters, in every file: B batch, K samples, D pixels, H hidden units, Z latent dimensions.
`dfoo` always means d(loss)/d(foo) and always has foo's shape.  A kernel is a loop that Numba
compiles; beside each call stands the NumPy line that it computes.  A layer, or any pair of a
forward and a backward, is also called a node.

Who owns which array: a layer keeps what comes in, without a copy, until backward has used it.  What
forward and backward return may be the layer's own work buffer.  It stays valid until the next call
of the same method; copy it to keep it longer.

Every forward and backward raises ValueError for an array whose shape does not fit, and every
backward raises RuntimeError without a forward before it.
"""

import math

import numpy as np

from minivae import cores, kernels


class Layer:
    """What every layer has: params and grads (same keys, same shapes), and a cache.

    forward puts into the cache what backward needs; backward takes it out, once.  backward
    OVERWRITES grads in place: nothing accumulates, so there is no zero_grad to forget.
    """

    def __init__(self):
        self.params: dict[str, np.ndarray] = {}
        self.grads: dict[str, np.ndarray] = {}
        self._cache: dict[str, tuple] = {}
        self._buffers: dict[str, np.ndarray] = {}

    def _take(self, node: str = "forward") -> tuple:
        """What `node` kept for its backward; a second backward needs a second forward."""
        if node not in self._cache:
            back = "backward" if node == "forward" else f"{node}_backward"
            name = type(self).__name__
            raise RuntimeError(f"{name}.{back} called without a {node} before it")
        return self._cache.pop(node)

    def _work(self, name: str, shape: tuple, dtype) -> np.ndarray:
        """A work array of this layer's own, made anew only when the shape or dtype changes."""
        array = self._buffers.get(name)
        if array is None or array.shape != shape or array.dtype != dtype:
            array = self._buffers[name] = np.empty(shape, dtype)
        return array

    def kink_inputs(self) -> np.ndarray | None:
        """Of a layer whose slope jumps at 0: its inputs in the last forward.  None for all others.

        A finite difference must not cross such a kink.
        """
        return None


class Dense(Layer):
    """Affine map, y = x W + b.

    Parameters
    ----------
    n_in, n_out : int
        Sizes of one input row and of one output row.
    rng : numpy.random.Generator
        Draws W from U(-a, a) with a = sqrt(6 / (n_in + n_out)) [1]_; b starts at 0.
    dtype : float32 for training or float64 for checking.

    References
    ----------
    .. [1] Glorot & Bengio (2010), "Understanding the difficulty of training deep feedforward
       neural networks", eq. 16.
    """

    linear = True               # in x, up to b: then dx can be checked without any step
    skips_input_grad = True     # its backward takes input_grad=False

    def __init__(self, n_in: int, n_out: int, rng: np.random.Generator, dtype=np.float32):
        super().__init__()
        zeros = kernels.aligned_zeros
        self.params = {"W": zeros((n_in, n_out), dtype), "b": zeros(n_out, dtype)}
        self.grads = {"W": zeros((n_in, n_out), dtype), "b": zeros(n_out, dtype)}
        bound = np.sqrt(6.0 / (n_in + n_out))
        self.params["W"][...] = rng.uniform(-bound, bound, (n_in, n_out))

    def forward(self, x: np.ndarray) -> np.ndarray:
        """x : (B, n_in)  ->  y : (B, n_out)."""
        W, b = self.params["W"], self.params["b"]
        x = as_rows(x, (None, W.shape[0]), W.dtype, "x of Dense")
        y = self._work("y", (len(x), W.shape[1]), W.dtype)
        cores.times_plus(x, W, b, y)                   # y = x @ W + b     (B, n_in) @ (n_in, n_out)
        self._cache["forward"] = (x,)
        return y

    def backward(self, dy: np.ndarray, input_grad: bool = True) -> np.ndarray | None:
        """dy : (B, n_out)  ->  dx : (B, n_in).  Fills grads["W"] and grads["b"].

        y[n, j] = sum_i x[n, i] W[i, j] + b[j].  Every row n used the same W and b, so their
        gradients sum over n; x[n, i] reached every output j, so dx sums over j.
        input_grad=False leaves dx out (None): nobody needs it below the first layer.
        """
        (x,) = self._take()
        W = self.params["W"]
        dy = as_rows(dy, (len(x), W.shape[1]), W.dtype, "dy of Dense")
        cores.transpose_times(x, dy, self.grads["W"])  # dW = x.T @ dy     (n_in, B) @ (B, n_out)
        kernels.sum_rows(dy, self.grads["b"])          # db = dy.sum(axis=0)
        if not input_grad:
            return None
        dx = self._work("dx", x.shape, W.dtype)
        cores.times_transpose(dy, W, dx)               # dx = dy @ W.T  (B, n_out) @ (n_out, n_in)
        return dx


class ReLU(Layer):
    """y = max(x, 0).  dy/dx = 1 where x > 0, else 0; at the kink itself we take 0."""

    def forward(self, x: np.ndarray) -> np.ndarray:
        """x : (B, ..)  ->  y, of the same shape."""
        x = as_rows(x, (None, ...), None, "x of ReLU")
        y = self._work("y", x.shape, x.dtype)
        cores.relu_forward(flat(x), flat(y))                  # y = where(x <= 0, 0, x)
        self._cache["forward"] = (x,)
        return y

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """dy : (B, ..)  ->  dx, of the same shape."""
        (x,) = self._take()
        dy = as_rows(dy, x.shape, x.dtype, "dy of ReLU")
        dx = self._work("dx", x.shape, x.dtype)
        cores.relu_backward(flat(x), flat(dy), flat(dx))      # dx = dy * (x > 0)
        return dx

    def kink_inputs(self) -> np.ndarray:
        """x, as the last forward saw it: a finite difference must not cross 0."""
        return self._cache["forward"][0]


class Tanh(Layer):
    """y = tanh(x).  dy/dx = 1 - y^2 needs only the output."""

    def forward(self, x: np.ndarray) -> np.ndarray:
        """x : (B, ..)  ->  y, of the same shape."""
        x = as_rows(x, (None, ...), None, "x of Tanh")
        y = self._work("y", x.shape, x.dtype)
        cores.tanh_forward(flat(x), flat(y))                    # y = tanh(x)
        self._cache["forward"] = (y,)
        return y

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """dy : (B, ..)  ->  dx, of the same shape."""
        (y,) = self._take()
        dy = as_rows(dy, y.shape, y.dtype, "dy of Tanh")
        dx = self._work("dx", y.shape, y.dtype)
        cores.tanh_backward(flat(y), flat(dy), flat(dx))        # dx = dy * (1 - y**2)
        return dx


class Sigmoid(Layer):
    """y = 1 / (1 + e^-x).  dy/dx = y (1 - y)."""

    def forward(self, x: np.ndarray) -> np.ndarray:
        """x : (B, ..)  ->  y, of the same shape."""
        x = as_rows(x, (None, ...), None, "x of Sigmoid")
        y = self._work("y", x.shape, x.dtype)
        kernels.sigmoid_forward(flat(x), flat(y))               # y = 1 / (1 + exp(-x))
        self._cache["forward"] = (y,)
        return y

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """dy : (B, ..)  ->  dx, of the same shape."""
        (y,) = self._take()
        dy = as_rows(dy, y.shape, y.dtype, "dy of Sigmoid")
        dx = self._work("dx", y.shape, y.dtype)
        kernels.sigmoid_backward(flat(y), flat(dy), flat(dx))   # dx = dy * y * (1 - y)
        return dx


class Softplus(Layer):
    """y = log(1 + e^x), a smooth max(x, 0).  dy/dx = sigmoid(x), so the input is kept."""

    def forward(self, x: np.ndarray) -> np.ndarray:
        """x : (B, ..)  ->  y, of the same shape."""
        x = as_rows(x, (None, ...), None, "x of Softplus")
        y = self._work("y", x.shape, x.dtype)
        kernels.softplus_forward(flat(x), flat(y))              # y = logaddexp(0, x)
        self._cache["forward"] = (x,)
        return y

    def backward(self, dy: np.ndarray) -> np.ndarray:
        """dy : (B, ..)  ->  dx, of the same shape."""
        (x,) = self._take()
        dy = as_rows(dy, x.shape, x.dtype, "dy of Softplus")
        dx = self._work("dx", x.shape, x.dtype)
        kernels.softplus_backward(flat(x), flat(dy), flat(dx))  # dx = dy / (1 + exp(-x))
        return dx


class Sequential(Layer):
    """Layers in a row: y = f_n(... f_1(x)), so dx walks them from the last to the first.

    An empty one is the identity; one inside another is unpacked.  Its params and grads are its
    layers' own, as "0.W", "0.b", ...
    """

    def __init__(self, *layers: Layer):
        super().__init__()
        self.layers = []
        for layer in layers:
            self.layers += layer.layers if isinstance(layer, Sequential) else [layer]
        for i, layer in enumerate(self.layers):
            self.params |= {f"{i}.{key}": p for key, p in params_of(layer).items()}
            self.grads |= {f"{i}.{key}": g for key, g in grads_of(layer).items()}

    def forward(self, x: np.ndarray) -> np.ndarray:
        """x : (B, n_in)  ->  y : (B, n_out)."""
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def backward(self, dy: np.ndarray, input_grad: bool = True) -> np.ndarray | None:
        """dy : (B, n_out)  ->  dx : (B, n_in).

        input_grad=False: the walk ends at the first layer with parameters; it leaves dx out (None).
        """
        layers = self.layers
        if not input_grad:
            while layers and not params_of(layers[0]):
                layers = layers[1:]
        for layer in reversed(layers[0 if input_grad else 1:]):
            dy = layer.backward(dy)
        if input_grad or not layers:
            return dy
        skips = getattr(layers[0], "skips_input_grad", False)
        layers[0].backward(dy, **({"input_grad": False} if skips else {}))
        return None


# --- what the nodes share: params, checks of shape and dtype --------------------------------------


def params_of(layer) -> dict[str, np.ndarray]:
    """A layer's parameters by name; a layer of your own that has none need not say so."""
    return getattr(layer, "params", None) or {}


def grads_of(layer) -> dict[str, np.ndarray]:
    """Their gradients, by the same names."""
    return getattr(layer, "grads", None) or {}


def as_rows(a: np.ndarray, shape: tuple, dtype, name: str) -> np.ndarray:
    """`a`, contiguous.  In shape None is any size, a last ... any sizes; dtype None is its own.

    Kernels read whatever memory they are pointed at, so every node asks here first.
    Raises ValueError for another shape; where dtype is None, also for an `a` that is neither
    float32 nor float64.
    """
    a = np.asarray(a)
    if a.shape != shape:
        if shape[-1] is ...:
            shape = (*shape[:-1], *(a.ndim - len(shape) + 1) * (None,))
        if a.ndim != len(shape) or any(want not in (None, n) for n, want in zip(a.shape, shape)):
            wanted = str(tuple("any" if n is None else n for n in shape)).replace("'", "")
            raise ValueError(f"{name} must have shape {wanted}, got {a.shape}")
    if dtype is None and a.dtype.char not in "fd":
        raise ValueError(f"{name} must be float32 or float64, got {a.dtype}")
    return np.ascontiguousarray(a, dtype)


def as_sample_rows(a: np.ndarray, width: int | None, batch: np.ndarray, name: str) -> np.ndarray:
    """`a` as the rows of K samples for each row of `batch`: (K*B, width), row k*B + n.

    Raises ValueError where the number of rows of `a` is no multiple of B.
    """
    a = as_rows(a, (None, width), None, name)
    B = len(batch)
    if B == 0 or len(a) % B:
        raise ValueError(f"{name} must hold K samples for each of the {B} rows of the batch, "
                         f"got {len(a)} rows")
    return a


def flat(a: np.ndarray) -> np.ndarray:
    """a : (B, ..)  ->  a view (B, n): what treats all numbers alike sees images as rows."""
    return a if a.ndim == 2 else a.reshape(len(a), math.prod(a.shape[1:]))


def sigmoid(a: np.ndarray) -> np.ndarray:
    """1 / (1 + e^-a), as exp(-log(1 + e^-a)): nothing overflows, for any finite a."""
    return np.exp(-np.logaddexp(0, -a))


# --- what a model asks of its likelihood and of its latent: read these with pages 2 and 3 ---------


class Likelihood(Layer):
    """What a model asks of its likelihood, page 2, besides forward(out, x) and backward(dlog_px).

    forward : (K*B, width(D)) and (B, D)  ->  log p(x|z) : (K*B,), nats.
    """

    name: str                   # what a file calls it
    settings: dict = {}         # what its class is called with, for a file
    out_name: str               # what the decoder's last layer is called, e.g. "to_logits"
    binary = False              # whether it is a distribution of pixels in {0, 1}

    def width(self, D: int) -> int:
        """How many numbers the decoder must give for D pixels."""
        return D

    def check(self, x: np.ndarray) -> None:
        """Raise ValueError for pixels x (B, D) that it is not a distribution of."""

    def mean(self, out: np.ndarray) -> np.ndarray:
        """out : (B, width(D))  ->  E[x|z] : (B, D), a new array; here the output itself."""
        return out.copy()


class Latent(Layer):
    """What a model asks of its latent besides the nodes of page 3.  q: what the heads gave.

    Every latent has the nodes sample, kl, log_q and log_prior, and answers for noise, draw_prior,
    mean, mode, kl_each and between; see GaussianLatent.
    """

    name: str                   # what a file calls it
    settings: dict = {}         # what its class is called with, for a file
    prior: str                  # where new z come from, for the titles of pictures
    mean_name: str              # what E_q[z] is called there
    unit = ""                   # what z is measured in there, if in anything
    between_in_words: str       # what `between` walks along
    values_to_try: np.ndarray   # what one z_j is set to, to show what it does
    has_path = True             # whether z moves with q's parameters, so that a gradient can pass

    def check_noise(self, eps: np.ndarray, estimator) -> None:
        """Raise ValueError for noise eps (K, B, Z) that the latent or the estimator cannot take."""

    def check_wires(self, wires) -> None:
        """Raise ValueError for an estimator that wants a wire which this latent does not have."""

    def judged(self) -> "Latent":
        """The latent that evaluation takes; another one where z is relaxed in training."""
        return self

    def straightened(self, *q_and_eps: np.ndarray):
        """A smooth function of q whose derivative is sample_backward, where `sample` is a step.

        None where sample_backward is the derivative of `sample` itself.
        """
        return None
