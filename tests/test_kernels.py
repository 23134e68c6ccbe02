"""Every kernel equals its NumPy twin in minivae/learn/twins.py or patches.py, in both precisions."""

import inspect

import numpy as np
import pytest
from numba import njit

from minivae import kernels
from minivae.learn import patches as patch_twins
from minivae.learn import twins

from conftest import JIT

K, B, D, H, Z = 3, 5, 7, 4, 2
TWINS = {**vars(twins), **vars(patch_twins), "matmul_by_hand": np.matmul}      # the twin of three loops is NumPy


def inputs(name, rng, dtype):
    """(inputs, shapes of the outputs) of one kernel."""
    a = lambda *shape: rng.standard_normal(shape).astype(dtype)
    u = lambda *shape: rng.random(shape).astype(dtype)
    return {
        "matmul_by_hand": ([a(B, D), a(D, H)], [(B, H)]),
        "sum_rows": ([a(B, D)], [(D,)]),
        "relu_forward": ([a(B, D)], [(B, D)]),
        "relu_backward": ([a(B, D), a(B, D)], [(B, D)]),
        "tanh_forward": ([a(B, D)], [(B, D)]),
        "tanh_backward": ([a(B, D), a(B, D)], [(B, D)]),
        "sigmoid_forward": ([5 * a(B, D)], [(B, D)]),
        "sigmoid_backward": ([u(B, D), a(B, D)], [(B, D)]),
        "softplus_forward": ([5 * a(B, D)], [(B, D)]),
        "softplus_backward": ([5 * a(B, D), a(B, D)], [(B, D)]),
        "bernoulli_forward": ([5 * a(K * B, D), u(B, D)], [(K * B,), (K * B, D)]),
        "gaussian_forward": ([a(K * B, D), a(K * B, D), a(B, D)], [(K * B,)]),
        "gaussian_backward": ([a(K * B, D), a(K * B, D), a(B, D), a(K * B)], [(K * B, D), (K * B, D)]),
        "sample_forward": ([a(B, Z), a(B, Z), a(K, B, Z)], [(B, Z), (K * B, Z)]),
        "sample_backward": ([u(B, Z), a(K, B, Z), a(K * B, Z)], [(B, Z), (B, Z)]),
        "kl_forward": ([a(B, Z), a(B, Z)], [(B,)]),
        "kl_backward": ([a(B, Z), a(B, Z), a(B)], [(B, Z), (B, Z)]),
        "log_q_forward": ([a(K * B, Z), a(B, Z), a(B, Z)], [(K * B,)]),
        "log_q_backward": ([a(K * B, Z), a(B, Z), a(B, Z), a(K * B), a(K * B)], [(K * B, Z), (B, Z), (B, Z)]),
        "log_prior_forward": ([a(K * B, Z)], [(K * B,)]),
        "binarize": ([u(B, D), u(B, D)], [(B, D)]),
    }[name]


# these update in place, or return a number: tested below; patches and add_patches in test_convolutions.py
SPECIAL = {"binarize_bytes", "add_bias", "add_sums", "scale_rows", "adam", "count_outside_unit", "patches",
           "add_patches"}


def kernel_names():
    return [name for name, f in vars(kernels).items() if name in TWINS and callable(f)]


def test_every_kernel_has_a_twin():
    source = inspect.getsource(kernels)
    declared = [block.split("(")[0].strip() for block in source.split("@kernel\ndef ")[1:]]
    assert len(declared) > 20 and set(declared) == set(kernel_names())


def close(got, want, dtype):
    """Float64 agrees to 50 roundings; float32, whose sums the kernels and NumPy order differently, too."""
    scale = max(1.0, np.abs(want).max())
    np.testing.assert_allclose(got, want, rtol=0, atol=50 * np.finfo(dtype).eps * scale)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", [name for name in kernel_names() if name not in SPECIAL])
def test_kernel_equals_its_numpy_twin(name, dtype, rng):
    given, shapes = inputs(name, rng, dtype)
    kept = [a.copy() for a in given]
    outputs = [np.full(shape, np.nan, dtype) for shape in shapes]
    getattr(kernels, name)(*given, *outputs)
    for before, after in zip(kept, given):
        np.testing.assert_array_equal(before, after, "the kernel wrote into its input")
    wanted = TWINS[name](*[a.astype(np.float64) for a in given])
    for got, want in zip(outputs, wanted if isinstance(wanted, tuple) else (wanted,), strict=True):
        close(got, want, dtype)


