"""What commands print for a person: wrapped lines, the table of epochs, images, what to do next."""

import os
import shlex
import shutil
import sys
import textwrap
from dataclasses import fields, replace
from itertools import groupby
from pathlib import Path

import numpy as np

from minivae.app.folders import as_argument
from minivae.app.settings import RECIPES, RunSettings
from minivae.model import Model

COLUMNS = 80                    # of every text; images take what the terminal has
INDENT = 10                     # where the words of a line stand, behind its name
HEAD_EVERY = 20                 # rows of the table below each head
SHADES = " .:-=+*#%@"           # from paper to ink, for pictures in letters
MOST_IMAGES, GAP = 10, 2        # side by side, and the columns between two
SMALL = 16                      # pixels: a smaller image is drawn larger


def hanging(name: str, words: str, indent: int = INDENT) -> str:
    """Words behind a name, wrapped at COLUMNS; a path or an option is never broken."""
    return textwrap.fill(words, COLUMNS, initial_indent=f"{name:{indent}s}",
                         subsequent_indent=" " * indent, break_long_words=False,
                         break_on_hyphens=False)


def warn(words: str) -> None:
    """Print a warning to stderr, wrapped."""
    print(hanging("minivae: warning: ", words), file=sys.stderr)


# --- the table of epochs ---


class EpochTable:
    """The table that training prints: a row for each epoch, and its head again now and then.

    Parameters
    ----------
    epochs : how many there will be, at most
    history : the rows of the epochs before, of a run that is resumed
    """

    LEGEND = "nats per image; test loss is -ELBO of the test images; * is the best so far"
    HEAD = "epoch       loss      recon         kl  test loss     seconds  time left"

    def __init__(self, epochs: int, history: list[dict]):
        self.epochs, self.best = epochs, None
        for row in history:
            self._is_best(row)
        self.first, self.rows = len(history) + 1, 0
        self.seconds_before = history[-1]["seconds"] if history else 0.0

    def restart(self) -> None:
        """Print the head again above the next row."""
        self.rows = 0

    def row(self, row: dict) -> str:
        """The line of an epoch, with the head above it where it is due."""
        head = ""
        if self.rows % HEAD_EVERY == 0:
            head = f"{self.HEAD}\n" if row["epoch"] == self.first else f"\n{self.HEAD}\n"
        self.rows += 1
        numbers = " ".join(_ten_wide(value) for value in (
            row["loss"], row["recon"], row["kl"], -row["test_elbo"]))
        mark = "*" if self._is_best(row) else " "
        line = f"{row['epoch']:5d} {numbers} {mark} {row['seconds']:9.1f} {self._left(row):>10s}"
        return head + line.rstrip()

    def _is_best(self, row: dict) -> bool:
        """Whether no epoch before was as good; of the images held out, where there are such."""
        best = self.best is None or _judged(row) > _judged(self.best)
        if best:
            self.best = row
        return best

    def _left(self, row: dict) -> str:
        """The time that the epochs to come will take, if each takes as long as those so far."""
        to_come, done = self.epochs - row["epoch"], row["epoch"] - self.first + 1
        seconds = (row["seconds"] - self.seconds_before) / done * to_come
        return duration(seconds) if to_come else ""


def _judged(row: dict) -> float:
    return row.get("held_elbo", row["test_elbo"])


def _ten_wide(value: float) -> str:
    return f"{value:10.2f}" if abs(value) < 1e6 else f"{value:10.3e}"


