"""A finished run, looked at: new images, reconstructions, and walks through its latent space.

Each command writes pictures, and with --npz the arrays behind them.
"""

import io
import zipfile
from math import prod
from os import PathLike
from pathlib import Path

import numpy as np
from scipy.special import ndtri

from minivae.app.folders import MARK, check_output, is_file_name, output_path, shown
from minivae.app.lines import hanging
from minivae.latents import GaussianLatent
from minivae.model import Model
from minivae.pixels import ONCE, scales_of
from minivae.saving.archive import ArchiveError, write_whole
from minivae.saving.runs import TrainedRun
from minivae.training.batches import check_data, draw
from minivae.training.evaluation import NonFiniteError
from minivae.training.metrics import active_units

SIDE = 20                       # images along each side of the manifold
STEPS = 9                       # images of an interpolation, with both ends
COLUMNS = 11                    # images in a row of a traversal, at most
FOR_KL = 500                    # images that tell which latents are busy
MOST_LATENTS = 50               # rows of a traversal, at most: the busiest latents


# --- the arrays ---


def interpolation(vae: Model, a: np.ndarray, b: np.ndarray, steps: int) -> np.ndarray:
    """a, b : (R, Z)  ->  z : (R, steps, Z), the way from each row of a to that of b, ends included.

    The latent says what lies between: of a Gaussian one it is a line, see `Latent.between`.
    """
    t = np.linspace(0, 1, steps, dtype=vae.dtype)[:, None]
    return vae.latent.between(a[:, None], b[:, None], t)


def traversal(vae: Model, z: np.ndarray, dims: np.ndarray) -> np.ndarray:
    """z : (B, Z)  ->  (len(dims), B * V, Z): every z with V other values of one latent.

    Row i moves latent dims[i] through `Latent.values_to_try`; the other latents stay.
    """
    values = vae.latent.values_to_try
    walk = np.tile(np.repeat(z, len(values), axis=0), (len(dims), 1, 1))
    for row, j in zip(walk, dims):
        row[:, j] = np.tile(values, len(z))
    return walk


def latents_to_show(mean: np.ndarray, kl: np.ndarray) -> tuple[np.ndarray, str]:
    """mean : (N, Z), kl : (Z,)  ->  the active latents, the busiest first, and which these are.

    Where none is active, or where one image cannot tell, all.  MOST_LATENTS at most.
    """
    order, active = np.argsort(-kl, kind="stable"), active_units(mean)
    dims = order[active[order]] if active.any() else order
    if len(dims) > MOST_LATENTS:
        return dims[:MOST_LATENTS], f"the {MOST_LATENTS} busiest of {len(kl)} latents"
    if active.any():
        return dims, f"the {len(dims)} active of {len(kl)} latents"
    return dims, f"all {len(kl)} latents"


def why_no_manifold(vae: Model) -> str | None:
    """Why `manifold` cannot show this model, in words, or None where it can."""
    if not isinstance(vae.latent, GaussianLatent):
        return "coins are 0 or 1, with nothing between; the traversal turns each one over"
    if vae.z_dim != 2:
        return f"it takes two latents, this model has {vae.z_dim}"
    return None


def manifold(vae: Model, side: int) -> tuple[np.ndarray, np.ndarray]:
    """A grid over a Gaussian latent of two dimensions, in even steps of probability.

    Returns (side,) quantiles of N(0, 1), and z : (side, side, 2).  z_1 falls from row to row and
    z_0 rises along each row.  Source: Kingma & Welling (2014), arXiv:1312.6114, figure 4.
    """
    values = ndtri((np.arange(side) + 0.5) / side).astype(vae.dtype)
    return values, np.stack(np.meshgrid(values, values[::-1]), axis=-1)


def decoded(vae: Model, z: np.ndarray) -> np.ndarray:
    """z : (.., Z)  ->  images : (.., D).  Raises NonFiniteError where one is not finite."""
    images = z
    if np.isfinite(z).all():
        images = vae.decode(z.reshape(-1, vae.z_dim)).reshape(*z.shape[:-1], -1)
    if not np.isfinite(images).all():
        raise NonFiniteError("the model gives images that are not finite: its training went wrong")
    return images


# --- the commands ---


