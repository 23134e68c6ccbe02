"""Where the commands put their files."""

from os import PathLike
from pathlib import Path


def new_run_folder(name: str, out: str | PathLike | None = None) -> Path:
    """Make a new, empty folder for a run: `out`, or the first free one of runs/NAME, runs/NAME-2...

    Raises ValueError where `out` exists already: nothing is ever written over a run.
    """
    if out is not None:
        try:
            Path(out).mkdir(parents=True)
        except FileExistsError:
            raise ValueError(f"--out {out} exists already; nothing is ever written over a run: "
                             "choose another name") from None
        return Path(out)
    number = 1
    while True:
        folder = Path("runs") / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            number += 1


def is_file_name(out: str | PathLike | None) -> bool:
    """Whether `out` means a file: its name has a suffix (.png), and it is no folder that exists."""
    return out is not None and bool(Path(out).suffix) and not Path(out).is_dir()


def output_path(out: str | PathLike | None, folder: Path, name: str) -> Path:
    """Where the file `name` goes: into `folder`, or to `out`, which means a file or a folder.

    The folder is made where there is none.
    """
    if out is None:
        path = folder / name
    elif is_file_name(out):
        path = Path(out)
    else:
        path = Path(out) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