@pytest.mark.parametrize("rows, columns", [(1, 1), (1, 2), (2, 1), (2, 2)])
def test_gaussian_kernels_with_a_logvar_of_their_own_for_every_pixel_however_few(rows, columns, rng):
    mean, logvar, x, d = (rng.standard_normal((rows, columns)) for _ in range(4))
    d = d[:, 0].copy()
    got, dmean, dlogvar = np.empty(rows), np.empty_like(mean), np.empty_like(mean)
    kernels.gaussian_forward(mean, logvar, x, got)
    kernels.gaussian_backward(mean, logvar, x, d, dmean, dlogvar)
    close(got, twins.gaussian_forward(mean, logvar, x), np.float64)
    for a, b in zip((dmean, dlogvar), twins.gaussian_backward(mean, logvar, x, d)):
        close(a, b, np.float64)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gaussian_kernels_share_one_logvar(dtype, rng):
    mean, x, d = (rng.standard_normal(shape).astype(dtype) for shape in ((K * B, D), (B, D), K * B))
    one = np.full((1, 1), -0.7, dtype)
    got, dmean, dlogvar = np.empty(K * B, dtype), np.empty_like(mean), np.empty_like(mean)
    kernels.gaussian_forward(mean, one, x, got)
    kernels.gaussian_backward(mean, one, x, d, dmean, dlogvar)
    close(got, twins.gaussian_forward(mean.astype(float), one.astype(float), x.astype(float)), dtype)
    wide = (a.astype(float) for a in (mean, one, x, d))
    want_mean, want_logvar = twins.gaussian_backward(*wide)
    close(dmean, want_mean, dtype)
    close(dlogvar, want_logvar, dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_add_bias_equals_its_numpy_twin(dtype, rng):
    b, y = rng.random(D).astype(dtype), rng.random((B, D)).astype(dtype)
    wanted = twins.add_bias(b, y)
    kernels.add_bias(b, y)
    np.testing.assert_array_equal(y, wanted)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("parts", [0, 1, 2])
def test_add_sums_equals_its_numpy_twin(parts, dtype, rng):
    sums, y = rng.random((parts, B, D)).astype(dtype), rng.random((B, D)).astype(dtype)
    wanted = twins.add_sums(sums.astype(float), y.astype(float))
    kernels.add_sums(sums, y)
    close(y, wanted, dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scale_rows_equals_its_numpy_twin(dtype, rng):
    weight, a = rng.standard_normal(B).astype(dtype), rng.standard_normal((B, D)).astype(dtype)
    wanted = twins.scale_rows(weight, a)
    kernels.scale_rows(weight, a)
    np.testing.assert_array_equal(a, wanted)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_adam_equals_its_numpy_twin(dtype, rng):
    param, grad, m, v = (rng.random(11).astype(dtype) for _ in range(4))
    settings = (0.01, 0.9, 0.999, 1e-8, 1.7)
    wanted = twins.adam(*(a.astype(float) for a in (param, grad, m, v)), *settings)
    kernels.adam(param, grad, m, v, *settings)
    for got, want in zip((param, m, v), wanted):
        close(got, want, dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_moments_of_a_dead_unit_end_at_zero_and_not_at_subnormal_numbers(dtype):
    param, grad = np.ones(4, dtype), np.zeros(4, dtype)
    m, v = np.array([1.2e-37, -1.2e-37, 1.1e-37, -1.1e-37], dtype), np.array([1.0012e-37, 1.0008e-37, 0, 1], dtype)
    kernels.adam(param, grad, m, v, 0.01, 0.9, 0.999, 1e-8, 1.7)
    assert (m != 0).tolist() == [True, True, False, False] and (m[:2] * [1, -1] > 0).all()
    assert (v > 0).tolist() == [True, False, False, True]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bytes_are_binarised_with_the_right_probability(dtype, rng):
    """Over all 65536 values of the random bits, a grey level g gives 1 in g / 255 of them, to 1/131072."""
    X, index = rng.permutation(256).astype(np.uint8).reshape(4, 64), np.array([2, 0, 3])
    bits = rng.integers(0, 65536, (3, 64), dtype=np.uint16)
    out = np.empty((3, 64), dtype)
    kernels.binarize_bytes(X, index, bits, out)
    np.testing.assert_array_equal(out, twins.binarize_bytes(X, index, bits))
    every = np.arange(65536, dtype=np.uint16)[None]
    for grey in range(0, 256) if JIT else (0, 1, 254, 255):
        out = np.empty((1, 65536), dtype)
        kernels.binarize_bytes(np.full((1, 65536), grey, np.uint8), np.array([0]), every, out)
        assert abs(out.mean(dtype=float) - grey / 255) <= (0 if grey in (0, 255) else 1 / 131072)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_pixels_outside_the_unit_interval_are_counted(dtype):
    x = np.array([[0.0, 1.0, 0.5, -0.01], [1.01, np.nan, np.inf, -np.inf]], dtype)
    assert kernels.count_outside_unit(x) == twins.count_outside_unit(x) == 5


@pytest.mark.parametrize("name", ["relu_forward", "tanh_forward", "sigmoid_forward", "softplus_forward"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_nan_passes_through(name, dtype):
    x = np.array([[np.nan, 1.0, -1.0]], dtype)
    y = np.empty_like(x)
    getattr(kernels, name)(x, y)
    assert np.isnan(y[0, 0]) and np.isfinite(y[0, 1:]).all()


def compiled(name, v):
    """The elementary function of that name, as kernels call it, of each number of v."""
    function = getattr(kernels, name)

    @njit
    def apply(v, out):
        for i in range(v.size):
            out[i] = function(v[i])

    out = np.empty_like(v)
    apply(v, out)
    return out


TINY = np.float32(10) ** -np.arange(0, 45, 0.01, np.float32)            # down to the subnormals
ULPS = {"exp": (-110, 89, 1), "expm1": (-110, 89, 1.5), "log1p": (0, 1, 3), "tanh": (-12, 12, 3)}


@pytest.mark.filterwarnings("ignore:overflow", "ignore:underflow")
@pytest.mark.parametrize("name", ULPS)
def test_the_elementary_functions_are_good_to_a_few_ulp_over_their_whole_range(name):
    low, high, ulps = ULPS[name] if JIT else (*ULPS[name][:2], 4)     # without the JIT it is NumPy that is measured
    many, more = (2_000_001, 1_000_001) if JIT else (2001, 1001)
    v = np.concatenate([np.linspace(low, high, many), np.linspace(max(low, -1), 1, more)])
    v = np.concatenate([v.astype(np.float32), TINY, TINY[:0] if name == "log1p" else -TINY])
    want = getattr(np, name)(v.astype(np.float64))
    inside = np.abs(want) <= np.finfo(np.float32).max
    got, want, v = compiled(name, v)[inside], want[inside], v[inside]
    error = np.abs(got - want) / np.spacing(np.abs(want).astype(np.float32))
    worst = error.argmax()
    assert error[worst] <= ulps, f"{name}({v[worst]!r}) is {got[worst]!r}, {error[worst]:.2f} ulp off"


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name, values, limits", [
    ("exp", [np.inf, -np.inf, 0, -0.0, 1000, -1000], [np.inf, 0, 1, 1, np.inf, 0]),
    ("expm1", [np.inf, -np.inf, 0, -0.0, 1000, -1000], [np.inf, -1, 0, 0, np.inf, -1]),
    ("log1p", [0, -0.0], [0, 0]),
    ("tanh", [np.inf, -np.inf, 0, -0.0, 1000, -1000], [1, -1, 0, 0, 1, -1])])
@pytest.mark.filterwarnings("ignore:overflow")
def test_the_elementary_functions_have_exact_limits_and_pass_a_nan_on(name, values, limits, dtype):
    found = compiled(name, np.array([*values, np.nan], dtype))
    np.testing.assert_array_equal(found, np.array([*limits, np.nan], dtype))


@pytest.mark.parametrize("name", ULPS)
def test_in_float64_the_elementary_functions_are_the_librarys(name, rng):
    v = rng.random(1000)
    np.testing.assert_allclose(compiled(name, v), getattr(np, name)(v), rtol=5e-16)


@pytest.mark.parametrize("name", ["bernoulli_forward", "tanh_forward", "sigmoid_forward", "sample_forward"])
def test_float32_kernels_call_no_scalar_function(name, rng):
    """A call of the C library in the loop would cost ten times the rest."""
    if JIT:                                       # else there is no machine code to look at
        given, shapes = inputs(name, rng, np.float32)
        function = njit(**kernels.OPTIONS)(getattr(kernels, name).py_func)
        function(*given, *[np.empty(shape, np.float32) for shape in shapes])
        machine_code = "".join(function.inspect_asm().values())
        assert not [f for f in ("expf", "log1pf", "tanhf", "numba_exp", "numba_log1p") if f in machine_code]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_bernoulli_kernel_is_finite_and_exact_at_extreme_logits(dtype):
    big = np.finfo(dtype).max
    logits = np.array([[big], [-big], [big], [-big], [0.0]], dtype)
    x = np.array([[1.0], [0.0], [0.0], [1.0], [0.25]], dtype)
    log_px, residual = np.empty(5, dtype), np.empty((5, 1), dtype)
    kernels.bernoulli_forward(logits, x, log_px, residual)
    np.testing.assert_array_equal(log_px[:4], [0, 0, -big, -big])
    np.testing.assert_array_equal(residual[:4, 0], [0, 0, -1, 1])
    assert log_px[4] == pytest.approx(-np.log(2), rel=float(4 * np.finfo(dtype).eps))
