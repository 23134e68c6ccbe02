"""What the demos draw, and how they take their arguments.  Not a demo itself.

The demos run as scripts, or cell by cell in an editor or a notebook.  Each imports this file from
its own folder.  A function that draws one panel takes matplotlib's axes first, then the numbers
that the demo found.  Figure is used and not pyplot, so nobody's backend is switched.
"""

import sys
from contextlib import contextmanager
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

BLUE, ORANGE, GREY, DARK = "#2b6cb0", "#c05621", "#718096", "#2d3748"
STYLE = {"font.size": 10, "axes.titlesize": 11, "axes.titlelocation": "left",
         "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": GREY,
         "axes.labelcolor": DARK, "legend.frameon": False,
         "savefig.dpi": 150, "savefig.bbox": "tight"}


def arguments(*defaults) -> list:
    """The words after the script's name, each of its default's type; a default where none is given.

    The kernel of a notebook or an editor was started with words of its own.  One is the name of its
    connection file, a .json.  None of them is ours, so there the defaults hold.
    """
    given = sys.argv[1:]
    if any(word.endswith(".json") for word in given):
        given = []
    words = [*given, *defaults[len(given):]]
    return [type(default)(word) for default, word in zip(defaults, words)]


@contextmanager
def panels(path: Path, rows: int = 1, columns: int = 1, size: tuple = (11, 8.6), **shared):
    """A list of rows * columns empty axes, row by row; what was drawn on them is written to path.

    shared : sharex=True, sharey=True, as Figure.subplots takes them.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=size, layout="constrained")
        yield list(figure.subplots(rows, columns, squeeze=False, **shared).ravel())
        save(figure, path)


def save(figure: Figure, path: Path) -> None:
    """Write the figure and name its file; in a notebook or an editor show it, too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    print(f"wrote {path}")
    if "ipykernel" in sys.modules:
        from IPython.display import Image, display

        display(Image(filename=str(path)))


def name_points(axes, points: dict, x: float, side: str = "right", gap: float = 0.058) -> None:
    """Write each point's name beside it, higher or lower where names would meet, and a line to it.

    points[name] : (x, y, colour) of the point, in the units of the axes, whose limits are set.
    x, gap       : where the names begin (left of the points: end), and their least distance, in
                   shares of the axes.
    """
    share = axes.transData + axes.transAxes.inverted()
    wanted = {name: share.transform(point[:2])[1] for name, point in points.items()}
    names = sorted(points, key=wanted.get)
    heights = np.array([wanted[name] for name in names])
    steps = gap * np.arange(len(names))
    # of all heights in this order and this far apart the nearest to the wanted ones, in one pass
    # from below and one from above
    up = np.maximum.accumulate(heights - steps)
    down = np.minimum.accumulate((heights - steps)[::-1])[::-1]
    for name, height in zip(names, (up + down) / 2 + steps):
        *point, color = points[name]
        ha, edge = ("left", 0) if side == "right" else ("right", 1)
        axes.annotate(name, point, xytext=(x, height), textcoords=axes.transAxes, va="center",
                      ha=ha, fontsize=9, color=DARK,
                      arrowprops={"arrowstyle": "-", "color": color, "lw": 0.9, "shrinkB": 4,
                                  "relpos": (edge, 0.5)})


# --- 01: images -----------------------------------------------------------------------------------


def sheet(path: Path, images: np.ndarray, image_shape: tuple, columns: int, title: str) -> None:
    """images : (n, D) in [0, 1], row by row in so many columns, with a thin line between them."""
    (H, W), rows = image_shape, len(images) // columns
    tiles = np.full((rows, columns, H + 1, W + 1), 0.25)
    tiles[:, :, :H, :W] = images.reshape(rows, columns, H, W)
    picture = tiles.swapaxes(1, 2).reshape(rows * (H + 1), columns * (W + 1))[:-1, :-1]
    with panels(path, size=(7, 7 * len(picture) / picture.shape[1])) as (axes,):
        axes.imshow(picture, cmap="gray_r", vmin=0, vmax=1, interpolation="nearest")
        axes.set_axis_off()
        axes.set_title(title)


