"""Every picture that the commands write.

Each function draws one figure into one file.  It uses matplotlib's Figure and not pyplot, so
whoever imports this keeps their own backend, and no figure has to be closed.
"""

import io
from math import isqrt
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from minivae.app.folders import MARK
from minivae.saving.archive import write_whole

BLUE, ORANGE, GREY, DARK = "#2b6cb0", "#c05621", "#718096", "#2d3748"
STYLE = {"font.size": 10, "axes.spines.top": False, "axes.spines.right": False,
         "axes.titlesize": 11, "axes.titlelocation": "left", "figure.dpi": 110,
         "savefig.bbox": "tight", "legend.frameon": False, "axes.edgecolor": GREY,
         "axes.labelcolor": DARK}


def tile(images: np.ndarray, image_shape: tuple[int, int], columns: int,
         line: float = 0.5) -> np.ndarray:
    """(n, D) images as one picture of `columns` columns, with lines of shade `line` between."""
    (H, W), n = image_shape, len(images)
    rows = -(-n // columns)
    pad = max(1, H // 14)
    sheet = np.full((rows * (H + pad) + pad, columns * (W + pad) + pad), line)
    for i in range(rows * columns):
        top, left = pad + (i // columns) * (H + pad), pad + (i % columns) * (W + pad)
        sheet[top : top + H, left : left + W] = images[i].reshape(H, W) if i < n else 0.0
    return sheet


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


def reconstructions(x: np.ndarray, recon: np.ndarray, image_shape: tuple[int, int],
                    path: Path) -> None:
    """Draw each image of x : (n, D) above its reconstruction."""
    columns = min(10, len(x))
    # the last row is filled up, so that each image stays above its own reconstruction
    blank = np.zeros((-len(x) % columns, x.shape[1]))
    x, recon = (np.concatenate([a, blank]).reshape(-1, columns, a.shape[1]) for a in (x, recon))
    pairs = np.stack([x, recon], axis=1)                               # (rows, 2, columns, D)
    _sheet(pairs.reshape(-1, x.shape[2]), image_shape, columns,
           "images, and below each what the model makes of it", path)


def samples(images: np.ndarray, image_shape: tuple[int, int], path: Path,
            prior: str = "z from N(0, I)") -> None:
    """Draw new images : (n, D), the decoder's means for z from the prior."""
    columns = min(len(images), max(10, isqrt(len(images))))
    _sheet(images, image_shape, columns, f"new images: {prior}, through the decoder", path)


def latent(mean: np.ndarray, labels: np.ndarray | None, kl_per_dim: np.ndarray, path: Path,
           name: str = "mu") -> None:
    """Draw the posterior means of images in the two busiest dimensions, and the KL of every one.

    mean : (N, Z), called `name`;  labels : (N,) classes, for the colours;  kl_per_dim : (Z,) nats.
    The lower of the two dimensions goes to the right, as in `manifold`.
    """
    order = np.argsort(-kl_per_dim)
    first, second = sorted(order[:2]) if len(order) > 1 else (0, 0)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9, 4))
        left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
        if labels is None:
            left.scatter(mean[:, first], mean[:, second], s=6, color=BLUE, alpha=0.6)
        else:
            dots = left.scatter(mean[:, first], mean[:, second], s=6, c=labels, cmap="tab10",
                                alpha=0.8)
            figure.colorbar(dots, ax=left, ticks=np.unique(labels),
                            label="class (the model never saw it)")
        left.set(title="where q(z|x) puts the test images",
                 xlabel=f"{name} of latent {first}", ylabel=f"{name} of latent {second}")
        left.set_aspect("equal", adjustable="datalim")
        right.bar(np.arange(len(order)), kl_per_dim[order], color=ORANGE)
        _name_latents(right, order)
        right.set(title="how much each latent says")
        _save(figure, path)


def kl_per_dimension(kl_per_dim: np.ndarray, active: np.ndarray, path: Path) -> None:
    """Draw a bar for each latent dimension, the busiest first; inactive ones are grey.

    kl_per_dim : (Z,) nats;  active : (Z,) bool.
    """
    order = np.argsort(-kl_per_dim, kind="stable")
    position, kl, is_active = np.arange(len(order)), kl_per_dim[order], active[order]
    width = max(5.0, min(12.0, 0.3 * len(order) + 2))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, 3.6))
        axes = figure.subplots()
        for name, color, chosen in (("active", ORANGE, is_active), ("inactive", GREY, ~is_active)):
            if chosen.any():
                axes.bar(position[chosen], kl[chosen], color=color,
                         label=f"{name}: {chosen.sum()}")
        _name_latents(axes, order)
        axes.set(title=f"How much each latent says: {kl.sum():.2f} nats per image in all")
        axes.legend()
        _save(figure, path)


