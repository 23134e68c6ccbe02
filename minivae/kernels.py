"""Numba kernels: the hot loops, each compiled once per precision.  They know nothing of VAEs.

Read this last, or never: every call in the lesson carries the kernel's NumPy meaning beside it,
the same line stands in tests/naive.py, and a test holds each kernel to it in both precisions.

Rules of this file
- A kernel and its helpers live in ONE file: Numba's cache does not notice an edit elsewhere.
- Outputs come last and are written in place; the caller owns every array.
- Matrix products belong to BLAS: np.dot inside a kernel calls it.
- Nothing compiles at import; each kernel compiles at its first call and is then cached on disk.
"""

import numpy as np
from numba import njit

# error_model="numpy": Python's zero-division check would block vectorisation.
# fastmath without "nnan" and "ninf": with them isnan() would be False and a NaN would go unseen.
OPTIONS = dict(error_model="numpy", fastmath={"nsz", "arcp", "contract", "afn", "reassoc"}, nogil=True)

LOG_2PI = np.log(2 * np.pi)


def kernel(function):
    """Compile at the first call; keep the machine code on disk where a folder can be written."""
    try:
        return njit(cache=True, **OPTIONS)(function)
    except RuntimeError:                         # a read-only install without a writable home
        return njit(**OPTIONS)(function)


# --- Dense ------------------------------------------------------------------------------------


@kernel
def dense_forward(x, W, b, y):
    """y = x @ W + b"""
    np.dot(x, W, y)
    for n in range(y.shape[0]):
        for j in range(y.shape[1]):
            y[n, j] += b[j]


@kernel
def dense_backward(x, dy, dW, db):
    """dW = x.T @ dy;  db = dy.sum(axis=0)"""
    np.dot(x.T, dy, dW)
    db[:] = 0
    for n in range(dy.shape[0]):
        for j in range(dy.shape[1]):
            db[j] += dy[n, j]


@kernel
def dense_backward_input(dy, W, dx):
    """dx = dy @ W.T"""
    np.dot(dy, W.T, dx)


# --- activations ------------------------------------------------------------------------------


@kernel
def relu_forward(x, y):
    """y = where(x <= 0, 0, x), which keeps a NaN where np.maximum in a kernel might not"""
    zero = x.dtype.type(0)
    for n in range(x.shape[0]):
        for j in range(x.shape[1]):
            y[n, j] = zero if x[n, j] <= 0 else x[n, j]


@kernel
def relu_backward(x, dy, dx):
    """dx = dy * (x > 0)"""
    zero = dy.dtype.type(0)
    for n in range(x.shape[0]):
        for j in range(x.shape[1]):
            dx[n, j] = dy[n, j] if x[n, j] > 0 else zero


@kernel
def tanh_forward(x, y):
    """y = tanh(x)"""
    for n in range(x.shape[0]):
        for j in range(x.shape[1]):
            y[n, j] = np.tanh(x[n, j])


@kernel
def tanh_backward(y, dy, dx):
    """dx = dy * (1 - y**2)"""
    one = y.dtype.type(1)
    for n in range(y.shape[0]):
        for j in range(y.shape[1]):
            dx[n, j] = dy[n, j] * (one - y[n, j] * y[n, j])


@kernel
def sigmoid_forward(x, y):
    """y = 1 / (1 + exp(-x)), from exp(-|x|) so that nothing overflows"""
    one = x.dtype.type(1)
    for n in range(x.shape[0]):
        for j in range(x.shape[1]):
            e = np.exp(-abs(x[n, j]))
            y[n, j] = (one if x[n, j] >= 0 else e) / (one + e)


@kernel
def sigmoid_backward(y, dy, dx):
    """dx = dy * y * (1 - y)"""
    one = y.dtype.type(1)
    for n in range(y.shape[0]):
        for j in range(y.shape[1]):
            dx[n, j] = dy[n, j] * y[n, j] * (one - y[n, j])


@kernel
def softplus_forward(x, y):
    """y = log(1 + exp(x)) = max(x, 0) + log1p(exp(-|x|))"""
    for n in range(x.shape[0]):
        for j in range(x.shape[1]):
            v = x[n, j]
            y[n, j] = (v if v > 0 else v - v) + np.log1p(np.exp(-abs(v)))