# --- 04: what is maximised ------------------------------------------------------------------------


def draw_bounds(axes, values, shown: list) -> None:
    """log p against w, and below it the ELBO of each encoder a in `shown`.

    values(w, a) gives log p, ELBO and KL.
    """
    ws = np.linspace(-0.2, 3.4, 200)
    axes.plot(ws, [values(w, 0.0)[0] for w in ws], color=BLUE, lw=2.5, label="log p(x), no q in it")
    for i, a in enumerate(shown):
        line = "ELBO(w), for three encoders a" if i == 0 else None
        dot = "a = w: they touch" if i == 0 else None
        axes.plot(ws, [values(w, a)[1] for w in ws], color=ORANGE, lw=1.2, label=line)
        axes.plot(a, values(a, a)[0], "o", color=ORANGE, ms=6, label=dot)
    axes.set(title="Every ELBO lies below log p and touches it at a = w", xlabel="decoder w",
             ylabel="nats per example", ylim=(-3.6, -1.75))
    axes.legend(loc="upper left")


def draw_walks(axes, values, em, ascent, descent, best_w: float) -> None:
    """The ELBO over (w, a) as a map, and three walks on it, (steps, 2) each."""
    grid = np.linspace(0, 3, 90)
    heights = np.array([[values(w, a)[1] for w in grid] for a in grid])
    levels = values(best_w, best_w)[0] - np.geomspace(2.5, 0.004, 14)
    axes.contour(grid, grid, heights, levels=levels, colors=GREY, linewidths=0.6, linestyles="-",
                 alpha=0.6)
    axes.plot(grid, grid, color=GREY, lw=1, ls=":")
    axes.text(0.5, 0.53, "a = w: KL = 0", color=DARK, fontsize=9, rotation=39, ha="center",
              va="bottom")
    axes.plot(*em.T, color=DARK, lw=1.3, marker="o", ms=3, label="EM, in turns")
    axes.plot(*ascent.T, color=BLUE, lw=2.2, label="gradient ascent of the ELBO")
    axes.plot(*descent.T, color=ORANGE, lw=2.2, label="gradient descent of the KL")
    axes.plot(*descent[-1], "o", color=ORANGE, ms=6)
    axes.plot(*em[0], "o", color="white", mec="black", ms=8, zorder=5, label="start")
    axes.plot(best_w, best_w, "*", color="black", ms=13, zorder=5, label="maximum likelihood")
    axes.set(title="The ELBO as a landscape: three walks from one start",
             xlabel="decoder w (theta)", ylabel="encoder a (phi)", xlim=(0, 3), ylim=(0, 3))
    axes.legend(loc="upper left", fontsize=8.5, frameon=True, framealpha=1, edgecolor="white")


def draw_gap(axes, values, ascent, descent, best_log_p: float, lr: float) -> None:
    """Both gradient walks in time: a line for log p, a dashed one for the ELBO below it."""
    shown = 160
    walks = ((ascent, BLUE, "ascending the ELBO"), (descent, ORANGE, "descending the KL"))
    for path, color, label in walks:
        log_p, elbo, _ = np.array([values(w, a) for w, a in path[: shown + 1]]).T
        axes.plot(log_p, color=color, lw=2.2, label=f"log p, {label}")
        axes.plot(elbo, color=color, lw=1, ls="--", label="ELBO on the same walk")
        axes.fill_between(np.arange(shown + 1), elbo, log_p, color=color, alpha=0.15, lw=0,
                          label="their gap, the KL")
    axes.axhline(best_log_p, color=GREY, lw=0.8, ls=":")
    axes.text(shown, best_log_p, "the largest log p", color=GREY, ha="right", va="bottom",
              fontsize=8.5)
    axes.set(title="Both walks close the gap, only one of them gains",
             xlabel=f"gradient steps of {lr}", ylabel="nats per example", ylim=(-3.05, -2.15))
    axes.legend(fontsize=8.5)