def sample(run: TrainedRun, n: int, seed: int, out: str | PathLike | None = None,
           npz: bool = False, force: bool = False) -> list[Path]:
    """Write a sheet of n new images; returns the paths written.

    seed means what it means to `Model.sample`; for out and force see `output_path`; npz: the
    arrays, too.
    Raises ArchiveError where config.json and the model disagree about the images' size.
    """
    from minivae.app import plots                          # heavy: it brings matplotlib

    shape = tuple(run.config["image_shape"])
    if prod(shape) != run.vae.x_dim:
        raise ArchiveError(f"{run.folder / 'config.json'} is damaged: images of "
                           f"{' x '.join(map(str, shape))} numbers, and a model of "
                           f"{run.vae.x_dim}")
    path, arrays_path = _paths(out, run, "samples.png", npz, force)
    z = run.vae.draw_prior(n, np.random.default_rng(seed))
    images = decoded(run.vae, z)
    prior = run.vae.latent.prior
    print(f"images    {n} new, {prior}, seed {seed}")
    plots.samples(images, shape, path, prior, plots.is_ink(run.config["data"]))
    return [path, *_write_arrays(arrays_path, images=images.reshape(n, *shape), z=z)]


def reconstruct(run: TrainedRun, n: int, seed: int, data: str | None = None,
                data_dir: str | None = None, key: str | None = None,
                out: str | PathLike | None = None, npz: bool = False,
                force: bool = False) -> list[Path]:
    """Write a sheet of n test images above their reconstructions; returns the paths written.

    Where pixels were drawn black or white, what the model was given stands between the two.

    data, data_dir, key : other images, or where those of the run are now.  seed : of their
    choice, and of pixels that are drawn black or white.  out, npz, force : as in `sample`.
    """
    from minivae.app import plots

    shape, index, images, x = _choose_images(run, data, data_dir, n, seed, key)
    path, arrays_path = _paths(out, run, "reconstructions.png", npz, force)     # makes the folder
    recon = decoded(run.vae, run.vae.likeliest_z(x))
    plots.reconstructions(images, x, recon, shape, path, plots.is_ink(run.config["data"]))
    arrays = {"image": images, "x": x, "reconstruction": recon}
    arrays = {name: array.reshape(-1, *shape) for name, array in arrays.items()}
    return [path, *_write_arrays(arrays_path, index=index, **arrays)]


