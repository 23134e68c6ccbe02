"""The graph of one pass as SVG: image, encoder, sampling node, decoder, loss, and the KL below.

It is drawn here once, as it stands after the whole pass; the page's program only repaints it.  So
the picture is there without JavaScript, too.  It comes in three widths; where a column is too
narrow for a box with words, nodes are dots.
"""

from __future__ import annotations

from html import escape

import numpy as np

WIDTHS = {"wide": 1184, "middle": 748, "narrow": 356}
TITLES = {"sample": "sampling", "likelihood": "log p(x|z)", "kl": "KL", "log_q": "log q, log p(z)",
          "loss": "loss", "x": "x"}
LOCK = "M-5 -1v-4a5 5 0 0 1 10 0v4h2v10h-14v-10zm2.5 0h5v-4a2.5 2.5 0 0 0 -5 0z"
# what stands in a narrow box
SHORT = {"ConvTranspose": "ConvT", "log p(x|z)": "log p", "log q, log p(z)": "log q, p",
         "sampling": "sample", "to_mu": "mu", "to_logvar": "logvar", "to_a": "a"}
GREYS, TINTS = 8, 16     # levels of grey, and of each colour, in which an image is drawn


def pictures(data: dict, values: dict[str, tuple[str, str]], image: np.ndarray,
             painted: np.ndarray) -> dict[str, str]:
    """The graph in every width: svg by name.

    wide, middle and narrow are the graph itself; strip and slim stand in for it while one scrolls.

    data : the page's data, of which "forward" and "graph" are used.
    values : for each node the name of its gradient, and that gradient in a few digits.
    image, painted : (H, W) or (H, W, 3) arrays in [0, 1], what comes in and what the decoder
    paints.
    """
    found = {size: Drawing(data, values, image, painted, width).svg()
             for size, width in WIDTHS.items()}
    strip = Drawing(data, values, image, painted, WIDTHS["middle"], dots=True)
    return found | {"strip": strip.svg(), "slim": found["narrow"]}


