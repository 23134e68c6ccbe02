"""MNIST's IDX files: a magic number, the dimensions, then bytes; big-endian, gzipped or not.

Magic, dimensions and exact length are checked.  A reader that checks none of them takes the error
page of a web server for images.
"""

import gzip
import io
import struct
import zlib
from pathlib import Path

import numpy as np

IMAGES, LABELS = 0x00000803, 0x00000801


def parse_idx(raw: bytes, path: Path) -> np.ndarray:
    """The bytes of an IDX file as an array of uint8: images (N, H, W), or labels (N,).

    path is where they come from: its name tells labels from images, and messages name it.

    Raises
    ------
    ValueError
        In one line, for any other bytes.
    """
    data = unpack(raw, path)
    kind, magic, n_dims = "images", IMAGES, 3
    if "labels" in path.name:
        kind, magic, n_dims = "labels", LABELS, 1
    head = 4 * (1 + n_dims)                     # bytes: the magic number and the dimensions
    if len(data) < head or struct.unpack(">I", data[:4])[0] != magic:
        raise ValueError(f"{path} is no IDX file of {kind}: it starts with "
                         f"{data[:4].hex() or 'nothing'}, wanted {magic:08x}")
    shape = struct.unpack(f">{n_dims}I", data[4:head])
    wanted, got = int(np.prod(shape, dtype=object)), len(data) - head
    if wanted != got or 0 in shape:
        raise ValueError(f"{path} is damaged: its header promises {shape}, {wanted} bytes, "
                         f"and {got} follow")
    return np.frombuffer(data, np.uint8, offset=head).reshape(shape)


def unpack(raw: bytes, path: Path, limit: int = -1) -> bytes:
    """`raw` without its gzip, if it has one: all of it, or no more than `limit` bytes.

    Raises ValueError, which names `path`, where the gzip is damaged.
    """
    if raw[:2] != b"\x1f\x8b":
        return raw
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(raw)) as file:
            return file.read(limit)
    except (OSError, EOFError, zlib.error, MemoryError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from None
