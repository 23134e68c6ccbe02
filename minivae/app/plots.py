"""Every picture the program writes.  matplotlib lives here and nowhere else."""

import io
from math import isqrt
from pathlib import Path

import matplotlib

matplotlib.use("Agg")                                      # files only, no window

import numpy as np
from matplotlib import pyplot as plt

from minivae.saving.archive import write_whole

BLUE, ORANGE, GREY = "#2b6cb0", "#c05621", "#718096"
STYLE = {"font.size": 10, "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 11, "axes.titlelocation": "left",
         "figure.dpi": 110, "savefig.bbox": "tight", "legend.frameon": False, "axes.edgecolor": GREY, "axes.labelcolor": "#2d3748"}


def tile(images: np.ndarray, image_shape: tuple[int, int], columns: int, line: float = 0.5) -> np.ndarray:
    """(n, D) images as one picture of `columns` columns, with a thin line between them, grey or of another shade."""
    (H, W), n = image_shape, len(images)
    rows = -(-n // columns)
    pad = max(1, H // 14)
    sheet = np.full((rows * (H + pad) + pad, columns * (W + pad) + pad), line)
    for i in range(rows * columns):
        top, left = pad + (i // columns) * (H + pad), pad + (i % columns) * (W + pad)
        sheet[top : top + H, left : left + W] = images[i].reshape(H, W) if i < n else 0.0
    return sheet


def curves(history: list[dict], path: Path) -> None:
    """Loss and test loss, their parts recon and kl, and beta and lr where they change, against the epoch."""
    column = {name: [row[name] for row in history] for name in history[0]}
    epoch = column["epoch"]
    scheduled = len(set(column["beta"])) > 1 or len(set(column["lr"])) > 1
    with plt.rc_context(STYLE):
        figure, (left, right, *rest) = plt.subplots(1, 2 + scheduled, figsize=(9 + 4.5 * scheduled, 3.4), layout="constrained")
        left.plot(epoch, column["loss"], color=BLUE, label="training loss")
        left.plot(epoch, [-elbo for elbo in column["test_elbo"]], color=ORANGE, label="-test ELBO")
        if "held_elbo" in column:
            left.plot(epoch, [-elbo for elbo in column["held_elbo"]], color=GREY, label="-ELBO, held out to stop by")
        left.set(title="the loss falls", xlabel="epoch", ylabel="nats per image")
        right.plot(epoch, column["recon"], color=BLUE, label="recon = -log p(x|z)")
        right.plot(epoch, column["kl"], color=ORANGE, label="kl = KL(q || p)")
        right.set(title="its two parts", xlabel="epoch", ylim=(0, None))
        for axes in rest:
            for name, color, label in (("beta", ORANGE, "beta"), ("lr", BLUE, "learning rate")):
                axes.plot(epoch, np.divide(column[name], max(max(column[name]), 1e-300)), color=color, label=f"{label}, top {max(column[name]):g}")
            axes.set(title="what is scheduled", xlabel="epoch", ylabel="share of its top", ylim=(0, 1.05))
        for axes in (left, right, *rest):
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.legend()
        _save(figure, path)


def reconstructions(x: np.ndarray, recon: np.ndarray, image_shape: tuple[int, int], path: Path) -> None:
    """Each test image above its reconstruction."""
    columns = min(10, len(x))
    blank = np.zeros((-len(x) % columns, x.shape[1]))                  # the last row is filled, so that each stays below its own
    x, recon = (np.concatenate([a, blank]).reshape(-1, columns, a.shape[1]) for a in (x, recon))
    pairs = np.stack([x, recon], axis=1)                               # (rows, 2, columns, D)
    _sheet(pairs.reshape(-1, x.shape[2]), image_shape, columns, "images, and below each what the model makes of it", path)


def samples(images: np.ndarray, image_shape: tuple[int, int], path: Path, prior: str = "z from N(0, I)") -> None:
    """New images: z from the prior, then the decoder's mean."""
    _sheet(images, image_shape, min(len(images), max(10, isqrt(len(images)))), f"new images: {prior}, through the decoder", path)


def latent(mu: np.ndarray, labels: np.ndarray | None, kl_per_dim: np.ndarray, path: Path, name: str = "mu") -> None:
    """Posterior means of the test images in the two busiest latent dimensions, and the KL of every dimension."""
    order = np.argsort(-kl_per_dim)
    first, second = order[0], order[1] if len(order) > 1 else order[0]
    with plt.rc_context(STYLE):
        figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4), width_ratios=(1.25, 1))
        if labels is None:
            left.scatter(mu[:, first], mu[:, second], s=6, color=BLUE, alpha=0.6)
        else:
            dots = left.scatter(mu[:, first], mu[:, second], s=6, c=labels, cmap="tab10", alpha=0.8)
            figure.colorbar(dots, ax=left, ticks=np.unique(labels), label="class (the model never saw it)")
        left.set(title="where q(z|x) puts the test images", xlabel=f"{name} of latent {first}", ylabel=f"{name} of latent {second}")
        left.set_aspect("equal", adjustable="datalim")
        right.bar(np.arange(len(order)), kl_per_dim[order], color=ORANGE)
        _name_latents(right, order)
        right.set(title="how much each latent says")
        _save(figure, path)


def kl_per_dimension(kl_per_dim: np.ndarray, active: np.ndarray, path: Path) -> None:
    """A bar for each latent dimension, the busiest first; inactive ones are grey."""
    order = np.argsort(-kl_per_dim, kind="stable")
    place, seen = np.arange(len(order)), active[order]
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(max(5.0, min(12.0, 0.3 * len(order) + 2)), 3.6))
        for kind, color, which in (("active", ORANGE, seen), ("inactive", GREY, ~seen)):
            if which.any():
                axes.bar(place[which], kl_per_dim[order][which], color=color, label=f"{kind}: {which.sum()}")
        _name_latents(axes, order)
        axes.set(title=f"How much each latent says: {kl_per_dim.sum():.2f} nats per image in all")
        axes.legend()
        _save(figure, path)


