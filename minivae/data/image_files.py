"""The user's own PNG and JPEG files: one image, or a folder of them."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from minivae.data.arrays import Arrays

SUFFIXES = (".png", ".jpg", ".jpeg")


def read_image(path: Path) -> Arrays:
    """One image file as (1, H, W), or (1, H, W, 3) if it has a colour.  Raises ValueError."""
    return Arrays(_without_grey_colours(_pixels(path)[None]))


def read_folder(folder: Path) -> Arrays:
    """All images of a folder, sorted by name : (N, H, W), or (N, H, W, 3) if one has a colour.

    Where the folder has folders train/ and test/, these are the training and the test images.  A
    folder of folders: their names are the labels.

    Raises
    ------
    ValueError
        In one line, for a folder without images, a damaged image, and images of several sizes.
    """
    has_split = (folder / "train").is_dir()
    files = _find(folder / "train" if has_split else folder)
    tests = _find(folder / "test") if has_split and (folder / "test").is_dir() else []
    images = _without_grey_colours(_same_size([path for path, _ in files + tests]))
    labels = np.array([label for _, label in files + tests])
    has_labels = bool(labels.all())                        # an image in no sub-folder has label ""
    n = len(files)
    return Arrays(images[:n], images[n:] if tests else None, labels[:n] if has_labels else None,
                  labels[n:] if has_labels and tests else None)


def _find(folder: Path) -> list[tuple[Path, str]]:
    """The images of a folder with label "", or else those of its folders with these as labels."""
    def inside(place: Path) -> list[Path]:
        return sorted(path for path in place.iterdir() if not path.name.startswith("."))

    def images(place: Path, label: str) -> list[tuple[Path, str]]:
        return [(path, label) for path in inside(place)
                if path.suffix.lower() in SUFFIXES and path.is_file()]

    found = images(folder, "") or [image for place in inside(folder) if place.is_dir()
                                   for image in images(place, place.name)]
    if not found:
        raise ValueError(f"{folder} holds no images: wanted files that end in "
                         f"{', '.join(SUFFIXES)}, in it or in folders in it")
    return found


def _same_size(paths: list[Path]) -> np.ndarray:
    """The images as one array (N, H, W, 3).  Raises ValueError where their sizes differ."""
    first = _pixels(paths[0])
    images = np.empty((len(paths), *first.shape), np.uint8)
    for image, path in zip(images, paths):
        pixels = _pixels(path)
        if pixels.shape != first.shape:
            H, W, _ = first.shape
            other_H, other_W, _ = pixels.shape
            raise ValueError(f"{paths[0]} has {H} x {W} pixels and {path} has {other_H} x "
                             f"{other_W}: all images must have one size")
        image[...] = pixels
    return images


def _pixels(path: Path) -> np.ndarray:
    """One image as it is seen on white paper : (H, W, 3) bytes, red, green and blue."""
    from PIL import Image, ImageOps                        # slow to import

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=("PNG", "JPEG")) as file:
                image = ImageOps.exif_transpose(file)      # turned as the camera was held
        if image.mode.startswith("I"):                     # 16 bits: convert would clip at 255
            image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return np.asarray(Image.alpha_composite(white, image).convert("RGB"))
    except (OSError, ValueError, SyntaxError, Warning, Image.DecompressionBombError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path} cannot be read as an image: {reason}") from None


def _without_grey_colours(images: np.ndarray) -> np.ndarray:
    """images : (N, H, W, 3), or (N, H, W) where red, green and blue are everywhere the same."""
    grey = images[..., 0]
    is_grey = all((image == image[..., :1]).all() for image in images)
    return np.ascontiguousarray(grey) if is_grey else images
