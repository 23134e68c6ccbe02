"""The user's own .csv files: a row of numbers for each image."""

import csv
import warnings
from pathlib import Path

import numpy as np

from minivae.data.arrays import Arrays


def read_csv(path: Path) -> Arrays:
    """The rows of a .csv: numbers with commas between them; the first line may hold names.

    A column that the first line calls "label" holds the labels.  Numbers that are all whole and
    from 0 to 255 are taken for bytes, others for floats.

    Raises
    ------
    ValueError
        In one line, for rows of different lengths, and what is no number.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            names = next(csv.reader(file), [])
        header = any(not _is_number(name) for name in names)
        columns = [name.strip().lower() for name in names] if header else []
        pixels = [i for i in range(len(names)) if columns[i : i + 1] != ["label"]]
        x = _columns(path, header, pixels if len(pixels) < len(names) else None, float)
        labels = None
        if "label" in columns:
            labels = _columns(path, header, [columns.index("label")], str)[:, 0]
    except (OSError, ValueError, UserWarning, csv.Error) as error:
        reason = str(error).splitlines()[0].split(" Use `usecols`")[0]
        raise ValueError(f"{path} is no readable .csv, rows of numbers with commas: "
                         f"{reason}") from None
    if "" in columns:
        raise ValueError(f"{path} has a column without a name, an index?: leave it out, "
                         "df.to_csv(path, index=False)")
    if x.size and x.min() >= 0 and x.max() <= 255 and (x == x.astype(np.int64)).all():
        x = x.astype(np.int64)
    return Arrays(x, y_train=labels)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _columns(path: Path, header: bool, columns: list[int] | None, dtype: type) -> np.ndarray:
    """Some columns of the file, or all : (N, len(columns))."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")                     # of a file without rows
        return np.loadtxt(path, dtype, delimiter=",", skiprows=int(header), usecols=columns,
                          ndmin=2, comments=None, quotechar='"', encoding="utf-8-sig")
