"""What `minivae train --resume` goes on with: the checkpoint of a run, and its settings."""

from dataclasses import replace
from os import PathLike
from pathlib import Path

from minivae.app.settings import RunSettings
from minivae.saving import checkpoint

# what config.json says of a run besides its settings
ABOUT_THE_RUN = ("minivae", "image_shape", "test_sha256")


def settings_to_resume(run: str | PathLike, given: dict) -> tuple[Path, RunSettings]:
    """The checkpoint of the run that --resume names, and the settings to go on with.

    Parameters
    ----------
    run : a run folder, or a checkpoint in it
    given : dict
        The settings that are asked for.  epochs may be raised, and data, data_dir and key say where
        the data are now; anything else must be as the run has it.

    Raises
    ------
    ValueError
        For a checkpoint that `minivae train` did not write, another setting, or epochs that are
        over already.
    """
    path = Path(run)
    if path.is_dir():
        path = path / "model.npz"
    _, meta = checkpoint.read(path)
    before = _settings_of(path, meta)
    for name in sorted(given.keys() - {"epochs", "data", "data_dir", "key"}):
        if given[name] != getattr(before, name):
            raise ValueError(f"--{name.replace('_', '-')} {given[name]} with --resume: the run has "
                             f"{getattr(before, name)}, and only --epochs may be changed")
    settings = replace(before, **given)
    if path.name not in ("model.npz", "model.prev.npz"):
        raise ValueError(f"--resume {run}: wanted a run folder, or model.npz or model.prev.npz in "
                         f"one, because the files of a run in {path.parent} are replaced")
    trained = len(meta["state"]["history"])
    if trained >= settings.epochs:
        raise ValueError(f"{path} has trained {trained} epochs of {settings.epochs} already: "
                         f"--epochs {2 * trained} would double them")
    return path, settings


def _settings_of(path: Path, meta: dict) -> RunSettings:
    """The settings in a checkpoint's note.  Raises CheckpointError where it has none."""
    note = meta.get("note")
    if not isinstance(note, dict) or "minivae" not in note:
        raise checkpoint.CheckpointError(f"{path} was not written by `minivae train`: in Python, "
                                         "fit(resume=...) goes on from it")
    try:
        return RunSettings.from_json({name: value for name, value in note.items()
                                      if name not in ABOUT_THE_RUN})
    except ValueError as error:
        raise checkpoint.CheckpointError(f"{path} describes no training that this version knows: "
                                         f"{error}") from None
