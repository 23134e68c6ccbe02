"""A finished run, looked at: new images, reconstructions, and walks through its latent space.

Each command writes pictures, and with --npz the arrays behind them.
"""

import io
import zipfile
from os import PathLike
from pathlib import Path

import numpy as np
from scipy.special import ndtri

from minivae.app.folders import MARK, check_output, is_file_name, output_path, shown
from minivae.latents import GaussianLatent
from minivae.model import Model
from minivae.pixels import ONCE, scales_of
from minivae.saving.archive import ArchiveError, write_whole
from minivae.saving.runs import TrainedRun
from minivae.training.batches import check_data, draw
from minivae.training.evaluation import NonFiniteError

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

    H, W = run.config["image_shape"]
    if H * W != run.vae.x_dim:
        raise ArchiveError(f"{run.folder / 'config.json'} is damaged: images of {H} x {W} pixels, "
                           f"and a model of {run.vae.x_dim}")
    path, arrays_path = _paths(out, run, "sample.png", npz, force)
    z = run.vae.draw_prior(n, np.random.default_rng(seed))
    images = decoded(run.vae, z)
    prior = run.vae.latent.prior
    print(f"images    {n} new, {prior}, seed {seed}")
    plots.samples(images, (H, W), path, prior)
    return [path, *_write_arrays(arrays_path, images=images.reshape(n, H, W), z=z)]


def reconstruct(run: TrainedRun, n: int, seed: int, data: str | None = None,
                data_dir: str | None = None, key: str | None = None,
                out: str | PathLike | None = None, npz: bool = False,
                force: bool = False) -> list[Path]:
    """Write a sheet of n test images above their reconstructions; returns the paths written.

    data, data_dir, key : other images, or where those of the run are now.  seed : of their
    choice, and of pixels that are drawn black or white.  out, npz, force : as in `sample`.
    """
    from minivae.app import plots

    path, arrays_path = _paths(out, run, "reconstruct.png", npz, force)
    (H, W), index, x = _choose_images(run, data, data_dir, n, seed, key)
    recon = decoded(run.vae, run.vae.likeliest_z(x))
    plots.reconstructions(x, recon, (H, W), path)
    arrays = {"index": index, "x": x.reshape(-1, H, W), "reconstruction": recon.reshape(-1, H, W)}
    return [path, *_write_arrays(arrays_path, **arrays)]


def latent(run: TrainedRun, n: int, seed: int, data: str | None = None,
           data_dir: str | None = None, key: str | None = None,
           out: str | PathLike | None = None, npz: bool = False,
           force: bool = False) -> list[Path]:
    """Write n interpolations between test images, what each latent does, and perhaps the manifold.

    The manifold is drawn of a Gaussian latent of two dimensions.  Parameters as in `reconstruct`,
    but out must be a folder: ValueError otherwise.  Returns the paths written.
    """
    if is_file_name(out):
        raise ValueError(f"--out {out} is a file, and this command writes several: name a folder")
    vae, reason = run.vae, why_no_manifold(run.vae)
    names = ["interpolation.png", "traversal.png", *["manifold.png"] * (reason is None)]
    paths = [_paths(out, run, name, False, force)[0] for name in names]
    _, arrays_path = _paths(out, run, "latent.png", npz, force)
    shape, index, x = _choose_images(run, data, data_dir, max(2 * n, FOR_KL), seed, key)
    # where there are fewer images than ends, some come again
    index, ends = np.resize(index, 2 * n), np.resize(x, (2 * n, vae.x_dim))
    arrays = {"index": index, **_draw_interpolation(vae, ends, shape, paths[0]),
              **_draw_traversal(vae, x, shape, paths[1])}
    if reason is None:
        arrays |= _draw_manifold(vae, shape, paths[2])
    else:
        print(f"manifold  none: {reason}")
    return paths + _write_arrays(arrays_path, **arrays)


def _draw_interpolation(vae: Model, x: np.ndarray, shape: tuple[int, int],
                        path: Path) -> dict[str, np.ndarray]:
    """Draw the way from x[0] to x[1], from x[2] to x[3], ..; the images stand at both ends."""
    from minivae.app import plots

    z = vae.likeliest_z(x)
    walk = interpolation(vae, z[::2], z[1::2], STEPS)
    images = decoded(vae, walk)
    columns = np.concatenate([x[::2, None], images, x[1::2, None]], axis=1)
    plots.strips(columns, shape, cuts=[1, STEPS + 1], row_names=[""] * len(images),
                 column_names=["image", *[""] * STEPS, "image"],
                 title=f"from one image to another: {vae.latent.between_in_words}", path=path)
    return {"interpolation_z": walk, "interpolation": images.reshape(*images.shape[:2], *shape)}


def _draw_traversal(vae: Model, x: np.ndarray, shape: tuple[int, int],
                    path: Path) -> dict[str, np.ndarray]:
    """Draw what each latent does to the first images of x, as many as a row has space for.

    The busiest latents, those with the largest mean KL over all of x, stand above.
    """
    from minivae.app import plots

    kl = vae.q_mean_and_kl(x)[1].mean(axis=0, dtype=np.float64)
    dims = np.argsort(-kl, kind="stable")[:MOST_LATENTS]
    if len(dims) < vae.z_dim:
        print(f"traversal the {MOST_LATENTS} busiest of {vae.z_dim} latents")
    values = vae.latent.values_to_try
    base = x[: COLUMNS // len(values)]
    walk = traversal(vae, vae.likeliest_z(base), dims)
    images = decoded(vae, walk)
    plots.strips(images, shape, cuts=[len(values) * i for i in range(1, len(base))],
                 row_names=[f"z{j}  KL {kl[j]:.2f}" for j in dims],
                 column_names=[f"{value:g}" for value in values] * len(base),
                 title="in each row one latent takes other values, the others stay; "
                       "the busiest above", path=path)
    return {"traversal_dims": dims, "traversal_z": walk,
            "traversal": images.reshape(*images.shape[:2], *shape)}


def _draw_manifold(vae: Model, shape: tuple[int, int], path: Path) -> dict[str, np.ndarray]:
    """Draw the images of a grid over a latent of two dimensions."""
    from minivae.app import plots

    values, z = manifold(vae, SIDE)
    images = decoded(vae, z)
    plots.manifold(images, values, shape, path)
    return {"manifold_z": z, "manifold": images.reshape(SIDE, SIDE, *shape)}


def _choose_images(run: TrainedRun, source: str | None, data_dir: str | None, n: int,
                   seed: int, key: str | None = None
                   ) -> tuple[tuple[int, ...], np.ndarray, np.ndarray]:
    """n test images, or all where there are fewer.

    Returns their shape (H, W), their indices (n,), and their pixels as the model takes them (n, D).
    """
    data = run.images(source, data_dir, key, hold_out=not source)
    where = f"in {source}" if source else f"test images of {data.name}"
    binarize = run.config["binarize"]
    check_data(run.vae, data.x_test, source or f"{data.name}: x_test", binarize)
    rng = np.random.default_rng(seed)
    index = rng.permutation(len(data.x_test))[:n]
    _, scale = scales_of(data.x_train, data.x_test)
    x = draw(data.x_test, index, scale, binarize, rng, run.vae.dtype)
    print(f"images    {len(index)} of the {len(data.x_test)} {shown(where)}, seed {seed}")
    print(f"pixels    {ONCE[binarize]}")
    return data.image_shape, index, run.vae.pixels(x)


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