def draw_ellipses(axes, known, reverse, forward) -> None:
    """A posterior with dependent latents, and the two fits without, by their covariances."""
    angle = np.linspace(0, 2 * np.pi, 200)
    circle = np.stack([np.cos(angle), np.sin(angle)])
    lines = [(known, GREY, "-", f"posterior p, correlation {known[0, 1]}"),
             (reverse, BLUE, "-", f"least KL(q || p): variance {reverse[0, 0]:.2f}"),
             (forward, ORANGE, "--", f"least KL(p || q): variance {forward[0, 0]:.2f}")]
    for cov, color, style, label in lines:
        axes.plot(*(2 * np.linalg.cholesky(cov) @ circle), style, color=color, lw=2, label=label)
    axes.fill(*(2 * np.linalg.cholesky(known) @ circle), color=GREY, alpha=0.15, lw=0)
    axes.set(title="A q with independent latents, drawn at 2 std", xlabel="z1", ylabel="z2",
             xlim=(-3.4, 3.4), ylim=(-2.3, 3.5))
    axes.set_aspect("equal")
    axes.legend(loc="upper left", fontsize=8.5)


# --- 05, 05b, 05c: what is held constant ----------------------------------------------------------


def draw_answers(axes, slopes: dict, exact: dict, L: int) -> None:
    """How the draws of each answer scatter about its exact mean."""
    size = exact["path"]
    bins = np.linspace(-0.6 * size, 4.4 * size, 95)
    for name, color, label in (("path", BLUE, "path: z moves"),
                               ("score", ORANGE, "score: the density moves"),
                               ("both", GREY, "both")):
        axes.hist(slopes[name], bins, histtype="stepfilled", color=color, alpha=0.2)
        axes.hist(slopes[name], bins, histtype="step", color=color, lw=1.5, label=label)
    top = axes.get_ylim()[1]
    for name, words in (("neither", "neither\n0"), ("path", "path, score\nthe gradient"),
                        ("both", "both\ntwice")):
        axes.vlines(exact[name], 0, top, color=DARK, lw=1, ls=":")
        axes.text(exact[name], 1.02 * top, words, ha="center", va="bottom", fontsize=9, color=DARK)
    axes.set(title="Path and score have one mean; both together count it twice",
             ylim=(0, 1.2 * top), xlim=(bins[0], bins[-1]),
             ylabel=f"draws, of {len(slopes['path'])}",
             xlabel="slope of the loss along the exact gradient, KL taken off, "
                    f"nats per unit of phi (L = {L})")
    axes.legend(loc="center right", title="dotted: the exact means", title_fontsize=9,
                alignment="left")


def draw_variance_against_L(axes, LS: np.ndarray, variances: dict) -> None:
    """Dots for the variances, and a line of slope -1 through the middle of each row of dots."""
    for name, color, style, fill in (("score", ORANGE, "-", ORANGE),
                                     ("score, baseline", ORANGE, "--", "white"),
                                     ("path", BLUE, "-", BLUE)):
        at_one = np.exp(np.nanmean(np.log(variances[name] * LS)))
        axes.loglog(LS, at_one / LS, style, color=color, lw=1, alpha=0.6)
        axes.loglog(LS, variances[name], "o", color=color, ms=6, mfc=fill)
        axes.text(4.4, at_one / 4.4 * 1.4, name, color=color, fontsize=9.5, va="bottom")
    axes.set(title="Every variance falls as 1/L, from different heights",
             xlabel="L, samples of z per image", ylabel="variance of the encoder's gradient")
    axes.set_xticks(LS, LS)
    axes.minorticks_off()


