"""Named arrays and a JSON-able dict in one .npz file, which is written whole and checked when read.

A file is written under another name and then takes the place of the old one, so a crash at any
moment leaves the old file or the new one.  Its header lists shape, dtype and sha256 of each array;
the seal is the sha256 of the header.  A file that differs from these in any byte is refused.
"""

import glob
import hashlib
import io
import json
import math
import os
import secrets
import shutil
import time
import zipfile
from contextlib import suppress
from os import PathLike
from pathlib import Path

import numpy as np

from minivae.choices import some
from minivae.locks import is_alive

FORMAT = 3
LEFT_BEHIND = 3600.0            # seconds: nobody has written a temporary file for so long


class ArchiveError(ValueError):
    """A file is missing, damaged, not ours, or cannot be written.  The message is one line."""


class OtherFormat(ValueError):
    """The file is sound, but of a format that this version does not read."""


# --- writing --------------------------------------------------------------------------------------


def write(path: str | PathLike, arrays: dict[str, np.ndarray], meta: dict,
          keep_previous: bool = False) -> None:
    """Write named arrays and a JSON-able dict to the file `path`, whole or not at all.

    Parameters
    ----------
    path : path
    arrays : dict of arrays; no name may be "header" or "seal"
    meta : dict, ready for JSON
    keep_previous : bool
        Leave the file from before beside the new one, see `previous`.

    Raises
    ------
    ArchiveError
        As `write_whole`.
    """
    arrays = {name: np.asarray(a, order="C") for name, a in arrays.items()}
    listing = {name: {"shape": a.shape, "dtype": a.dtype.str, "sha256": digest(a)}
               for name, a in arrays.items()}
    text = json.dumps({"format": FORMAT, "arrays": listing, "meta": meta})
    header = np.frombuffer(text.encode(), np.uint8)
    stream = io.BytesIO()
    np.savez(stream, **arrays, header=header, seal=_seal(header))
    write_whole(path, stream.getvalue(), keep_previous)


def write_whole(path: str | PathLike, data: bytes, keep_previous: bool = False) -> None:
    """Write the bytes `data` so that a crash at any moment leaves the old file or the new one.

    keep_previous leaves the file from before beside the new one, see `previous`.  Of a link the
    file that it points to is replaced, and a file keeps its permissions.

    Raises
    ------
    ArchiveError
        Where there is no such folder, it may not be written to, or the disk is full; where `path`
        is a folder or a device.  The old file is untouched then.
    """
    path = Path(os.path.realpath(path))
    check_place(path)
    try:
        _remove_leftovers(path)
        _replace(path, data, keep_previous)
    except OSError as error:
        raise ArchiveError(f"{path} cannot be written: {error.strerror}; "
                           "nothing was overwritten") from error


def check_place(path: Path) -> None:
    """Raise ArchiveError where no file `path` can be: no folder for it, or something else there."""
    if not path.parent.is_dir():
        raise ArchiveError(f"{path} cannot be written: there is no folder {path.parent}")
    if path.exists() and not path.is_file():
        kind = "folder" if path.is_dir() else "device"
        raise ArchiveError(f"{path} cannot be written: it is a {kind}, wanted the name of a file")


def is_ours(path: Path) -> bool:
    """Whether `write` wrote this file: it is a zip with a header and a seal."""
    try:
        with zipfile.ZipFile(path) as file:
            return {"header.npy", "seal.npy"} <= set(file.namelist())
    except (OSError, ValueError, zipfile.BadZipFile):
        return False


def previous(path: str | PathLike) -> Path:
    """Where `write` keeps the file from before: model.prev.npz beside model.npz."""
    return Path(path).with_suffix(".prev.npz")


def _remove_leftovers(path: Path) -> None:
    """Remove the temporary files of processes that were killed while they wrote `path`."""
    begin = f".{path.name}."
    for leftover in path.parent.glob(f"{glob.escape(begin)}*.tmp"):
        pid = leftover.name.removeprefix(begin).split(".")[0]
        with suppress(FileNotFoundError):
            old = time.time() - leftover.stat().st_mtime > LEFT_BEHIND
            if old or not (pid.isdecimal() and is_alive(int(pid))):
                leftover.unlink()


