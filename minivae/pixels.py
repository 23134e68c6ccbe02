"""Pixels: what an array of images must be, and how its numbers become pixels in [0, 1].

Bool, or whole numbers whose maximum is 1, are binary.  Other uint8 counts as 0..255 and is divided
by 255; so are other whole numbers that go past 127.  Floats are taken as they are.  uint8 data
stays uint8 until a batch is drawn, see training/batches.py.  NumPy only: whoever reads a data file
needs no model and no kernel.
"""

import numpy as np

from minivae.choices import check_choice

# the values of `binarize`, and what each makes of grey pixels
BINARIZE = {
    "dynamic": "black or white, drawn afresh from their grey levels at every pass "
               "(dynamic binarisation)",
    "threshold": "black or white, cut at one half",
    "none": "as they are",
}
# the same of test images, which are drawn once
ONCE = {**BINARIZE, "dynamic": "black or white, drawn once from their grey levels "
                                 "(dynamic binarisation)"}

# Images whose maximum is at most this are dark for bytes 0..255: another number may be white.
DARK = 127


def as_numbers(x, name: str) -> np.ndarray:
    """x as a plain array of real numbers, of any shape.  Raises ValueError otherwise.

    np.asarray alone would drop the mask of a masked array, and wrap a sparse matrix whole, without
    a word.
    """
    if np.ma.is_masked(x):
        raise ValueError(f"{name} must have a value in every place, but {np.ma.count_masked(x)} "
                         "of this masked array are masked: fill them first, e.g. x.filled(0)")
    if hasattr(x, "toarray"):
        raise ValueError(f"{name} must be a dense array, got a sparse {type(x).__name__}: "
                         "pass x.toarray()")
    try:
        nullable = hasattr(x, "to_numpy") and np.asarray(x).dtype == object
        x = _from_nullable(x) if nullable else np.asarray(x)
    except Exception as error:     # lists of other lengths; whatever another library's array raises
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{name} cannot be made an array of numbers: {reason}") from None
    if x.dtype.kind not in "biuf":
        raise ValueError(f"{name} must hold numbers (bool, integer or float), got dtype {x.dtype}: "
                         "convert it, e.g. x.astype(np.float32)")
    return x


def _from_nullable(x) -> np.ndarray:
    """pandas' nullable columns, which NumPy takes for objects; a missing value becomes NaN."""
    found = x.to_numpy(float, na_value=np.nan)
    whole = all(dtype.kind in "iu" for dtype in np.atleast_1d(x.dtypes))
    return found.astype(np.int64) if whole and np.isfinite(found).all() else found


def finite_numbers(x, name: str) -> np.ndarray:
    """The same, and every number is finite.  Raises ValueError otherwise."""
    x = as_numbers(x, name)
    if not np.isfinite(x).all():
        where = tuple(map(int, np.argwhere(~np.isfinite(x))[0]))
        raise ValueError(f"{name} must be finite, found {x[where]} at {list(where)}")
    return x


def as_pixel_rows(x, name: str = "x") -> np.ndarray:
    """x as a plain (N, D) array of numbers, N and D at least 1.  Raises ValueError otherwise.

    Images (N, H, W), or (N, H, W, C) with C colours, become rows of D = H*W*C pixels.
    """
    x = as_numbers(x, name)
    if x.ndim not in (2, 3, 4):
        hint = ("one image is x.reshape(1, -1)" if x.ndim < 2
                else "flatten the images, x.reshape(len(x), -1)")
        raise ValueError(f"{name} must have shape (N, D), a row for each image, or (N, H, W) or "
                         f"(N, H, W, 3), got {x.shape}: {hint}")
    if 0 in x.shape:
        raise ValueError(f"{name} is empty: shape {x.shape}, wanted at least one row of at least "
                         "one pixel")
    return x.reshape(len(x), -1)


