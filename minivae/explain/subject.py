"""What is explained: one test image of one run, or of a small model trained on the spot."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import numpy as np

from minivae.data import Data, load_data
from minivae.estimators import multi_sample_bound
from minivae.model import Model
from minivae.pixels import choose_binarize, scales_of
from minivae.saving.runs import newest_run, open_run
from minivae.training.batches import check_data, draw
from minivae.training.evaluation import EVALUATION_SEED
from minivae.training.loop import fit
from minivae.vae import VAE

FEW = 4          # samples where an estimator compares several: they can differ, and can all be read


class Subject(NamedTuple):
    """A model and one test image, with what a reader must know of both."""

    vae: Model
    x: np.ndarray                        # the image : (1, D), of the model's dtype
    image: int                           # its number among the test images
    label: str | None
    image_shape: tuple[int, ...]         # (H, W), or (H, W, 3) in colour
    run: str                             # which run it is, in words
    note: str                            # which data they are, in words
    binarize: str                        # what was done to the pixels, a key of pixels.BINARIZE
    lr: float                            # the run's step size
    data: Data                           # from which the page takes more images

    def noise(self, K: int, antithetic: bool = False) -> np.ndarray:
        """eps : (K, 1, Z), float64, the same at every call; a smaller K gives the first K.

        For coins it is u from U(0, 1); antithetic, which is for coins, gives the pair u and 1 - u.
        """
        rng = np.random.default_rng([EVALUATION_SEED, self.image, 1])
        return self.vae.latent.noise((K, 1, self.vae.z_dim), rng, np.float64, antithetic)

    def image_in_words(self) -> str:
        """Which test image it is, and its label where it has one."""
        label = "" if self.label is None else f", labelled {self.label}"
        return f"test image {self.image}{label}"


def samples_of(vae: Model, estimator: Callable) -> int:
    """K for one readable pass: a few where an estimator compares its samples, elsewhere one.

    The score function of coins gets two: each is the baseline of the other, as in training.
    """
    if estimator.objective is multi_sample_bound:
        return FEW
    return 1 if vae.latent.has_path else 2


def find_subject(folder: str | PathLike | None, image: int) -> Subject:
    """Test image `image` of the run in `folder`; without a folder, of the newest run.

    Where there is no run at all, a small model is trained here and now.  Raises ValueError, in one
    line, for a run that is missing or damaged, and for an image that does not exist.
    """
    if folder is None and not any(Path("runs").glob("*/model.npz")):
        return trained_on_the_spot(image)
    run = open_run(folder or newest_run())
    data = run.images()
    which_model = "" if run.file == "model.npz" else f", {run.file}"
    newest = "" if folder else ", the newest one"
    name = f"{run.folder}{which_model}{newest}"
    return subject_of(run.vae, data, image, name, run.config["binarize"], float(run.config["lr"]))


def trained_on_the_spot(image: int) -> Subject:
    """Test image `image` of the digits, with a small model trained on them in a few seconds."""
    data, lr = load_data("digits"), 3e-3
    vae = VAE.mlp(64, [48], 6, rng=0)
    fit(vae, data.x_train, epochs=15, batch_size=32, lr=lr, rng=0)
    name = "no run under runs/ yet: a small model, trained on the digits just now"
    return subject_of(vae, data, image, name, "dynamic", lr)


def subject_of(vae: Model, data: Data, image: int, run: str, binarize: str, lr: float) -> Subject:
    """Test image `image` of `data`, its pixels treated as in training, from a seed of its own.

    Raises ValueError for data that do not fit the model, and for an image that does not exist.
    """
    if image >= len(data.x_test):
        raise ValueError(f"--image {image}: there are {len(data.x_test)} test images, "
                         "numbered from 0")
    x = test_images(vae, data, binarize, [image])
    label = None if data.y_test is None else str(data.y_test[image])
    image_shape = tuple(int(side) for side in data.image_shape)
    return Subject(vae, x, image, label, image_shape, run, data.note, binarize, lr, data)


def test_images(vae: VAE, data: Data, binarize: str, numbers: Sequence[int]) -> np.ndarray:
    """The test images of these numbers as pixels : (n, D), each drawn from a seed of its own.

    Raises ValueError for data that do not fit the model.
    """
    wanted = choose_binarize(binarize, vae.likelihood)
    x_test = check_data(vae, data.x_test, f"{data.name}: x_test", wanted)
    _, scale = scales_of(data.x_train, x_test)
    drawn = [draw(x_test, np.array([i]), scale, binarize,
                  np.random.default_rng([EVALUATION_SEED, i]), vae.dtype) for i in numbers]
    return np.concatenate(drawn)
