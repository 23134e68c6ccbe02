"""Products and long loops on all cores.  Each computes what its NumPy line says.

The work is cut into parts.  Each part is a product on one thread, or the serial kernel of the same
name, and all parts run in the one pool of threads of pool.py.  How a product is cut depends on its
shape and on the number of parts, never on how many threads happen to work.  So the bits are the
same beside busy neighbours and in a forked child.

float64, and a machine without a pool, take np.matmul and the kernels as they are.
"""

from functools import wraps
from types import FunctionType

import numpy as np
from numba import njit, prange, types

from minivae import kernels
from minivae.pool import NOBODY, ONEDNN, OPENBLAS, pool

SMALL = 20_000          # numbers: over fewer a loop is done before a second core has begun
FEW_ROWS = 48           # up to here OpenBLAS is twice as fast at W @ dy.T as at dy @ W.T; measured


# --- products: x (B, n), W (n, m), dy (B, m), C-contiguous, of one dtype --------------------------


def times(x: np.ndarray, W: np.ndarray, out: np.ndarray) -> None:
    """out = x @ W : (B, m)"""
    if _in_pool(x, W, out):
        pool.multiply(_times, x, W, out)
    else:
        np.matmul(x, W, out=out)


def transpose_times(x: np.ndarray, dy: np.ndarray, out: np.ndarray) -> None:
    """out = x.T @ dy : (n, m)"""
    if _in_pool(x, dy, out):
        pool.multiply(_transpose_times, x, dy, out)
    else:
        np.matmul(x.T, dy, out=out)


def times_transpose(dy: np.ndarray, W: np.ndarray, out: np.ndarray) -> None:
    """out = dy @ W.T : (B, n).  Of few rows OpenBLAS computes (W @ dy.T).T, in half the time."""
    if _in_pool(dy, W, out):
        pool.multiply(_times_transpose, dy, W, out)
    elif len(dy) <= FEW_ROWS:
        out[...] = (W @ dy.T).T
    else:
        np.matmul(dy, W.T, out=out)


def _in_pool(*arrays: np.ndarray) -> bool:
    """Whether the pool multiplies these; it reads memory as rows of float32, one after another."""
    if not pool.ready:
        pool.begin()
    if pool.library == NOBODY:
        return False
    return all(a.dtype == np.float32 and a.flags.c_contiguous for a in arrays)


def shared(function):
    """Decorator: run the parts of the function's prange on all cores, or one by one."""
    together = _compiled(function, parallel=True)
    # another name: Numba keeps compiled code by __qualname__, and would take one for the other
    copy = FunctionType(function.__code__, function.__globals__)
    copy.__name__ = copy.__qualname__ = function.__name__ + "_alone"
    alone = _compiled(copy, parallel=False)

    @wraps(function)
    def run(library, parts, a, b, out):
        chosen = together if parts > 1 and pool.together() else alone
        chosen(library, parts, a, b, out)

    return run


def _compiled(function, parallel: bool):
    try:
        return njit(cache=True, parallel=parallel, **kernels.OPTIONS)(function)
    except RuntimeError:                         # a read-only install without a writable home
        return njit(parallel=parallel, **kernels.OPTIONS)(function)


_i8, _f4 = types.int64, types.float32
# symbols whose addresses pool.py makes known; by address, compiled code could not be kept on disk
_openblas_sgemm = types.ExternalFunction("minivae_openblas_sgemm", types.void(
    _i8, _i8, _i8, _i8, _i8, _i8, _f4, _i8, _i8, _i8, _i8, _f4, _i8, _i8))
_onednn_sgemm = types.ExternalFunction("minivae_onednn_sgemm", types.int64(
    _i8, _i8, _i8, _i8, _i8, _f4, _i8, _i8, _i8, _i8, _f4, _i8, _i8))
_get_max_threads = types.ExternalFunction("minivae_omp_get_max_threads", types.int32())
_set_num_threads = types.ExternalFunction("minivae_omp_set_num_threads", types.void(types.int32))


@njit(nogil=True, inline="never")
def _gemm(library, ta, tb, m, n, k, a, lda, b, ldb, c, ldc):
    """C = op(A) op(B) on this thread alone; a, b, c are addresses, row-major, float32."""
    one, zero = np.float32(1), np.float32(0)
    if library == ONEDNN:
        before = _get_max_threads()
        _set_num_threads(1)
        _onednn_sgemm(84 if ta else 78, 84 if tb else 78, m, n, k, one, a, lda, b, ldb, zero, c,
                      ldc)
        _set_num_threads(before)
    else:
        _openblas_sgemm(101, 112 if ta else 111, 112 if tb else 111, m, n, k, one, a, lda, b, ldb,
                        zero, c, ldc)