class Drawing:
    """One SVG of the graph, `width` pixels wide."""

    def __init__(self, data: dict, values: dict, image: np.ndarray, painted: np.ndarray,
                 width: int, dots: bool = False):
        forward, about = data["forward"], data["graph"]
        self.values, self.image, self.painted, self.width = values, image, painted, width
        self.kinds = {node["name"]: node["kind"] for node in data["nodes"]}
        self.titles = {node["name"]: node["title"] for node in data["nodes"]}
        self.heads, self.noise, self.data = about["heads"], about["noise"], about["data"]
        self.path, self.score = about["path"], about["score"]
        self.enc = [name for name in forward if name.startswith("enc.")]
        chain = ["x", *self.enc, self.heads[0]]            # the gradient ends between two of these
        self.end = next(pair for pair in zip(chain, chain[1:]) if pair[1] not in self.data)
        self.dec = forward[forward.index("sample") + 1 : forward.index("likelihood")]
        columns = ["x", *self.enc, "heads", "sample", *self.dec, "likelihood", "loss"]
        pitch = width / (len(columns) + 0.35)
        self.dots = dots or pitch < 60
        self.pitch = pitch
        if self.dots:
            self.w = self.h = 14
            self.trunk, self.apart, self.top, self.bottom, self.height = 58, 22, 14, 122, 134
            self.log_q_y, self.side = 98, min(26, pitch - 4)
        else:
            self.w, self.h = min(98, pitch - (18 if pitch > 90 else 11)), 38
            self.trunk, self.apart, self.top, self.bottom, self.height = 146, 40, 44, 272, 298
            self.log_q_y, self.side = 222, min(56, pitch - 10)
        self.place = self.places(columns)

    def places(self, columns: list[str]) -> dict[str, tuple[float, float]]:
        """The centre of every node."""
        place, x = {}, self.pitch * 0.5
        for name in columns:
            x += self.pitch * 0.12 * (name == "heads") + self.pitch * 0.12 * (name == "sample")
            place[name] = x, self.trunk
            x += self.pitch
        x, y = place.pop("heads")
        if len(self.heads) == 1:
            place[self.heads[0]] = x, y
        else:
            place[self.heads[0]], place[self.heads[1]] = (x, y - self.apart), (x, y + self.apart)
        place["kl"] = x, self.bottom
        x = place["sample"][0]
        place[self.noise], place["log_q"] = (x, self.top), (x, self.log_q_y)
        return place

    # --- edges ---

    def edges(self) -> list[str]:
        """Every edge, from where a value is made to where it is used."""
        first = (self.enc or ["x"])[-1]
        encoder = [*zip(["x", *self.enc], self.enc), *((first, head) for head in self.heads)]
        decoder = ["sample", *self.dec, "likelihood"]
        drawn = [self.straight(a, b, "encoder") for a, b in encoder]
        drawn += [self.straight(head, "sample", "path") for head in self.heads]
        drawn += [self.straight(a, b, "decoder") for a, b in zip(decoder, decoder[1:])]
        drawn += [self.straight("likelihood", "loss", "decoder"), self.noise_edge()]
        drawn += [self.to_kl(head, i) for i, head in enumerate(self.heads)]
        drawn += [self.to_loss("kl", "kl", 6), self.to_loss("log_q", "log_q", -6)]
        drawn += [self.score_edge(head) for head in self.heads]
        x, y = self.place["sample"]
        y1, y2 = y + self.h / 2 + 2, self.log_q_y - self.h / 2 - 2
        drawn.append(self.edge(f"M{n(x)} {n(y1)}V{n(y2)}", (x, y1, "up"), (x, y2, "down"),
                          (x, (y1 + y2) / 2), "sample", "log_q", "latent"))
        return drawn

    def straight(self, a: str, b: str, wire: str) -> str:
        """An edge to the right, bent where the two nodes are not of one height."""
        (x1, y1), (x2, y2) = self.place[a], self.place[b]
        x1, x2 = x1 + self.half(a) + 2, x2 - self.half(b) - 2
        middle = (x1 + x2) / 2
        if y1 > y2 and b == "sample":
            y2 += self.h / 5
        elif y1 < y2 and b == "sample":
            y2 -= self.h / 5
        bend = f"C{n(middle)} {n(y1)} {n(middle)} {n(y2)} {n(x2)} {n(y2)}"
        d = f"M{n(x1)} {n(y1)}" + (f"H{n(x2)}" if y1 == y2 else bend)
        return self.edge(d, (x1, y1, "left"), (x2, y2, "right"), (middle, (y1 + y2) / 2),
                         a, b, wire)

    def noise_edge(self) -> str:
        """The noise, from above."""
        x, y = self.place[self.noise]
        y1, y2 = y + self.radius() + 2, self.trunk - self.h / 2 - 2
        return self.edge(f"M{n(x)} {n(y1)}V{n(y2)}", (x, y1, "up"), (x, y2, "down"), (x, y1),
                    self.noise, "sample", "noise")

    def to_kl(self, head: str, i: int) -> str:
        """From a head down to the KL; the upper head goes round the lower one."""
        (x, y), half, top = self.place[head], self.half(head), self.bottom - self.h / 2 - 2
        if i == 0 and len(self.heads) == 2:
            x1, x2, out = x + half + 1, x + half * 0.6, self.pitch * 0.22
            y1 = y + self.h / 4
            d = (f"M{n(x1)} {n(y1)}C{n(x1 + out)} {n(y1 + 10)} {n(x1 + out * 0.9)} {n(top - 34)} "
                 f"{n(x2)} {n(top)}")
            middle = x1 + out * 0.8, self.trunk + self.apart / 2
            return self.edge(d, (x1, y1, "left"), (x2, top, "down"), middle, head, "kl", "kl")
        x -= half * 0.25
        y1 = y + self.h / 2 + 2
        return self.edge(f"M{n(x)} {n(y1)}V{n(top)}", (x, y1, "up"), (x, top, "down"),
                    (x, (y1 + top) / 2), head, "kl", "kl")

    def to_loss(self, name: str, wire: str, shift: float) -> str:
        """From below the trunk along to the loss and up."""
        (x, y), (loss, _), up = self.place[name], self.place["loss"], self.trunk + self.h / 2 + 2
        x1, x2 = x + self.half(name) + 2, loss + shift * (0.6 if self.dots else 1.4)
        d = f"M{n(x1)} {n(y)}H{n(x2)}V{n(up)}"
        return self.edge(d, (x1, y, "left"), (x2, up, "up"), ((x1 + x2) / 2, y), name, "loss", wire)

    def score_edge(self, head: str) -> str:
        """log q straight to a head, past z."""
        (x, y), (x2, y2) = self.place[head], self.place["log_q"]
        x1, x2 = x + self.half(head) + 2, x2 - self.half("log_q") - 2
        y1 = y + self.h / 3
        out = x1 + self.pitch * 0.2
        d = f"M{n(x1)} {n(y1)}C{n(out)} {n(y1)} {n(out - 4)} {n(y2)} {n(x2)} {n(y2)}"
        return self.edge(d, (x1, y1, "left"), (x2, y2, "right"), (out - 4, (y1 + y2) / 2 + 4), head,
                    "log_q", "score")

    def edge(self, d: str, start: tuple, end: tuple, middle: tuple, a: str, b: str, wire: str
             ) -> str:
        """A line from node a to node b: its heads for both ways, the orange front, and a cross.

        The front runs from b to a.  The cross marks a wire that is cut.
        """
        x, y = middle
        cross = f"M{n(x - 5)} {n(y - 5)}l10 10m0 -10l-10 10"
        if wire in ("latent", "score", "log_q") and not self.score:
            state = " unused"
        elif wire in ("latent", "path") and not self.path:
            state = " cut"
        else:
            state = "" if wire == "noise" or a in self.data else " back"
            if a == "sample" and not self.path:            # no gradient goes to a coin
                state = ""
        return (f'<g class="edge{state}" data-from="{a}" data-to="{b}" data-wire="{wire}">'
                f'{path(d, "line")}<path class="front" d="{d}" pathLength="1"/>'
                f'{path(tip(*end), "head ahead")}{path(tip(*start), "head behind")}'
                f'{path(cross, "cross")}</g>')

    # --- nodes ---

    def half(self, name: str) -> float:
        """Half the width of a node."""
        if name == "x":
            return self.side / 2
        return 1.15 * self.w / 2 if name == "log_q" and not self.dots else self.w / 2

    def radius(self) -> float:
        return 7 if self.dots else 19

    def node(self, name: str) -> str:
        """A node, and below it the name and size of its gradient."""
        (x, y), half = self.place[name], self.half(name)
        title, (symbol, value) = TITLES.get(name, name), self.values.get(name, ("", ""))
        kind = self.kinds.get(name, "") if "." in name else ""
        kind, written = SHORT.get(kind, kind), title.removeprefix("to_") if kind else title
        written = SHORT.get(title, written) if self.w < 60 else written
        words, shape = "", f'<circle cx="{n(x)}" cy="{n(y)}" r="{self.radius()}"/>'
        if name == "x":
            shape = box(x, y, self.side, self.side)
            shape += image(self.image, x, y, self.side - 6, "image")
        elif name == self.noise:
            words = "" if self.dots else text(x, y + 4.5, name, "title")
        elif not self.dots:
            shape = box(x, y, 2 * half, self.h)
            words = text(x, y - 3 if kind else y + 4.5, written, "title")
        if self.dots and name in ("loss", "sample", "kl", self.noise, "x", *self.heads):
            words = self.dot_words(name, x, y)
        number = ""
        if not self.dots and name not in ("x", self.noise, "loss"):
            up = name == self.heads[0] and len(self.heads) == 2
            at = y - self.h / 2 - 20 if up else y + self.h / 2 + 15
            beside = {"kl": -half - 8, "sample": 8 if self.pitch > 90 else 4}.get(name, 0)
            if name == "kl":
                at = y - 3
            elif name in self.heads and not up:
                beside = -half * 0.25 - 8
            side = " end" if beside < 0 else " start" if beside else ""
            number = (text(x, at, symbol, "symbol" + side, beside)
                      + text(x, at + 14, value, "number" + side, beside))
        if self.dots:
            number = f"<title>{escape(title)}</title>"
        else:                                              # not a part of the button's name
            number += text(x, y + 12, kind, "kind") if kind else ""
        label = f"{title}: {self.titles.get(name, title)}"
        go = f' data-node="{name}" role="button" tabindex="{-1 if name != "x" else 0}"'
        go += f' aria-label="{escape(label)}"'
        state = "" if name in self.data or (name == "sample" and not self.path) else " back"
        state += " unused" if name == "log_q" and not self.score else ""
        return (f'<g class="node{state}" data-name="{name}">'
                f'<g class="face"{go if name in self.titles else ""}>{shape}{words}</g>'
                f'<g class="value">{number}</g></g>')

    def dot_words(self, name: str, x: float, y: float) -> str:
        """The name of a dot, where no edge passes."""
        short = {"sample": "z", "kl": "KL"}.get(name, name.removeprefix("to_"))
        if name in ("kl", *self.heads[1:]):
            return text(x, y + (4 if name == "kl" else 18), short, "title end", -11)
        if name == self.noise:
            return text(x, y + 4, short, "title start", 11)
        below = {"x": self.side / 2 + 12, self.heads[0]: -12}.get(name, 21)
        return text(x, y + below, short, "title")

    def frame(self, names: list[str], label: str, kind: str) -> str:
        """The frame around the encoder or around the decoder."""
        xs = [self.place[name][0] for name in names]
        pad = self.w / 2 + (5 if self.dots else 8)
        if self.dots:
            up, down, below = self.apart + 13, self.apart + 20, self.apart + 33
        elif kind == "phi":
            up, down, below = self.apart + 60, self.apart + 52, -self.apart - 65
        else:
            up, down, below = 48, 62, -53
        left, right, top = min(xs) - pad, max(xs) + pad, self.trunk - up
        words = text(left + 4, self.trunk + below, label, "frame-word start")
        lock = padlock(kind, right - 8, top + up + down if self.dots else top)
        return (f'<g class="frame-of {kind} filled"><rect x="{n(left)}" y="{n(top)}" '
                f'width="{n(right - left)}" height="{n(up + down)}" rx="10"/>{words}{lock}</g>')

    def target(self) -> str:
        """The image is the target, too."""
        (x, y), (x2, _) = self.place["x"], self.place["likelihood"]
        top = 4 if self.dots else 9
        y1, y2 = y - self.side / 2 - 2, self.trunk - self.h / 2 - 3
        label = "" if self.dots else text(x + 8, 24, "the target", "aside start")
        return path(f"M{n(x)} {n(y1)}V{n(top)}H{n(x2)}V{n(y2)}", "target") + label

    def marks(self) -> str:
        """Where the gradient ends: two bars below the noise and behind the image; and the locks."""
        x, y = self.place[self.noise]
        stop = y + self.radius() + (9 if self.dots else 22)
        data, first = self.end
        a, b = self.place[data][0] + self.half(data), self.place[first][0] - self.half(first)
        at, small = (a + b) / 2, 5 if self.dots else 9
        dead = (f"M{n(x - small)} {n(stop)}h{2 * small}m0 -5h{-2 * small}"
                f"M{n(at - 2.5)} {n(self.trunk - small)}v{2 * small}m5 0v{-2 * small}")
        words = "" if self.dots else (text(x + 25, self.top + 12, "no gradient", "aside start")
                                      + text(self.place["x"][0], self.trunk + 46, "no dx", "aside"))
        lock = padlock("eps", x - 16 if self.dots else x + 25, y - 3 if self.dots else y - 17)
        lock += padlock("x", self.place["x"][0] + self.side / 2, self.trunk - self.side / 2)
        return f'<g class="dead">{path(dead, "bars")}{words}</g>{lock}'

    def painted_image(self) -> str:
        """What the decoder paints, above its last node."""
        x, side = self.place[self.dec[-1]][0], min(self.side, 46)
        y = 22 if self.dots else 46
        words = "" if self.dots else text(x - side / 2 - 6, y + 4, "painted", "aside end")
        return (f'<g class="painted">{box(x, y, side + 4, side + 4)}'
                f'{image(self.painted, x, y, side, "paint")}{words}</g>')

    def svg(self) -> str:
        label = ("The graph of the model after a whole pass: image x, encoder (phi), "
                 f"{' and '.join(head.removeprefix('to_') for head in self.heads)}, the sampling "
                 f"node with its noise {self.noise}, decoder (theta), log p(x|z), loss; and the "
                 "KL, which goes from the encoder's heads straight to the loss. "
                 "Gradients run back along every arrow but into x and the noise.")
        encoder, decoder = [*self.enc, *self.heads], self.dec
        short = self.dots and self.width < 500
        frames = (self.frame(encoder, "phi" if short else "encoder (phi)", "phi")
                  + self.frame(decoder, "theta" if short else "decoder (theta)", "theta"))
        body = (frames + self.target() + "".join(self.edges()) + self.painted_image()
                + "".join(self.node(name) for name in self.place) + self.marks())
        dots = " dots" if self.dots else " tight" if self.pitch < 90 else ""
        return (f'<svg class="graph-svg{dots}" viewBox="0 0 {self.width} {self.height}" '
                f'role="group" aria-label="{escape(label)}">{body}</svg>')


