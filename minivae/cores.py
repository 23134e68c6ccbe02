"""Products and long loops on all cores.  Each computes what its NumPy line says.

The work is cut into parts.  Each part is a product on one thread, or the serial kernel of the same
name, and all parts run in the one pool of threads of pool.py.  How a product is cut depends on its
shape and on the number of parts, never on how many threads happen to work.  So the bits are the
same beside busy neighbours and in a forked child.

float64, and a machine without a pool, take np.matmul and the kernels as they are.
"""

from functools import partial, wraps

import numpy as np
from numba import prange, types
from numba.extending import overload, register_jitable

from minivae import kernels
from minivae.pool import NO_BIAS, NOBODY, ONEDNN, pool

SMALL = 20_000          # numbers: over fewer a loop is done before a second core has begun
TILE = 100_000          # numbers of patches at a time, 400 kB; 50_000 to 400_000 do as well
LARGE = 200_000         # numbers, as the images of a convolution have
FEW_ROWS = 48           # up to here OpenBLAS is twice as fast at W @ dy.T as at dy @ W.T; measured


# --- products: x (B, n), W (n, m), dy (B, m), C-contiguous, of one dtype --------------------------


def times(x: np.ndarray, W: np.ndarray, out: np.ndarray) -> None:
    """out = x @ W : (B, m)"""
    if _in_pool(x, W, out):
        pool.multiply(_product, False, False, x, W, out)
    else:
        _matmul(x, W, out=out)


