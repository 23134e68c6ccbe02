"""Images laid out as one picture: colours, lines and gaps between them, names at the sides.

image_shape is (H, W) of grey images, (H, W, 3) of colour; an image is a row of D pixels.
"""

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

BLUE, ORANGE, GREY, DARK = "#2b6cb0", "#c05621", "#718096", "#2d3748"
DPI = 200
STYLE = {"font.size": 10, "axes.spines.top": False, "axes.spines.right": False,
         "axes.titlesize": 11, "axes.titlelocation": "left", "figure.dpi": DPI,
         "savefig.dpi": DPI, "savefig.bbox": "tight", "legend.frameon": False,
         "axes.edgecolor": GREY, "axes.labelcolor": DARK}

LINE, WHITE = 217, 255          # the light grey between images, and what is left empty
WIDTH, TILE = 7.0, 1.2          # inches at most: a sheet, and the smaller side of an image
MOST_PIXELS = 4000              # of a sheet's larger side
FLATTEST = 25                   # an image wider than so many heights is drawn with taller pixels


def number(value: float) -> str:
    """A number as matplotlib writes it, with a minus and no hyphen."""
    return f"{value:g}".replace("-", "\N{MINUS SIGN}")


def in_a_row(image_shape: tuple[int, ...]) -> int:
    """How many images stand side by side: ten square ones, fewer of wide ones."""
    H, W = image_shape[:2]
    return max(1, round(10 * (H / W) ** 0.5))


def as_pictures(images: np.ndarray, image_shape: tuple[int, ...], ink: bool
                ) -> tuple[np.ndarray, str]:
    """images : (.., D)  ->  (.., H, W, 3) bytes: red, green and blue; and a note for the title.

    ink : whether a grey pixel of 1 is black, as on paper, or else white, as light.  Pixels outside
    [0, 1] widen the scale, and the note says so.  NaN becomes LINE: there is no image.
    """
    grey, (H, W) = len(image_shape) == 2, image_shape[:2]
    low, high = min(0.0, np.nanmin(images)), max(1.0, np.nanmax(images))
    light = (images - low) / (high - low)
    if ink and grey:
        light = 1 - light
    light = np.where(np.isnan(light), LINE, np.rint(255 * light)).astype(np.uint8)
    light = light.reshape(*images.shape[:-1], H, W, -1).repeat(3 if grey else 1, axis=-1)
    note, taller = "", W // (FLATTEST * H)
    if taller > 1:
        light = light.repeat(taller, axis=-3)
        note += f"\neach pixel is drawn {taller} times as tall as it is wide"
    if (low, high) != (0, 1):
        ends = [number(float(f"{end:.3g}")) for end in (low, high)]
        shades = ("white", "black") if ink and grey else ("black", "white")
        note += f"\npixels leave [0, 1]: {shades[0]} is {ends[0]}, {shades[1]} is {ends[1]}"
    return light, note


def sheet_of(images: np.ndarray, image_shape: tuple[int, ...], title: str, ink: bool,
             block: int | None = None, cuts: Sequence[int] = (), row_names: list[str] | None = None,
             column_names: list[str] | None = None, above: str = "",
             marks: np.ndarray | None = None) -> Figure:
    """images : (rows, columns, D) with lines between them, and a gap after every `block` rows.

    A gap stands before each of the columns in `cuts`; a name stands beside each row and above each
    column, and `above` says what the columns are.
    marks : (rows, m), where small triangles go below each row; 2.5 is between columns 2 and 3.
    """
    pictures, note = as_pictures(images, image_shape, ink)
    rows, columns, H, W, _ = pictures.shape
    pad, gap = max(1, min(H, W) // 14), max(3, min(H, W) // 3)
    row_cuts = range(block, rows, block) if block else ()
    bands = [_join([_tile(group, pad) for group in np.split(band, cuts, axis=1)], gap, axis=1)
             for band in np.split(pictures, row_cuts)]
    sheet = _join(bands, gap, axis=0)
    x, y = _middles(columns, cuts, W, pad, gap), _middles(rows, row_cuts, H, pad, gap)
    with matplotlib.rc_context(STYLE):
        figure, axes = figure_of(sheet, min(H, W))
        # names of 9 points, or less where a row is lower or a column narrower than its name
        point = 72 * figure.get_figheight() / len(sheet)                   # for a pixel
        lines = max((name.count("\n") + 1 for name in row_names or []), default=1)
        axes.set_yticks(y if row_names else [], row_names or [],
                        fontsize=min(9, 0.7 * point * (H + pad) / lines))
        letters = max((len(part) for name in column_names or [] for part in name.split("\n")),
                      default=1)
        axes.set_xticks(x if column_names else [], column_names or [],
                        fontsize=min(9, 1.6 * point * (W + pad) / letters))
        axes.tick_params(length=0, top=False, labeltop=True, bottom=False, labelbottom=False)
        axes.xaxis.set_label_position("top")
        axes.set_xlabel(above)
        axes.set_title(title + note)
        if marks is not None:
            at = np.interp(marks, np.arange(columns), x)
            axes.plot(at.ravel(), np.repeat(y + (H + pad) / 2, marks.shape[1]), "^", ms=5,
                      color=ORANGE, markeredgecolor="white", markeredgewidth=0.5, clip_on=False)
    return figure


def _tile(pictures: np.ndarray, pad: int) -> np.ndarray:
    """pictures : (rows, columns, H, W, 3)  ->  one picture, with lines around each."""
    rows, columns, H, W, _ = pictures.shape
    framed = np.pad(pictures, ((0, 0), (0, 0), (pad, 0), (pad, 0), (0, 0)), constant_values=LINE)
    sheet = framed.swapaxes(1, 2).reshape(rows * (H + pad), columns * (W + pad), 3)
    return np.pad(sheet, ((0, pad), (0, pad), (0, 0)), constant_values=LINE)


def _join(parts: list[np.ndarray], gap: int, axis: int) -> np.ndarray:
    """The parts, side by side along the axis, with a white gap between them."""
    shape = list(parts[0].shape)
    shape[axis] = gap
    spaced = [part for one in parts for part in (np.full(shape, WHITE, np.uint8), one)][1:]
    return np.concatenate(spaced, axis=axis)


def _middles(count: int, cuts: Sequence[int], side: int, pad: int, gap: int) -> np.ndarray:
    """The middle of each of `count` images along one axis of the sheet, in its pixels."""
    index = np.arange(count)
    gaps = np.searchsorted(cuts, index, side="right")
    return index * (side + pad) + gaps * (pad + gap) + pad + (side - 1) / 2


def figure_of(sheet: np.ndarray, side: int) -> tuple[Figure, Axes]:
    """A figure, and axes that cover it; each pixel of the sheet is a square of whole pixels.

    side : the smaller side of one image.  A sheet too large for that is drawn smaller.
    """
    scale = max(1, round(DPI * min(WIDTH / sheet.shape[1], TILE / side)))
    most = MOST_PIXELS / max(sheet.shape)
    scale = min(scale, int(most) if most >= 1 else most)
    height, width = (scale * pixels / DPI for pixels in sheet.shape[:2])
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(sheet, interpolation="nearest" if scale >= 1 else "antialiased", aspect="auto")
    axes.spines[:].set_visible(False)
    return figure, axes
