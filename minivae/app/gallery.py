"""A finished run, looked at: new images, reconstructions, and walks through its latent space, as pictures and as arrays."""

import io
from os import PathLike
from pathlib import Path

import numpy as np
from scipy.special import ndtri

from minivae.saving.archive import ArchiveError, write_whole
from minivae.data import Data, load_data, load_images
from minivae.app.evaluate import place
from minivae.model import Model
from minivae.saving.runs import TrainedRun
from minivae.pixels import ONCE, scales_of
from minivae.training.batches import draw
from minivae.training.loop import NonFiniteError, check_data

SIDE = 20                       # of the manifold, in images
STEPS = 9                       # of an interpolation, its two ends among them
VALUES = np.linspace(-3, 3, 11)             # that a traversal gives to each Gaussian latent
COINS_OF = 5                    # images whose coins a traversal turns over
FOR_KL = 500                    # images, to tell which latents are busy
MOST = 50                       # rows of a traversal: the busiest latents


# --- the arrays -------------------------------------------------------------------------------------------


def code(vae: Model, x: np.ndarray) -> np.ndarray:
    """x : (B, D)  ->  z : (B, Z), the one that `reconstruct` decodes: the posterior mean, or the likeliest coins."""
    mean, _ = vae.posterior(x)
    return mean if vae.kind == "gaussian" else (mean > 0.5).astype(vae.dtype)


def between(vae: Model, a: np.ndarray, b: np.ndarray, steps: int) -> np.ndarray:
    """a, b : (R, Z)  ->  z : (R, steps, Z), from a to b: (1 - t) a + t b.  Coins know no between: those that differ turn over one by one."""
    t = np.linspace(0, 1, steps, dtype=vae.dtype)[:, None]
    a, b = a[:, None], b[:, None]
    if vae.kind == "gaussian":
        return (1 - t) * a + t * b
    rank = np.cumsum(a != b, axis=2)                       # 1 for the first coin that differs
    return np.where(rank <= np.round(t * rank[..., -1:]), b, a)


