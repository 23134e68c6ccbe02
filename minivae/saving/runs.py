"""The folder that `minivae train` leaves: find the newest one, and open one.

Every command opens a run here, so all of them see the same model: best.npz where there is one.
"""

import json
from os import PathLike
from pathlib import Path
from typing import NamedTuple

from minivae.data import Data, load_data, load_test_images
from minivae.model import Model
from minivae.pixels import BINARIZE
from minivae.saving.archive import ArchiveError
from minivae.saving.model_file import load, model_of


class TrainedRun(NamedTuple):
    """A run as it was found on the disk."""

    folder: Path
    config: dict                # what config.json says
    vae: Model
    file: str                   # the model's file: "best.npz" or "model.npz"

    def print_head(self, newest: bool) -> None:
        """Say which run this is, and which of its models."""
        print(f"run       {self.folder}{', the newest one' if newest else ''}")
        if self.file == "best.npz":
            print("model     best.npz, the best one on the images held out to stop by")
        elif self.file != "model.npz":
            print(f"model     {self.file}")

    def images(self, data: str | None = None, data_dir: str | None = None, key: str | None = None,
               hold_out: bool = True) -> Data:
        """The images to look at: those that the run was trained with and tested on, or others.

        data, data_dir, key : other images, or where those of the run are now, as in `load_data`.
        hold_out : False takes all images where no test images are given, see `load_test_images`.
        Grey images become colour where the model is one of colour images.

        Raises
        ------
        ValueError
            As `load_data`, and for colour images where the model is one of grey ones.
        """
        noted = self.config
        if data is None or data == noted["data"]:
            data, data_dir = noted["data"], data_dir or noted["data_dir"]
            key = key or noted.get("key")
        found = (load_data if hold_out else load_test_images)(data, data_dir, key)
        if [*found.image_shape] == [*noted["image_shape"], 3]:
            raise ValueError(f"{data} has images in colour, the run has grey ones: save them grey, "
                             'e.g. with PIL\'s image.convert("L")')
        if noted["image_shape"] != [*found.image_shape, 3]:
            return found
        in_colour = [x.repeat(3, axis=1) for x in (found.x_train, found.x_test)]
        return found._replace(x_train=in_colour[0], x_test=in_colour[1],
                              image_shape=(*found.image_shape, 3))


def newest_run(runs: Path = Path("runs")) -> Path:
    """The folder under `runs` whose model.npz was written last.

    Raises ValueError where there is none.
    """
    models = sorted(runs.glob("*/model.npz"), key=lambda path: path.stat().st_mtime_ns)
    if not models:
        raise ValueError(f"there is no run under {runs.absolute()} yet: train one with "
                         "`minivae train`, or name a run folder")
    return models[-1].parent


def open_run(folder: str | PathLike) -> TrainedRun:
    """The run in `folder`, with the model of best.npz if the run used patience, else model.npz.

    A .npz in the folder may be named instead: then it is the model.

    Raises
    ------
    ValueError
        In one line, where there is no such folder, or its config.json or model is damaged.
    """
    folder = Path(folder)
    file = model_of(folder)
    if folder.is_file():
        folder = folder.parent
    if not folder.is_dir():
        raise ValueError(f"there is no run folder {folder}: wanted one that `minivae train` wrote")
    config = read_config(folder)
    return TrainedRun(folder, config, load(file), file.name)


# what commands need of config.json, and whether a value is one that training writes
CONFIG_CHECKS = {
    "data": lambda name: isinstance(name, str),
    "data_dir": lambda folder: isinstance(folder, str | None),
    "test_sha256": lambda digest: isinstance(digest, str),
    "binarize": lambda binarize: binarize in BINARIZE,
    "lr": lambda lr: isinstance(lr, int | float) and lr > 0,
    "image_shape": lambda shape: ([type(side) for side in shape] in ([int] * 2, [int] * 3)
                                  and shape[2:] in ([], [3])),
}


def read_config(folder: Path) -> dict:
    """What config.json of a run says.

    Raises
    ------
    ArchiveError
        In one line, where the file is missing or damaged.
    """
    path = folder / "config.json"
    if path.is_fifo():
        raise ArchiveError(f"{path} is a pipe: wanted a file")      # to open it would wait
    try:
        config = json.loads(path.read_bytes())
        wrong = [name for name, is_sound in CONFIG_CHECKS.items() if not is_sound(config[name])]
    except FileNotFoundError:
        raise ArchiveError(f"{path} does not exist: wanted a folder that `minivae train` "
                           "wrote") from None
    except OSError as error:
        raise ArchiveError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ArchiveError(f"{path} is damaged: {type(error).__name__} {error}") from None
    if wrong:
        verb = "is" if len(wrong) == 1 else "are"
        raise ArchiveError(f"{path} is damaged: {', '.join(wrong)} {verb} not what training writes")
    return config
