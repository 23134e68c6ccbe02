"""Data: digits, the MNIST family, and the user's own arrays, all as rows of pixels.

This folder imports pixels.py and locks.py of the package, no more: reading data needs no model.
"""

from __future__ import annotations

import os
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import numpy as np

from minivae.choices import check_kind
from minivae.data.own import as_rows, labels_of, read_own
from minivae.data.published import PUBLISHED, read_published

SPLIT_SEED = 1797               # which rows are held out never depends on the training seed


class Data(NamedTuple):
    """Training and test images, and what there is to say of them."""

    name: str
    x_train: np.ndarray                     # (N, D) bool, uint8 or float
    x_test: np.ndarray                      # (N_test, D) bool, uint8 or float
    image_shape: tuple[int, ...]            # (H, W), or in colour (H, W, 3); their product is D
    y_test: np.ndarray | None               # (N_test,) labels of x_test, where they are known
    note: str                               # where they come from, in a line


def load_data(source: str | PathLike = "digits", data_dir: str | PathLike | None = None,
              key: str | None = None) -> Data:
    """Training and test images.

    Parameters
    ----------
    source : "digits", "mnist", "fashion-mnist", "kmnist", or a path
        digits: scikit-learn's 1,797 real 8x8 digits, offline.  mnist and its two relatives: their
        IDX files, gzipped or not, downloaded where they are not found.  A path is one of:

        - a .npy of shape (N, D), (N, H, W), (N, H, W, 1) or, in colour, (N, H, W, 3);
        - a .npz with such an array x_train (and x_test), else its only one, and labels in y_train
          or labels (and y_test);
        - a .csv, a row of numbers for each image, where a column called "label" holds the labels;
        - a folder of .png and .jpg files of one size, with folders train/ and test/ or not; where
          they lie in folders, these are the labels.

        A tenth is held out where no test images are given.
    data_dir : path, optional
        The folder that holds mnist/, fashion-mnist/ or kmnist/.  Where they are not there, the
        folder that the environment variable MINIVAE_DATA names is tried, then the cache folder.
    key : str, optional
        The name of the array of images in a .npz.

    Raises
    ------
    ValueError
        In one line: what was wanted, what came, where, and how to mend it.
    TypeError
        For a source that is no name and no path.
    """
    return _load(source, data_dir, key, hold_out=True)


def load_test_images(source: str | PathLike, data_dir: str | PathLike | None = None,
                     key: str | None = None) -> Data:
    """As load_data; a source without test images gives all its images as test images.

    They keep their order, and one image is enough, also one .png or .jpg file.

    Raises
    ------
    ValueError, TypeError
        As load_data.
    """
    return _load(source, data_dir, key, hold_out=False)


def _load(source: str | PathLike, data_dir: str | PathLike | None, key: str | None,
          hold_out: bool) -> Data:
    check_kind(data_dir, str | PathLike | None, "data_dir", "the path of a folder")
    check_kind(key, str | None, "key", "the name of an array")
    if not isinstance(source, str | PathLike):
        raise TypeError(f"source must be a name or a path, got {type(source).__name__}: fit and "
                        "encode take an array as it is")
    if source in PUBLISHED and key is None:
        return _published(source, data_dir)
    if data_dir is not None and source not in PUBLISHED:
        raise ValueError(f"--data-dir {data_dir} goes with {', '.join(PUBLISHED)}, and not with "
                         f"{source}")
    if source in ("digits", *PUBLISHED):
        if key is not None:
            raise ValueError(f"--key {key} goes with a .npz, and not with {source}")
        return _digits()
    path = Path(source)
    if not str(source) or not path.exists():
        known = f"; the names I know are digits, {', '.join(PUBLISHED)}"
        hint = "" if path.suffix else known
        raise ValueError(f"--data {source}: no such file or folder{hint}")
    return _from_path(path, key, hold_out)


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


def _from_path(path: Path, key: str | None, hold_out: bool) -> Data:
    """The images of a file or folder.  Where it has no test images, hold out a tenth, or none."""
    found = read_own(path, key)
    x_train, image_shape = as_rows(found.x_train, f"{path}: {key or 'x_train'}")
    y_train, remark = labels_of(found.y_train, len(x_train), "y_train")
    if found.x_test is not None:
        x_test, test_shape = as_rows(found.x_test, f"{path}: x_test")
        if test_shape != image_shape:
            raise ValueError(f"{path}: x_train has images of {image_shape}, "
                             f"x_test of {test_shape}")
        y_test, remark = labels_of(found.y_test, len(x_test), "y_test")
        split = "split as given"
    elif hold_out:
        train, test = _hold_out(len(x_train), path)
        x_train, x_test = x_train[train], x_train[test]
        y_test = None if y_train is None else y_train[test]
        split = f"{len(test)} of {len(train) + len(test)} rows held out"
    else:
        x_test, y_test, split = x_train, y_train, "all rows"
    pixels = _pixels_in_words(x_train, x_test)
    if found.x_train.ndim == 2 and len(image_shape) == 3:
        pixels += f", drawn as {image_shape[0]} x {image_shape[1]} in colour"
    note = f"{path}, {pixels}, {split}{remark}"
    return Data(Path(os.path.abspath(path)).stem, x_train, x_test, image_shape, y_test, note)


def _hold_out(n: int, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Which of n rows to train on, and which tenth to test on: always the same rows."""
    if n < 2:
        raise ValueError(f"{path} has {n} image: at least 2 are needed, one to train on and "
                         "one to test; `minivae reconstruct` takes one")
    order = np.random.default_rng(SPLIT_SEED).permutation(n)
    held = max(1, n // 10)
    return order[held:], order[:held]


def _pixels_in_words(x_train: np.ndarray, x_test: np.ndarray) -> str:
    """How the numbers of a file become pixels."""
    if x_train.dtype == bool:
        return "binary"
    if x_train.dtype != np.uint8:
        return "floats as they are"
    if max(x_train.max(), x_test.max()) > 1:
        return "bytes 0..255 divided by 255"
    return "binary bytes"