def draw_waves(axes, cos_variances, crossings: dict) -> None:
    """f = cos(k z): the variances of path and score against k, and where they cross."""
    ks = np.linspace(0.1, 3, 250)
    path, score = np.array([cos_variances(k) for k in ks]).transpose(1, 2, 0)
    for i, (name, style) in enumerate((("mu", "-"), ("sigma", "--"))):
        k = crossings[name]
        axes.semilogy(ks, path[i], style, color=BLUE, lw=2, label=f"path, {name}")
        axes.semilogy(ks, score[i], style, color=ORANGE, lw=2, label=f"score, {name}")
        height = cos_variances(k)[0][i]
        axes.plot(k, height, "o", color="white", mec=DARK, ms=7, zorder=5)
        axes.annotate(f"k = {k:.2f}", (k, height), xytext=((10, -17), (-10, 17))[i],
                      textcoords="offset points", ha=("left", "right")[i], fontsize=9, color=DARK)
    axes.set(title="f = cos(k z): pathwise loses where f is steep", xlabel="k, the frequency of f",
             ylabel="variance of one sample", ylim=(3e-3, 9))
    axes.legend(loc="lower right", ncols=2)


def draw_step(axes, mu: float, sigma: float, truth: float, score: float, path: float) -> None:
    """f = 1[z > 0]: probability crosses the step, hardly a sample does."""
    from scipy.stats import norm                # heavy: a second to import, for one picture

    shift = 0.3
    z = np.linspace(-3, 4.2, 401)
    now, then, left = norm.pdf(z, mu, sigma), norm.pdf(z, mu + shift, sigma), z <= 0
    axes.plot(z, now, color=GREY, lw=1.5, label="q(z)")
    axes.plot(z, then, color=ORANGE, lw=1.5, label="q(z), mu a little larger")
    axes.fill_between(z[left], then[left], now[left], color=ORANGE, alpha=0.3, lw=0)
    axes.annotate("score: this much probability\nhas moved to f = 1", (-0.4, 0.24),
                  xytext=(-3, 0.36), fontsize=9, color=ORANGE, va="bottom",
                  arrowprops={"arrowstyle": "-", "color": ORANGE, "lw": 0.8})
    axes.plot([-3, 0, 0, 4.2], [0.62, 0.62, 0.72, 0.72], color=DARK, lw=2)
    axes.text(-3, 0.635, "f = 0", fontsize=9, color=DARK)
    axes.text(4.2, 0.735, "f = 1", fontsize=9, color=DARK, ha="right")
    axes.vlines(0, -0.07, 0.72, color=GREY, lw=0.7, ls=":")
    for start in norm.ppf([0.04, 0.13, 0.25, 0.4, 0.55, 0.7, 0.83, 0.93], mu, sigma):
        color = DARK if start < 0 < start + shift else BLUE
        arrow = {"arrowstyle": "->", "color": color, "lw": 1.3, "shrinkA": 0, "shrinkB": 0}
        axes.annotate("", (start + shift, -0.04), (start, -0.04), arrowprops=arrow)
        axes.plot(start, -0.04, "o", color=color, ms=4)
    axes.text(4.2, -0.1, "path: each sample slides where f is flat; a jump (dark) has no slope",
              fontsize=9, color=BLUE, ha="right", va="top")
    axes.set(title=f"f = 1[z > 0]: the truth is {truth:.3f}, score {score:.3f}, path {path:.0f}",
             xlabel="z", yticks=[], ylim=(-0.16, 0.78))
    axes.spines["left"].set_visible(False)
    axes.legend(loc="upper right", bbox_to_anchor=(1, 0.84))


# --- 06: discrete latents -------------------------------------------------------------------------

# Seven colours that differ without the green cones, too: 20 or more in CIELAB, each from each.
# Solid: right on average.  Dashed: biased.
LINES = {"REINFORCE": ("#1a202c", "-"), "running mean": ("#cc8f00", "-"), "NVIL": ("#a8430f", "-"),
         "leave-one-out": ("#3b97dd", "-"), "DisARM": ("#1e49a0", "-"),
         "Concrete, T = 0.5": ("#0b9a78", "--"), "straight-through": ("#7d1d4c", "--")}


