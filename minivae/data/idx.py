"""MNIST's IDX files: big-endian magic, dimensions, then bytes; gzipped or not.

Magic, dimensions and exact length are checked: the usual one-liner accepts an HTML error page.
"""

import gzip
import io
import struct
import zlib
from pathlib import Path

import numpy as np

IMAGES, LABELS = 0x00000803, 0x00000801


def read_idx(path: Path) -> np.ndarray:
    """Images (N, H, W) or labels (N,), uint8, of an IDX file.  Raises ValueError, in one line, for any other."""
    try:
        return parse_idx(path.read_bytes(), path)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error}") from None


def parse_idx(raw: bytes, path: Path) -> np.ndarray:
    """The same of the bytes of `path`, whose name tells labels from images."""
    data = unpack(raw, path)
    kind, magic, n_dims = ("labels", LABELS, 1) if "labels" in path.name else ("images", IMAGES, 3)
    if len(data) < 4 * (1 + n_dims) or struct.unpack(">I", data[:4])[0] != magic:
        raise ValueError(f"{path} is no IDX file of {kind}: it starts with {data[:4].hex() or 'nothing'}, wanted {magic:08x}")
    shape = struct.unpack(f">{n_dims}I", data[4 : 4 * (1 + n_dims)])
    wanted, got = int(np.prod(shape, dtype=object)), len(data) - 4 * (1 + n_dims)
    if wanted != got or 0 in shape:
        raise ValueError(f"{path} is damaged: its header promises {shape}, {wanted} bytes, and {got} follow")
    return np.frombuffer(data, np.uint8, offset=4 * (1 + n_dims)).reshape(shape)


def unpack(raw: bytes, path: Path, limit: int = -1) -> bytes:
    """`raw` without its gzip, where it has one, and no more than `limit` bytes of it."""
    if raw[:2] != b"\x1f\x8b":
        return raw
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(raw)) as file:
            return file.read(limit)
    except (OSError, EOFError, zlib.error, MemoryError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from None