def duration(seconds: float) -> str:
    """Seconds in words: "41 s", "12 min" or "3 h 05"."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d}"


# --- images in a terminal ---


def new_images(vae: Model, image_shape: tuple[int, ...], epoch: int) -> str:
    """As many new images as fit the terminal, under a line that says what they are.

    "" where not one fits.
    """
    size = shutil.get_terminal_size()
    height, width = (_zoom(image_shape) * side for side in image_shape[:2])
    n = min((size.columns + GAP) // (width + GAP), MOST_IMAGES)
    if n < 1 or height // 2 > size.lines:
        return ""
    images = in_cells(vae.sample(n, rng=0), image_shape, has_blocks())
    return f"{n} new image{'s' * (n > 1)}, {vae.latent.prior}, after epoch {epoch}\n{images}"


def has_blocks() -> bool:
    """Whether the terminal shows half blocks in colours."""
    utf8 = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM", "dumb") == "dumb"
    return utf8 and not plain


def _zoom(image_shape: tuple[int, ...]) -> int:
    return max(1, SMALL // max(image_shape[:2]))


def in_cells(images: np.ndarray, image_shape: tuple[int, ...], blocks: bool) -> str:
    """images : (n, D) in [0, 1]  ->  the images side by side, two pixels in each cell.

    A cell is a half block in the colours of both pixels, or a letter as dark as their mean.
    Grey images have 1 as ink, as in the pictures of a run.
    """
    zoom = _zoom(image_shape)
    pixels = images.reshape(-1, *image_shape).clip(0, 1).repeat(zoom, axis=1).repeat(zoom, axis=2)
    if pixels.shape[1] % 2:
        pixels = np.concatenate([pixels, pixels[:, -1:]], axis=1)
    upper, lower = pixels[:, ::2], pixels[:, 1::2]
    rows = _blocks(upper, lower) if blocks else _letters((upper + lower) / 2)
    return "\n".join((" " * GAP).join(row) for row in zip(*rows))


def _blocks(upper: np.ndarray, lower: np.ndarray) -> list[list[str]]:
    """The rows of each image in half blocks."""
    colours = np.stack([_colour(upper), _colour(lower)], axis=-1)
    return [[_coloured(row) for row in image] for image in colours.tolist()]


def _coloured(row: list[list[int]]) -> str:
    """One row of half blocks: the colours are named only where they change."""
    cells = [f"\x1b[38;5;{a};48;5;{b}m" + "\u2580" * len(list(same))
             for (a, b), same in groupby(row)]
    return "".join(cells) + "\x1b[0m"


def _colour(pixels: np.ndarray) -> np.ndarray:
    """The terminal's number of each colour: one of 24 greys, or of 6 x 6 x 6 colours."""
    if pixels.ndim == 4:
        return 16 + (pixels * 5).round().astype(int) @ [36, 6, 1]
    return 255 - (pixels * 23).round().astype(int)


def _letters(pixels: np.ndarray) -> list[list[str]]:
    """The rows of each image in letters, the darker the more ink."""
    ink = 1 - pixels.mean(axis=-1) if pixels.ndim == 4 else pixels
    levels = (ink * (len(SHADES) - 1)).round().astype(int)
    return [["".join(SHADES[level] for level in row) for row in image] for image in levels]


# --- what to do next ---


def program() -> str:
    """How this program is called again: by its name where the shell finds it, else by its path."""
    called = Path(sys.argv[0])
    if called.stem != "minivae":
        return f"{_as_found('python', sys.executable)} -m minivae"
    return _as_found("minivae", sys.argv[0])


def _as_found(name: str, path: str) -> str:
    """The name, if the shell finds the file at `path` by it; else the path."""
    found = shutil.which(name)
    same = found is not None and Path(found).absolute() == Path(path).absolute()
    return name if same else shlex.quote(path)


def next_commands(settings: RunSettings, folder: Path) -> str:
    """Commands to go on with after a run, each with what it does, ready to be copied."""
    s, where = settings, as_argument(folder)
    commands = [(f"explain {where} --open", "one backward pass as a live page"),
                (f"evaluate {where}", "log p(x); what each latent says"),
                (f"latent {where}", "pictures: what each latent does")]
    if s.latent_kind == "gaussian" and s.latent != 2:
        commands.append((_again(s, latent=2), "two latents: latent.png is a map"))
    elif s.estimator == "elbo" and s.beta != 4:
        commands.append((_again(s, beta=4.0), "a stronger KL, fewer latents"))
    if s.data in RECIPES:
        commands.append(("train --help", "your own images; every setting"))
    commands = [(f"{program()} {command}", what) for command, what in commands]
    at = max(len(command) for command, _ in commands) + 2
    fits = 2 + at + max(len(what) for _, what in commands) <= COLUMNS
    return "\n".join(f"  {command:{at}s}{what}" if fits else f"  {command}\n      {what}"
                     for command, what in commands)


def _again(settings: RunSettings, **changed) -> str:
    """The command for the same run with other settings; it leaves out what is the default."""
    settings = replace(settings, **changed)
    recipe = RunSettings.for_data(settings.data, latent_kind=settings.latent_kind)
    recipe = replace(recipe, data=RunSettings.data, latent_kind=RunSettings.latent_kind)
    command = "train"
    for field in fields(settings):
        value = getattr(settings, field.name)
        if value != getattr(recipe, field.name):
            text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
            option = field.name.replace("_", "-")
            command += f" --{option} {as_argument(text.removesuffix('.0'))}"
    return command