def draw_bias_and_spread(axes, bias: dict, spread: dict, unbiased: tuple) -> None:
    """A dot for each estimator: how far its mean is off to the right, how it spreads upwards."""
    axes.set(yscale="log", xlim=(-0.45, 1.1), ylim=(0.5, 60), xticks=np.arange(6) / 5,
             title="Right on average and noisy, or calmer and off",
             xlabel="bias, in sizes of the true gradient",
             ylabel="spread of one estimate, in the same sizes")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.axvline(0, color="#a0aec0", lw=0.8, ls=":")
    soft = [name for name in spread if name.startswith("Concrete")]
    at_zero = {}
    for name in spread:
        color = LINES.get(name, LINES["Concrete, T = 0.5"])[0]
        axes.plot(0 if name in unbiased else bias[name], spread[name], "o", color=color, ms=7)
        if name in unbiased:
            at_zero[name] = 0, spread[name], color
        else:
            words = name.split(", ")[-1] if name in soft[1:] else name
            axes.annotate(words, (bias[name], spread[name]), xytext=(8, 0), va="center",
                          textcoords="offset points", fontsize=9, color=DARK)
    name_points(axes, at_zero, x=0.25, side="left")
    axes.plot([bias[name] for name in soft], [spread[name] for name in soft], lw=0.9, zorder=0,
              color=LINES["Concrete, T = 0.5"][0])


def draw_training(axes, curves: dict, last: dict) -> None:
    """Test ELBO against the epoch, a line for each estimator, its name at its end."""
    epochs = len(curves["NVIL"])
    top = max(last.values())
    lowest = max(min(c.min() for c in curves.values()), top - 5.5)
    axes.set(title="Training on digits, 16 coins (dashed: the biased ones)", xlabel="epoch",
             ylabel="test ELBO, nats per image", xlim=(0, 1.72 * epochs),
             ylim=(lowest - 0.2, max(c.max() for c in curves.values()) + 0.6))
    ends = {}
    for name, curve in curves.items():
        color, style = LINES[name]
        axes.plot(np.arange(1, epochs + 1), curve, style, color=color, lw=1.6)
        ends[f"{name}: {last[name]:.2f}"] = epochs, curve[-1], color
    name_points(axes, ends, x=1.08 / 1.72)
    axes.set_xticks([tick for tick in axes.get_xticks() if tick <= epochs and tick % 1 == 0])


def draw_outcomes(axes, estimates: dict, exact: float, j: int) -> None:
    """What one estimate of d/da_j may say.  estimates[name] : its values and their weights."""
    shown = ["REINFORCE", "NVIL", "leave-one-out", "DisARM", "Concrete, T = 0.5",
             "straight-through"]
    reach = 1.05 * max(np.abs(estimates[name][0]).max() for name in shown[1:])
    bins = np.linspace(-reach, reach, 81)
    for row, name in enumerate(reversed(shown)):
        values, weights = estimates[name]
        if name == "REINFORCE":
            words = f"far off the scale, from {values.min():.0f} to {values.max():.0f}"
            axes.text(0, row + 0.35, words, ha="center", va="center", fontsize=9, color=DARK)
            continue
        height, _ = np.histogram(values, bins, weights=weights)
        axes.bar((bins[1:] + bins[:-1]) / 2, 0.85 * height / height.max(), bins[1] - bins[0],
                 bottom=row, color=LINES[name][0])
        label = "its mean" if row == 0 else None
        axes.plot([weights @ values] * 2, [row, row + 0.9], color=DARK, lw=1.4, label=label)
    axes.plot([exact] * 2, [0, len(shown) - 1], color=DARK, lw=0.9, ls=":",
              label="sum over z of log P grad Q")
    axes.set_yticks(np.arange(len(shown)) + 0.35, reversed(shown))
    axes.tick_params(axis="y", length=0)
    axes.set(title=f"What one estimate of d/da_{j} may say (first test image)",
             xlim=(-reach, reach), ylim=(0, len(shown) + 0.75),
             xlabel=f"estimate of d/da_{j} of the mean of log p(x|z), nats")
    axes.spines["left"].set_visible(False)
    axes.legend(loc="upper left", fontsize=8.5, ncols=2)


