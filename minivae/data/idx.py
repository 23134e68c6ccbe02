"""MNIST's IDX files: big-endian magic, dimensions, then bytes; gzipped or not.

Magic, dimensions and exact length are checked: the usual one-liner accepts an HTML error page.
"""

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np

IMAGES, LABELS = 0x00000803, 0x00000801
KINDS = {"images": (IMAGES, "idx3"), "labels": (LABELS, "idx1")}


def find_idx(folder: Path, name: str, part: str) -> Path:
    """The file of `part`, e.g. train-images, in folder/name/ first, then in folder itself."""
    stem = f"{part}-{KINDS[part.split('-')[1]][1]}-ubyte"
    tried = [place / f"{stem}{suffix}" for place in (folder / name, folder) for suffix in ("", ".gz")]
    for path in tried:
        if path.is_file():
            return path
    raise ValueError(f"--data {name}: no {stem} or {stem}.gz in {folder / name} or {folder}")


def read_idx(path: Path) -> np.ndarray:
    """Images (N, H, W) or labels (N,), uint8, of an IDX file.  Raises ValueError, in one line, for any other."""
    try:
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} cannot be read: {error}") from None
    kind = "labels" if "labels" in path.name else "images"
    magic, n_dims = KINDS[kind][0], 1 if kind == "labels" else 3
    if len(data) < 4 * (1 + n_dims) or struct.unpack(">I", data[:4])[0] != magic:
        raise ValueError(f"{path} is no IDX file of {kind}: it starts with {data[:4].hex() or 'nothing'}, wanted {magic:08x}")
    shape = struct.unpack(f">{n_dims}I", data[4 : 4 * (1 + n_dims)])
    wanted, got = int(np.prod(shape, dtype=object)), len(data) - 4 * (1 + n_dims)
    if wanted != got or 0 in shape:
        raise ValueError(f"{path} is damaged: its header promises {shape}, {wanted} bytes, and {got} follow")
    return np.frombuffer(data, np.uint8, offset=4 * (1 + n_dims)).reshape(shape)