def _name_latents(axes, order: np.ndarray) -> None:
    """Write each dimension's number below its bar, smaller for many, none for more than 80."""
    size = 9 if len(order) <= 12 else 7 if len(order) <= 40 else 5
    named = order if len(order) <= 80 else order[:0]
    axes.set_xticks(np.arange(len(named)), named, fontsize=size)
    axes.set(xlabel="latent dimension", ylabel="KL, nats per image")


def manifold(images: np.ndarray, z: np.ndarray, image_shape: tuple[int, int], path: Path) -> None:
    """Draw a plane of images : (n, n, D), row by row from above.

    z : (n,), the values that both latents take: latent 0 to the right, latent 1 upwards.
    """
    n = len(z)
    with matplotlib.rc_context(STYLE):
        sheet = tile(images.reshape(n * n, -1), image_shape, n, line=0.0)
        figure, axes = _figure_of(sheet)
        marks = np.array([-1.5, -1, -0.5, 0, 0.5, 1, 1.5])
        # where the marks lie, as a share of the sheet from the left, or from below
        share = np.interp(marks, z, np.arange(n) + 0.5) / n
        axes.set_xticks(share * sheet.shape[1] - 0.5, marks)
        axes.set_yticks((1 - share) * sheet.shape[0] - 0.5, marks)
        axes.set(xlabel="latent 0", ylabel="latent 1",
                 title="the plane of z through the decoder, in even steps of probability under "
                       "N(0, I)")
        _save(figure, path)


def strips(images: np.ndarray, image_shape: tuple[int, int], cuts: list[int], row_names: list[str],
           column_names: list[str], title: str, path: Path) -> None:
    """Draw images : (rows, columns, D), with a gap before each of the columns in `cuts`.

    A name stands beside each row and above each column.
    """
    groups = [tile(group.reshape(-1, images.shape[2]), image_shape, group.shape[1])
              for group in np.split(images, cuts, axis=1)]
    counts = np.diff([0, *cuts, images.shape[1]])
    gap = np.zeros((len(groups[0]), max(3, image_shape[1] // 2)))
    sheets, middles, left = [], [], 0
    for group, count in zip(groups, counts):
        if sheets:
            sheets.append(gap)
            left += gap.shape[1]
        sheets.append(group)
        middles.extend(left + group.shape[1] * (np.arange(count) + 0.5) / count)
        left += group.shape[1]
    rows = len(images)
    with matplotlib.rc_context(STYLE):
        figure, axes = _figure_of(np.hstack(sheets))
        axes.set_xticks(np.array(middles) - 0.5, column_names, fontsize=9)
        axes.set_yticks(len(gap) * (np.arange(rows) + 0.5) / rows - 0.5, row_names, fontsize=9)
        axes.tick_params(length=0, top=False, labeltop=True, bottom=False, labelbottom=False)
        axes.set_title(title)
        _save(figure, path)


def _figure_of(sheet: np.ndarray):
    """A figure, and axes that cover it; each pixel of the sheet is a square of whole pixels."""
    scale = max(1, round(7 * STYLE["figure.dpi"] / sheet.shape[1]))
    height, width = (scale * side / STYLE["figure.dpi"] for side in sheet.shape)
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(sheet, cmap="gray_r", vmin=0, vmax=1, interpolation="nearest", aspect="auto")
    axes.spines[:].set_visible(False)
    return figure, axes


def _sheet(images: np.ndarray, image_shape: tuple[int, int], columns: int, title: str,
           path: Path) -> None:
    """Draw images : (n, D) as one sheet of `columns` columns."""
    with matplotlib.rc_context(STYLE):
        figure, axes = _figure_of(tile(images, image_shape, columns))
        axes.set_axis_off()
        axes.set_title(title)
        _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    """Write the figure whole or not at all, in the format that the file's name asks for."""
    data, form = io.BytesIO(), Path(path).suffix[1:].lower() or "png"
    # the other formats hold no title
    title = {"Title": MARK} if form in ("png", "pdf", "svg") else None
    figure.savefig(data, format=form, metadata=title)
    write_whole(path, data.getvalue())