def draw_temperature(axes, T, bias, variance, bias_rate, variance_rate, st_bias) -> None:
    """Concrete on one coin against T: quadrature as dots, the closed forms for small T as lines."""
    axes.loglog(T, variance, "o", ms=4, color=BLUE, label="variance")
    axes.loglog(T, variance_rate / T, color=BLUE, lw=1, label="its closed form, 1 / T")
    axes.loglog(T, np.abs(bias), "o", ms=4, color=ORANGE, label="|bias|")
    axes.loglog(T, np.abs(bias_rate) * T, color=ORANGE, lw=1, label="its closed form, T")
    axes.axhline(st_bias, color=LINES["straight-through"][0], lw=1, ls="--",
                 label="|bias| of straight-through")
    axes.set(title="The price of a temperature: less bias, more variance",
             xlabel="temperature T", ylabel="|bias|, and variance, of one estimate (one coin)")
    axes.legend(fontsize=9)


# --- 07: tighter bounds ---------------------------------------------------------------------------


def draw_bound(axes, KS, L, log_p: float, elbo: float) -> None:
    """L_K against K, and the exact log p(x) above it."""
    axes.axhline(log_p, color=GREY, lw=1.2, ls="--")
    axes.text(1, log_p + 0.012, "log p(x), exact", color=GREY)
    axes.fill_between(KS, L, log_p, color=BLUE, alpha=0.12, lw=0)
    axes.plot(KS, L, "o-", color=BLUE, ms=5)
    axes.annotate("K = 1: the ELBO", (1, elbo), (1.5, elbo), color=BLUE, va="center")
    axes.set(title="1. The bound L_K rises to log p(x)", ylabel="nats",
             ylim=(elbo - 0.06, log_p + 0.07))
    _samples_axis(axes, KS)


def draw_scaled_gap(axes, KS, gap, error, limit: float) -> None:
    """K (log p - L_K) against K, and its exact limit."""
    axes.errorbar(KS, gap, error, fmt="o-", color=BLUE, ms=5, capsize=3)
    axes.axhline(limit, color=GREY, lw=1.2, ls="--")
    axes.text(1, limit - 0.006, "half the variance of p(z|x)/q(z|x), exact", color=GREY, va="top")
    axes.set(title="K times what is missing has a limit", ylabel="K (log p - L_K), nats",
             ylim=(limit - 0.05, gap.max() + 0.03))
    _samples_axis(axes, KS)


def draw_signal_to_noise(axes, KS, snr: dict, powers: dict) -> None:
    """Signal to noise against K, and the fitted powers of K as lines from K = 16 on."""
    late = KS >= 16
    for name, color, marker in (("DReG", BLUE, "o"), ("IWAE", ORANGE, "s")):
        y, power = snr[name], powers[name]
        label = f"{name}: {'grows' if power > 0 else 'falls'} as $K^{{{power:.2f}}}$"
        axes.loglog(KS, y, marker, color=color, ms=5, label=label)
        middle, centre = np.exp(np.log(y[late]).mean()), np.exp(np.log(KS[late]).mean())
        axes.loglog(KS[late], middle * (KS[late] / centre) ** power, color=color, lw=1.5)
    axes.set(title="2. The encoder's gradient beside its noise; the lines are fitted",
             ylabel="mean / standard deviation",
             ylim=(snr["IWAE"].min() / 1.6, snr["DReG"].max() * 6))
    axes.legend(loc="upper left")
    _samples_axis(axes, KS)


