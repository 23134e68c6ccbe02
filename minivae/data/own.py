"""The user's own images: whatever file or folder they are in, as checked rows of pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from minivae.data.arrays import Arrays, read_npy, read_npz
from minivae.data.image_files import read_folder, read_image
from minivae.data.table import read_csv
from minivae.pixels import check_pixels

# A square array of this side or more is taken for one image; smaller ones are rows of pixels.
ONE_IMAGE = 8
WANTED = "(N, D), (N, H, W), (N, H, W, 1) or, in colour, (N, H, W, 3)"


def read_own(path: Path, key: str | None = None) -> Arrays:
    """What the file or folder holds.  key : which array of a .npz holds the images.

    Raises
    ------
    ValueError
        In one line: what is wrong with it.
    """
    start = b"" if path.is_dir() else _first_bytes(path)
    if start[:2] == b"PK":
        return read_npz(path, key)
    if key is not None:
        raise ValueError(f"--key {key} goes with a .npz, which {path} is not")
    if path.is_dir():
        return read_folder(path)
    if start[:6] == b"\x93NUMPY":
        return read_npy(path)
    if start[:4] == b"\x89PNG" or start[:3] == b"\xff\xd8\xff":
        return read_image(path)
    if path.suffix.lower() == ".csv":
        return read_csv(path)
    raise ValueError(f"{path} is no .npy, .npz, .csv, .png or .jpg file: it starts with {start!r}")


def _first_bytes(path: Path) -> bytes:
    """Raises ValueError for what is no file: a pipe without a writer would be waited for."""
    if not path.is_file():
        raise ValueError(f"{path} is neither a file nor a folder: save the images in a file first")
    try:
        with open(path, "rb") as file:
            return file.read(8)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None


def as_rows(x: np.ndarray, name: str) -> tuple[np.ndarray, tuple[int, ...]]:
    """x : images of any shape in WANTED  ->  checked pixels (N, D), and (H, W) or (H, W, 3).

    Raises ValueError, which says how to mend it, for any other shape.
    """
    hint = _how_to_mend(x.shape)
    if hint:
        raise ValueError(f"{name} must have shape {WANTED}, got {x.shape}: {hint}")
    if 0 in x.shape:
        raise ValueError(f"{name} is empty: shape {x.shape}")
    if x.ndim == 4 and x.shape[3] == 1:
        x = x[..., 0]
    image_shape = flat_shape(x.shape[1]) if x.ndim == 2 else x.shape[1:]
    return check_pixels(x.reshape(len(x), -1), name), image_shape


def flat_shape(D: int) -> tuple[int, ...]:
    """The shape of images that came as rows of D pixels, for their pictures.

    It is a square, or a square in colour of at least 8 x 8, or else one row.
    """
    side, colour_side = round(D**0.5), round((D / 3)**0.5)
    if side**2 == D:
        return side, side
    if 3 * colour_side**2 == D and colour_side >= ONE_IMAGE:
        return colour_side, colour_side, 3
    return 1, D


def _how_to_mend(shape: tuple[int, ...]) -> str | None:
    """How to make images out of an array of this shape; None where it is one of images."""
    match shape:
        case ():
            return "one image is x.reshape(1, H, W)"
        case (D,):
            return f"one image of {D} pixels is x.reshape(1, -1), N of them are x.reshape(N, -1)"
        case (H, W) if H == W >= ONE_IMAGE:
            return f"one image is x[None], {H} rows of {W} pixels are x[:, None]"
        case (H, W, 1 | 3 as C) if H >= ONE_IMAGE and W >= ONE_IMAGE:
            return f"one image is x[None], {H} images of {W} x {C} pixels are x[..., None]"
        case (_, _) | (_, _, _) | (_, _, _, 1 | 3):
            return None
        case (_, 1, _, _):
            return "x[:, 0] takes the channel away"
        case (_, 3, _, _):
            return "x.transpose(0, 2, 3, 1) puts the colours last"
        case (_, _, _, 4):
            return "x[..., :3] leaves out the fourth channel, alpha"
        case (_, 4, _, _):
            return "x[:, :3].transpose(0, 2, 3, 1) leaves out alpha and puts the colours last"
    return "reshape it"


def labels_of(y: np.ndarray | None, n: int, name: str) -> tuple[np.ndarray | None, str]:
    """Labels as (n,) integers or words, and what there is to say of them.

    They are left out, and a word says so, where they are no classes of n images.
    """
    if y is None:
        return None, ""
    if y.shape == (n, 1):
        y = y[:, 0]
    if y.shape == (n,) and y.dtype.kind in "USbiuf":
        try:
            numbers = y.astype(float)
            if (numbers == numbers.astype(np.int64)).all():
                return numbers.astype(np.int64), ""
        except ValueError:                                 # words
            return y.astype(str), ""
    return None, (f", {name} of shape {y.shape} and dtype {y.dtype} left out: it is no class for "
                  "each image")