def _name_latents(axes, order: np.ndarray) -> None:
    """The dimensions' numbers below their bars, as small as their count asks for; none where they would not fit."""
    size = 9 if len(order) <= 12 else 7 if len(order) <= 40 else 5
    axes.set_xticks(np.arange(len(order)) if len(order) <= 80 else [], order if len(order) <= 80 else [], fontsize=size)
    axes.set(xlabel="latent dimension", ylabel="KL, nats per image")


def taylor(h: np.ndarray, remainder: np.ndarray, right: bool, title: str, path: Path) -> None:
    """What is left of f(x+hu) - f(x-hu) after 2h<g,u>: it falls as h^3 for a right gradient, as h for a wrong one."""
    seen = remainder > 0
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(5.5, 4))
        axes.loglog(h[seen], remainder[seen], "o-", color=BLUE if right else ORANGE, markersize=4, label="measured")
        top = remainder[seen].max() if seen.any() else 1.0
        axes.loglog(h, top * (h / h[0]) ** 3, color=GREY, linestyle="--", linewidth=1, label="falls as $h^3$: the gradient is right")
        axes.loglog(h, top * (h / h[0]), color=GREY, linestyle=":", linewidth=1, label="falls as $h$: it is wrong")
        floor = remainder[seen].min() / 10 if seen.any() else 1e-18
        axes.set(title=title, xlabel="step h", ylabel="|f(x+hu) - f(x-hu) - 2h<g,u>|", ylim=(floor, None))
        axes.legend()
        _save(figure, path)


def manifold(images: np.ndarray, z: np.ndarray, image_shape: tuple[int, int], path: Path) -> None:
    """images : (n, n, D), row by row from above; z : (n,), the values of both latents, latent 0 to the right, latent 1 upwards."""
    n = len(z)
    with plt.rc_context(STYLE):
        sheet = tile(images.reshape(n * n, -1), image_shape, n, line=0.0)
        figure, axes = _exactly(sheet)
        marks = np.array([-1.5, -1, -0.5, 0, 0.5, 1, 1.5])
        along = np.interp(marks, z, np.arange(n) + 0.5)                # in images from the left, or from below
        axes.set_xticks(along / n * sheet.shape[1] - 0.5, marks)
        axes.set_yticks((1 - along / n) * sheet.shape[0] - 0.5, marks)
        axes.set(xlabel="latent 0", ylabel="latent 1", title="the plane of z through the decoder, in even steps of probability under N(0, I)")
        _save(figure, path)


def strips(images: np.ndarray, image_shape: tuple[int, int], cuts: list[int], row_names: list[str], column_names: list[str], title: str,
           path: Path) -> None:
    """images : (rows, columns, D), with a name beside each row and above each column, and a gap before the columns `cuts`."""
    groups = [tile(group.reshape(-1, images.shape[2]), image_shape, group.shape[1]) for group in np.split(images, cuts, axis=1)]
    gap = np.zeros((len(groups[0]), max(3, image_shape[1] // 2)))
    sheets = [part for group in groups for part in (gap, group)][1:]
    starts = np.cumsum([0, *(part.shape[1] for part in sheets)])[::2]
    with plt.rc_context(STYLE):
        figure, axes = _exactly(np.hstack(sheets))
        middles = [start + group.shape[1] * (j + 0.5) / count for start, group, count in
                   zip(starts, groups, np.diff([0, *cuts, images.shape[1]])) for j in range(count)]
        axes.set_xticks(np.array(middles) - 0.5, column_names, fontsize=9)
        axes.set_yticks(len(gap) * (np.arange(len(images)) + 0.5) / len(images) - 0.5, row_names, fontsize=9)
        axes.tick_params(length=0, top=False, labeltop=True, bottom=False, labelbottom=False)
        axes.set_title(title)
        _save(figure, path)


def _exactly(sheet: np.ndarray):
    """A figure, and axes that cover it, in which each pixel of the sheet is a square of whole pixels."""
    scale = max(1, round(7 * STYLE["figure.dpi"] / sheet.shape[1]))
    figure = plt.figure(figsize=(scale * sheet.shape[1] / STYLE["figure.dpi"], scale * sheet.shape[0] / STYLE["figure.dpi"]))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(sheet, cmap="gray_r", vmin=0, vmax=1, interpolation="nearest", aspect="auto")
    axes.spines[:].set_visible(False)
    return figure, axes


def _sheet(images: np.ndarray, image_shape: tuple[int, int], columns: int, title: str, path: Path) -> None:
    with plt.rc_context(STYLE):
        figure, axes = _exactly(tile(images, image_shape, columns))
        axes.set_axis_off()
        axes.set_title(title)
        _save(figure, path)


def _save(figure, path: Path) -> None:
    """Whole or not at all, in the format that the name asks for."""
    data = io.BytesIO()
    try:
        figure.savefig(data, format=Path(path).suffix[1:] or "png")
    finally:
        plt.close(figure)
    write_whole(path, data.getvalue())