def _samples_axis(axes, KS) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xticks(KS, KS)
    axes.set_xlabel("samples K")


def draw_units(axes, variances: dict, active: dict, threshold: float) -> None:
    """The variance of each latent's posterior mean, the busiest first, for each estimator."""
    markers = (("elbo", GREY, "^"), ("iwae", ORANGE, "s"), ("dreg", BLUE, "o"))
    for name, color, marker in markers:
        ordered = np.sort(variances[name])[::-1]
        axes.semilogy(np.arange(1, len(ordered) + 1), ordered, marker + "-", color=color, ms=5,
                      lw=1, label=f"{name}: {active[name]} active")
    axes.axhline(threshold, color=DARK, lw=1, ls="--")
    axes.text(0.8, threshold * 1.06, f"active above {threshold}", color=DARK, va="bottom")
    axes.set(title="3. How far each latent's mean moves over the digits",
             xlabel="latents, the busiest first", ylabel="variance of the posterior mean",
             ylim=(8e-4, 1.3))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(loc="lower left")


# --- 08: is my loss right -------------------------------------------------------------------------

# two of Okabe & Ito's colours, which differ for colour-blind readers as well
RIGHT, WRONG = "#0072b2", "#d55e00"


def draw_betas(axes, betas: dict) -> None:
    """A dot for the beta that each public loss amounts to, its number beside it."""
    rows = np.arange(len(betas))[::-1]
    low, high = min(betas.values()) / 30, max(betas.values()) * 30
    axes.axvline(1, color=DARK, lw=1, ls=":")
    axes.text(1.4, len(betas) - 0.4, "the ELBO", color=DARK, fontsize=9)
    for row, beta in zip(rows, betas.values()):
        one = np.isclose(beta, 1)
        axes.plot(beta, row, "o" if one else "D", color=RIGHT if one else WRONG, ms=7)
        axes.text(beta * 2, row, f"{beta:.4g}", va="center", fontsize=9)
    axes.set_yticks(rows, list(betas), fontsize=8.5)
    axes.set(xscale="log", xlim=(low, high), ylim=(-0.6, len(betas) + 0.2),
             title="The beta that public losses amount to", xlabel="beta")


def draw_kl_of_latents(axes, kl_of: dict) -> None:
    """Bars for the KL of each latent, for two values of beta."""
    (a, small), (b, large) = kl_of.items()
    latents = np.arange(len(small))
    axes.bar(latents - 0.2, np.sort(small)[::-1], 0.4, color=RIGHT, label=f"beta = {a}")
    axes.bar(latents + 0.2, np.sort(large)[::-1], 0.4, color=WRONG, hatch="//",
             label=f"beta = {b}: a mean over pixels, all about 0")
    axes.set(title="A mean over pixels silences the latents", xlabel="latents, the largest first",
             ylabel="KL, nats per image", ylim=(0, 1.25 * max(small)))
    axes.legend()


def draw_rows_of_images(axes, rows: dict) -> None:
    """rows[name] : (n, 64) in [0, 1], a row of 8x8 images each."""
    lines = [np.pad(images.reshape(-1, 8, 8), ((0, 0), (1, 1), (1, 1)), constant_values=0.25)
             .swapaxes(0, 1).reshape(10, -1) for images in rows.values()]
    axes.imshow(np.vstack(lines), cmap="gray_r", vmin=0, vmax=1, interpolation="nearest")
    axes.set_yticks(4.5 + 10 * np.arange(len(rows)), list(rows))
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.set_title("Then every image gets the same reconstruction")
    axes.spines[["left", "bottom"]].set_visible(False)