def times_plus(x: np.ndarray, W: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
    """out = x @ W + b : (B, m).  Each part of a large product adds b while its rows are hot."""
    if out.size >= SMALL and _in_pool(x, W, b, out):
        pool.multiply(_product, False, False, x, W, out, b)
    else:
        times(x, W, out)
        kernels.add_bias(b, out)


def transpose_times(x: np.ndarray, dy: np.ndarray, out: np.ndarray) -> None:
    """out = x.T @ dy : (n, m)"""
    if _in_pool(x, dy, out):
        pool.multiply(_product, True, False, x, dy, out)
    else:
        _matmul(x.T, dy, out=out)


def times_transpose(dy: np.ndarray, W: np.ndarray, out: np.ndarray) -> None:
    """out = dy @ W.T : (B, n).  Of few rows OpenBLAS computes (W @ dy.T).T, in half the time."""
    in_pool = _in_pool(dy, W, out)
    if len(dy) <= FEW_ROWS and not (in_pool and pool.library == ONEDNN):
        turned = np.empty(out.shape[::-1], out.dtype)
        if in_pool:
            pool.multiply(_product, False, True, W, dy, turned)
        else:
            _matmul(W, dy.T, out=turned)
        out[...] = turned.T
    elif in_pool:
        pool.multiply(_product, False, True, dy, W, out)
    else:
        _matmul(dy, W.T, out=out)


def _matmul(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
    """np.matmul without its warning of numbers that are not finite: the loss tells of them."""
    with np.errstate(invalid="ignore", over="ignore"):
        np.matmul(a, b, out=out)


def _in_pool(*arrays: np.ndarray) -> bool:
    """Whether the pool multiplies these; it reads memory as rows of float32, one after another."""
    if not pool.ready:
        pool.begin()
    if pool.library == NOBODY:
        return False
    return all(a.dtype == np.float32 and a.flags.c_contiguous for a in arrays)


_i8, _f4 = types.int64, types.float32
# symbols whose addresses pool.py makes known; by address, compiled code could not be kept on disk
_openblas_sgemm = types.ExternalFunction("minivae_openblas_sgemm", types.void(
    _i8, _i8, _i8, _i8, _i8, _i8, _f4, _i8, _i8, _i8, _i8, _f4, _i8, _i8))
_onednn_sgemm = types.ExternalFunction("minivae_onednn_sgemm", types.int64(
    _i8, _i8, _i8, _i8, _i8, _f4, _i8, _i8, _i8, _i8, _f4, _i8, _i8))
_get_max_threads = types.ExternalFunction("minivae_omp_get_max_threads", types.int32())
_set_num_threads = types.ExternalFunction("minivae_omp_set_num_threads", types.void(types.int32))


@kernels.kernel
def _gemm(library, ta, tb, m, n, k, a, lda, b, ldb, beta, c, ldc):
    """C = op(A) op(B) + beta C on this thread alone; a, b, c are addresses, row-major, float32."""
    one, beta = np.float32(1), np.float32(beta)
    if library == ONEDNN:
        before = _get_max_threads()
        _set_num_threads(1)
        _onednn_sgemm(84 if ta else 78, 84 if tb else 78, m, n, k, one, a, lda, b, ldb, beta, c,
                      ldc)
        _set_num_threads(before)
    else:
        _openblas_sgemm(101, 112 if ta else 111, 112 if tb else 111, m, n, k, one, a, lda, b, ldb,
                        beta, c, ldc)


@register_jitable
def _address(a):
    """Where the array's numbers begin; signed, as the library takes it."""
    return np.int64(a.ctypes.data)


@register_jitable
def _cut(n, part, parts, grain):
    """Where part `part` of n begins and ends, a multiple of `grain` but at the end."""
    steps = -(-n // grain)
    return min(n, part * steps // parts * grain), min(n, (part + 1) * steps // parts * grain)


def _in_parts(library, parts, ta, tb, a, b, out, bias):
    """out = op(a) @ op(b) + bias, where op transposes if ta or tb says so; bias may be empty.

    Each part is one call of the library.  There are three ways to cut, tried in this order:
        by sums     part p adds up a part of the k terms of every number; then these sums are added
        by rows     part p computes some rows of out
        by columns  part p computes some columns of out
    By sums, a core reads only those rows of b that it also moves in Adam: memory that another core
    has read, too, is slow to write.
    """
    m, n = out.shape
    k = a.shape[0] if ta else a.shape[1]
    lda, ldb = a.shape[1], b.shape[1]
    A, B, C = _address(a), _address(b), _address(out)
    # 128, 256 and 64 are measured, see benchmarks/README.md; addresses are in bytes, 4 a number
    by_sums = not ta and not tb and parts > 1 and k >= 128 * parts and m <= 256
    by_rows = ta or m >= (256 if tb else 64)
    sums = np.empty((parts - 1 if by_sums else 0, m, n), out.dtype)
    for part in prange(parts):
        if by_sums:
            i, end = _cut(k, part, parts, 8)
            to = C if part == 0 else _address(sums) + 4 * (part - 1) * m * n
            _gemm(library, ta, tb, m, n, end - i, A + 4 * i, lda, B + 4 * i * ldb, ldb, 0, to, n)
        elif by_rows:
            i, end = _cut(m, part, parts, 8)
            if i < end:
                _gemm(library, ta, tb, end - i, n, k, A + 4 * i * (1 if ta else lda), lda, B, ldb,
                      0, C + 4 * i * n, n)
                if bias.size:
                    kernels.add_bias(bias, out[i:end])
        else:
            j, end = _cut(n, part, parts, 16)
            if j < end:
                _gemm(library, ta, tb, m, end - j, k, A, lda, B + 4 * j * (ldb if tb else 1), ldb,
                      0, C + 4 * j, n)
    kernels.add_sums(sums, out)                  # of which there may be none
    if bias.size and (by_sums or not by_rows):
        kernels.add_bias(bias, out)


_together = kernels.kernel(_in_parts, parallel=True)


def _product(library, parts, ta, tb, a, b, out, bias):
    """The parts on all cores, or one by one in Python: each is one call of the library."""
    chosen = _together if pool.together() else _in_parts
    chosen(library, parts, ta, tb, a, b, out, bias)


# --- convolutions: products of patches, a few images at a time ------------------------------------


def patches_times(x: np.ndarray, W: np.ndarray, step: tuple, out: np.ndarray,
                  b: np.ndarray = NO_BIAS) -> None:
    """out = patches(x) @ W + b : x (B, H, W, C), W (k*k*C, C'), out (B, H', W', C')

    step : kernel size, stride, padding.
    """
    _by_tiles(_patches_times, out.size * len(W), step, _by_rows(x), W, out, b)


def patches_transpose_times(x: np.ndarray, dy: np.ndarray, step: tuple, out: np.ndarray) -> None:
    """out = patches(x).T @ dy : x (B, H, W, C), dy (B, H', W', C'), out (k*k*C, C')"""
    sums = np.zeros((pool.parts, *out.shape), out.dtype)   # a sum for each part, over its images
    _by_tiles(_patches_transpose_times, dy.size * len(out), step, _by_rows(x), dy, sums)
    sums.sum(axis=0, out=out)


def add_patches_times(dy: np.ndarray, W: np.ndarray, step: tuple, out: np.ndarray,
                      b: np.ndarray = NO_BIAS) -> None:
    """out = add_patches(dy @ W.T) + b : dy (B, H', W', C'), W (k*k*C, C'), out (B, H, W, C)"""
    _by_tiles(_add_patches_times, dy.size * len(W), step, dy, W, _by_rows(out), b)


def sum_pixels(dy: np.ndarray, db: np.ndarray) -> None:
    """db = dy.sum(axis=(0, 1, 2)) : dy (B, H, W, C), db (C,)"""
    rows = dy.reshape(-1, dy.shape[3])
    if not _in_pool(rows, db):
        kernels.sum_rows(rows, db)
        return
    sums = np.zeros((pool.parts, *db.shape), db.dtype)     # a sum for each part, over its pixels
    _sum_pixels(pool.library, pool.parts, rows, sums)
    sums.sum(axis=0, out=db)


def _by_rows(x: np.ndarray) -> np.ndarray:
    """x : (B, H, W, C)  ->  a view (B, H, W*C): what a patch takes from a row lies together."""
    B, H, W, C = x.shape
    return x.reshape(B, H, W * C)


def _by_tiles(product, multiplications: int, step: tuple, *arrays: np.ndarray) -> None:
    """Call a product of patches: in the pool, or with np.matmul, which has threads of its own."""
    if _in_pool(*arrays):
        pool.run(product, multiplications, step, *arrays)
    else:
        product(NOBODY, 1, step, *arrays)


def _block(library, ta, tb, a, b, add, out):
    """out = op(a) @ op(b), plus what out holds where `add` is 1: one product, on this thread."""
    if library != NOBODY:
        _gemm_of(library, ta, tb, a, b, add, out)
    elif add:
        with np.errstate(invalid="ignore", over="ignore"):
            out += (a.T if ta else a) @ (b.T if tb else b)
    else:
        _matmul(a.T if ta else a, b.T if tb else b, out=out)


@kernels.kernel
def _gemm_of(library, ta, tb, a, b, add, out):
    """The same by _gemm, which wants addresses and sizes."""
    k = a.shape[0] if ta else a.shape[1]
    _gemm(library, ta, tb, out.shape[0], out.shape[1], k, _address(a), a.shape[1], _address(b),
          b.shape[1], add, _address(out), out.shape[1])


@overload(_block)
def _compiled_block(library, ta, tb, a, b, add, out):
    """_block inside compiled code, where somebody multiplies always."""
    return lambda library, ta, tb, a, b, add, out: _gemm_of(library, ta, tb, a, b, add, out)


@register_jitable
def _images_at_a_time(height, width, K):
    """So many that their patches, K numbers for each output pixel, stay in a core's own cache."""
    return max(1, TILE // (height * width * K))


def _on_cores(product):
    """Decorator: the parts on all cores, or one by one in Python."""
    together = kernels.kernel(product, parallel=True)

    @wraps(product)
    def run(library, *arguments):
        chosen = together if library != NOBODY and pool.together() else product
        chosen(library, *arguments)

    return run


@_on_cores
def _patches_times(library, parts, step, x, W, out, b):
    size, stride, padding = step
    B, height, width, C = out.shape
    tile = _images_at_a_time(height, width, len(W))
    for part in prange(parts):
        begin, end = _cut(B, part, parts, 1)
        rows = np.empty((tile, height, width, len(W)), x.dtype)
        for i in range(begin, end, tile):
            j = min(i + tile, end)
            cut, y = rows[: j - i], out[i:j].reshape(-1, C)
            kernels.patches(x[i:j], size, stride, padding, cut)
            _block(library, False, False, cut.reshape(-1, len(W)), W, 0, y)
            if b.size:
                kernels.add_bias(b, y)


@_on_cores
def _patches_transpose_times(library, parts, step, x, dy, sums):
    size, stride, padding = step
    B, height, width, C = dy.shape
    K = sums.shape[1]
    tile = _images_at_a_time(height, width, K)
    for part in prange(parts):
        begin, end = _cut(B, part, parts, 1)
        rows = np.empty((tile, height, width, K), x.dtype)
        for i in range(begin, end, tile):
            j = min(i + tile, end)
            cut, dy_cut = rows[: j - i], dy[i:j].reshape(-1, C)
            kernels.patches(x[i:j], size, stride, padding, cut)
            _block(library, True, False, cut.reshape(-1, K), dy_cut, 1, sums[part])


@_on_cores
def _add_patches_times(library, parts, step, dy, W, out, b):
    size, stride, padding = step
    B, height, width, C = dy.shape
    tile = _images_at_a_time(height, width, len(W))
    for part in prange(parts):
        begin, end = _cut(B, part, parts, 1)
        rows = np.empty((tile, height, width, len(W)), dy.dtype)
        for i in range(begin, end, tile):
            j = min(i + tile, end)
            cut, image = rows[: j - i], out[i:j]
            _block(library, False, True, dy[i:j].reshape(-1, C), W, 0, cut.reshape(-1, len(W)))
            image[:] = 0
            if b.size:
                kernels.add_bias(b, image.reshape(-1, b.size))
            kernels.add_patches(cut, size, stride, padding, image)


@_on_cores
def _sum_pixels(library, parts, rows, sums):
    for part in prange(parts):
        i, end = _cut(len(rows), part, parts, 1)
        kernels.sum_rows(rows[i:end], sums[part])


# --- loops: each part is the kernel of the same name ----------------------------------------------


def in_parts(function, least=SMALL):
    """Decorator: run the loop on all cores, or the kernel of the same name where one is better.

    The loop gets the number of parts, then the kernel's own arguments.  Every number is computed by
    one part alone, in the kernel's own order, so the bits are those of the kernel.
    least : over so many numbers
    """
    together, name = kernels.kernel(function, parallel=True), function.__name__

    @wraps(function)
    def run(*arguments):
        size = max(a.size for a in arguments[:2])
        if size >= least and arguments[0].dtype == np.float32 and pool.together():
            together(pool.parts, *arguments)
        else:
            getattr(kernels, name)(*arguments)

    return run


# of a simple loop the second core saves little, and to compile it so takes half a second more
in_parts_if_large = partial(in_parts, least=LARGE)


@in_parts_if_large
def relu_forward(parts, x, y):
    for part in prange(parts):
        i, end = _cut(x.shape[0], part, parts, 1)
        kernels.relu_forward(x[i:end], y[i:end])


@in_parts_if_large
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


@in_parts_if_large
def scale_rows(parts, weight, a):
    for part in prange(parts):
        i, end = _cut(a.shape[0], part, parts, 1)
        kernels.scale_rows(weight[i:end], a[i:end])


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
