"""Stop and resume: all that the next batch depends on, as one object and as one file.

A training that was stopped after any batch and then resumed ends with the same parameters, bit for
bit, as one that never stopped: on the same machine, with the same versions and the same library
for products.  The number of parts that products are cut into is kept, too.
"""

import json
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from time import perf_counter

import numpy as np

from minivae import pool
from minivae.locks import locked
from minivae.model import Model
from minivae.optim import Adam
from minivae.saving import archive
from minivae.saving.model_file import TRAINING, check_made_alike, describe

SAVE_EVERY = 60.0               # seconds: within an epoch, saves are at least as far apart
SHARE = 1 / 200                 # the part of the time that saving may take
LONGEST_WAIT = 600.0            # seconds: however slow a save was, the next one waits no longer


# what every row of a history has; see `fit`
ROW = ("epoch", "loss", "recon", "kl", "test_elbo", "beta", "lr", "seconds")


def _is_number(value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _is_row(row) -> bool:
    return isinstance(row, dict) and set(ROW) <= set(row) and all(map(_is_number, row.values()))


# what a state holds beside its arrays, and whether a value is one that training writes
STATE_CHECKS = {
    "epoch": _is_count,
    "next_row": _is_count,
    "seconds": lambda seconds: _is_number(seconds) and 0 <= seconds < np.inf,
    "history": lambda rows: (all(map(_is_row, rows))
                             and [row["epoch"] for row in rows] == [*range(1, len(rows) + 1)]),
    "best_elbo": _is_number,
    "best_epoch": _is_count,
    "rng": lambda rng: isinstance(rng, dict),
    "products": lambda products: (isinstance(products["multiplies"], str)
                                  and _is_count(products["parts"])
                                  and 1 <= products["parts"] <= pool.MOST_PARTS),
}


class CheckpointError(archive.ArchiveError):
    """A checkpoint is damaged, or does not fit the training.  The message is one line."""


class TrainingState:
    """Where a training stands: everything that moves.  Data and settings stay.

    Parameters
    ----------
    vae : VAE or DiscreteVAE
    adam : Adam
    rng : numpy.random.Generator, all randomness of training
    rows : (N,) array of int
        The rows of the data that are trained on.

    Attributes
    ----------
    order : (N,) array of int
        The rows, shuffled for this epoch.
    epoch, next_row : int
        The epoch under way, counted from 1, and the place in `order` where its next batch begins.
    totals : (3,) array
        The sums of loss, recon and kl over this epoch's images so far, in nats.
    history : list of dict, a row for each epoch that is over
    best_elbo, best_epoch : float, int
        The best ELBO on the images held out, in nats per image, and its epoch; 0 before the first.
    best : dict of arrays or None
        The parameters of that epoch, until `Saver` has written them.
    """

    def __init__(self, vae: Model, adam: Adam, rng: np.random.Generator, rows: np.ndarray):
        self.vae, self.adam, self.rng = vae, adam, rng
        self.order = rows.copy()
        self.epoch, self.next_row = 1, 0
        self.totals = np.zeros(3)
        self.history = []
        self.best_elbo, self.best_epoch, self.best = -np.inf, 0, None
        self._started, self._seconds_before = perf_counter(), 0.0

    @property
    def seconds(self) -> float:
        """The time that training took so far, without the pauses between stop and resume."""
        return self._seconds_before + perf_counter() - self._started

    @contextmanager
    def clock_stopped(self) -> Iterator[None]:
        """A while that `seconds` does not count: it is no training."""
        began = perf_counter()
        try:
            yield
        finally:
            self._started += perf_counter() - began

    def arrays(self) -> dict[str, np.ndarray]:
        """Copies of the model's arrays and the training's, whose names begin with "training."."""
        moving = {"order": self.order.copy(), "totals": self.totals.copy()}
        moving |= {f"adam.{name}": a for name, a in self.adam.state().items()}
        return self.vae.state() | {TRAINING + name: a for name, a in moving.items()}

    def numbers(self) -> dict:
        """What is not an array, ready for JSON."""
        return {"epoch": self.epoch, "next_row": self.next_row, "seconds": self.seconds,
                "history": list(self.history), "best_elbo": self.best_elbo,
                "best_epoch": self.best_epoch, "rng": _as_lists(self.rng.bit_generator.state),
                "products": pool.identity()}

    def restore(self, arrays: dict[str, np.ndarray], numbers: dict) -> None:
        """Go on from what `arrays` and `numbers` gave.

        Sets the number of parts of products for the whole process.
        """
        pool.set_parts(numbers["products"]["parts"])
        self.rng.bit_generator.state = numbers["rng"]
        for name in ("epoch", "next_row", "history", "best_elbo", "best_epoch"):
            setattr(self, name, numbers[name])
        self._started, self._seconds_before = perf_counter(), numbers["seconds"]
        self.vae.restore(arrays)
        moving = _with_prefix(TRAINING, arrays)
        self.order, self.totals = moving["order"], moving["totals"]
        self.adam.restore(_with_prefix("adam.", moving))


def _with_prefix(prefix: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Those whose name begins with `prefix`, under the rest of their name."""
    return {name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)}


def _as_lists(state):
    """The state of a NumPy bit generator, ready for JSON: its arrays become lists.

    NumPy takes these lists back, too.
    """
    if isinstance(state, dict):
        return {name: _as_lists(part) for name, part in state.items()}
    return state.tolist() if isinstance(state, np.ndarray | np.generic) else state


class Throttle:
    """Keeps a slow action rare: it may take no more than SHARE of the time."""

    def __init__(self):
        self.last, self.cost = perf_counter(), 0.0         # when the last one ended; its seconds

    def due(self, every: float = 0.0) -> bool:
        """Whether the action may be done again.

        Two waits must be over since the last one ended: `every` seconds, and 1 / SHARE times the
        seconds that it took, but no more than LONGEST_WAIT.
        """
        wait = min(self.cost / SHARE, LONGEST_WAIT)
        return perf_counter() - self.last >= max(every, wait)

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Put `with throttle.timed():` around the action, so that its time is known."""
        begin = perf_counter()
        yield
        self.last = perf_counter()
        self.cost = self.last - begin


class Saver:
    """Writes the checkpoint of `state`, and best.npz beside it.  Without a path it does nothing.

    Parameters
    ----------
    path : path or None
    state : TrainingState
    settings : dict
        What must be the same for the training to be resumed; ready for JSON.
    note : dict or None
        Kept in the checkpoint for whoever reads it; ready for JSON.

    Raises
    ------
    ValueError
        At once, and not after an epoch: for a model that a file cannot describe, and an
        ArchiveError where the folder is missing or a file that minivae did not write is in the way.
    """

    def __init__(self, path: str | PathLike | None, state: TrainingState, settings: dict,
                 note: dict | None):
        self.path = None if path is None else Path(path)
        self.state, self.settings, self.note = state, settings, note
        self.throttle = Throttle()
        if self.path is None:
            return
        _check_not_foreign(self.path)
        if settings.get("patience") is not None:
            _check_not_foreign(best_of(self.path))
        describe(state.vae)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Within the block no other training saves into this file, or Locked is raised."""
        if self.path is None:
            yield
            return
        path = Path(os.path.realpath(self.path))
        with locked(path.with_name(f".{path.name}.lock"), f"{self.path} is being written"):
            yield

    def due(self, every: float = 0.0) -> bool:
        """Whether it is time to save, see `Throttle.due`."""
        return self.path is not None and self.throttle.due(every)

    def save(self) -> None:
        """Write now.  Raises ArchiveError where the files cannot be written."""
        if self.path is None:
            return
        with self.throttle.timed():
            # the best model first: best.npz may be newer than the checkpoint, but never older
            self.save_best()
            meta = {"config": describe(self.state.vae), "settings": self.settings,
                    "state": self.state.numbers(), "note": self.note}
            archive.write(self.path, self.state.arrays(), meta, keep_previous=True)

    def save_best(self) -> None:
        """Write best.npz where there is a better model than the one in it."""
        if self.path is None or self.state.best is None:
            return
        meta = {"config": describe(self.state.vae)}
        archive.write(best_of(self.path), self.state.best, meta)
        self.state.best = None


def best_of(path: Path) -> Path:
    """Where the best model goes: best.npz beside model.npz, and name.best.npz beside name.npz."""
    if path.name == "model.npz":
        return path.with_name("best.npz")
    return path.with_suffix(".best.npz")


def _check_not_foreign(path: Path) -> None:
    """Raise ArchiveError where a file that minivae did not write would be replaced.

    A damaged file may be replaced where the save before it is ours.
    """
    archive.check_place(path)
    if path.exists() and not any(map(archive.is_ours, (path, archive.previous(path)))):
        raise archive.ArchiveError(f"{path} exists already and minivae did not write it: choose "
                                   "another name for the checkpoint")


def read(path: str | PathLike) -> tuple[dict[str, np.ndarray], dict]:
    """A checkpoint's arrays, and a dict of its config, settings, state and note.

    Raises
    ------
    CheckpointError
        For a file that is missing or damaged, or that holds a model alone.
    """
    try:
        arrays, meta = archive.read(path)
    except archive.ArchiveError as error:
        raise CheckpointError(str(error)) from None
    if not _describes_a_training(meta):
        raise CheckpointError(f"{path} holds a model and not where its training stood: "
                              "it can be loaded, but not resumed")
    _check_state(path, meta["state"])
    return arrays, meta


def _describes_a_training(meta) -> bool:
    """Whether what came from a file has the parts that a checkpoint has."""
    if not isinstance(meta, dict):
        return False
    if not all(isinstance(meta.get(name), dict) for name in ("config", "settings", "state")):
        return False
    return isinstance(meta["state"].get("history"), list)


def _check_state(path: str | PathLike, state: dict) -> None:
    """Raise CheckpointError where a number of the state has a value that no training writes."""
    for name, is_sound in STATE_CHECKS.items():
        try:
            sound = is_sound(state[name])
        except (KeyError, TypeError):
            sound = False
        if not sound:
            raise CheckpointError(f"{path} describes no training that this version knows: "
                                  f"its {name} is missing or not what training writes")


def restore(path: str | PathLike, state: TrainingState, settings: dict, epochs: int) -> None:
    """Bring `state`, with its model, Adam and rng, to where the checkpoint stands.

    Parameters
    ----------
    path : path
    state : TrainingState of a training that has not begun
    settings : dict
        What must be the same as before; X and X_test are digests of the data.
    epochs : int
        How many epochs are wanted in all.

    Raises
    ------
    CheckpointError
        For a checkpoint that is missing, damaged, of another model, settings or data, or already
        past `epochs`.
    """
    arrays, meta = read(path)
    try:
        check_same_data(path, meta, settings["X"], settings["X_test"])
        if state.vae.config is None or "layers" in meta["config"]:     # one put together by hand
            of_model = {name: a for name, a in arrays.items() if not name.startswith(TRAINING)}
            check_made_alike(path, meta["config"], of_model, state.vae)
        _check_same_settings(path, meta, describe(state.vae) | settings)
        _check_epochs(path, meta, epochs)
        archive.check_fit(path, state.arrays(), arrays)
        _check_position(path, meta, arrays[TRAINING + "order"], state.order)
        state.restore(arrays, meta["state"])
        _warn_of_another_library(path, meta["state"]["products"]["multiplies"])
    except archive.ArchiveError as error:
        raise CheckpointError(str(error)) from None
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise CheckpointError(f"{path} describes no training that this version knows: "
                              f"{error}") from error


def _warn_of_another_library(path: str | PathLike, before: str) -> None:
    now = pool.identity()["multiplies"]
    if before != now:
        warnings.warn(f"{path} was trained with the products of {before}, and here {now} "
                      "multiplies: what follows may differ in its last bits", stacklevel=4)


def check_same_data(path: str | PathLike, meta: dict, X: str, X_test: str | None) -> None:
    """Raise CheckpointError unless a checkpoint's data had these digests.

    path and meta : the checkpoint, and the dict that `read` gave.
    """
    for name, now, images in (("X", X, "training images"), ("X_test", X_test, "test images")):
        if meta["settings"].get(name) != now:
            raise CheckpointError(f"{path} was trained on other data: the {images} are not those "
                                  "of before, and must be to resume")


def _check_same_settings(path: str | PathLike, meta: dict, wanted: dict) -> None:
    before = meta["config"] | meta["settings"]
    for name, now in json.loads(json.dumps(wanted)).items():
        if before[name] != now:
            raise CheckpointError(f"{path} was trained with {name} {before[name]}, not {now}: "
                                  "to resume, only epochs may be changed")


def _check_epochs(path: str | PathLike, meta: dict, epochs: int) -> None:
    trained = len(meta["state"]["history"])
    if epochs < trained:
        raise CheckpointError(f"{path} has trained {trained} epochs already: epochs may be "
                              f"raised, not lowered to {epochs}")


def _check_position(path: str | PathLike, meta: dict, order: np.ndarray, rows: np.ndarray) -> None:
    """Raise CheckpointError for a batch that cannot be: kernels would read past the data's end."""
    epoch, next_row = meta["state"]["epoch"], meta["state"]["next_row"]
    right_epoch = epoch == len(meta["state"]["history"]) + 1
    same_rows = np.array_equal(np.sort(order), np.sort(rows))
    if not (right_epoch and same_rows and 0 <= next_row <= len(order)):
        raise CheckpointError(f"{path} describes no training that this version knows: "
                              "its numbers contradict each other")
