"""The reward: train the digits with the reader's own backward and Adam, beside page 0's.

Where an exercise is not passed, page 0's own function takes its place.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from minivae.learn.digits import SHOWN
from minivae.learn.exercise import Exercise
from minivae.learn.files import Folder
from minivae.learn.grading import in_child
from minivae.learn.watch import grade
from minivae.saving.archive import write_whole

# the functions that are the reader's, and the exercise of each
EXERCISES = {"backward": "page-0", "adam": "adam"}
PICTURE = "finish.png"
LIMIT = 120.0                   # seconds for the reader's training and page 0's
AGREE = 1e-10                   # of the loss; right, with the sums in another order: 2e-16


def finish(folder: Folder) -> bool:
    """Train, print both losses epoch by epoch, write the picture; whether they agree.

    Raises ValueError where the reader's code stopped the training.
    """
    files = {}
    for name, exercise_name in EXERCISES.items():
        exercise = folder.find(exercise_name)
        if _has_passed(folder, exercise):
            files[name] = folder.file(exercise)
            print(f"{name:8s}  yours, {files[name].name}")
        else:
            print(f"{name:8s}  page 0's own: {folder.file(exercise).name} has not passed")
    job = {"task": "finish", "files": {name: str(path.resolve()) for name, path in files.items()}}
    found = in_child(job, list(files.values()) or [folder.path / PICTURE], LIMIT)
    if "yours" not in found:
        line = f", line {found['line']}: {found['source']}" if found["line"] else ""
        raise ValueError(f"the training stopped{line}: {found['sentence']}")
    agree = _print_losses(found["yours"], found["page_0"], bool(files))
    _draw(found, folder.path / PICTURE)
    print(f"wrote {folder.path / PICTURE}:\nimages, their reconstructions, and new digits")
    return agree


def _has_passed(folder: Folder, exercise: Exercise) -> bool:
    """Whether the file, graded now, passes."""
    return folder.is_begun(exercise) and grade(folder, exercise).passed


def _print_losses(yours: list, page_0: list, is_yours: bool) -> bool:
    """Print the two columns and what they say; whether they agree."""
    # None stands for NaN and infinity, which JSON does not have
    yours = [np.nan if loss is None else loss for loss in yours]
    print(f"\nLoss in nats an image; a uniform guess: {64 * np.log(2):.2f}\n"
          "epoch      yours     page 0")
    for epoch, (mine, own) in enumerate(zip(yours, page_0)):
        print(f"{epoch:5d} {mine:10.4f} {own:10.4f}")
    difference = np.max(np.abs(np.subtract(yours, page_0) / page_0))
    agree = bool(difference < AGREE)                           # a NaN does not agree
    in_words = f"{difference:.0e} of the loss" if difference else "none"
    if not is_yours:
        print("Both are page 0's own. Pass the two exercises, and the first column is yours.")
    elif agree:
        print(f"Largest difference: {in_words}. They agree to rounding:\n"
              "the digits were learned with your gradients.")
    else:
        print(f"Largest difference: {in_words}, more than rounding:\n"
              "yours does something else than page 0 in training.")
    return agree


def _draw(found: dict, path: Path) -> None:
    """Three rows of digits: images, their reconstructions, new ones."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(SHOWN * 0.7, 2.4), layout="constrained")
    for axes, name in zip(figure.subplots(3, 1), ("images", "reconstructions", "new")):
        digits = np.reshape(found[name], (SHOWN, 8, 8))
        sheet = np.pad(digits, ((0, 0), (0, 0), (0, 1)), constant_values=0.5)
        axes.imshow(np.hstack(sheet), cmap="gray_r", vmin=0, vmax=1)
        axes.set_title(name, loc="left", fontsize=8)
        axes.axis("off")
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=110)
    write_whole(path, stream.getvalue())
