"""How honest is the error bar?  Random smooth functions whose true gradient is known.

    python -m benchmarks.calibration

Each function is made of elementary functions.  The scales of its value, of its argument and of its
curvature are drawn over 16 decades each.  `check_function` gets it twice: with its true gradient,
every entry of which must lie within the bar and must not FAIL, and with one that is 1e-6 of itself
too large, which it should FAIL.

The truth comes from dual numbers of 80 digits, by mpmath: longdouble has 19, of which
1e8 + f - 1e8 leaves eleven, and fractions have neither exp nor sin.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from mpmath import mp, mpf

from minivae import check_function

mp.dps = 80
FAULT = 1e-6            # the relative fault that is planted
SCALES = ("value", "argument", "curvature")
BLUE, ORANGE, GREEN = "#0072b2", "#d55e00", "#009e73"
U = np.finfo(np.float64).eps


# --- dual numbers: a value and its derivative, to 80 digits ---------------------------------------


class Dual:
    """value + slope * e, with e^2 = 0: what f(x + e) is made of."""

    def __init__(self, value, slope=0):
        self.value, self.slope = mpf(value), mpf(slope)

    def __add__(self, other):
        other = _dual(other)
        return Dual(self.value + other.value, self.slope + other.slope)

    def __mul__(self, other):
        other = _dual(other)
        return Dual(self.value * other.value, self.slope * other.value + self.value * other.slope)

    __radd__, __rmul__ = __add__, __mul__

    def __sub__(self, other):
        return self + -1.0 * _dual(other)


def _dual(number) -> Dual:
    return number if isinstance(number, Dual) else Dual(float(number))


# name -> (the function in float64, the function and its derivative with many digits)
ELEMENTARY: dict[str, tuple[Callable, Callable, Callable]] = {
    "sin": (np.sin, mp.sin, mp.cos),
    "cos": (np.cos, mp.cos, lambda u: -mp.sin(u)),
    "exp": (np.exp, mp.exp, mp.exp),
    "tanh": (np.tanh, mp.tanh, lambda u: 1 / mp.cosh(u) ** 2),
    "arctan": (np.arctan, mp.atan, lambda u: 1 / (1 + u**2)),
    "sigmoid": (lambda u: 1 / (1 + np.exp(-u)), lambda u: 1 / (1 + mp.exp(-u)),
                lambda u: 1 / (2 * mp.cosh(u / 2)) ** 2),
    "softplus": (lambda u: np.logaddexp(0, u), lambda u: mp.log1p(mp.exp(u)),
                 lambda u: 1 / (1 + mp.exp(-u))),
    "square": (lambda u: u**2, lambda u: u**2, lambda u: 2 * u),
    "cube": (lambda u: u**3, lambda u: u**3, lambda u: 3 * u**2),
    "bump": (lambda u: np.exp(-(u**2)), lambda u: mp.exp(-(u**2)),
             lambda u: -2 * u * mp.exp(-(u**2))),
    "log(1 + u^2)": (lambda u: np.log1p(u**2), lambda u: mp.log1p(u**2),
                     lambda u: 2 * u / (1 + u**2)),
    "sqrt(1 + u^2)": (lambda u: np.sqrt(1 + u**2), lambda u: mp.sqrt(1 + u**2),
                      lambda u: u / mp.sqrt(1 + u**2)),
    # these end, or are flat, somewhere
    "log": (np.log, mp.log, lambda u: 1 / u),
    "sqrt": (np.sqrt, mp.sqrt, lambda u: 1 / (2 * mp.sqrt(u))),
    "1/u": (lambda u: 1 / u, lambda u: 1 / u, lambda u: -1 / u**2),
    "u^9": (lambda u: u**9, lambda u: u**9, lambda u: 9 * u**8),
    "exp(-1/u^2)": (lambda u: np.exp(-1 / u**2), lambda u: mp.exp(-1 / u**2),
                    lambda u: 2 / u**3 * mp.exp(-1 / u**2)),
}
ANYWHERE = list(ELEMENTARY)[:12]


def elementary(name: str, u):
    """One elementary function of a float64 or of a Dual."""
    narrow, wide, derivative = ELEMENTARY[name]
    if isinstance(u, Dual):
        return Dual(wide(u.value), derivative(u.value) * u.slope)
    return narrow(u)


# --- random functions -----------------------------------------------------------------------------
# Each maker draws a function of u, which is float64 or Dual; `at` is where u stands.  It also gives
# the function's rate (one over the length on which it changes) and the largest term in its sums.

Made = tuple[Callable, float, float]


def chain(rng: np.random.Generator, depth: int) -> Callable:
    """A composition of `depth` elementary functions, with affine maps of order 1 between them."""
    steps = [(str(rng.choice(ANYWHERE)), float(rng.normal()), float(rng.normal()))
             for _ in range(depth)]

    def value(u):
        for name, a, b in steps:
            u = a * elementary(name, u) + b
        return u
    return value


def composition(rng: np.random.Generator, at: float) -> Made:
    return chain(rng, int(rng.integers(1, 5))), 1.0, 1.0


def weighted_sum(rng: np.random.Generator, at: float) -> Made:
    parts = [(10.0 ** rng.uniform(-3, 0), chain(rng, int(rng.integers(1, 4)))) for _ in range(3)]
    return lambda u: sum((size * part(u) for size, part in parts), 0.0), 1.0, 1.0


def product(rng: np.random.Generator, at: float) -> Made:
    a, b = chain(rng, 2), chain(rng, 2)
    return lambda u: a(u) * b(u), 1.0, 1.0


def cancellation(rng: np.random.Generator, at: float) -> Made:
    """(C + f) - C: the sum has lost the last digits of f."""
    large, inner = 10.0 ** rng.uniform(0, 8), chain(rng, int(rng.integers(1, 5)))
    return lambda u: (inner(u) + large) - large, 1.0, large


def fast(rng: np.random.Generator, at: float) -> Made:
    """sin(1e6 u), far from 0."""
    rate = 10.0 ** rng.uniform(1, 6)
    return lambda u: elementary("sin", rate * u), rate, 1.0


def steep(rng: np.random.Generator, at: float) -> Made:
    """exp(50 u)."""
    rate = rng.uniform(5, 100)
    sign = float(rng.choice([-1, 1]))
    return lambda u: elementary("exp", sign * rate * u), rate, 1.0


def singular(rng: np.random.Generator, at: float) -> Made:
    """log, sqrt or 1/u, near the point where it ends."""
    name, near = str(rng.choice(["log", "sqrt", "1/u"])), 10.0 ** rng.uniform(-4, 0)
    return lambda u: elementary(name, u + (near - at)), 1 / near, 1.0


def flat(rng: np.random.Generator, at: float) -> Made:
    """u^9 and exp(-1/u^2), near 0."""
    name, near = str(rng.choice(["u^9", "exp(-1/u^2)"])), 10.0 ** rng.uniform(-1.2, 0)
    return lambda u: elementary(name, u + (near - at)), near**-3, 1.0


def bump(rng: np.random.Generator, at: float) -> Made:
    """A bump much narrower than the first step, on something smooth."""
    rate, inner = 10.0 ** rng.uniform(1, 5), chain(rng, 1)
    shift = float(rng.normal() - rate * at)
    return lambda u: elementary("bump", rate * u + shift) + inner(u), rate, 1.0


KINDS = [composition, weighted_sum, product, cancellation, fast, steep, singular, flat, bump]


class Sample:
    """One random function at one point, with its true gradient there.

    f(x) = A g(sum_i k_i (x_i - c_i)).  A is the scale of the value, X that of the argument (the x_i
    are of its order) and K that of the curvature (the k_i are).
    """

    def __init__(self, rng: np.random.Generator):
        maker, n = KINDS[int(rng.integers(len(KINDS)))], int(rng.choice([1, 1, 2, 4]))
        self.kind = maker.__name__
        self.A, self.K, self.X = 10.0 ** rng.uniform(-8, 8, 3)
        self.x = self.X * rng.uniform(0.3, 3, n) * rng.choice([-1.0, 1.0], n)
        self.k = self.K * rng.uniform(0.3, 3, n)
        self.c = self.x - rng.normal(size=n) / self.k
        self.g, self.rate, self.largest = maker(rng, float(sum(self.k * (self.x - self.c))))
        # the length on which f changes is 1 / (K rate)
        self.scales = dict(zip(SCALES, (self.A, self.X, self.K * self.rate)))
        self.apart = self.why_apart()

    def f(self, x) -> float:
        """The function, in float64 or of a list of Duals."""
        return self.A * self.g(sum(k * (xi - c) for k, xi, c in zip(self.k, x, self.c)))

    def why_apart(self) -> str:
        """Why no finite difference in float64 can tell the gradient here; "" where one may."""
        duals = [[Dual(xi, i == j) for i, xi in enumerate(self.x)] for j in range(len(self.x))]
        # each entry is rounded once
        self.gradient = np.array([float(self.f(x).slope) for x in duals])
        value = self.f(self.x)
        if not np.isfinite([value, *self.gradient]).all():
            return "its value or its gradient overflows"
        # one over the length: as the maker tells it, or as f'/f does
        steepest = np.abs(self.gradient).max() / max(self.A, abs(value))
        if max(self.K * self.rate, steepest) * self.X > 1e9:
            return "its length is less than 1e7 gaps between the float64 numbers around x"
        changes = np.abs(self.gradient) / (self.k * self.rate)
        if (changes < 1000 * U * self.largest * self.A).any():
            return "it changes over its length by less than 1000 roundings of its largest term"
        return ""


# --- the checks -----------------------------------------------------------------------------------


def check(sample: Sample, fault: float) -> tuple[str, np.ndarray, np.ndarray]:
    """The verdict on the gradient times 1 + fault, the numeric gradient and its bar."""
    report = check_function(lambda x: float(sample.f(x)), lambda x: sample.gradient * (1 + fault),
                            sample.x)
    (row,) = [row for row in report.rows if row.name == "x"]
    return row.verdict, *report.gradients["x"][1:]


def measure(functions: int, seed: int = 0) -> dict:
    """Check so many functions; one dict of plain numbers for each, and why others stand apart."""
    checked, apart, drawn = [], {}, 0
    while len(checked) < functions:
        with np.errstate(all="ignore"):
            sample = Sample(np.random.default_rng([seed, drawn]))
        drawn += 1
        if sample.apart:
            apart[sample.apart] = apart.get(sample.apart, 0) + 1
            continue
        verdict, numeric, bar = check(sample, 0.0)
        size = np.abs(sample.gradient).max()
        error = np.abs(numeric - sample.gradient)
        checked.append({"kind": sample.kind, **sample.scales, "verdict": verdict,
                        "entries": len(bar), "within": int((error <= bar).sum()),
                        "error": float(error.max() / size), "bar": float(bar.max() / size),
                        "with fault": check(sample, FAULT)[0]})
    return {"drawn": drawn, "apart": apart, "checked": checked}


def summary(checked: list[dict]) -> dict:
    """The counts over some functions."""
    def verdicts(key: str, verdict: str) -> int:
        return sum(one[key] == verdict for one in checked)

    return {"functions": len(checked), "entries": sum(one["entries"] for one in checked),
            "within": sum(one["within"] for one in checked),
            "false FAIL": verdicts("verdict", "FAIL") + verdicts("verdict", "KINK"),
            "INCONCLUSIVE": verdicts("verdict", "INCONCLUSIVE"),
            "fault FAILed": verdicts("with fault", "FAIL")}


def by_decade(checked: list[dict], scale: str) -> dict[str, dict]:
    """The counts, and the median relative error and bar, for each decade of one scale."""
    found = {}
    for decade in range(-8, 8):
        some = [one for one in checked if decade <= np.log10(one[scale]) < decade + 1]
        if some:
            found[f"1e{decade:+d}"] = {**summary(some),
                                       "error": float(np.median([one["error"] for one in some])),
                                       "bar": float(np.median([one["bar"] for one in some]))}
    return found


# --- the record -----------------------------------------------------------------------------------


def draw(record: dict, path: Path) -> None:
    """The error beside its bar, by decade of each scale."""
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    axes = figure.subplots(1, 3, sharey=True)
    for ax, scale in zip(axes, SCALES):
        decades = record["by decade"][scale]
        x = [10.0 ** (int(name[2:]) + 0.5) for name in decades]
        ax.axhline(FAULT, color=GREEN, ls="--", label="the fault of 1e-6")
        for key, color, label in (("bar", BLUE, "error bar"), ("error", ORANGE, "true error")):
            ax.loglog(x, [row[key] for row in decades.values()], "o-", ms=4, color=color,
                      label=f"{label}, median")
        ax.set_xlabel(f"scale of the {scale}")
        ax.set_xticks([1e-8, 1e-4, 1, 1e4, 1e8])
        ax.grid(alpha=0.3)
    axes[0].set_ylabel("relative to the gradient")
    axes[0].legend(fontsize=8, loc=(0.2, 0.68))
    figure.savefig(path, dpi=150)


def show(record: dict) -> None:
    """Print the counts as a table in Markdown."""
    print("\n| functions | entries | within the bar | false FAIL | INCONCLUSIVE "
          "| fault of 1e-6 FAILed |")
    print("|---|---|---|---|---|---|")
    for name, row in {**record["by kind"], "all": record["all"]}.items():
        print(line(name, row))


def line(name: str, row: dict) -> str:
    """One line of the table."""
    n = row["functions"]
    return (f"| {n} {name} | {row['entries']} | {100 * row['within'] / row['entries']:.2f} % "
            f"| {row['false FAIL']} | {100 * row['INCONCLUSIVE'] / n:.2f} % "
            f"| {100 * row['fault FAILed'] / n:.1f} % |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--functions", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    started = time.process_time()
    found = measure(arguments.functions, arguments.seed)
    checked = found.pop("checked")
    record = {
        **found, "all": summary(checked),
        "by kind": {maker.__name__: summary([one for one in checked if one["kind"] ==
                                             maker.__name__]) for maker in KINDS},
        "by decade": {scale: by_decade(checked, scale) for scale in SCALES},
        "seconds of one core": round(time.process_time() - started)}
    show(record)
    arguments.out.mkdir(exist_ok=True)
    (arguments.out / "calibration.json").write_text(json.dumps(record, indent=1) + "\n")
    draw(record, arguments.out / "calibration.png")
    print(f"\n{record['seconds of one core']} s of one core; "
          f"wrote calibration.json and calibration.png into {arguments.out}")


if __name__ == "__main__":
    main()
