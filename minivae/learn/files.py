"""The reader's folder: a file for each exercise, and progress.json, which says what is done.

A file of the reader's is written over by `reset` alone.  Every file is written whole or not at
all, so a process may be killed at any moment.  progress.json holds the sha256 of what was graded:
a file that differs from it is graded again, and where progress.json is lost, all are.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import warnings
from difflib import get_close_matches
from os import PathLike
from pathlib import Path
from typing import NamedTuple

from minivae.learn.exercise import Exercise
from minivae.saving.archive import write_whole

PROGRESS, DAMAGED = "progress.json", "progress.damaged.json"
FORMAT = 1

# what `Folder.state` answers
NEW, BEGUN, PASSED, CHANGED = "not begun", "begun", "passed", "changed since it passed"


class Progress(NamedTuple):
    """What is known of one exercise.

    passed and refused are the sha256 of the file that passed last, and of the one refused last.
    solution_seen : whether the solution was opened before a pass.
    """

    passed: str = ""
    refused: str = ""
    hints: int = 0
    solution_seen: bool = False


class Folder:
    """The reader's folder.

    Parameters
    ----------
    path : the folder, which need not be there yet
    exercises : list of Exercise, in their order
        Number 1 is the first.
    """

    def __init__(self, path: str | PathLike, exercises: list[Exercise]):
        self.path, self.exercises = Path(path), exercises
        self._first_digests: dict[str, str] = {}

    # --- the files ---

    def number(self, exercise: Exercise) -> int:
        """The number of an exercise: 1, 2, .."""
        return self.exercises.index(exercise) + 1

    def file(self, exercise: Exercise) -> Path:
        """Where the reader writes: 02_dense_dx.py in the folder."""
        return self.path / f"{self.number(exercise):02d}_{exercise.name.replace('-', '_')}.py"

    def find(self, name: str) -> Exercise:
        """The exercise that is meant by "7", "dense-dx", "dense_dx" or "some/02_dense_dx.py".

        Raises ValueError, with the nearest name, where there is none.
        """
        word = Path(name).name.lower().removesuffix(".py").replace("_", "-")
        if word.isdecimal() and 1 <= int(word) <= len(self.exercises):
            return self.exercises[int(word) - 1]
        by_name = {exercise.name: exercise for exercise in self.exercises}
        word = re.sub(r"^\d+-", "", word)
        if word in by_name:
            return by_name[word]
        nearest = get_close_matches(word, by_name, n=1)
        hint = f"did you mean {nearest[0]!r}?" if nearest else f"1 to {len(by_name)}, or a name"
        raise ValueError(f"unknown exercise {name!r}: {hint} (see `minivae learn status`)")

    def write(self) -> list[Path]:
        """Make the folder, and each file that it does not have; returns those.

        Raises
        ------
        ValueError
            For a path that is a file, or a folder with files in it and no exercise.
        OSError, ArchiveError
            Where it cannot be written.
        """
        self._check_is_ours()
        self.path.mkdir(parents=True, exist_ok=True)
        missing = [one for one in self.exercises if not os.path.lexists(self.file(one))]
        for exercise in missing:
            write_whole(self.file(exercise), exercise.skeleton().encode())
        return [self.file(exercise) for exercise in missing]

    def check_is_there(self) -> None:
        """Raise ValueError where `write` was never called on this folder."""
        self._check_is_ours()
        if not self._names():
            raise ValueError(f"there are no exercises in {self.path}: `minivae learn` writes them, "
                             "or say where they are with --dir")

    def reset(self, exercise: Exercise) -> None:
        """Write the file as it was at first, over what the reader wrote."""
        write_whole(self.file(exercise), exercise.skeleton().encode())
        self.note(exercise, passed="", refused="")

    def _names(self) -> set[str]:
        """What lies in the folder; hidden files do not count."""
        if not os.path.lexists(self.path):
            return set()
        if not self.path.is_dir():
            raise ValueError(f"{self.path} is a file; name a folder with --dir")
        return {name for name in os.listdir(self.path) if not name.startswith(".")}

    def _check_is_ours(self) -> None:
        names = self._names()
        ours = {self.file(exercise).name for exercise in self.exercises} | {PROGRESS}
        if names and not names & ours:
            raise ValueError(f"{self.path} holds other files ({min(names)}) and no exercise: name "
                             "a new or an empty folder with --dir")

    # --- progress ---

    def digest(self, exercise: Exercise) -> str:
        """sha256 of the file as it is now; "" where there is none, or it cannot be read."""
        try:
            return hashlib.sha256(self.file(exercise).read_bytes()).hexdigest()
        except OSError:
            return ""

    def is_begun(self, exercise: Exercise) -> bool:
        """Whether the file is there, and is not as it was first written."""
        if exercise.name not in self._first_digests:   # to cut one takes up to 0.05 s
            text = exercise.skeleton().encode()
            self._first_digests[exercise.name] = hashlib.sha256(text).hexdigest()
        return self.digest(exercise) not in ("", self._first_digests[exercise.name])

    def begun(self) -> list[Exercise]:
        """The exercises whose file the reader has changed."""
        return [exercise for exercise in self.exercises if self.is_begun(exercise)]

    def ungraded(self) -> list[Exercise]:
        """Those begun whose file is not the one that was graded last."""
        known = self._read()
        return [exercise for exercise in self.begun()
                if self.digest(exercise) not in known.get(exercise.name, Progress())[:2]]

    def progress(self, exercise: Exercise) -> Progress:
        """What is known of an exercise."""
        return self._read().get(exercise.name, Progress())

    def has_passed(self, exercise: Exercise) -> bool:
        """Whether the file is, byte for byte, the one that passed last."""
        passed = self.progress(exercise).passed
        return passed != "" and passed == self.digest(exercise)

    def state(self, exercise: Exercise) -> str:
        """NEW, BEGUN, PASSED or CHANGED."""
        if self.has_passed(exercise):
            return PASSED
        if self.progress(exercise).passed:
            return CHANGED
        return BEGUN if self.is_begun(exercise) else NEW

    def note(self, exercise: Exercise, **changes) -> None:
        """Write changed fields of Progress to progress.json."""
        known = self._read()
        known[exercise.name] = known.get(exercise.name, Progress())._replace(**changes)
        record = {"format": FORMAT,
                  "exercises": {name: progress._asdict() for name, progress in known.items()}}
        write_whole(self.path / PROGRESS, json.dumps(record, indent=1).encode())

    def _read(self) -> dict[str, Progress]:
        """progress.json; empty where there is none.  A damaged one is put aside, with a warning."""
        path = self.path / PROGRESS
        try:
            record = json.loads(path.read_bytes())
            if record["format"] != FORMAT:
                raise ValueError("of another format")
            known = {name: Progress(**one) for name, one in record["exercises"].items()}
            if any(not _is_sound(progress) for progress in known.values()):
                raise ValueError("a value of another type")
            return known
        except FileNotFoundError:
            return {}
        except (ValueError, TypeError, KeyError, AttributeError):
            # the many ways in which a file edited by hand or cut off can fail
            os.replace(path, self.path / DAMAGED)
            warnings.warn(f"{path} was damaged and is now {DAMAGED}; what you wrote is graded "
                          "again", stacklevel=2)
            return {}


def _is_sound(progress: Progress) -> bool:
    """Whether every field has the type of its default."""
    return all(type(value) is type(default) for value, default in zip(progress, Progress()))
