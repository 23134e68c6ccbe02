"""MNIST and its two younger relatives: found on the disk, or downloaded, and recognised."""

import hashlib
import os
import sys
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from os import PathLike
from pathlib import Path
from threading import Thread
from time import perf_counter
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from minivae.data.idx import parse_idx, unpack
from minivae.locks import locked

PARTS = ("train-images-idx3-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
LIMIT = 2**26                   # bytes: every file of these sets is smaller, packed or unpacked
SILENCE = 30                    # seconds without a byte, after which a mirror is given up
DEADLINE = 1800                 # seconds for one file, after which a mirror is given up


class Published(NamedTuple):
    """The mirrors of a set, in the order to try, and for each part the sha256 that it may have.

    The first is that of the .gz, the second, where it is known, that of the bytes inside: a mirror
    may have packed them anew.
    """

    mirrors: tuple[str, ...]
    sha256: dict[str, tuple[str, ...]]


PUBLISHED = {
    # http://yann.lecun.com/exdb/mnist/, LeCun, Cortes and Burges; that host no longer answers
    "mnist": Published(
        mirrors=("https://storage.googleapis.com/cvdf-datasets/mnist/",
                 "https://ossci-datasets.s3.amazonaws.com/mnist/"),
        sha256={
            "train-images-idx3-ubyte": (
                "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
                "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"),
            "t10k-images-idx3-ubyte": (
                "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
                "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
            "t10k-labels-idx1-ubyte": (
                "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
                "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2")}),
    # Xiao, Rasul and Vollgraf (2017), arXiv:1708.07747
    "fashion-mnist": Published(
        mirrors=("https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/"
                 "fashion/",
                 "https://storage.googleapis.com/tensorflow/tf-keras-datasets/"),
        sha256={
            "train-images-idx3-ubyte": (
                "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",),
            "t10k-images-idx3-ubyte": (
                "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",),
            "t10k-labels-idx1-ubyte": (
                "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",)}),
    # Clanuwat et al. (2018), arXiv:1812.01718
    "kmnist": Published(
        mirrors=("http://codh.rois.ac.jp/kmnist/dataset/kmnist/",),
        sha256={
            "train-images-idx3-ubyte": (
                "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4",),
            "t10k-images-idx3-ubyte": (
                "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5",),
            "t10k-labels-idx1-ubyte": (
                "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c",)}),
}


def read_published(name: str, data_dir: str | PathLike | None
                   ) -> tuple[np.ndarray, np.ndarray, np.ndarray, str]:
    """x_train, x_test (N, H, W) and y_test (N,), uint8, and a line on where they come from.

    They come from a folder of the user's, see `find_folder`, or else from the cache folder; what
    the cache lacks is downloaded.  The user's folder may hold other files of the same names: the
    line says so.

    Raises
    ------
    ValueError
        In one line, where a file is missing or damaged, or cannot be downloaded.
    """
    folder = find_folder(name, data_dir) or _fill_cache(name)
    arrays, unknown = [], []
    for part in PARTS:
        path = path_of(folder, part)
        if path is None:
            raise ValueError(f"--data {name}: {folder} lacks {part} (or {part}.gz): put it there, "
                             "or take the others away to have all downloaded")
        raw = _read(path)
        arrays.append(parse_idx(raw, path))
        if not is_published(name, part, raw):
            unknown.append(path.name)
    x_train, x_test, y_test = arrays
    if len(y_test) != len(x_test):
        raise ValueError(f"the {name} files in {folder} disagree: {len(x_test)} test images, "
                         f"{len(y_test)} labels")
    if x_train.shape[1:] != x_test.shape[1:]:
        raise ValueError(f"the {name} files in {folder} disagree: training images "
                         f"{x_train.shape[1:]}, test images {x_test.shape[1:]}")
    note = f"{len(x_train)} + {len(x_test)} images from {folder}"
    if unknown:
        known = "" if name == "mnist" else ", of which only the .gz files are known"
        note += f" (not recognised as the published {name}{known}: {', '.join(unknown)})"
    return x_train, x_test, y_test, note


def find_folder(name: str, data_dir: str | PathLike | None) -> Path | None:
    """The user's folder with parts of the set: DIR/name or DIR, of data_dir, then MINIVAE_DATA.

    DIR itself counts for mnist, or where DIR has the name of the set: all three sets have the same
    file names, and one must not be taken for another.  Raises ValueError for a data_dir that does
    not exist.
    """
    if data_dir and not Path(data_dir).is_dir():
        raise ValueError(f"--data-dir {data_dir}: no such folder")
    for top in (data_dir, os.environ.get("MINIVAE_DATA")):
        if not top:
            continue
        for folder in (Path(top) / name, Path(top)):
            may_be_it = name in ("mnist", folder.name)
            if may_be_it and any(path_of(folder, part) for part in PARTS):
                return folder
    return None


def path_of(folder: Path, part: str) -> Path | None:
    """The file of `part` in `folder`, gzipped or not; None where there is none.

    The .gz goes first: in the cache folder it is the file that was compared with its sha256.
    """
    for path in (folder / f"{part}.gz", folder / part):
        if path.is_file():
            return path
    return None


def cache_folder(name: str) -> Path:
    """Where downloads are kept, e.g. ~/.cache/minivae/mnist."""
    import pooch                                           # slow to import

    return pooch.os_cache("minivae") / name


def is_published(name: str, part: str, raw: bytes) -> bool:
    """Whether `raw` is the published file, or holds the published bytes where these are known."""
    known = PUBLISHED[name].sha256[part]
    if hashlib.sha256(raw).hexdigest() in known:
        return True
    try:
        # known[1:], because a .gz packed once more is no file that can be read
        return hashlib.sha256(unpack(raw, Path(part), LIMIT)).hexdigest() in known[1:]
    except ValueError:
        return False


def _fill_cache(name: str) -> Path:
    """The cache folder, after what it lacks, or holds damaged, was downloaded.

    One process downloads at a time.  Those that waited find what it brought.
    """
    folder = cache_folder(name)
    if not _missing(name, folder):
        return folder
    with suppress(OSError):                                # `_download` says why
        folder.mkdir(parents=True, exist_ok=True)
    with locked(folder.with_name(f".{name}.lock"), f"{name} is being fetched", wait=True):
        missing = _missing(name, folder)
        if missing:
            _download(name, missing, folder)
    return folder


def _missing(name: str, folder: Path) -> list[str]:
    """The files that must be fetched; a word on each that is there and damaged."""
    missing = []
    for part in PARTS:
        path = folder / f"{part}.gz"
        if path.is_file() and is_published(name, part, _read(path)):
            continue
        if path.is_file():
            print(f"minivae: {path} is no longer what was downloaded: fetching it again",
                  file=sys.stderr)
        missing.append(path.name)
    return missing


def _download(name: str, files: list[str], folder: Path) -> None:
    """Fetch `files` into `folder`: from the first mirror, and what it lacks from the next."""
    import pooch

    pooch.get_logger().setLevel("WARNING")                 # the line below is enough
    missing, reasons = list(files), []
    for mirror in PUBLISHED[name].mirrors:
        host = mirror.split("/")[2]
        print(f"minivae: fetching {name} from {host} into {folder}", file=sys.stderr)
        try:
            while missing:
                (folder / missing[0]).unlink(missing_ok=True)          # pooch would keep it
                pooch.retrieve(mirror + missing[0], known_hash=None, fname=missing[0],
                               path=folder, downloader=partial(_stream, name))
                missing.pop(0)
            return
        except (OSError, ValueError) as error:             # what requests raises is an OSError
            reasons.append(f"{host}: {_in_words(error)}")
    packed = ", ".join(f"{part}.gz" for part in PARTS)
    raise ValueError(f"--data {name}: not found here, and not to be had from {'; '.join(reasons)}. "
                     f"Put {packed} in DIR/{name}/ and say --data-dir DIR or MINIVAE_DATA=DIR")


def _stream(name: str, url: str, path: str, _) -> None:
    """pooch's downloader, with bounds in bytes and in time.

    It raises for bytes that are not the published ones: pooch then removes the file.
    """
    start, file_name = perf_counter(), url.rsplit("/", 1)[1]
    with _answer(url) as answer, open(path, "wb") as file:
        answer.raise_for_status()
        size = int(answer.headers.get("content-length", 0)) or None
        with tqdm(total=size, desc=file_name, unit="B", unit_scale=True, leave=False,
                  file=sys.stderr, disable=None) as bar:
            # small chunks, because the clock is looked at only between two of them, and a chunk
            # comes when it is full: of a byte a second it takes a minute
            for chunk in answer.iter_content(2**6):
                bar.update(file.write(chunk))
                if file.tell() > LIMIT:
                    raise ValueError(f"{file_name} is longer than {LIMIT} bytes")
                if perf_counter() - start > DEADLINE:
                    raise TimeoutError(f"timed out, {file_name} was not whole after {DEADLINE} "
                                       "seconds")
    raw = Path(path).read_bytes()
    if not is_published(name, file_name.removesuffix(".gz"), raw):
        page = ": a web page" if raw[:1] == b"<" else ""
        raise ValueError(f"{file_name} has {len(raw)} bytes that are not the published ones{page}")


def _answer(url: str):
    """requests.get, which begins to read the answer, given up after DEADLINE seconds.

    requests itself bounds the time between two bytes: headers that come one by one have no end.
    """
    import requests

    found, no_second_gzip = Future(), {"Accept-Encoding": "identity"}

    def get() -> None:
        try:
            found.set_result(requests.get(url, stream=True, timeout=SILENCE,
                                          headers=no_second_gzip))
        except Exception as error:
            found.set_exception(error)

    Thread(target=get, daemon=True).start()
    try:
        return found.result(DEADLINE)
    except TimeoutError:
        raise TimeoutError(f"timed out, no answer in {DEADLINE} seconds") from None


def _in_words(error: Exception) -> str:
    """Why a download failed, in one line: the messages of requests run over several."""
    import requests

    if isinstance(error, requests.HTTPError):
        answer = error.response
        return f"answer {answer.status_code} for {answer.url.rsplit('/', 1)[1]}"
    if isinstance(error, requests.Timeout):
        return "timed out"
    if isinstance(error, requests.ConnectionError):
        return "timed out" if "timed out" in str(error) else "no connection"
    if isinstance(error, requests.RequestException):
        return f"broken off ({type(error).__name__})"
    return " ".join(str(error).split())


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error}") from None