@njit(nogil=True)
def _cut(n, part, parts, grain):
    """Where part `part` of n begins and ends, a multiple of `grain` but at the end."""
    steps = -(-n // grain)
    return min(n, part * steps // parts * grain), min(n, (part + 1) * steps // parts * grain)


@shared
def _times(library, parts, x, W, out):
    m, k, n = x.shape[0], x.shape[1], W.shape[1]
    a, b, c = x.ctypes.data, W.ctypes.data, out.ctypes.data
    for part in prange(parts):
        if m >= 64:                              # by rows of x
            i, end = _cut(m, part, parts, 8)
            if i < end:
                _gemm(library, False, False, end - i, n, k, a + 4 * i * k, k, b, n,
                      c + 4 * i * n, n)
        else:                                    # by columns of W
            j, end = _cut(n, part, parts, 16)
            if j < end:
                _gemm(library, False, False, m, end - j, k, a, k, b + 4 * j, n, c + 4 * j, n)


@shared
def _transpose_times(library, parts, x, dy, out):
    k, m, n = x.shape[0], x.shape[1], dy.shape[1]
    a, b, c = x.ctypes.data, dy.ctypes.data, out.ctypes.data
    for part in prange(parts):                   # by columns of x
        i, end = _cut(m, part, parts, 8)
        if i < end:
            _gemm(library, True, False, end - i, n, k, a + 4 * i, m, b, n, c + 4 * i * n, n)


@shared
def _times_transpose(library, parts, dy, W, out):
    m, k, n = dy.shape[0], dy.shape[1], W.shape[0]
    a, b, c = dy.ctypes.data, W.ctypes.data, out.ctypes.data
    turned = library == OPENBLAS and m <= FEW_ROWS
    work = np.empty((n, m) if turned else (0, 0), np.float32)
    w = work.ctypes.data
    for part in prange(parts):
        if turned:                               # (W @ dy.T).T, by rows of W
            j, end = _cut(n, part, parts, 16)
            if j < end:
                _gemm(library, False, True, end - j, m, k, b + 4 * j * k, k, a, k,
                      w + 4 * j * m, m)
                for row in range(m):
                    for column in range(j, end):
                        out[row, column] = work[column, row]
        elif m >= 256:                           # by rows of dy
            i, end = _cut(m, part, parts, 8)
            if i < end:
                _gemm(library, False, True, end - i, n, k, a + 4 * i * k, k, b, k,
                      c + 4 * i * n, n)
        else:                                    # by rows of W
            j, end = _cut(n, part, parts, 16)
            if j < end:
                _gemm(library, False, True, m, end - j, k, a, k, b + 4 * j * k, k, c + 4 * j, n)


# --- loops: each part is the kernel of the same name ----------------------------------------------


def in_parts(function):
    """Decorator: run the loop on all cores, or the kernel of the same name where one is better.

    The loop gets the number of parts, then the kernel's own arguments.  Every number is computed by
    one part alone, in the kernel's own order, so the bits are those of the kernel.
    """
    together, name = _compiled(function, parallel=True), function.__name__

    @wraps(function)
    def run(*arguments):
        a = arguments[0]
        if a.size >= SMALL and a.dtype == np.float32 and pool.together():
            together(pool.parts, *arguments)
        else:
            getattr(kernels, name)(*arguments)

    return run


@in_parts
def relu_forward(parts, x, y):
    for part in prange(parts):
        i, end = _cut(x.shape[0], part, parts, 1)
        kernels.relu_forward(x[i:end], y[i:end])


@in_parts
def relu_backward(parts, x, dy, dx):
    for part in prange(parts):
        i, end = _cut(x.shape[0], part, parts, 1)
        kernels.relu_backward(x[i:end], dy[i:end], dx[i:end])


@in_parts
def tanh_forward(parts, x, y):
    for part in prange(parts):
        i, end = _cut(x.shape[0], part, parts, 1)
        kernels.tanh_forward(x[i:end], y[i:end])


@in_parts
def tanh_backward(parts, y, dy, dx):
    for part in prange(parts):
        i, end = _cut(y.shape[0], part, parts, 1)
        kernels.tanh_backward(y[i:end], dy[i:end], dx[i:end])


@in_parts
def bernoulli_forward(parts, logits, x, log_px, residual):
    for part in prange(parts):
        i, end = _cut(x.shape[0], part, parts, 1)
        # x has B rows and logits K*B: a part takes its rows of x, once for each sample
        for first in range(0, logits.shape[0], x.shape[0]):
            rows = slice(first + i, first + end)
            kernels.bernoulli_forward(logits[rows], x[i:end], log_px[rows], residual[rows])


@in_parts
def adam(parts, param, grad, m, v, step_size, beta1, beta2, adam_eps, unbias_v):
    for part in prange(parts):
        i, end = _cut(param.size, part, parts, 16)
        kernels.adam(param[i:end], grad[i:end], m[i:end], v[i:end], step_size, beta1, beta2,
                     adam_eps, unbias_v)
