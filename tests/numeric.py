"""The tests' own finite differences: small on purpose, and independent of anything in the package."""

import numpy as np

STEP = np.finfo(float).eps ** (1 / 3)    # balances the STEP^2 truncation against the eps / STEP rounding error


def numeric_grad(f, a):
    """Central differences of the scalar f() with respect to every entry of a, in float64."""
    assert a.dtype == np.float64, a.dtype
    grad = np.zeros_like(a)
    for i in np.ndindex(a.shape):
        keep = a[i]
        a[i] = keep + STEP
        up = f()
        a[i] = keep - STEP
        down = f()
        a[i] = keep
        grad[i] = (up - down) / (2 * STEP)
    return grad


def relative_error(analytic, numeric):
    """max |analytic - numeric| over the larger array's own max; 0 when both are all zero."""
    assert analytic.shape == numeric.shape, (analytic.shape, numeric.shape)
    scale = max(np.abs(analytic).max(), np.abs(numeric).max())
    return 0.0 if scale == 0 else np.abs(analytic - numeric).max() / scale


def assert_gradients(f, pairs):
    """Every (name, array, analytic gradient) agrees with the differences of f to 1e-7.

    Central differences at this step are good to about 1e-9 here; 1e-7 still sees a relative
    fault of 1e-6 anywhere near an array's largest gradient.
    """
    rows = [(name, relative_error(np.array(grad), numeric_grad(f, a))) for name, a, grad in pairs]
    wrong = [f"{name}: relative error {error:.1e}" for name, error in rows if not error < 1e-7]
    assert not wrong, "\n" + "\n".join(wrong)