@kernel
def softplus_backward(x, dy, dx):
    """dx = dy * sigmoid(x)"""
    one = x.dtype.type(1)
    for n in range(x.shape[0]):
        for j in range(x.shape[1]):
            e = np.exp(-abs(x[n, j]))
            dx[n, j] = dy[n, j] * (one if x[n, j] >= 0 else e) / (one + e)


# --- likelihoods: row k*B + n of the K*B rows belongs to x[n] -----------------------------------


@kernel
def bernoulli_forward(logits, x, log_px, residual):
    """log_px = (x*logits - softplus(logits)).sum(axis=1);  residual = x - sigmoid(logits)

    One exponential serves both; the sum runs in float64.
    """
    one = logits.dtype.type(1)
    for row in range(logits.shape[0]):
        n = row % x.shape[0]
        total = 0.0
        for i in range(logits.shape[1]):
            v = logits[row, i]
            e = np.exp(-abs(v))
            total += x[n, i] * v - (v if v > 0 else v - v) - np.log1p(e)
            residual[row, i] = x[n, i] - (one if v >= 0 else e) / (one + e)
        log_px[row] = total


@kernel
def gaussian_forward(mean, logvar, x, log_px):
    """log_px = -0.5 * ((x - mean)**2 * exp(-logvar) + logvar + log(2 pi)).sum(axis=1)

    logvar is as large as mean, or (1, 1) and shared by all pixels.
    """
    own_row, own_col = logvar.shape[0] > 1, logvar.shape[1] > 1
    for row in range(mean.shape[0]):
        n = row % x.shape[0]
        total = 0.0
        for i in range(mean.shape[1]):
            v = logvar[row * own_row, i * own_col]
            r = x[n, i] - mean[row, i]
            total += r * r * np.exp(-v) + v + LOG_2PI
        log_px[row] = -0.5 * total


@kernel
def gaussian_backward(mean, logvar, x, dlog_px, dmean, dlogvar):
    """dmean = dlog_px[:, None] * (x - mean) * exp(-logvar);
    dlogvar = dlog_px[:, None] * 0.5 * ((x - mean)**2 * exp(-logvar) - 1)"""
    own_row, own_col = logvar.shape[0] > 1, logvar.shape[1] > 1
    for row in range(mean.shape[0]):
        n = row % x.shape[0]
        for i in range(mean.shape[1]):
            precision = np.exp(-logvar[row * own_row, i * own_col])
            r = x[n, i] - mean[row, i]
            dmean[row, i] = dlog_px[row] * r * precision
            dlogvar[row, i] = dlog_px[row] * 0.5 * (r * r * precision - 1)


@kernel
def scale_rows(weight, a, out):
    """out = weight[:, None] * a"""
    for n in range(a.shape[0]):
        for j in range(a.shape[1]):
            out[n, j] = weight[n] * a[n, j]


# --- the Gaussian latent: row k*B + n of z is sample k of example n ------------------------------


@kernel
def sample_forward(mu, logvar, eps, std, z):
    """std = exp(logvar / 2);  z = (mu + std * eps).reshape(K*B, Z)"""
    B = mu.shape[0]
    for n in range(B):
        for j in range(mu.shape[1]):
            std[n, j] = np.exp(0.5 * logvar[n, j])
    for k in range(eps.shape[0]):
        for n in range(B):
            for j in range(mu.shape[1]):
                z[k * B + n, j] = mu[n, j] + std[n, j] * eps[k, n, j]


@kernel
def sample_backward(std, eps, dz, dmu, dlogvar):
    """dmu = dz.sum over k;  dlogvar = (dz * eps * std / 2).sum over k"""
    B = std.shape[0]
    half = std.dtype.type(0.5)
    dmu[:], dlogvar[:] = 0, 0
    for k in range(eps.shape[0]):
        for n in range(B):
            for j in range(std.shape[1]):
                dmu[n, j] += dz[k * B + n, j]
                dlogvar[n, j] += dz[k * B + n, j] * eps[k, n, j] * std[n, j] * half


