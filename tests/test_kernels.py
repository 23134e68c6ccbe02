"""Every kernel equals its NumPy twin in tests/naive.py, in both precisions."""

import inspect

import numpy as np
import pytest

from minivae import kernels

import naive

K, B, D, H, Z = 3, 5, 7, 4, 2


def inputs(name, rng, dtype):
    """(inputs, shapes of the outputs) of one kernel."""
    a = lambda *shape: rng.standard_normal(shape).astype(dtype)
    u = lambda *shape: rng.random(shape).astype(dtype)
    return {
        "dense_forward": ([a(B, D), a(D, H), a(H)], [(B, H)]),
        "dense_backward": ([a(B, D), a(B, H)], [(D, H), (H,)]),
        "dense_backward_input": ([a(B, H), a(D, H)], [(B, D)]),
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
        "scale_rows": ([a(B), a(B, D)], [(B, D)]),
        "sample_forward": ([a(B, Z), a(B, Z), a(K, B, Z)], [(B, Z), (K * B, Z)]),
        "sample_backward": ([u(B, Z), a(K, B, Z), a(K * B, Z)], [(B, Z), (B, Z)]),
        "kl_forward": ([a(B, Z), a(B, Z)], [(B,)]),
        "kl_backward": ([a(B, Z), a(B, Z), a(B)], [(B, Z), (B, Z)]),
        "log_q_forward": ([a(K * B, Z), a(B, Z), a(B, Z)], [(K * B,)]),
        "log_q_backward": ([a(K * B, Z), a(B, Z), a(B, Z), a(K * B), a(K * B)], [(K * B, Z), (B, Z), (B, Z)]),
        "log_prior_forward": ([a(K * B, Z)], [(K * B,)]),
        "binarize": ([u(B, D), u(B, D)], [(B, D)]),
    }[name]


SPECIAL = {"adam", "count_outside_unit"}      # these update in place, or return a number: tested below


def kernel_names():
    return [name for name, f in vars(kernels).items() if name in vars(naive) and callable(f)]


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
    wanted = getattr(naive, name)(*[a.astype(np.float64) for a in given])
    for got, want in zip(outputs, wanted if isinstance(wanted, tuple) else (wanted,), strict=True):
        close(got, want, dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gaussian_kernels_share_one_logvar(dtype, rng):
    mean, x, d = rng.standard_normal((K * B, D)).astype(dtype), rng.standard_normal((B, D)).astype(dtype), rng.standard_normal(K * B).astype(dtype)
    one = np.full((1, 1), -0.7, dtype)
    got, dmean, dlogvar = np.empty(K * B, dtype), np.empty_like(mean), np.empty_like(mean)
    kernels.gaussian_forward(mean, one, x, got)
    kernels.gaussian_backward(mean, one, x, d, dmean, dlogvar)
    close(got, naive.gaussian_forward(mean.astype(float), one.astype(float), x.astype(float)), dtype)
    want_mean, want_logvar = naive.gaussian_backward(mean.astype(float), one.astype(float), x.astype(float), d.astype(float))
    close(dmean, want_mean, dtype)
    close(dlogvar, want_logvar, dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_adam_equals_its_numpy_twin(dtype, rng):
    param, grad, m, v = (rng.random(11).astype(dtype) for _ in range(4))
    settings = (0.01, 0.9, 0.999, 1e-8, 1.7)
    wanted = naive.adam(*(a.astype(float) for a in (param, grad, m, v)), *settings)
    kernels.adam(param, grad, m, v, *settings)
    for got, want in zip((param, m, v), wanted):
        close(got, want, dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_pixels_outside_the_unit_interval_are_counted(dtype):
    x = np.array([[0.0, 1.0, 0.5, -0.01], [1.01, np.nan, np.inf, -np.inf]], dtype)
    assert kernels.count_outside_unit(x) == naive.count_outside_unit(x) == 5


@pytest.mark.parametrize("name", ["relu_forward", "tanh_forward", "sigmoid_forward", "softplus_forward"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_nan_passes_through(name, dtype):
    x = np.array([[np.nan, 1.0, -1.0]], dtype)
    y = np.empty_like(x)
    getattr(kernels, name)(x, y)
    assert np.isnan(y[0, 0]) and np.isfinite(y[0, 1:]).all()


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