def check_pixels(X: np.ndarray, name: str = "X") -> np.ndarray:
    """X as an (N, D) array of bool, uint8, float32 or float64.  Raises ValueError otherwise."""
    X = as_pixel_rows(X, name)
    if X.dtype.kind == "f":
        # float16, longdouble and swapped bytes become what the kernels know
        X = X.astype(np.float32 if X.dtype.itemsize <= 4 else np.float64, copy=False)
        if not np.isfinite(X).all():
            row, pixel = np.argwhere(~np.isfinite(X))[0]
            raise ValueError(f"{name} must be finite, found {X[row, pixel]} at row {row}, "
                             f"pixel {pixel}: fill it, or leave the row out")
    elif X.dtype not in (np.bool_, np.uint8):
        low, high = X.min(), X.max()
        if low < 0 or high > 255:
            raise ValueError(f"{name} holds whole numbers from {low} to {high}: "
                             "scale them to floats in [0, 1], or to uint8")
        if 1 < high <= DARK:
            raise ValueError(f"{name} holds whole numbers from {low} to {high}: if {high} is "
                             f"white, pass x / {high}; if 255 is, x.astype(np.uint8)")
        X = X.astype(np.uint8)
    return X


def check_range(X: np.ndarray, name: str, dtype: np.dtype) -> None:
    """Raise ValueError where a finite number of X is infinite in dtype, which is the model's."""
    if X.dtype.kind != "f" or X.dtype.itemsize <= dtype.itemsize:
        return
    most = np.finfo(dtype).max
    if max(np.fmax.reduce(X, axis=None), -np.fmin.reduce(X, axis=None)) > most:    # NaN or not
        for row, pixel in np.argwhere(np.isfinite(X) & (np.abs(X) > most))[:1]:
            raise ValueError(f"{name} holds {X[row, pixel]:g} at row {row}, pixel {pixel}, which "
                             f"is infinite in {dtype}: scale the pixels, or choose dtype float64")


def scale_of(X: np.ndarray) -> float:
    """What to divide X by: 255 for uint8 that goes past 1, else 1."""
    return 255.0 if X.dtype == np.uint8 and X.max() > 1 else 1.0


def scales_of(X: np.ndarray, X_test: np.ndarray) -> tuple[float, float]:
    """The scales of both arrays.  Of two uint8 arrays the training images decide for both.

    Raises ValueError where one array goes past 1 and the other has 0 and 1 only.
    """
    scale, scale_test = scale_of(X), scale_of(X_test)
    if X.dtype == X_test.dtype == np.uint8:
        if scale_test > scale or (scale == 255 and X_test.max() == 1):
            raise ValueError(f"the training images go from 0 to {X.max()}, the test images up to "
                             f"{X_test.max()}: bring them to one scale")
        scale_test = scale
    return scale, scale_test


def doubt_about_scale(X: np.ndarray) -> str | None:
    """Why the pixels of X may be on another scale than they are taken for; None if all is well.

    X : (N, D) as `check_pixels` returns it.
    """
    low, high = X.min(), X.max()
    if X.dtype == np.uint8 and 1 < high <= DARK:
        return (f"the images are bytes and go up to {high} only, and are divided by 255: "
                f"if {high} is white, divide them by {high}")
    if X.dtype.kind == "f" and low >= 0 and DARK < high <= 255:
        return (f"the images are floats from {low:g} to {high:g}, and are taken as they are: "
                "divide them by 255?")
    return None


def is_grey(X: np.ndarray) -> bool:
    """Whether X has values other than its two extremes, black and white."""
    scale = scale_of(X)
    parts = np.array_split(X, max(1, X.size // 10**7))     # in parts, so that memory stays small
    return any(bool(((part != 0) & (part != scale)).any()) for part in parts)


def choose_binarize(binarize: str | None, likelihood) -> str:
    """A key of BINARIZE.  None means dynamic for a likelihood of binary pixels, else none.

    Raises ValueError for an unknown name.
    """
    if binarize is None:
        return "dynamic" if likelihood.binary else "none"
    check_choice(binarize, BINARIZE, "binarize")
    return binarize
