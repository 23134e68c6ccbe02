"""Numba kernels: the hot loops, each compiled once per precision.  They know nothing of VAEs.

Read this last, or never.  Every call in the lesson carries the kernel's NumPy meaning beside it.
The same line stands in learn/twins.py, and a test holds each kernel to it in both precisions.

Rules of this file
- A kernel and its helpers live in ONE file: Numba's cache does not notice an edit elsewhere.
- Outputs come last and are written in place; the caller owns every array.
- Matrix products belong to a library, see cores.py.
- Constants are typed (half, one): a bare 0.5 would turn float32 into float64, at half the speed.
- Nothing compiles at import; each kernel compiles at its first call and is then cached on disk.
- exp, expm1, log1p and tanh are those at the end of this file, fast in float32.
"""

import numpy as np
from numba import njit, types
from numba.extending import overload, register_jitable

from minivae.kernel_cache import keep

# error_model="numpy": Python's zero-division check would block vectorisation.
# fastmath without "nnan" and "ninf": with them isnan() would be False and a NaN would go unseen.
FASTMATH = {"nsz", "arcp", "contract", "afn", "reassoc"}
OPTIONS = dict(error_model="numpy", fastmath=FASTMATH, nogil=True)

LOG_2PI = np.log(2 * np.pi)


def kernel(function, **options):
    """Compile at the first call; keep the machine code in the user's cache folder."""
    compiled = njit(**OPTIONS, **options)(function)
    keep(compiled)
    return compiled


@register_jitable(error_model="numpy", fastmath=FASTMATH)
def positive_part(v):
    """max(v, 0), but of a NaN it is NaN, which a comparison with 0 alone would lose."""
    return v if v > 0 else v - v


@register_jitable(error_model="numpy", fastmath=FASTMATH - {"reassoc"})
def log_bernoulli(x, v, e):
    """x v - softplus(v), for e = e^-|v|; without "reassoc" it is rounded alike in every loop."""
    return x * v - positive_part(v) - log1p(e)


@register_jitable(error_model="numpy", fastmath=FASTMATH)
def sum_of(terms):
    """terms.sum(), in their own precision: float64 would take longer.

    Vectorised it is many short sums, so float32 loses no more than its last digit.
    """
    total = terms.dtype.type(0)
    for i in range(terms.size):
        total += terms[i]
    return total


def aligned_zeros(shape, dtype):
    """np.zeros that begins at a multiple of 64 bytes, a cache line.

    Otherwise some of a kernel's vectors lie across two cache lines, which costs up to a seventh of
    a training step.
    """
    bytes_wanted = int(np.prod(shape)) * np.dtype(dtype).itemsize
    raw = np.zeros(bytes_wanted + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + bytes_wanted].view(dtype).reshape(shape)


# --- Dense ----------------------------------------------------------------------------------------


@kernel
def matmul_by_hand(a, b, out):
    """out = a @ b

    What np.matmul has BLAS do, in three loops.  Here to be read: nothing calls it but its test, for
    BLAS, which cuts the matrices into blocks that stay in cache, is many times faster.
    """
    out[:] = 0
    for i in range(a.shape[0]):
        for k in range(a.shape[1]):
            for j in range(b.shape[1]):
                out[i, j] += a[i, k] * b[k, j]


@kernel
def add_bias(b, y):
    """y += b, in place"""
    for n in range(y.shape[0]):
        for j in range(y.shape[1]):
            y[n, j] += b[j]


@kernel
def sum_rows(dy, db):
    """db = dy.sum(axis=0)"""
    db[:] = 0
    for n in range(dy.shape[0]):
        for j in range(dy.shape[1]):
            db[j] += dy[n, j]


@kernel
def add_sums(sums, y):
    """y += sums.sum(axis=0), in place, one of the sums after the other"""
    for part in range(sums.shape[0]):
        for n in range(y.shape[0]):
            for j in range(y.shape[1]):
                y[n, j] += sums[part, n, j]


# --- convolutions: images x (B, H, W*C), patches (B, H', W', k*k*C) -------------------------------


