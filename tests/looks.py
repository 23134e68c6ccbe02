"""What a reader sees in a figure: words that lie on each other, words on lines, lines of one colour.

`faults(figure)` lists them in words.  Boxes are those of matplotlib's renderer.  Colours are compared as seen without
the green cones (deuteranopia), one of the two common forms of colour blindness.
"""

from itertools import combinations

import numpy as np
from matplotlib.colors import to_hex, to_rgb
from matplotlib.text import Text
from matplotlib.transforms import Bbox

# from linear RGB to what is seen without green cones: Machado, Oliveira & Fernandes (2009), severity 1
DEUTERANOPIA = np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                         [-0.011820, 0.042940, 0.968881]])
# from linear RGB to XYZ under D65: IEC 61966-2-1, sRGB
XYZ = np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750],
                [0.0193339, 0.1191920, 0.9503041]])
# The least distance in CIELAB.  Half of the viewers see a difference of 14 in b*, the axis on which we see worst, in
# marks of a third of a degree, the smallest that were measured (Stone, Szafir & Setlur 2014, an engineering model for
# color difference as a function of size: 5.349 + 2.871 / size).  Lines are thinner: half as much again, about 20.
LEAST = 20.0


def cielab(rgb: np.ndarray) -> np.ndarray:
    """Linear RGB in [0, 1] : (3,)  ->  L*, a*, b* : (3,), white at (1, 1, 1)."""
    share = XYZ @ rgb / XYZ.sum(axis=1)
    x, y, z = np.where(share > (6 / 29) ** 3, np.cbrt(share), share / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def seen(colour, without_green: bool = True) -> np.ndarray:
    """A colour as matplotlib knows it  ->  L*, a*, b* of what is seen."""
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return cielab(np.clip(DEUTERANOPIA @ linear, 0, 1) if without_green else linear)


def distance(a, b) -> float:
    """How far two colours are apart, with the green cones and without them: the less of the two."""
    return min(np.linalg.norm(seen(a, without) - seen(b, without)) for without in (False, True))


def texts_of(axes) -> tuple[list[Text], list[Text]]:
    """The texts on these axes that are drawn: those within them or above, and those of the two scales."""
    legend = axes.get_legend()
    within = [child for child in axes.get_children() if isinstance(child, Text)]
    within += [*legend.get_texts(), legend.get_title()] if legend else []
    scales = []
    for axis in (axes.xaxis, axes.yaxis) if axes.axison else ():
        low, high = sorted(axis.get_view_interval())
        ticks = [tick for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()) if low <= tick.get_loc() <= high]
        scales += [axis.label, *(label for tick in ticks for label in (tick.label1, tick.label2))]
    return tuple([text for text in texts if text.get_visible() and text.get_text().strip()]
                 for texts in (within, scales))


def box_of(text: Text):
    """Where a text lies, in pixels, less half a pixel all round; an annotation's arrow does not count."""
    return Text.get_window_extent(text).padded(-0.5)


def overlapping_words(figure) -> list[str]:
    """Pairs of texts whose boxes overlap."""
    figure.draw_without_rendering()
    boxes = [(text.get_text(), box_of(text)) for axes in figure.axes for texts in texts_of(axes) for text in texts]
    return [f"{a!r} lies on {b!r}" for (a, one), (b, other) in combinations(boxes, 2) if one.overlaps(other)]


def crossed_words(figure) -> list[str]:
    """Texts within axes that a line or a dot of these axes touches."""
    figure.draw_without_rendering()
    found = []
    for axes in figure.axes:
        for text in texts_of(axes)[0]:
            box = Bbox.intersection(box_of(text), axes.bbox)
            if box is None or text.get_rotation() % 90:    # the box of tilted words is larger than they are
                continue
            for line in axes.lines:
                path = line.get_path().transformed(line.get_transform())
                joined = line.get_linestyle() not in ("None", "none", "", " ")
                if line.get_visible() and (box.count_contains(path.vertices)
                                           or joined and path.intersects_bbox(box, filled=False)):
                    found.append(f"a line touches {text.get_text()!r}")
                    break
    return found


def alike_lines(figure) -> list[str]:
    """Pairs of lines in the same axes, of colours so near that a reader may take one for the other.

    Lines of exactly one colour are meant to belong together.
    """
    found = []
    for axes in figure.axes:
        colours = sorted({to_hex(line.get_color()) for line in axes.lines if line.get_visible()})
        found += [f"{a} and {b} are {distance(a, b):.0f} apart in {axes.get_title(loc='left')!r}"
                  for a, b in combinations(colours, 2) if distance(a, b) < LEAST]
    return found


def faults(figure) -> list[str]:
    """All of the above."""
    return overlapping_words(figure) + crossed_words(figure) + alike_lines(figure)
