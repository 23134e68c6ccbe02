"""Data: digits, the MNIST family, and the user's own arrays, all as rows of pixels."""

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
    """Rows of pixels, (N, D), their picture's shape (H, W), test labels where known, and a word on the source."""

    name: str
    x_train: np.ndarray
    x_test: np.ndarray
    image_shape: tuple[int, int]
    y_test: np.ndarray | None
    note: str


def load_data(source: str | PathLike = "digits", data_dir: str | PathLike | None = None) -> Data:
    """Training and test images.

    Parameters
    ----------
    source : "digits", "mnist", "fashion-mnist", "kmnist", or a path
        digits: scikit-learn's 1,797 real 8x8 digits, offline.  mnist and its two relatives: their IDX
        files, gzipped or not, downloaded where they are not found.  A path: a .npy, or a .npz with
        x_train (and x_test), else its only array, of shape (N, D), (N, H, W) or (N, H, W, 1).  A tenth
        is held out where no test images are given.
    data_dir : path, optional
        Where mnist/ is, or fashion-mnist/ or kmnist/; then the environment variable MINIVAE_DATA and the
        cache folder are looked at.

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
        known = "" if path.suffix in (".npy", ".npz") else f"; the names I know are digits, {', '.join(PUBLISHED)}"
        raise ValueError(f"--data {source}: no such file{known}")
    x_train, x_test = read_arrays(path)
    return _from_arrays(path, x_train, x_test)


def load_images(source: str | PathLike, data_dir: str | PathLike | None = None) -> Data:
    """As load_data, for a model trained elsewhere: of a file without x_test every image is one to test, in its order, and one is enough."""
    path = Path(source)
    if source == "digits" or source in PUBLISHED or not path.exists():
        return load_data(source, data_dir)
    x_train, x_test = read_arrays(path)
    if x_test is not None:
        return _from_arrays(path, x_train, x_test)
    data = _from_arrays(path, x_train, x_train)
    return data._replace(note=data.note.replace("split as given", "all rows"))


def flat_shape(D: int) -> tuple[int, int]:
    """(H, W) of images that came as rows of D pixels: a square, or one row high."""
    side = round(D**0.5)
    return (side, side) if side**2 == D else (1, D)


def _digits() -> Data:
    from sklearn.datasets import load_digits           # heavy, so imported when wanted

    bunch = load_digits()
    order = np.random.default_rng(SPLIT_SEED).permutation(len(bunch.data))
    x, y = (bunch.data[order] / 16).astype(np.float32), bunch.target[order]
    note = "8x8 digits of scikit-learn, grey levels 0..16 divided by 16"
    return Data("digits", x[297:], x[:297], (8, 8), y[:297], note)


def _published(name: str, data_dir: str | PathLike | None) -> Data:
    x_train, x_test, y_test, note = read_published(name, data_dir)
    return Data(name, x_train.reshape(len(x_train), -1), x_test.reshape(len(x_test), -1), x_train.shape[1:], y_test,
                f"{note}, bytes 0..255 divided by 255")


def _from_arrays(path: Path, x_train: np.ndarray, x_test: np.ndarray | None) -> Data:
    x_train, image_shape = _as_rows(x_train, f"{path}: x_train")
    if x_test is None:
        if len(x_train) < 2:
            raise ValueError(f"{path} has {len(x_train)} image: at least 2 are needed, one to train on and one to test")
        order = np.random.default_rng(SPLIT_SEED).permutation(len(x_train))
        held = max(1, len(x_train) // 10)
        x_train, x_test = x_train[order[held:]], x_train[order[:held]]
        split = f"{held} of {held + len(x_train)} rows held out"
    else:
        x_test, test_shape = _as_rows(x_test, f"{path}: x_test")
        if test_shape != image_shape:
            raise ValueError(f"{path}: x_train has images of {image_shape}, x_test of {test_shape}")
        split = "split as given"
    if x_train.dtype == np.uint8:
        treatment = "bytes 0..255 divided by 255" if max(x_train.max(), x_test.max()) > 1 else "binary bytes"
    else:
        treatment = "binary" if x_train.dtype == bool else "floats as they are"
    return Data(path.stem, x_train, x_test, image_shape, None, f"{path}, {treatment}, {split}")


def _as_rows(x: np.ndarray, name: str) -> tuple[np.ndarray, tuple[int, int]]:
    """(N, D), (N, H, W) or (N, H, W, 1)  ->  (N, D) and (H, W); a flat D that is no square is one row high."""
    if x.ndim == 4 and x.shape[3] == 1:
        x = x[..., 0]
    if x.ndim not in (2, 3):
        raise ValueError(f"{name} must have shape (N, D), (N, H, W) or (N, H, W, 1), got {x.shape}: reshape it, and turn colours into grey")
    if 0 in x.shape:
        raise ValueError(f"{name} is empty: shape {x.shape}")
    image_shape = x.shape[1:] if x.ndim == 3 else flat_shape(x.shape[1])
    return check_pixels(x.reshape(len(x), -1), name), image_shape