def latent(run: TrainedRun, n: int, seed: int, data: str | None = None,
           data_dir: str | None = None, key: str | None = None,
           out: str | PathLike | None = None, npz: bool = False, force: bool = False) -> list[Path]:
    """Write n interpolations between test images, what each latent does, and perhaps the manifold.

    The manifold is drawn of a Gaussian latent of two dimensions.  Parameters as in `reconstruct`,
    but out must be a folder: ValueError otherwise.  Returns the paths written.
    """
    if is_file_name(out):
        raise ValueError(f"--out {out} is a file, and this command writes several: name a folder")
    from minivae.app import plots

    vae, reason = run.vae, why_no_manifold(run.vae)
    shape, index, images, x = _choose_images(run, data, data_dir, max(2 * n, FOR_KL), seed, key)
    names = ["interpolation.png", "traversal.png", *["manifold.png"] * (reason is None)]
    paths = [_paths(out, run, name, False, force)[0] for name in names]         # makes the folder
    _, arrays_path = _paths(out, run, "latent.png", npz, force)
    ink = plots.is_ink(run.config["data"])
    # one image alone is both ends
    ends = np.resize(np.arange(len(index)), 2 * min(n, max(1, len(index) // 2)))
    arrays = {"index": index[ends],
              **_draw_interpolation(vae, images[ends], x[ends], shape, paths[0], ink),
              **_draw_traversal(vae, x, shape, paths[1], ink)}
    if reason is None:
        arrays |= _draw_manifold(vae, shape, paths[2], ink)
    else:
        print(hanging("manifold", f"none: {reason}"))
    return paths + _write_arrays(arrays_path, **arrays)


def _draw_interpolation(vae: Model, images: np.ndarray, x: np.ndarray, shape: tuple[int, ...],
                        path: Path, ink: bool) -> dict[str, np.ndarray]:
    """Draw the way from x[0] to x[1], from x[2] to x[3], ..; the images stand at both ends.

    images, x : (2n, D), as they are and as the model was given them.
    """
    from minivae.app import plots

    z = vae.likeliest_z(x)
    walk = interpolation(vae, z[::2], z[1::2], STEPS)
    decoded_walk = decoded(vae, walk)
    drawn = "black or\nwhite" if len(shape) == 2 else "colours\noff or on"
    ends, names = [images, x], ["test\nimage", f"given,\n{drawn}"]
    if np.array_equal(images, x):
        ends, names = [images], ["test\nimage"]
    columns = np.concatenate([*(end[::2, None] for end in ends), decoded_walk,
                              *(end[1::2, None] for end in reversed(ends))], axis=1)
    plots.strips(columns, shape, f"from one image to another: {vae.latent.between_in_words}", path,
                 ink, cuts=[len(ends), len(ends) + STEPS],
                 column_names=[*names, "recon", *[""] * (STEPS - 2), "recon", *reversed(names)])
    return {"interpolation_z": walk,
            "interpolation": decoded_walk.reshape(*decoded_walk.shape[:2], *shape)}


def _draw_traversal(vae: Model, x: np.ndarray, shape: tuple[int, ...], path: Path, ink: bool
                    ) -> dict[str, np.ndarray]:
    """Draw what each active latent does to the first images of x, as many as a row has space for.

    The busiest latents, those with the largest mean KL over all of x, stand above.
    """
    from minivae.app import plots

    mean, kl = vae.q_mean_and_kl(x)
    kl = kl.mean(axis=0, dtype=np.float64)
    dims, said = latents_to_show(mean, kl)
    if len(dims) < vae.z_dim:
        print(f"traversal {said}")
    values = vae.latent.values_to_try
    base = x[: COLUMNS // len(values)]
    z = vae.likeliest_z(base)
    walk = traversal(vae, z, dims)
    images = decoded(vae, walk)
    # where each image's own value lies among the columns, (rows, images)
    own = np.interp(z.T[dims], values, np.arange(len(values)))
    own += len(values) * np.arange(len(base))
    unit = f" ({vae.latent.unit})" if vae.latent.unit else ""
    title = ("in each row one latent takes other values, the others stay\n"
             f"{said}, the busiest above; triangles: the image's own values")
    plots.strips(images, shape, title, path, ink, marks=own,
                 cuts=[len(values) * i for i in range(1, len(base))],
                 row_names=[f"z{j}  KL {kl[j]:.2f}" for j in dims], above=f"value of z_j{unit}",
                 column_names=[plots.number(value) for value in values] * len(base))
    return {"traversal_dims": dims, "traversal_z": walk,
            "traversal": images.reshape(*images.shape[:2], *shape)}


def _draw_manifold(vae: Model, shape: tuple[int, ...], path: Path, ink: bool
                   ) -> dict[str, np.ndarray]:
    """Draw the images of a grid over a latent of two dimensions."""
    from minivae.app import plots

    values, z = manifold(vae, SIDE)
    images = decoded(vae, z)
    plots.manifold(images, values, shape, path, ink)
    return {"manifold_z": z, "manifold": images.reshape(SIDE, SIDE, *shape)}


def _choose_images(run: TrainedRun, source: str | None, data_dir: str | None, n: int, seed: int,
                   key: str | None = None
                   ) -> tuple[tuple[int, ...], np.ndarray, np.ndarray, np.ndarray]:
    """n test images, or all where there are fewer.

    Returns their image_shape, their indices (n,), their pixels as they are (n, D), and as the
    model takes them (n, D).
    """
    data = run.images(source, data_dir, key, hold_out=not source)
    where = f"in {source}" if source else f"test images of {data.name}"
    binarize = run.config["binarize"]
    check_data(run.vae, data.x_test, source or f"{data.name}: x_test", binarize)
    rng = np.random.default_rng(seed)
    index = rng.permutation(len(data.x_test))[:n]
    _, scale = scales_of(data.x_train, data.x_test)
    x = draw(data.x_test, index, scale, binarize, rng, run.vae.dtype)
    images = draw(data.x_test, index, scale, "none", rng, run.vae.dtype)
    print(hanging("images", f"{len(index)} of the {len(data.x_test)} {shown(where)}, seed {seed}"))
    print(hanging("pixels", ONCE[binarize]))
    return data.image_shape, index, images, run.vae.pixels(x)


def _paths(out: str | PathLike | None, run: TrainedRun, name: str, npz: bool, force: bool
           ) -> tuple[Path, Path | None]:
    """Where a picture goes, and where the arrays beside it if they are wanted.

    Raises ValueError where one of them would destroy what is not an earlier output.
    """
    path = output_path(out, run.folder / "gallery", name, force)
    if not npz:
        return path, None
    check_output(path.with_suffix(".npz"), force)
    return path, path.with_suffix(".npz")


def _write_arrays(path: Path | None, **arrays: np.ndarray) -> list[Path]:
    """Write the arrays to `path`, if they are wanted; returns the paths written."""
    if path is None:
        return []
    data = io.BytesIO()
    np.savez_compressed(data, **arrays)
    with zipfile.ZipFile(data, "a") as file:
        file.comment = MARK.encode()
    write_whole(path, data.getvalue())
    return [path]