def draw_floor(axes, entropy: np.ndarray, recon: np.ndarray) -> None:
    """The cross-entropy of each grey image against its least value, its entropy."""
    top = 1.05 * recon.max()
    axes.fill_between([0, top], [0, top], color=GREY, alpha=0.15, lw=0)
    axes.plot([0, top], [0, top], color=DARK, lw=1)
    axes.text(0.75 * top, 0.35 * top, "no model\ngets here", ha="center", color=DARK)
    axes.plot(entropy, recon, "o", color=RIGHT, ms=4, alpha=0.7)
    axes.set(title="Grey pixels: the cross-entropy has a floor", xlim=(0, top), ylim=(0, top),
             xlabel="entropy of the image's pixels, nats", ylabel="cross-entropy, nats")


# --- 09: five issues, five verdicts ---------------------------------------------------------------


def draw_verdicts(axes, verdicts: list) -> None:
    """How many error bars lie between each gradient and its reference.

    verdicts : (name, verdict, error bars), from the top down.
    """
    colors = {"PASS": "#009e73", "FAIL": "#d55e00", "INCONCLUSIVE": "#0072b2"}
    rows = np.arange(len(verdicts))[::-1]
    for row, (_, verdict, bars) in zip(rows, verdicts):
        axes.plot([1e-4, bars], [row, row], color=colors[verdict], lw=1, alpha=0.5)
        axes.plot(bars, row, "o", color=colors[verdict], ms=8)
        axes.text(max(25, bars * 2.5), row, verdict, color=colors[verdict], va="center", fontsize=9)
    for bars in (1, 10):
        axes.axvline(bars, color=DARK, lw=1, ls="--", zorder=0)
    axes.set_yticks(rows, [name for name, _, _ in verdicts], fontsize=8.5)
    axes.set(xscale="log", xlim=(1e-4, 1e16), xlabel="difference / error bar of the reference",
             title="PASS within one error bar, FAIL beyond ten")


# --- 10: convolutions -----------------------------------------------------------------------------


def draw_matrix(axes, matrix: np.ndarray, title: str) -> None:
    """A matrix of numbers that are not negative, its zeros white, with lines between the cells."""
    rows, columns = matrix.shape
    axes.imshow(matrix, cmap="Blues", interpolation="nearest")
    axes.set_xticks(np.arange(0, columns, 4))
    axes.set_yticks(np.arange(0, rows, 4))
    axes.set_xticks(np.arange(columns + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(rows + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", lw=0.8)
    axes.tick_params(which="both", length=0)
    axes.set(title=title, xlabel="pixel that goes in", ylabel="pixel that comes out")


def draw_filters(axes, W: np.ndarray, dW: np.ndarray) -> None:
    """The columns of W (9, n) as filters of 3x3 pixels, and below each its gradient."""
    n = W.shape[1]
    for row, filters in enumerate((W, dW)):
        shades = filters / np.abs(filters).max()
        for j in range(n):
            axes.imshow(shades[:, j].reshape(3, 3), cmap="RdBu", vmin=-1, vmax=1,
                        extent=(4 * j, 4 * j + 3, -4 * row - 3, -4 * row), interpolation="nearest")
    axes.set(xlim=(-0.5, 4 * n - 0.5), ylim=(-7.5, 0.5), aspect="equal", xlabel="filter",
             title="The first filters, and below each its gradient; blue is positive")
    axes.set_xticks(4 * np.arange(n) + 1.5, [str(j) for j in range(n)])
    axes.set_yticks([-1.5, -5.5], ["W", "dW"])
    axes.tick_params(length=0)
    axes.spines[["left", "bottom"]].set_visible(False)


def draw_images(axes, images: np.ndarray, title: str) -> None:
    """images : (rows, columns, H, W) in [0, 1], with a thin line between them."""
    tiles = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=0.25)
    rows, columns, H, W = tiles.shape
    axes.imshow(tiles.swapaxes(1, 2).reshape(rows * H, columns * W), cmap="gray_r", vmin=0, vmax=1,
                interpolation="nearest")
    axes.set_axis_off()
    axes.set_title(title)