@kernel
def patches(x, k, stride, padding, out):
    """out[n, i, j] = the k x k pixels of x[n] under output pixel i, j, as one row; 0 outside x[n]

    Patch (i, j) starts at pixel (i*stride - padding, j*stride - padding).
    """
    length, zero = out.shape[3] // k, x.dtype.type(0)              # k*C numbers
    for n in range(out.shape[0]):
        for i in range(out.shape[1]):
            for a in range(k):
                row = i * stride - padding + a
                for j in range(out.shape[2]):
                    left = (j * stride - padding) * (length // k)
                    for t in range(length):
                        u = left + t
                        inside = row >= 0 and row < x.shape[1] and u >= 0 and u < x.shape[2]
                        out[n, i, j, a * length + t] = x[n, row, u] if inside else zero


@kernel
def add_patches(rows, k, stride, padding, x):
    """x += P^T(rows): adds each number of a patch to the pixel that `patches` copies it from"""
    length = rows.shape[3] // k
    for n in range(rows.shape[0]):
        for i in range(rows.shape[1]):
            for a in range(k):
                row = i * stride - padding + a
                for j in range(rows.shape[2]):
                    left = (j * stride - padding) * (length // k)
                    first, last = max(0, -left), min(length, x.shape[2] - left)
                    if row < 0 or row >= x.shape[1]:
                        last = first
                    for t in range(first, last):
                        # unsigned, so that no index is taken for a negative one: 8 times as fast
                        x[n, row, np.uint64(left + t)] += rows[n, i, j, np.uint64(a * length + t)]


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
            d = dy[n, j]                         # read in either case: then the choice is no branch
            dx[n, j] = d if x[n, j] > 0 else zero


@kernel
def tanh_forward(x, y):
    """y = tanh(x)"""
    for n in range(x.shape[0]):
        for j in range(x.shape[1]):
            y[n, j] = tanh(x[n, j])


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
            e = exp(-abs(x[n, j]))
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
            y[n, j] = positive_part(v) + log1p(exp(-abs(v)))


@kernel
def softplus_backward(x, dy, dx):
    """dx = dy * sigmoid(x)"""
    one = x.dtype.type(1)
    for n in range(x.shape[0]):
        for j in range(x.shape[1]):
            e = exp(-abs(x[n, j]))
            dx[n, j] = dy[n, j] * (one if x[n, j] >= 0 else e) / (one + e)


# --- likelihoods: row k*B + n of the K*B rows belongs to x[n] -----------------------------------


@kernel
def bernoulli_forward(logits, x, log_px, residual):
    """log_px = (x*logits - softplus(logits)).sum(axis=1);  residual = x - sigmoid(logits)

    One exponential serves both.  The terms of a row are kept, and then added up: in one loop with
    the exponential the compiler vectorised the sum in another way for all cores than for one, and
    the last digit told which had run.
    """
    one = logits.dtype.type(1)
    terms = np.empty(logits.shape[1], logits.dtype)
    for row in range(logits.shape[0]):
        n = row % x.shape[0]
        for i in range(logits.shape[1]):
            v = logits[row, i]
            e = exp(-abs(v))
            terms[i] = log_bernoulli(x[n, i], v, e)
            residual[row, i] = x[n, i] - (one if v >= 0 else e) / (one + e)
        total = sum_of(terms)
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
            total += r * r * exp(-v) + v + LOG_2PI
        log_px[row] = -0.5 * total


@kernel
def gaussian_backward(mean, logvar, x, dlog_px, dmean, dlogvar):
    """dmean = dlog_px[:, None] * (x - mean) * exp(-logvar);
    dlogvar = dlog_px[:, None] * 0.5 * ((x - mean)**2 * exp(-logvar) - 1)"""
    own_row, own_col = logvar.shape[0] > 1, logvar.shape[1] > 1
    half, one = mean.dtype.type(0.5), mean.dtype.type(1)
    for row in range(mean.shape[0]):
        n = row % x.shape[0]
        for i in range(mean.shape[1]):
            precision = exp(-logvar[row * own_row, i * own_col])
            r = x[n, i] - mean[row, i]
            dmean[row, i] = dlog_px[row] * r * precision
            dlogvar[row, i] = dlog_px[row] * half * (r * r * precision - one)


@kernel
def scale_rows(weight, a):
    """a *= weight[:, None], in place"""
    for n in range(a.shape[0]):
        for j in range(a.shape[1]):
            a[n, j] *= weight[n]


# --- the Gaussian latent: row k*B + n of z is sample k of example n ------------------------------


@kernel
def sample_forward(mu, logvar, eps, std, z):
    """std = exp(logvar / 2);  z = (mu + std * eps).reshape(K*B, Z)"""
    B, half = mu.shape[0], mu.dtype.type(0.5)
    for n in range(B):
        for j in range(mu.shape[1]):
            std[n, j] = exp(half * logvar[n, j])
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
            total += mu[n, j] * mu[n, j] + expm1(logvar[n, j]) - logvar[n, j]
        kl[n] = 0.5 * total


@kernel
def kl_backward(mu, logvar, dkl, dmu, dlogvar):
    """dmu = dkl[:, None] * mu;  dlogvar = dkl[:, None] * (exp(logvar) - 1) / 2"""
    half = mu.dtype.type(0.5)
    for n in range(mu.shape[0]):
        for j in range(mu.shape[1]):
            dmu[n, j] = dkl[n] * mu[n, j]
            dlogvar[n, j] = dkl[n] * half * expm1(logvar[n, j])


@kernel
def log_q_forward(z, mu, logvar, log_qz):
    """log_qz = -0.5 * ((z - mu)**2 * exp(-logvar) + logvar + log(2 pi)).sum(axis=1)"""
    B = mu.shape[0]
    for row in range(z.shape[0]):
        n = row % B
        total = 0.0
        for j in range(z.shape[1]):
            r = z[row, j] - mu[n, j]
            total += r * r * exp(-logvar[n, j]) + logvar[n, j] + LOG_2PI
        log_qz[row] = -0.5 * total


@kernel
def log_q_backward(z, mu, logvar, along_z, along_phi, dz, dmu, dlogvar):
    """t = (z - mu) * exp(-logvar);  dz = -along_z[:, None] * t;
    dmu = (along_phi[:, None] * t).sum over k;
    dlogvar = (along_phi[:, None] * 0.5 * ((z - mu) * t - 1)).sum over k"""
    B, half, one = mu.shape[0], mu.dtype.type(0.5), mu.dtype.type(1)
    dmu[:], dlogvar[:] = 0, 0
    for row in range(z.shape[0]):
        n = row % B
        for j in range(z.shape[1]):
            r = z[row, j] - mu[n, j]
            t = r * exp(-logvar[n, j])
            dz[row, j] = -along_z[row] * t
            dmu[n, j] += along_phi[row] * t
            dlogvar[n, j] += along_phi[row] * half * (r * t - one)


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
    param -= step_size * m / (sqrt(v) * unbias_v + adam_eps), all arrays flat

    The moments of a dead unit would fall to subnormal numbers and stay there.  Arithmetic on those
    is slow, so below 1e-37 a moment is 0.
    """
    real = param.dtype.type
    b1, b2, c1, c2 = real(beta1), real(beta2), real(1 - beta1), real(1 - beta2)
    lr, tiny, unbias = real(step_size), real(adam_eps), real(unbias_v)
    zero, faint = real(0), real(1e-37)
    for i in range(param.size):
        mean = b1 * m[i] + c1 * grad[i]
        square = b2 * v[i] + c2 * grad[i] * grad[i]
        m[i] = zero if abs(mean) < faint else mean
        v[i] = zero if square < faint else square
        param[i] -= lr * m[i] / (np.sqrt(v[i]) * unbias + tiny)


@kernel
def binarize(x, u, out):
    """out = (u < x), pixel by pixel: 1 with probability x, for u uniform in [0, 1)"""
    one, zero = out.dtype.type(1), out.dtype.type(0)
    for n in range(x.shape[0]):
        for i in range(x.shape[1]):
            out[n, i] = one if u[n, i] < x[n, i] else zero


@kernel
def binarize_bytes(X, index, bits, out):
    """out = (bits < X[index] * 65536 / 255, rounded): 1 with probability X / 255

    bits are uniform in 0..65535.  Exact for black and for white; between, the probability is right
    to 1/131072.
    """
    one, zero = out.dtype.type(1), out.dtype.type(0)
    for n in range(out.shape[0]):
        row = index[n]
        for i in range(out.shape[1]):
            grey = np.int32(X[row, i])
            out[n, i] = one if bits[n, i] < grey * 257 + (grey >> 7) else zero


@kernel
def count_outside_unit(x):
    """(~((x >= 0) & (x <= 1))).sum(), a NaN counted as outside"""
    count = 0
    for n in range(x.shape[0]):
        for i in range(x.shape[1]):
            count += not (x[n, i] >= 0 and x[n, i] <= 1)
    return count


# --- e^v and its relatives in float32 -------------------------------------------------------------
#
# Numba calls the C library once per number, which no compiler can vectorise.  These functions have
# no branch and no call: every `if` is a select.  Only "contract" is allowed here, because
# reassociation would cancel the rounding trick below.
# float64, used for checking, and a run without the JIT take NumPy's own function.

EXACT = dict(error_model="numpy", fastmath={"contract"})
f4 = np.float32
ROUND = f4(1.5 * 2**23)         # v + ROUND - ROUND is v rounded to a whole number; the low bits of
                                # v + ROUND hold that number


@register_jitable(**EXACT)
def _exp_parts(v):
    """q, s, t with e^v = (1 + q) * s * t;  s and t powers of 2, both 1 where |v| < 0.17.

    e^v = 2^n e^r with n = round(v / log 2) and |r| <= log(2) / 2; q = e^r - 1 is a polynomial.
    2^n is made from bits, in two halves so that neither leaves the normal range.
    """
    v = f4(-104) if v < f4(-104) else v          # e^v is 0 from here down; a NaN passes
    v = f4(89) if v > f4(89) else v              # e^v is infinite from here up
    by_log_2 = v * f4(1 / np.log(2))
    half = f4(0.5) * by_log_2 + ROUND
    rest = (by_log_2 - (half - ROUND)) + ROUND
    n = (half - ROUND) + (rest - ROUND)
    # r = v - n log 2, with log 2 in two pieces: n times the first is exact
    r = (v - n * f4(0.693145751953125)) - n * f4(1.42860682e-6)
    p = f4(0.16666515) + r * (f4(0.041668456) + r * (f4(0.008369419) + r * f4(0.0013813145)))
    q = r + r * r * (f4(0.49999994) + r * p)
    s = np.int32((np.float32(half).view(np.int32) << 23) + 0x3F800000).view(np.float32)
    t = np.int32((np.float32(rest).view(np.int32) << 23) + 0x3F800000).view(np.float32)
    return q, s, t


@register_jitable(**EXACT)
def _exp_f32(v):
    q, s, t = _exp_parts(v)
    return (f4(1) + q) * s * t


@register_jitable(**EXACT)
def _expm1_f32(v):
    q, s, t = _exp_parts(v)
    # for large v the 1 is lost in rounding anyway, and s * t may overflow
    s, t = (s * t, f4(1)) if v < f4(40) else (s, t)
    return (q * s + (s - f4(1))) * t


@register_jitable(**EXACT)
def _log1p_f32(v):
    s = v / (f4(2) + v)                          # log(1 + v) = 2 atanh(s) = 2 s + 2/3 s^3 + ...
    z = s * s
    p = f4(0.400217) + z * (f4(0.27999139) + z * f4(0.2802447))
    return s * (f4(2) + z * (f4(0.6666641) + z * p))


@register_jitable(**EXACT)
def _tanh_f32(v):
    a = f4(2) * abs(v)
    e = _expm1_f32(f4(20) if a > f4(20) else a)  # above 20, tanh rounds to 1
    return np.copysign(e / (e + f4(2)), v)


def exp(v):
    """e^v, to 2 ulp in float32."""
    return np.exp(v)


def expm1(v):
    """e^v - 1, to 2 ulp in float32."""
    return np.expm1(v)


def log1p(v):
    """log(1 + v) for v in [0, 1], to 2 ulp in float32."""
    return np.log1p(v)


def tanh(v):
    """tanh(v), to 3 ulp in float32."""
    return np.tanh(v)


def in_float32(function, replacement):
    """Inside kernels, `function` of a float32 is `replacement`; of a float64 it is itself."""
    itself = getattr(np, function.__name__)

    def choose(v):
        return replacement if v == types.float32 else lambda v: itself(v)

    overload(function, jit_options=EXACT)(choose)


for function, replacement in ((exp, _exp_f32), (expm1, _expm1_f32), (log1p, _log1p_f32),
                              (tanh, _tanh_f32)):
    in_float32(function, replacement)