def _replace(path: Path, data: bytes, keep_previous: bool) -> None:
    """Write a temporary file to the disk, and rename it to `path`."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            shutil.copymode(path, temporary)
        if keep_previous and path.exists():
            _link_previous(path, temporary.with_suffix(".link.tmp"))
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    _sync_folder(path.parent)


def _link_previous(path: Path, temporary: Path) -> None:
    """Let the old file be found under both names, `path` and previous(path)."""
    try:
        os.link(path, temporary)
    except OSError:
        # no hard links on this file system: for a moment the file has its second name only
        os.replace(path, previous(path))
        return
    try:
        os.replace(temporary, previous(path))
    finally:
        # a rename between two names of one file does nothing, and leaves both
        temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Wait until the folder's list of names, too, is on the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


# --- reading --------------------------------------------------------------------------------------


def read(path: str | PathLike) -> tuple[dict[str, np.ndarray], dict]:
    """The arrays and the dict that `write` was given.

    Raises
    ------
    ArchiveError
        For a file that is missing, damaged, of another format, or not written by `write`.  It
        names the save from before, where there is one.
    """
    hint = ""
    if previous(path).exists():
        hint = f"; the save before it is {previous(path)}: give it this name to go on from there"
    if Path(path).is_fifo():
        raise ArchiveError(f"{path} is a pipe: wanted a file")      # to open it would wait
    try:
        with open(path, "rb") as raw, zipfile.ZipFile(raw) as file:
            return _unpack(file, os.fstat(raw.fileno()).st_size)
    except FileNotFoundError:
        raise ArchiveError(f"{path} does not exist{hint}") from None
    except (PermissionError, IsADirectoryError) as error:
        raise ArchiveError(f"{path} cannot be read: {error.strerror}") from None
    except OtherFormat as error:
        raise ArchiveError(f"{path} {error}") from None
    except Exception as error:
        # damaged bytes make zipfile, zlib, struct, json and NumPy raise errors of many kinds
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ArchiveError(f"{path} is damaged or no minivae file: {reason}{hint}") from error


def _unpack(file: zipfile.ZipFile, size: int) -> tuple[dict[str, np.ndarray], dict]:
    """All arrays, each compared with the header, and the dict.

    Nothing larger than `size`, the bytes of the file, is ever put into memory.
    """
    members = file.infolist()
    compressed = any(member.compress_type != zipfile.ZIP_STORED for member in members)
    if compressed or sum(member.file_size for member in members) > size:
        raise ValueError("its parts are compressed, or larger than the file")
    parts = {member.filename.removesuffix(".npy"): member for member in members}
    for name in ("header", "seal"):
        if name not in parts:
            raise ValueError(f"it has no {name}")
    packed = _array(file.read(parts.pop("header")))
    header = json.loads(packed.tobytes())
    if header["format"] != FORMAT:
        raise OtherFormat(f"has format {header['format']}, this version reads {FORMAT}")
    if _array(file.read(parts.pop("seal"))).tobytes() != _seal(packed).tobytes():
        raise ValueError("the bytes of its header are not those that were written")
    listing = header["arrays"]
    if len(members) != len(listing) + 2 or set(parts) != set(listing):
        lacking, unknown = set(listing) - set(parts), set(parts) - set(listing)
        raise ValueError(f"it should hold the arrays that it lists: {_differ(lacking, unknown)}")
    arrays = {name: _array(file.read(parts[name])) for name in listing}
    for name, listed in listing.items():
        if digest(arrays[name]) != listed["sha256"]:
            raise ValueError(f"the bytes of {name} are not those that were written")
    return arrays, header["meta"]


def _array(data: bytes) -> np.ndarray:
    """The array in the bytes of one .npy file.

    Its shape must fit the number of bytes: a damaged header could ask for any amount of memory.
    """
    stream = io.BytesIO(data)
    if np.lib.format.read_magic(stream) != (1, 0):
        raise ValueError("an array is not of the .npy version that was written")
    shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
    follow = len(data) - stream.tell()
    if math.prod(shape) * dtype.itemsize != follow:
        raise ValueError(f"an array of shape {shape} and {dtype} does not have {follow} bytes")
    return np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)


# --- comparing ------------------------------------------------------------------------------------


def check_fit(path: str | PathLike, wanted: dict[str, np.ndarray],
              arrays: dict[str, np.ndarray]) -> None:
    """Raise ArchiveError unless `arrays` has the names, shapes and dtypes of `wanted`.

    path stands in the message: it is the file that `arrays` came from.
    """
    lacking, unknown = set(wanted) - set(arrays), set(arrays) - set(wanted)
    if lacking or unknown:
        raise ArchiveError(f"{path} is damaged: {_differ(lacking, unknown)}")
    for name, want in wanted.items():
        got = arrays[name]
        if (got.shape, got.dtype) != (want.shape, want.dtype):
            raise ArchiveError(f"{path} is damaged: {name} has shape {got.shape} and {got.dtype}, "
                               f"wanted {want.shape} and {want.dtype}")


def _differ(lacking: set[str], unknown: set[str]) -> str:
    """The names of arrays that are missing and those that are too many, in words."""
    return (f"arrays missing: {some(sorted(lacking)) or 'none'}; "
            f"unexpected: {some(sorted(unknown)) or 'none'}")


def digest(array: np.ndarray) -> str:
    """sha256 of an array's shape, dtype and bytes, in hexadecimal."""
    kind = f"{array.shape}{array.dtype.str}".encode()
    return hashlib.sha256(kind + np.ascontiguousarray(array).tobytes()).hexdigest()


def _seal(header: np.ndarray) -> np.ndarray:
    """sha256 of the header's bytes, as 32 bytes."""
    return np.frombuffer(hashlib.sha256(header.tobytes()).digest(), np.uint8)
