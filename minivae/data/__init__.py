"""Data: digits, the MNIST family, and the user's own arrays, all as rows of pixels.

This folder imports pixels.py and locks.py of the package, no more: reading data needs no model.
"""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import NamedTuple

import numpy as np

from minivae.data.arrays import read_arrays
from minivae.data.published import PUBLISHED, read_published
from minivae.pixels import check_pixels

SPLIT_SEED = 1797               # which rows are held out never depends on the training seed


class Data(NamedTuple):
    """Training and test images, and what there is to say of them."""

    name: str
    x_train: np.ndarray                     # (N, D) bool, uint8 or float
    x_test: np.ndarray                      # (N_test, D) bool, uint8 or float
    image_shape: tuple[int, int]            # (H, W), with H * W = D
    y_test: np.ndarray | None               # (N,) labels of x_test, where they are known
    note: str                               # where they come from, in a line


def load_data(source: str | PathLike = "digits", data_dir: str | PathLike | None = None) -> Data:
    """Training and test images.

    Parameters
    ----------
    source : "digits", "mnist", "fashion-mnist", "kmnist", or a path
        digits: scikit-learn's 1,797 real 8x8 digits, offline.  mnist and its two relatives: their
        IDX files, gzipped or not, downloaded where they are not found.  A path: a .npy, or a .npz
        with x_train (and x_test), else its only array, of shape (N, D), (N, H, W) or (N, H, W, 1).
        A tenth is held out where no test images are given.
    data_dir : path, optional
        The folder that holds mnist/, fashion-mnist/ or kmnist/.  Where they are not there, the
        folder that the environment variable MINIVAE_DATA names is tried, then the cache folder.

    Raises
    ------
    ValueError
        In one line: what was wanted, what came, where, and how to mend it.
    """
    if source == "digits":
        return _digits()
    if source in PUBLISHED:
        return _published(source, data_dir)
    path = Path(source)
    if not path.exists():
        known = f"; the names I know are digits, {', '.join(PUBLISHED)}"
        hint = "" if path.suffix in (".npy", ".npz") else known
        raise ValueError(f"--data {source}: no such file{hint}")
    return _from_file(path, hold_out=True)


def load_test_images(source: str | PathLike, data_dir: str | PathLike | None = None) -> Data:
    """As load_data; a file without x_test gives all its images as test images.

    They keep their order, and one image is enough.

    Raises
    ------
    ValueError
        As load_data.
    """
    if source == "digits" or source in PUBLISHED or not Path(source).exists():
        return load_data(source, data_dir)
    return _from_file(Path(source), hold_out=False)


def flat_shape(D: int) -> tuple[int, int]:
    """(H, W) of images that came as rows of D pixels: a square, or else one row high."""
    side = round(D**0.5)
    return (side, side) if side**2 == D else (1, D)


def _digits() -> Data:
    from sklearn.datasets import load_digits           # slow to import

    bunch = load_digits()
    order = np.random.default_rng(SPLIT_SEED).permutation(len(bunch.data))
    x, y = (bunch.data[order] / 16).astype(np.float32), bunch.target[order]
    note = "8x8 digits of scikit-learn, grey levels 0..16 divided by 16"
    return Data("digits", x[297:], x[:297], (8, 8), y[:297], note)


def _published(name: str, data_dir: str | PathLike | None) -> Data:
    x_train, x_test, y_test, note = read_published(name, data_dir)
    image_shape = x_train.shape[1:]
    x_train, x_test = x_train.reshape(len(x_train), -1), x_test.reshape(len(x_test), -1)
    return Data(name, x_train, x_test, image_shape, y_test,
                f"{note}, bytes 0..255 divided by 255")


def _from_file(path: Path, hold_out: bool) -> Data:
    """The arrays of a file.  Where it has no x_test, hold out a tenth, or test on all."""
    x_train, x_test = read_arrays(path)
    x_train, image_shape = _as_rows(x_train, f"{path}: x_train")
    if x_test is not None:
        x_test, test_shape = _as_rows(x_test, f"{path}: x_test")
        if test_shape != image_shape:
            raise ValueError(f"{path}: x_train has images of {image_shape}, "
                             f"x_test of {test_shape}")
        split = "split as given"
    elif hold_out:
        x_train, x_test = _hold_out(x_train, path)
        split = f"{len(x_test)} of {len(x_train) + len(x_test)} rows held out"
    else:
        x_test, split = x_train, "all rows"
    note = f"{path}, {_pixels_in_words(x_train, x_test)}, {split}"
    return Data(path.stem, x_train, x_test, image_shape, None, note)


def _hold_out(x: np.ndarray, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """x : (N, D)  ->  nine tenths to train on and one to test, always the same rows."""
    if len(x) < 2:
        raise ValueError(f"{path} has {len(x)} image: at least 2 are needed, one to train on and "
                         "one to test")
    order = np.random.default_rng(SPLIT_SEED).permutation(len(x))
    held = max(1, len(x) // 10)
    return x[order[held:]], x[order[:held]]


def _pixels_in_words(x_train: np.ndarray, x_test: np.ndarray) -> str:
    """How the numbers of a file become pixels."""
    if x_train.dtype == bool:
        return "binary"
    if x_train.dtype != np.uint8:
        return "floats as they are"
    if max(x_train.max(), x_test.max()) > 1:
        return "bytes 0..255 divided by 255"
    return "binary bytes"


def _as_rows(x: np.ndarray, name: str) -> tuple[np.ndarray, tuple[int, int]]:
    """x : (N, D), (N, H, W) or (N, H, W, 1)  ->  checked pixels (N, D), and (H, W)."""
    if x.ndim == 4 and x.shape[3] == 1:
        x = x[..., 0]
    if x.ndim not in (2, 3):
        raise ValueError(f"{name} must have shape (N, D), (N, H, W) or (N, H, W, 1), got "
                         f"{x.shape}: reshape it, and turn colours into grey")
    if 0 in x.shape:
        raise ValueError(f"{name} is empty: shape {x.shape}")
    image_shape = x.shape[1:] if x.ndim == 3 else flat_shape(x.shape[1])
    return check_pixels(x.reshape(len(x), -1), name), image_shape
