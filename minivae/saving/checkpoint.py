"""Stop and go on: all that the next batch depends on, as one object and as one file.

A training that was stopped after any batch and resumed ends with the parameters, bit for bit, of one
that never stopped: on the same machine, with the same versions and as many threads.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from time import perf_counter

import numpy as np

from minivae.saving import archive
from minivae.optim import Adam
from minivae.saving.model_file import describe
from minivae.vae import VAE

SAVE_EVERY = 60.0               # seconds, within an epoch
SHARE = 0.005                   # of the time, at most, goes into saving between the first save and the last,
LONGEST = 600.0                 # but a disk that was slow once may not put it off for hours: seconds


class CheckpointError(archive.ArchiveError):
    """A checkpoint that is damaged, or that cannot be gone on from; the message is one line."""


class Progress:
    """Where a training stands.  Data and settings stay; this moves.

    epoch counts from 1 and is the one under way; first is the place in `order`, the shuffled rows, of
    its next batch; totals are its sums of loss, recon and kl so far.
    """

    def __init__(self, vae: VAE, adam: Adam, rng: np.random.Generator, rows: np.ndarray):
        self.vae, self.adam, self.rng, self.order = vae, adam, rng, rows.copy()
        self.epoch, self.first, self.totals = 1, 0, np.zeros(3)
        self.history, self.seconds = [], 0.0
        self.best_elbo, self.best_epoch, self.best = -np.inf, 0, None      # best: the parameters, until they are on disk

    def arrays(self) -> dict[str, np.ndarray]:
        """The model's own arrays, and with a prefix those of the training."""
        own = {"order": self.order, "totals": self.totals} | {f"adam.{name}": a for name, a in self.adam.state().items()}
        return self.vae.state() | {archive.TRAINING + name: a for name, a in own.items()}

    def numbers(self) -> dict:
        """The rest, ready for JSON."""
        return {"epoch": self.epoch, "first": self.first, "seconds": self.seconds, "history": self.history, "best_elbo": self.best_elbo,
                "best_epoch": self.best_epoch, "rng": _as_lists(self.rng.bit_generator.state)}

    def restore(self, arrays: dict[str, np.ndarray], numbers: dict) -> None:
        """Go on from what `arrays` and `numbers` returned."""
        self.rng.bit_generator.state = numbers["rng"]
        for name in ("epoch", "first", "seconds", "history", "best_elbo", "best_epoch"):
            setattr(self, name, numbers[name])
        self.vae.restore(arrays)
        own = {name.removeprefix(archive.TRAINING): a for name, a in arrays.items() if name.startswith(archive.TRAINING)}
        self.order, self.totals = own["order"], own["totals"]
        self.adam.restore({name.removeprefix("adam."): a for name, a in own.items() if name.startswith("adam.")})


def _as_lists(state):
    """The state of any of NumPy's bit generators for JSON: some hold arrays, which their setters take as lists too."""
    if isinstance(state, dict):
        return {name: _as_lists(part) for name, part in state.items()}
    return state.tolist() if isinstance(state, np.ndarray | np.generic) else state


class Seldom:
    """Times a costly thing, and says when it may be done again: it is to cost less than SHARE of the time."""

    def __init__(self):
        self.last, self.cost = perf_counter(), 0.0

    def due(self, every: float = 0.0) -> bool:
        """Whether `every` seconds, and two hundred times what the last one took (at most LONGEST), have passed since it."""
        return perf_counter() - self.last >= max(every, min(self.cost / SHARE, LONGEST))

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Around the costly thing."""
        begin = perf_counter()
        yield
        self.last = perf_counter()
        self.cost = self.last - begin


class Saver:
    """Writes the checkpoint, and best.npz beside it; without a path it does nothing."""

    def __init__(self, path: str | PathLike | None, progress: Progress, settings: dict, note: dict | None):
        self.path, self.progress, self.settings, self.note = None if path is None else Path(path), progress, settings, note
        self.start = perf_counter() - progress.seconds
        self.seldom = Seldom()
        if path is not None:                               # what will not do is to be said now and not after an epoch
            archive.check_folder(self.path)
            describe(progress.vae)

    def due(self, every: float = 0.0) -> bool:
        """Whether it is time to save: see Seldom."""
        return self.path is not None and self.seldom.due(every)

    def save(self) -> None:
        """Write now.  The best model goes first: it may be newer than the checkpoint, never older."""
        if self.path is None:
            return
        p = self.progress
        with self.seldom.timed():
            p.seconds = perf_counter() - self.start
            self.save_best()
            meta = {"config": describe(p.vae), "settings": self.settings, "progress": p.numbers(), "note": self.note}
            archive.write(self.path, p.arrays(), meta, keep_previous=True)

    def save_best(self) -> None:
        """Write best.npz where there is a better model than the one in it."""
        if self.path is not None and self.progress.best is not None:
            archive.write(self.path.with_name("best.npz"), self.progress.best, {"config": describe(self.progress.vae)})
            self.progress.best = None


def read(path: str | PathLike) -> tuple[dict[str, np.ndarray], dict]:
    """A checkpoint's arrays, and its config, settings, progress and note.  Raises CheckpointError for any other file."""
    try:
        arrays, meta = archive.read(path)
    except archive.ArchiveError as error:
        raise CheckpointError(str(error)) from None
    parts = [meta.get(name) for name in ("config", "settings", "progress")] if isinstance(meta, dict) else []
    if not parts or not all(isinstance(part, dict) for part in parts) or not isinstance(meta["progress"].get("history"), list):
        raise CheckpointError(f"{path} holds a model and not where its training stood: it can be loaded, but not resumed")
    return arrays, meta


def restore(path: str | PathLike, progress: Progress, settings: dict, epochs: int) -> None:
    """Bring `progress`, its model and its rng to where the checkpoint stands; data and settings must be those of before."""
    arrays, meta = read(path)
    try:
        check_same_data(path, meta, settings["X"], settings["X_test"])
        was, now = meta["config"] | meta["settings"], json.loads(json.dumps(describe(progress.vae) | settings))
        for name, value in now.items():
            if was[name] != value:
                raise CheckpointError(f"{path} was trained with {name} {was[name]}, not {value}: to resume, only epochs may be changed")
        trained = len(meta["progress"]["history"])
        if epochs < trained:
            raise CheckpointError(f"{path} has trained {trained} epochs already: epochs may be raised, not lowered to {epochs}")
        archive.check_fit(path, progress.arrays(), arrays)
        order, first = arrays[archive.TRAINING + "order"], meta["progress"]["first"]
        if meta["progress"]["epoch"] != trained + 1 or not 0 <= first <= len(order) or (np.sort(order) != np.sort(progress.order)).any():
            raise ValueError("its numbers contradict each other")
        progress.restore(arrays, meta["progress"])
    except CheckpointError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path} describes no training that this version knows: {error}") from error


def check_same_data(path: str | PathLike, meta: dict, X: str, X_test: str | None) -> None:
    """Raise CheckpointError unless these are the digests of the data that the run was trained and tested on."""
    for name, now in (("X", X), ("X_test", X_test)):
        if meta["settings"].get(name) != now:
            kind = "test images" if name == "X_test" else "training images"
            raise CheckpointError(f"{path} was trained on other data: the {kind} are not those of before, and must be to resume")
