"""The folder of a run, as `minivae train` leaves it: found, and opened."""

import json
from os import PathLike
from pathlib import Path
from typing import NamedTuple

from minivae.model import Model
from minivae.pixels import TREATMENTS
from minivae.saving.archive import ArchiveError
from minivae.saving.model_file import load, model_of


class TrainedRun(NamedTuple):
    """What `minivae train` left: the folder, its config.json, the model, and the model's file."""

    folder: Path
    config: dict
    vae: Model
    file: str

    def print_head(self, newest: bool) -> None:
        """Say which run it is, and which of its models."""
        print(f"run       {self.folder}{', the newest one' if newest else ''}")
        if self.file == "best.npz":
            print("model     best.npz, the best one on the images held out to stop by")


def newest_run(runs: Path = Path("runs")) -> Path:
    """The run folder whose model was written last.  Raises ValueError where there is none."""
    models = sorted(runs.glob("*/model.npz"), key=lambda path: path.stat().st_mtime_ns)
    if not models:
        raise ValueError(f"there is no run under {runs.absolute()} yet: train one with "
                         "`minivae train`, or name a run folder")
    return models[-1].parent


def open_run(folder: str | PathLike) -> TrainedRun:
    """The run in `folder`, with its best model where it was told to stop early.

    Raises
    ------
    ValueError
        In one line, where there is no such folder, or its config.json or model is damaged.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"there is no run folder {folder}: wanted one that `minivae train` wrote")
    config = read_config(folder)
    file = model_of(folder)
    return TrainedRun(folder, config, load(file), file.name)


def read_config(folder: Path) -> dict:
    """config.json of a run.  Raises ArchiveError, in one line, where it is missing or damaged."""
    path = folder / "config.json"
    try:
        config = json.loads(path.read_bytes())
        lr = config["lr"]
        sound = (isinstance(config["data"], str) and isinstance(config["data_dir"], str | None)
                 and isinstance(config["test_sha256"], str) and config["binarize"] in TREATMENTS
                 and isinstance(lr, int | float) and lr > 0
                 and [type(side) for side in config["image_shape"]] == [int, int])
    except FileNotFoundError:
        raise ArchiveError(f"{path} does not exist: wanted a folder that `minivae train` "
                           "wrote") from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ArchiveError(f"{path} is damaged: {type(error).__name__} {error}") from None
    if not sound:
        raise ArchiveError(f"{path} is damaged: data, data_dir, image_shape, binarize, lr or "
                           "test_sha256 is not what training writes")
    return config
