"""Where the commands put their files, and which files they may replace."""

import json
import shlex
from os import PathLike
from pathlib import Path

MARK = "written by minivae"      # in every picture, page and .npz that --out may replace
FAR = 8192                       # bytes from either end of a file in which the mark is looked for
LOCK = ".train.lock"             # in a run folder: whoever trains in it holds it
# the files of a run that --out never names, and its pictures, which it names elsewhere
KEPT = ("model.npz", "model.prev.npz", "best.npz", "config.json", "history.csv")
PICTURES = ("curves.png", "reconstructions.png", "samples.png", "latent.png")


# --- run folders ----------------------------------------------------------------------------------


def new_run_folder(name: str, out: str | PathLike | None = None) -> Path:
    """Make a new folder for a run: `out`, or the first free one of runs/NAME, runs/NAME-2...

    An `out` that is empty, or where a run has begun and saved nothing, is taken as new.  Raises
    ValueError for any other that exists, since nothing is ever written over a run, and where the
    folder cannot be made.
    """
    if out is not None:
        out = Path(out)
        _make_folders(out.parent)
        try:
            out.mkdir()
        except FileExistsError:
            if not _holds_nothing(out):
                raise ValueError(f"--out {out} exists already; nothing is ever written over a run: "
                                 "choose another name") from None
        return out
    runs = Path("runs")
    _make_folders(runs)
    number = 1
    while True:
        folder = runs / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir()
            return folder
        except FileExistsError:
            number += 1


def _make_folders(folder: Path) -> None:
    """Make `folder` and those above it, where they are not there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise ValueError(f"the folder {folder} cannot be made: a file of this name is in the way, "
                         "or a link to a place that is not there now") from None


def _holds_nothing(folder: Path) -> bool:
    """Whether `folder` is empty, or holds only what a run writes before its first save is whole."""
    if not folder.is_dir():
        return False
    torn = {path.name for path in folder.glob(".*.tmp")}   # of a run that was killed as it wrote
    names = {path.name for path in folder.iterdir()} - torn - {LOCK}
    if names != {"config.json"}:
        return not names
    try:
        return "minivae" in json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError, TypeError):
        return False


def shown(text: str | PathLike) -> str:
    """The text as a terminal may have it: a file's name may hold codes that steer a terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in str(text))


def as_argument(path: str | PathLike) -> str:
    """The path as it is typed in a command: quoted, and never taken for an option."""
    text = shown(path)
    return shlex.quote(f"./{text}" if text.startswith("-") else text)


# --- pictures, pages and arrays -------------------------------------------------------------------


def is_file_name(out: str | PathLike | None) -> bool:
    """Whether `out` means a file: its name has a suffix (.png), and it is no folder that exists."""
    return out is not None and bool(Path(out).suffix) and not Path(out).is_dir()


def output_path(out: str | PathLike | None, folder: Path, name: str, force: bool = False) -> Path:
    """Where the file `name` goes: into `folder`, or to `out`, which means a file or a folder.

    The folder is made where there is none.  Raises ValueError as `check_output` does.
    """
    if out is None:
        path = folder / name
    elif is_file_name(out):
        path = Path(out)
    else:
        path = Path(out) / name
    check_output(path, force)
    _make_folders(path.parent)
    return path


def check_output(path: Path, force: bool = False) -> None:
    """Raise ValueError where writing `path` would destroy what is not an earlier output.

    force : replace any file but those that make a run
    """
    in_run = (path.parent / "model.npz").exists()
    if path.name in KEPT or in_run and path.name in PICTURES:
        raise ValueError(f"{path}: a run keeps what its training wrote under the name "
                         f"{path.name}: choose another name")
    if path.is_dir():
        raise ValueError(f"{path} is a folder: choose the name of a file with --out")
    if path.exists() and not force and not _has_mark(path):
        raise ValueError(f"{path} exists already, and is nothing that this command wrote: choose "
                         "another name, or say --force to replace it")


def _has_mark(path: Path) -> bool:
    """Whether MARK stands near the beginning or the end of the file."""
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        begin = file.read(FAR)
        file.seek(max(0, path.stat().st_size - FAR))
        return MARK.encode() in begin + b" " + file.read()