def traversal(vae: Model, z: np.ndarray, dims: np.ndarray) -> np.ndarray:
    """(len(dims), columns, Z): row by row one latent takes other values, the rest of z stays.

    Gaussian: z : (1, Z), and VALUES one after another.  Coins: z : (B, Z), and 0 and 1 for each of the B.
    """
    values = VALUES if vae.kind == "gaussian" else np.tile([0, 1], len(z))
    walk = np.tile(np.repeat(z, len(values) // len(z), axis=0), (len(dims), 1, 1))
    for row, j in zip(walk, dims):
        row[:, j] = values
    return walk


def manifold(vae: Model, side: int) -> tuple[np.ndarray, np.ndarray]:
    """(side,) quantiles of N(0, 1) at even steps of probability, and z : (side, side, 2), z_1 falling from row to row, z_0 rising along it.

    Source: Kingma & Welling (2014), arXiv:1312.6114, figure 4.
    """
    values = ndtri((np.arange(side) + 0.5) / side).astype(vae.dtype)
    return values, np.stack(np.meshgrid(values, values[::-1]), axis=-1)


def decoded(vae: Model, z: np.ndarray) -> np.ndarray:
    """z : (.., Z)  ->  images : (.., D).  Raises NonFiniteError where one is not finite."""
    images = vae.decode(z.reshape(-1, vae.z_dim)).reshape(*z.shape[:-1], -1)
    if not np.isfinite(images).all():
        raise NonFiniteError("the model gives images that are not finite: its training went wrong")
    return images


# --- the commands -----------------------------------------------------------------------------------------


def sample(run: TrainedRun, n: int, seed: int, out: str | PathLike | None = None, npz: bool = False) -> list[Path]:
    """Write a sheet of n new images; the paths written.  The seed means what it means to `VAE.sample`."""
    from minivae.app import plots                              # matplotlib: heavy, so imported when wanted

    H, W = run.config["image_shape"]
    if H * W != run.vae.x_dim:
        raise ArchiveError(f"{run.folder / 'config.json'} is damaged: images of {H} x {W} pixels, and a model of {run.vae.x_dim}")
    z = run.vae.draw_prior(n, np.random.default_rng(seed))
    images = decoded(run.vae, z)
    print(f"images    {n} new, {run.vae.latent.prior}, seed {seed}")
    path = place(out, run.folder / "gallery", "sample.png")
    plots.samples(images, (H, W), path, run.vae.latent.prior)
    return [path, *_arrays(npz, path, images=images.reshape(n, H, W), z=z)]


def reconstruct(run: TrainedRun, n: int, seed: int, data: str | None = None, data_dir: str | None = None,
                out: str | PathLike | None = None, npz: bool = False) -> list[Path]:
    """Write a sheet of n test images, or images of `data`, above their reconstructions; the paths written."""
    from minivae.app import plots

    (H, W), index, x = _some_images(run, data, data_dir, n, seed)
    recon = decoded(run.vae, code(run.vae, x))
    path = place(out, run.folder / "gallery", "reconstruct.png")
    plots.reconstructions(x, recon, (H, W), path)
    return [path, *_arrays(npz, path, index=index, x=x.reshape(-1, H, W), reconstruction=recon.reshape(-1, H, W))]


def latent(run: TrainedRun, n: int, seed: int, data: str | None = None, data_dir: str | None = None,
           out: str | PathLike | None = None, npz: bool = False) -> list[Path]:
    """Write n interpolations between test images, what each latent does, and the manifold of a model of two; the paths written."""
    if out is not None and Path(out).suffix and not Path(out).is_dir():
        raise ValueError(f"--out {out} is a file, and this command writes several: name a folder")
    vae, folder = run.vae, run.folder / "gallery"
    shape, index, x = _some_images(run, data, data_dir, max(2 * n, FOR_KL), seed)
    index, ends = np.resize(index, 2 * n), np.resize(x, (2 * n, vae.x_dim))      # where there are fewer, some come again
    paths = [place(out, folder, name) for name in ("interpolation.png", "traversal.png", "manifold.png")]
    arrays = {"index": index, **_interpolation(vae, ends, shape, paths[0]), **_traversal(vae, x, shape, paths[1])}
    if vae.kind == "gaussian" and vae.z_dim == 2:
        arrays |= _manifold(vae, shape, paths[2])
    else:
        print("manifold  none: " + (f"it takes two latents, this model has {vae.z_dim}" if vae.kind == "gaussian" else
                                    "coins are 0 or 1, with nothing between; the traversal turns each one over"))
        del paths[2]
    return paths + _arrays(npz, place(out, folder, "latent.png"), **arrays)


def _interpolation(vae: Model, x: np.ndarray, shape: tuple[int, int], path: Path) -> dict[str, np.ndarray]:
    """Draw the way from x[0] to x[1], from x[2] to x[3], .., each row between the images themselves."""
    from minivae.app import plots

    z = code(vae, x)
    walk = between(vae, z[::2], z[1::2], STEPS)
    images = decoded(vae, walk)
    line = "a straight line between posterior means" if vae.kind == "gaussian" else "the coins that differ turn over one by one"
    plots.strips(np.concatenate([x[::2, None], images, x[1::2, None]], axis=1), shape, [1, STEPS + 1], [""] * len(images),
                 ["image", *[""] * STEPS, "image"], f"from one image to another: {line}", path)
    return {"interpolation_z": walk, "interpolation": images.reshape(*images.shape[:2], *shape)}


def _traversal(vae: Model, x: np.ndarray, shape: tuple[int, int], path: Path) -> dict[str, np.ndarray]:
    """Draw what each latent does to x[0], or each coin to the first few; the busiest latents above, by their KL over all of x."""
    from minivae.app import plots

    kl = vae.posterior(x)[1].mean(axis=0, dtype=np.float64)
    dims = np.argsort(-kl, kind="stable")[:MOST]
    if len(dims) < vae.z_dim:
        print(f"traversal the {MOST} busiest of {vae.z_dim} latents")
    if vae.kind == "gaussian":
        base, cuts, columns, what = x[:1], [], [f"{value:.1f}" for value in VALUES], "one latent is moved, the others stay"
    else:
        base = x[:COINS_OF]
        cuts, columns, what = [*range(2, 2 * len(base), 2)], ["0", "1"] * len(base), f"one coin is turned over, for {len(base)} images"
    walk = traversal(vae, code(vae, base), dims)
    images = decoded(vae, walk)
    plots.strips(images, shape, cuts, [f"z{j}  KL {kl[j]:.2f}" for j in dims], columns, f"in each row {what}; the busiest above", path)
    return {"traversal_dims": dims, "traversal_z": walk, "traversal": images.reshape(*images.shape[:2], *shape)}


def _manifold(vae: Model, shape: tuple[int, int], path: Path) -> dict[str, np.ndarray]:
    """Draw the images of a grid over a latent of two dimensions."""
    from minivae.app import plots

    values, z = manifold(vae, SIDE)
    images = decoded(vae, z)
    plots.manifold(images, values, shape, path)
    return {"manifold_z": z, "manifold": images.reshape(SIDE, SIDE, *shape)}


def _some_images(run: TrainedRun, source: str | None, data_dir: str | None, n: int, seed: int) -> tuple[tuple[int, int], np.ndarray, np.ndarray]:
    """The images' shape, the indices of n of them (all, where there are fewer), and their pixels as the model takes them."""
    data: Data = load_images(source, data_dir) if source else load_data(run.config["data"], data_dir or run.config["data_dir"])
    treatment = run.config["binarize"]
    check_data(run.vae, data.x_test, source or f"{data.name}: x_test", treatment)
    rng = np.random.default_rng(seed)
    index = rng.permutation(len(data.x_test))[:n]
    x = draw(data.x_test, index, scales_of(data.x_train, data.x_test)[1], treatment, rng, run.vae.dtype)
    print(f"images    {len(index)} of the {len(data.x_test)} {'in ' + source if source else 'test images of ' + data.name}, seed {seed}")
    print(f"pixels    {ONCE[treatment]}")
    return data.image_shape, index, run.vae.pixels(x)


def _arrays(wanted: bool, beside: Path, **arrays: np.ndarray) -> list[Path]:
    """Write the arrays beside the picture, if they are wanted; the path written."""
    if not wanted:
        return []
    data, path = io.BytesIO(), beside.with_suffix(".npz")
    np.savez_compressed(data, **arrays)
    write_whole(path, data.getvalue())
    return [path]
