"""What is explained: one test image of one run, or of a small model trained on the spot."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import NamedTuple

import numpy as np

from minivae.data import Data, load_data
from minivae.estimators import multi_sample_bound
from minivae.saving.runs import newest_run, open_run
from minivae.pixels import choose_treatment, scales_of
from minivae.training.batches import draw
from minivae.training.loop import EVALUATION_SEED, check_data, fit
from minivae.vae import VAE

FEW = 4          # samples of z where an estimator compares several: enough to see that they differ, few enough to read


class Subject(NamedTuple):
    """A model and one image x : (1, D) of the model's dtype, with what a reader must know of both."""

    vae: VAE
    x: np.ndarray
    image: int
    label: str | None
    image_shape: tuple[int, int]
    run: str
    note: str
    treatment: str
    lr: float

    def noise(self, K: int) -> np.ndarray:
        """eps : (K, 1, Z), in float64, the same at every call; a smaller K gets the first of a larger one's."""
        return np.random.default_rng([EVALUATION_SEED, self.image, 1]).standard_normal((K, 1, self.vae.z_dim))


def samples_of(estimator) -> int:
    """K for one readable pass: a bound made of several samples gets a few, everything else one."""
    return FEW if estimator.objective is multi_sample_bound else 1


def find_subject(folder: str | PathLike | None, image: int) -> Subject:
    """Test image `image` of the run in `folder`, of the newest run, or of a model trained here and now.

    Raises ValueError, in one line, for a run that is missing or damaged and an image that there is not.
    """
    if folder is None and not any(Path("runs").glob("*/model.npz")):
        data, run = load_data("digits"), "no run under runs/ yet: a small model, trained on the digits on the spot"
        vae = VAE.mlp(64, [48], 6, rng=0)
        fit(vae, data.x_train, epochs=15, batch_size=32, lr=3e-3, rng=0)
        return subject_of(vae, data, image, run, "dynamic", 3e-3)
    run = open_run(folder or newest_run())
    data = load_data(run.config["data"], run.config["data_dir"])
    best = ", best.npz" if run.file == "best.npz" else ""
    name = f"{run.folder}{best}{'' if folder else ', the newest one'}"
    return subject_of(run.vae, data, image, name, run.config["binarize"], float(run.config["lr"]))


def subject_of(vae: VAE, data: Data, image: int, run: str, treatment: str, lr: float) -> Subject:
    """Test image `image` of `data`, its pixels treated as in training, from a seed of its own."""
    x_test = check_data(vae, data.x_test, f"{data.name}: x_test", choose_treatment(treatment, vae.likelihood))
    if image >= len(x_test):
        raise ValueError(f"--image {image}: there are {len(x_test)} test images, numbered from 0")
    scale = scales_of(data.x_train, x_test)[1]
    x = draw(x_test, np.array([image]), scale, treatment, np.random.default_rng([EVALUATION_SEED, image]), vae.dtype)
    label = None if data.y_test is None else str(data.y_test[image])
    return Subject(vae, x, image, label, tuple(map(int, data.image_shape)), run, data.note, treatment, lr)
