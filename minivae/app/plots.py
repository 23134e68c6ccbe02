"""Every picture that the commands write.

Each function draws one figure into one file.  It uses matplotlib's Figure and not pyplot, so
whoever imports this keeps their own backend, and no figure has to be closed.
image_shape is (H, W) of grey images, (H, W, 3) of colour; an image is a row of D pixels.
"""

import io
from math import isqrt
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.textpath import TextPath
from matplotlib.transforms import Affine2D, IdentityTransform

from minivae.app.folders import MARK
from minivae.app.sheets import (
    BLUE, DARK, GREY, ORANGE, STYLE, as_pictures, figure_of, in_a_row, number, sheet_of)
from minivae.data.published import PUBLISHED
from minivae.saving.archive import write_whole
from minivae.training.metrics import ACTIVE_VARIANCE

# ten colours for classes: 33 or more in CIELAB, each from each, without the green cones, too
CLASSES = ("#305afc", "#f6880d", "#82324a", "#5a95fe", "#890008", "#e86bd8", "#0c399a", "#e8745b",
           "#72166f", "#0f0b16")


def curves(history: list[dict], path: Path, chance: float | None = None) -> None:
    """Draw the losses, their parts recon and kl, and beta and lr where they change, by epoch.

    history : the rows that `fit` returns.
    chance  : what a model pays that gives every pixel the probability 1/2, nats per image.
    """
    column = {name: [row[name] for row in history] for name in history[0]}
    scheduled = len(set(column["beta"])) > 1 or len(set(column["lr"])) > 1
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10 + 4.5 * scheduled, 3.8), layout="constrained")
        all_axes = figure.subplots(1, 2 + scheduled)
        _draw_losses(all_axes[0], column, chance)
        _draw_parts(all_axes[1], column)
        if scheduled:
            _draw_schedule(all_axes[2], column)
        for axes in all_axes:
            axes.set_xlabel("epoch")
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.legend()
        _save(figure, path)