# --- the pieces -----------------------------------------------------------------------------------


def n(value: float) -> str:
    """A coordinate."""
    return f"{value:.1f}".removesuffix(".0")


def box(x: float, y: float, width: float, height: float) -> str:
    """A rectangle about (x, y)."""
    return (f'<rect x="{n(x - width / 2)}" y="{n(y - height / 2)}" width="{n(width)}" '
            f'height="{n(height)}" rx="{8 if height > 20 else 4}"/>')


def text(x: float, y: float, words: str, kind: str, shift: float = 0) -> str:
    """Words at (x + shift, y)."""
    return f'<text class="{kind}" x="{n(x + shift)}" y="{n(y)}">{escape(words)}</text>'


def path(d: str, kind: str) -> str:
    return f'<path class="{kind}" d="{d}"/>'


def padlock(name: str, x: float, y: float) -> str:
    """A lock, closed on what is held constant."""
    return (f'<path class="lock" data-lock="{name}" d="{LOCK}" '
            f'transform="translate({n(x)} {n(y)})"/>')


def tip(x: float, y: float, points: str) -> str:
    """An arrow's head with its tip at (x, y)."""
    back = {"up": "l-4.5 8h9z", "down": "l-4.5 -8h9z", "left": "l8 -4.5v9z", "right": "l-8 -4.5v9z"}
    return f"M{n(x)} {n(y)}{back[points]}"


def image(pixels: np.ndarray, x: float, y: float, side: float, kind: str) -> str:
    """Pixels in [0, 1] as a few paths, one for each level of grey or for each colour."""
    rows, columns = pixels.shape[:2]
    unit = side / max(rows, columns)
    left, top = x - columns * unit / 2, y - rows * unit / 2
    drawn = []
    if pixels.ndim == 2:
        levels = np.rint(np.clip(pixels, 0, 1) * GREYS).astype(int)
        fills = {level: f'fill-opacity="{level / GREYS:.2f}"' for level in range(1, GREYS + 1)}
    else:
        tints = np.rint(np.clip(pixels, 0, 1) * (TINTS - 1)).astype(int) * 255 // (TINTS - 1)
        levels = tints @ [65536, 256, 1]
        fills = {level: f'fill="#{level:06x}"' for level in np.unique(levels)}
    for level, fill in fills.items():
        d = "".join(f"M{j} {i}h1v1h-1z" for i, j in np.argwhere(levels == level))
        if d:
            drawn.append(f'<path d="{d}" {fill}/>')
    return (f'<g class="pixels {kind}" shape-rendering="crispEdges" '
            f'transform="translate({n(left)} {n(top)}) scale({unit:.3f})">{"".join(drawn)}</g>')