@kernel
def kl_forward(mu, logvar, kl):
    """kl = 0.5 * (mu**2 + exp(logvar) - 1 - logvar).sum(axis=1)"""
    for n in range(mu.shape[0]):
        total = 0.0
        for j in range(mu.shape[1]):
            total += mu[n, j] * mu[n, j] + np.expm1(logvar[n, j]) - logvar[n, j]
        kl[n] = 0.5 * total


@kernel
def kl_backward(mu, logvar, dkl, dmu, dlogvar):
    """dmu = dkl[:, None] * mu;  dlogvar = dkl[:, None] * (exp(logvar) - 1) / 2"""
    for n in range(mu.shape[0]):
        for j in range(mu.shape[1]):
            dmu[n, j] = dkl[n] * mu[n, j]
            dlogvar[n, j] = dkl[n] * 0.5 * np.expm1(logvar[n, j])


@kernel
def log_q_forward(z, mu, logvar, log_qz):
    """log_qz = -0.5 * ((z - mu)**2 * exp(-logvar) + logvar + log(2 pi)).sum(axis=1)"""
    B = mu.shape[0]
    for row in range(z.shape[0]):
        n = row % B
        total = 0.0
        for j in range(z.shape[1]):
            r = z[row, j] - mu[n, j]
            total += r * r * np.exp(-logvar[n, j]) + logvar[n, j] + LOG_2PI
        log_qz[row] = -0.5 * total


@kernel
def log_q_backward(z, mu, logvar, along_z, along_phi, dz, dmu, dlogvar):
    """t = (z - mu) * exp(-logvar);  dz = -along_z[:, None] * t;
    dmu = (along_phi[:, None] * t).sum over k;
    dlogvar = (along_phi[:, None] * 0.5 * ((z - mu) * t - 1)).sum over k"""
    B = mu.shape[0]
    dmu[:], dlogvar[:] = 0, 0
    for row in range(z.shape[0]):
        n = row % B
        for j in range(z.shape[1]):
            r = z[row, j] - mu[n, j]
            t = r * np.exp(-logvar[n, j])
            dz[row, j] = -along_z[row] * t
            dmu[n, j] += along_phi[row] * t
            dlogvar[n, j] += along_phi[row] * 0.5 * (r * t - 1)


@kernel
def log_prior_forward(z, log_pz):
    """log_pz = -0.5 * (z**2 + log(2 pi)).sum(axis=1)"""
    for row in range(z.shape[0]):
        total = 0.0
        for j in range(z.shape[1]):
            total += z[row, j] * z[row, j] + LOG_2PI
        log_pz[row] = -0.5 * total


# --- training -------------------------------------------------------------------------------------


@kernel
def adam(param, grad, m, v, step_size, beta1, beta2, adam_eps, unbias_v):
    """m = beta1*m + (1 - beta1)*grad;  v = beta2*v + (1 - beta2)*grad**2;
    param -= step_size * m / (sqrt(v) * unbias_v + adam_eps), all arrays flat"""
    real = param.dtype.type
    b1, b2, c1, c2 = real(beta1), real(beta2), real(1 - beta1), real(1 - beta2)
    lr, tiny, unbias = real(step_size), real(adam_eps), real(unbias_v)
    for i in range(param.size):
        m[i] = b1 * m[i] + c1 * grad[i]
        v[i] = b2 * v[i] + c2 * grad[i] * grad[i]
        param[i] -= lr * m[i] / (np.sqrt(v[i]) * unbias + tiny)


@kernel
def binarize(x, u, out):
    """out = (u < x), pixel by pixel: 1 with probability x, for u uniform in [0, 1)"""
    one, zero = out.dtype.type(1), out.dtype.type(0)
    for n in range(x.shape[0]):
        for i in range(x.shape[1]):
            out[n, i] = one if u[n, i] < x[n, i] else zero


@kernel
def count_outside_unit(x):
    """(~((x >= 0) & (x <= 1))).sum(), a NaN counted as outside"""
    count = 0
    for n in range(x.shape[0]):
        for i in range(x.shape[1]):
            count += not (x[n, i] >= 0 and x[n, i] <= 1)
    return count