def _draw_losses(axes, column: dict[str, list], chance: float | None) -> None:
    """The training loss, and -ELBO of the test images and of those held out, if any are.

    The first twentieth of the epochs would take most of the height, so what is above the rest is
    only written: the scale is that of the other epochs.
    """
    epoch, loss = np.array(column["epoch"]), np.array(column["loss"])
    lines = {"training loss, mean over the epoch": (loss, BLUE),
             "-test ELBO, after the epoch": (np.negative(column["test_elbo"]), ORANGE)}
    if "held_elbo" in column:
        lines["-ELBO held out to stop by, after it"] = np.negative(column["held_elbo"]), GREY
    for label, (values, color) in lines.items():
        axes.plot(epoch, values, color=color, label=label)
    early = -(-len(epoch) // 20) if len(epoch) > 2 else 0
    late = np.concatenate([values[early:] for values, _ in lines.values()])
    late = late[np.isfinite(late)]
    bottom, top = (late.min(), late.max()) if len(late) else (0.0, 1.0)
    margin = 0.05 * max(top - bottom, 0.01 * abs(top))
    above = []
    if early and loss[0] > top + 5 * margin:
        axes.set_ylim(bottom - margin, top + 5 * margin)
        above.append(f"epoch {epoch[0]} ({loss[0]:.2f})")
    if chance is not None and chance <= axes.get_ylim()[1]:
        axes.axhline(chance, color=DARK, linewidth=1, linestyle=":", label=f"chance, {chance:.2f}")
    elif chance is not None:
        above.append(f"chance ({chance:.2f})")
    title = "the loss after one epoch" if len(loss) == 1 else \
        f"the loss {'falls' if loss[-1] < loss[0] else 'does not fall'}: " \
        f"{loss[0]:.2f} to {loss[-1]:.2f}"
    if above:
        title += f"\nabove the picture: {' and '.join(above)}"
    axes.set(title=title, ylabel="nats per image")


def _draw_parts(axes, column: dict[str, list]) -> None:
    """recon and kl."""
    axes.plot(column["epoch"], column["recon"], color=BLUE, label="recon = -log p(x|z)")
    axes.plot(column["epoch"], column["kl"], color=ORANGE, label="kl = KL(q || p)")
    axes.set(title="its two parts, while it trained: loss = recon + beta kl",
             ylabel="nats per image", ylim=(min(0.0, *column["recon"], *column["kl"]), None))


def _draw_schedule(axes, column: dict[str, list]) -> None:
    """beta and lr, each divided by its largest value."""
    for name, color, label in (("beta", ORANGE, "beta"), ("lr", BLUE, "learning rate")):
        top = max(column[name])
        share = np.divide(column[name], max(top, 1e-300))
        axes.plot(column["epoch"], share, color=color, label=f"{label}, top {top:g}")
    axes.set(title="what is scheduled", ylabel="share of its top", ylim=(0, 1.05))


def latent(mean: np.ndarray, labels: np.ndarray | None, kl_per_dim: np.ndarray, path: Path,
           name: str = "mu", unit: str = "") -> None:
    """Draw the posterior means of images in the two busiest dimensions, and the KL of every one.

    mean : (N, Z), called `name`, in `unit`;  labels : (N,) classes;  kl_per_dim : (Z,) nats.
    Each image is drawn as its class, or as a dot.  The lower of the two dimensions goes to the
    right, as in `manifold`.
    """
    order = np.argsort(-kl_per_dim)
    first, second = sorted(order[:2]) if len(order) > 1 else (0, 0)
    unit = f" ({unit})" if unit else ""
    with matplotlib.rc_context(STYLE):
        right_width = _width_for(order, 3.4, 8)
        figure = Figure(figsize=(5 + right_width, 4.4), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(5, right_width))
        title = "where q(z|x) puts the test images"
        if len(order) == 1:
            left.hist(mean[:, 0], bins=40, color=BLUE)
            left.set_ylabel(f"images, of {len(mean)}")
        elif labels is None:
            left.scatter(mean[:, first], mean[:, second], s=6, color=BLUE, alpha=0.6)
        else:
            _draw_classes(left, mean[:, [first, second]], labels)
            title += "\neach is its class, which the model never saw"
        left.set(title=title, xlabel=f"{name} of latent {first}{unit}")
        if len(order) > 1:
            left.set_ylabel(f"{name} of latent {second}{unit}")
            left.set_aspect("equal", adjustable="datalim")
        right.bar(np.arange(len(order)), kl_per_dim[order], color=ORANGE)
        _name_latents(right, order, right_width - 0.8)
        right.set(title=f"how much each latent says\nmean over {len(mean)} test images",
                  ylabel="KL, nats per image")
        _save(figure, path)


def _draw_classes(axes, points: np.ndarray, labels: np.ndarray) -> None:
    """Draw each of the points : (N, 2) as the word of its label, in the label's colour."""
    kinds, index = np.unique(labels, return_inverse=True)
    words = []
    for kind in kinds:
        word = TextPath((0, 0), f"{kind:g}" if kinds.dtype.kind == "f" else str(kind), size=1)
        box = word.get_extents()
        # in the middle of its point; a longer word is set smaller
        size = (8 if len(points) <= 500 else 6) * np.clip(1.6 / box.width, 0.6, 1)
        middle = (box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2
        words.append(Affine2D().translate(*np.negative(middle)).scale(size).transform_path(word))
    drawn = PathCollection([words[i] for i in index], sizes=[1], offsets=points, linewidths=0,
                           offset_transform=axes.transData, alpha=0.9,
                           facecolors=[CLASSES[i % len(CLASSES)] for i in index])
    drawn.set_transform(IdentityTransform())
    axes.add_collection(drawn)
    axes.autoscale_view()


def kl_per_dimension(kl_per_dim: np.ndarray, variance: np.ndarray, path: Path, n: int,
                     name: str = "mu") -> None:
    """Draw the KL of each latent as a bar, and below it what decides whether it is active.

    kl_per_dim : (Z,) nats, and variance : (Z,) of the posterior mean `name`, over n images.
    A latent is active where its variance is above ACTIVE_VARIANCE; the busiest stand left.
    """
    order = np.argsort(-kl_per_dim, kind="stable")
    kl, variance = kl_per_dim[order], variance[order]
    active, position = variance > ACTIVE_VARIANCE, np.arange(len(order))
    lowest = 1e-6                                          # 0 has no place on a log axis
    with matplotlib.rc_context(STYLE):
        width = _width_for(order, 5.5, 12)
        figure = Figure(figsize=(width, 5.2), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True)
        for label, color, chosen in (("active", ORANGE, active), ("inactive", GREY, ~active)):
            if chosen.any():
                above.bar(position[chosen], kl[chosen], color=color,
                          label=f"{label}: {chosen.sum()}")
                below.plot(position[chosen], variance[chosen].clip(lowest), "o", ms=5, color=color)
        above.set(title=f"how much each latent says: {kl.sum():.2f} nats per image in all\n"
                        f"mean over {n} test images", ylabel="KL, nats per image")
        above.legend()
        top = 3 * max(variance.max(), 1)
        below.axhline(ACTIVE_VARIANCE, color=DARK, linewidth=1, linestyle="--")
        title = f"how {name} varies over the images: active above {ACTIVE_VARIANCE:g}"
        if variance.min() < lowest:
            title += f"\nat the bottom: {lowest:g} or less"
        below.set(yscale="log", ylim=(lowest / 2, top), ylabel=f"variance of {name}", title=title)
        _name_latents(below, order, width - 1)
        _save(figure, path)


def _width_for(order: np.ndarray, least: float, most: float) -> float:
    """Inches for a bar and a name of each latent."""
    return float(np.clip(0.17 * len(order) + 0.8, least, most))


def _name_latents(axes, order: np.ndarray, inches: float) -> None:
    """Write each dimension's number below its bar: smaller or upright for many, none for too many.

    inches : the axes' width.
    """
    room = 72 * inches / len(order)                        # in points, as the size of type
    digits = len(str(len(order) - 1))
    size, upright = min(9.0, room / (0.65 * digits + 0.25)), False
    if size < 6:
        size, upright = min(8.0, room / 1.3), True
    if size >= 5:
        axes.set_xticks(np.arange(len(order)), order, fontsize=size, rotation=90 * upright)
        axes.set_xlabel("latent dimension, the busiest first")
    else:
        axes.set_xlabel("rank of the latent, the busiest is 0")
    axes.set_xlim(-0.7, max(len(order), 6) - 0.3)          # a few bars stay bars


# --- images ---


def is_ink(data: str) -> bool:
    """Whether a pixel of 1 is ink, drawn black on white.  Of people's own images it is light."""
    return data == "digits" or data in PUBLISHED


def reconstructions(images: np.ndarray, given: np.ndarray, recon: np.ndarray,
                    image_shape: tuple[int, ...], path: Path, ink: bool = True) -> None:
    """Draw test images, below each what the model was given of it, and its reconstruction.

    images, given, recon : (n, D).  Where the model was given the image itself it is drawn once.
    """
    drawn = "black or white" if len(image_shape) == 2 else "each colour off or on"
    rows = {"test image": images, f"given to the model,\n{drawn}": given, "reconstruction": recon}
    title = "test images, what the model was given of each, and what it makes of that"
    if np.array_equal(images, given):
        rows = {"test image": images, "reconstruction": recon}
        title = "test images, and below each what the model makes of it"
    n, D = images.shape
    columns = min(in_a_row(image_shape), n)
    # the last row is filled up, so that each image stays above its own reconstruction
    blank = np.full((-n % columns, D), np.nan)
    filled = [np.concatenate([a, blank]).reshape(-1, 1, columns, D) for a in rows.values()]
    blocks = np.concatenate(filled, axis=1)                # (blocks, rows of each, columns, D)
    _save(sheet_of(blocks.reshape(-1, columns, D), image_shape, title, ink, block=len(rows),
                   row_names=list(rows) * len(blocks)), path)


def samples(images: np.ndarray, image_shape: tuple[int, ...], path: Path,
            prior: str = "z from N(0, I)", ink: bool = True) -> None:
    """Draw new images : (n, D), the decoder's means for z from the prior."""
    n, D = images.shape
    columns = min(n, round(in_a_row(image_shape) * max(isqrt(n) / 10, 1)))
    filled = np.concatenate([images, np.full((-n % columns, D), np.nan)])
    _save(sheet_of(filled.reshape(-1, columns, D), image_shape,
                   f"new images: {prior}, through the decoder", ink), path)


def strips(images: np.ndarray, image_shape: tuple[int, ...], title: str, path: Path,
           ink: bool = True, **names) -> None:
    """Draw images : (rows, columns, D) with names at the sides, see `sheet_of`."""
    _save(sheet_of(images, image_shape, title, ink, **names), path)


def manifold(images: np.ndarray, z: np.ndarray, image_shape: tuple[int, ...], path: Path,
             ink: bool = True) -> None:
    """Draw a plane of images : (n, n, D), row by row from above.

    z : (n,), the values that both latents take: latent 0 to the right, latent 1 upwards.
    """
    n = len(z)
    pictures, note = as_pictures(images, image_shape, ink)
    H, W = pictures.shape[2:4]
    sheet = pictures.swapaxes(1, 2).reshape(n * H, n * W, 3)
    with matplotlib.rc_context(STYLE):
        figure, axes = figure_of(sheet, min(H, W))
        marks = np.array([-1.5, -1, -0.5, 0, 0.5, 1, 1.5])
        # where the marks lie, as a share of the sheet from the left, or from below
        share = np.interp(marks, z, np.arange(n) + 0.5) / n
        axes.set_xticks(share * sheet.shape[1] - 0.5, [number(mark) for mark in marks])
        axes.set_yticks((1 - share) * sheet.shape[0] - 0.5, [number(mark) for mark in marks])
        axes.set(xlabel="z of latent 0 (prior std)", ylabel="z of latent 1 (prior std)",
                 title="the plane of z through the decoder, in even steps of probability under "
                       f"N(0, I){note}")
        _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    """Write the figure whole or not at all, in the format that the file's name asks for."""
    data, form = io.BytesIO(), Path(path).suffix[1:].lower() or "png"
    # the other formats hold no title
    title = {"Title": MARK} if form in ("png", "pdf", "svg") else None
    with matplotlib.rc_context(STYLE):
        figure.savefig(data, format=form, metadata=title)
    write_whole(path, data.getvalue())
