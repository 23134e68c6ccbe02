"""minivae beside PyTorch, JAX and the bare matrix products: python -m benchmarks.step [--quick]

Every contestant runs in a process of its own.  The rounds are interleaved, so that a slow spell of
the machine meets all alike, and the medians are compared.  minivae takes part twice: as it is
installed, with oneDNN if `pip install '.[fast]'` has brought it, and as a plain install.
Writes benchmarks/results/step.json, step.png and scaling.png.

With --neighbours N it times one step beside N busy processes, and a whole training on MNIST, which
must be there (MINIVAE_DATA).  It writes neighbours.json.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter, sleep
from typing import NamedTuple

import matplotlib
from matplotlib.figure import Figure

from benchmarks.workers import CONTESTANTS, PLAIN
from minivae.app.sheets import BLUE, DARK, GREY, ORANGE, STYLE

SMALL = {"hidden": [400], "z": 20, "activation": "relu"}            # 784-400-20
DEEP = {"hidden": [200, 200], "z": 50, "activation": "tanh"}        # 784-200-200-50
PEERS = [name for name in CONTESTANTS if not name.startswith(("minivae", "products"))]

# the training steps that are timed: title -> (net, batch)
STEPS = {
    "784-400-20, batch 128": (SMALL, 128),
    "784-400-20, batch 20": (SMALL, 20),
    "784-400-20, batch 512": (SMALL, 512),
    "784-200-200-50 tanh, batch 20": (DEEP, 20),
    "784-200-200-50 tanh, batch 100": (DEEP, 100),
}

# what the ratio of a row is: how often our time goes into the fastest peer's, which is to be large;
# our time over that of less work; or our number itself, which both are to be small
SPEEDUP, OVERHEAD, VALUE = "theirs / ours", "ours / theirs", "ours"

# the rows of the table: work -> (what the ratio is, what it must reach, what it should reach)
TARGETS = {
    "step, 784-400-20, batch 128, ms": (SPEEDUP, 1.25, 1.35),
    "step, 784-400-20, batch 20, ms": (SPEEDUP, 1.45, 1.6),
    "step, 784-400-20, batch 512, ms": (SPEEDUP, 1.08, 1.15),
    "step, 784-200-200-50 tanh, batch 20, ms": (SPEEDUP, 1.45, 1.6),
    "step, 784-200-200-50 tanh, batch 100, ms": (SPEEDUP, 1.2, 1.35),
    "step / its matrix products, batch 128, ms": (OVERHEAD, 1.6, 1.45),
    "step / its matrix products, batch 512, ms": (OVERHEAD, 1.5, 1.4),
    "log p(x) by importance sampling, ms": (SPEEDUP, 2.0, 2.5),
    f"step, 784-400-20, batch 128{PLAIN}, ms": (SPEEDUP, 1.0, 1.1),
    f"step, 784-400-20, batch 20{PLAIN}, ms": (SPEEDUP, 1.2, 1.35),
    f"step, 784-400-20, batch 512{PLAIN}, ms": (SPEEDUP, 0.95, 1.0),
    f"step, 784-200-200-50 tanh, batch 20{PLAIN}, ms": (SPEEDUP, 1.25, 1.35),
    f"step, 784-200-200-50 tanh, batch 100{PLAIN}, ms": (SPEEDUP, 1.0, 1.1),
    f"step / its matrix products, batch 128{PLAIN}, ms": (OVERHEAD, 1.56, 1.56),
    f"step / its matrix products, batch 512{PLAIN}, ms": (OVERHEAD, 1.49, 1.49),
    f"log p(x) by importance sampling{PLAIN}, ms": (SPEEDUP, 1.8, 1.8),
    "epoch by fit / its bare steps, ms": (OVERHEAD, 1.15, 1.05),
    "start to first step, not cached, s": (VALUE, 10.0, 5.0),
    "start to first step, cached, s": (VALUE, 1.0, 0.6),
    "peak memory while training, MB": (VALUE, 400, 320),
}
# the same beside busy neighbours, one for each core
BESIDE_NEIGHBOURS = {
    "mean step / JAX's, ms": (OVERHEAD, 1.5, 1.2),
    "mean step / PyTorch's, ms": (OVERHEAD, 0.25, 0.1),
    "minivae train --data mnist / its quiet time": (OVERHEAD, 4.0, 3.0),
}


class Measured(NamedTuple):
    """Our number, the number that it is compared with, and whose that is.

    ratios are given where each round has its own: their median counts, not that of the two numbers.
    """

    ours: float
    against: str
    theirs: float
    ratios: list[float] | None = None


def row(work, measured):
    """One row of the table, as it stands in step.json."""
    what, must, aim = (TARGETS | BESIDE_NEIGHBOURS)[work]
    ours, against, theirs, ratios = measured
    ratio = {SPEEDUP: theirs / ours, OVERHEAD: ours / theirs, VALUE: ours}[what]
    if ratios:
        ratio = median(ratios)
    reached = ratio >= must if what == SPEEDUP else ratio <= must
    found = {"work": work, "ours": ours, "against": against, "theirs": theirs, "ratio": ratio,
             "must": must, "aim": aim, "reached": bool(reached)}
    return {**found, "ratios": ratios} if ratios else found


# --- the contestants ------------------------------------------------------------------------------


def start_worker(name, env=None):
    """A new process of benchmarks.workers."""
    command = [sys.executable, "-m", "benchmarks.workers", name]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                            stderr=subprocess.DEVNULL, text=True, env=env)


class Contestant:
    """A worker process that answers one question at a time."""

    def __init__(self, name):
        self.process = start_worker(name)

    def ask(self, **question):
        """The answer of the worker, {"missing": why} where it has none."""
        print(json.dumps(question), file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        sleep(0.05)                              # its threads sleep before the next one's turn
        if not answer:
            return {"missing": f"the process ended ({self.process.poll()})"}
        return json.loads(answer)

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def side_by_side(team, rounds, percentile, questions):
    """{title: {name: ms}} twice: the given percentile of the times, and [quartile, quartile].

    In every round each question goes to each contestant in turn, so a slow spell of the machine
    meets all alike.  Who cannot take part is left out.
    """
    times = {title: {name: [] for name in team} for title in questions}
    left_out = set()
    for _ in range(rounds):
        for title, question in questions.items():
            for name in [name for name in team if name not in left_out]:
                answer = team[name].ask(**question)
                if "missing" in answer:
                    left_out.add(name)
                else:
                    times[title][name] += answer["ms"]

    def percentiles(ms):
        return quantiles(ms, n=100, method="inclusive") if len(ms) > 1 else 99 * ms

    found = {title: {name: percentiles(ms) for name, ms in by_name.items() if ms}
             for title, by_name in times.items()}
    wanted = {title: {name: p[percentile - 1] for name, p in by_name.items()}
              for title, by_name in found.items()}
    quartiles = {title: {name: [p[24], p[74]] for name, p in by_name.items()}
                 for title, by_name in found.items()}
    return wanted, quartiles


def in_new_process(name, question, env=None):
    """(seconds from the start of a process to its answer, its peak memory in MB); None for none."""
    start = perf_counter()
    process = start_worker(name, {**os.environ, **(env or {})})
    print(json.dumps(question), file=process.stdin, flush=True)
    answer = process.stdout.readline()
    seconds = perf_counter() - start             # what the process needs to end is not counted
    process.communicate()
    found = json.loads(answer) if answer else {"missing": "no answer"}
    return None if "missing" in found else (seconds, found["rss"])


def fastest_peer(numbers):
    """The name and the number of the peer whose number is smallest."""
    peers = {name: numbers[name] for name in PEERS if name in numbers}
    if not peers:
        return "no peer installed", float("nan")
    return min(peers.items(), key=lambda item: item[1])


def against_fastest_peer(numbers, ours="minivae"):
    """Our number beside that of the best peer."""
    return Measured(numbers[ours], *fastest_peer(numbers))


# --- the measurements -----------------------------------------------------------------------------


def measure(peers, quick, rows=60_000, percentile=50, log=print):
    """All rows of the table, every contestant's times and quartiles, and the scaling curves."""
    ours = [name for name in CONTESTANTS if name not in PEERS]
    team = {name: Contestant(name) for name in [*ours, *peers]}
    try:
        times, quartiles = time_steps(team, quick, percentile)
        for title, found in times.items():
            log(title)
            for name, ms in found.items():
                low, high = quartiles[title][name]
                log(f"    {name:26}{ms:9.3f} ms   quartiles {low:.3f} to {high:.3f}")
        measured = compare_steps(times)
        measured |= compare_epoch(team["minivae"], quick, rows)
        measured |= compare_log_px(team, quick, percentile)
        scaling = time_per_image(team, quick, percentile)
        for batch, found in scaling.items():
            log("batch", batch, {name: round(us, 1) for name, us in found.items()})
    finally:
        for contestant in team.values():
            contestant.close()
    measured |= compare_starts(peers, quick)
    measured |= compare_memory(peers, rows)
    return [row(work, measured[work]) for work in TARGETS], times, quartiles, scaling


def time_steps(team, quick, percentile):
    """{title: {name: ms per step}}, and their quartiles."""
    rounds, n = (3, 5) if quick else (15, 20)
    questions = {title: dict(task="steps", net=net, batch=batch, n=n)
                 for title, (net, batch) in STEPS.items()}
    return side_by_side(team, rounds, percentile, questions)


def compare_steps(times):
    """A step beside the fastest peer's, and a step of the small net beside its matrix products."""
    measured = {}
    for title, (net, batch) in STEPS.items():
        found = times[title]
        for plain in ("", PLAIN):
            step, products = found["minivae" + plain], found["products" + plain]
            measured[f"step, {title}{plain}, ms"] = against_fastest_peer(found, "minivae" + plain)
            if net is SMALL:
                work = f"step / its matrix products, batch {batch}{plain}, ms"
                measured[work] = Measured(step, "products", products)
    return measured


def compare_epoch(ours, quick, rows):
    """An epoch of fit beside as many bare steps.

    Each epoch stands between two stretches of bare steps, and all times are sums: the machine's
    pace drifts, and its hiccups then count on both sides.
    """
    question, steps = dict(net=SMALL, batch=128), -(-rows // 128)

    def bare_steps():
        return sum(ours.ask(task="steps", n=steps, **question)["ms"])

    bare, epochs, ratios = [bare_steps()], [], []
    for _ in range(1 if quick else 9):
        epochs.append(ours.ask(task="epoch", rows=rows, **question)["ms"][0])
        bare.append(bare_steps())
        ratios.append(2 * epochs[-1] / (bare[-2] + bare[-1]))
    return {"epoch by fit / its bare steps, ms":
            Measured(median(epochs), "bare steps", median(bare), ratios)}


def compare_log_px(team, quick, percentile):
    """log p(x) of a few images, beside eager PyTorch, the only peer for which it is written."""
    names = ("minivae", "minivae" + PLAIN, "PyTorch eager")
    beside = {name: team[name] for name in names if name in team}
    images, samples = (5, 200) if quick else (200, 5000)
    question = dict(task="log_px", net=DEEP, rows=images, samples=samples)
    found, _ = side_by_side(beside, 1 if quick else 3, percentile, {"log p(x)": question})
    return {f"log p(x) by importance sampling{plain}, ms":
            against_fastest_peer(found["log p(x)"], "minivae" + plain) for plain in ("", PLAIN)}


def time_per_image(team, quick, percentile):
    """{batch: {name: us per image}} of a step of the small net."""
    # compiled PyTorch would compile anew for every size
    runners = {name: one for name, one in team.items() if name != "PyTorch compiled"}
    sizes = (1, 16, 256) if quick else [2**k for k in range(13)]
    n = 3 if quick else 6
    questions = {batch: dict(task="steps", net=SMALL, batch=batch, n=n, warm=5) for batch in sizes}
    found, _ = side_by_side(runners, 2 if quick else 6, percentile, questions)
    return {batch: {name: 1e3 * ms / batch for name, ms in times.items()}
            for batch, times in found.items()}


def compare_starts(peers, quick):
    """Seconds from the start of a process to its first step, kernels not compiled and cached."""
    question = {"task": "steps", "net": SMALL, "batch": 128, "rows": 512,
                "n": -2, "warm": 0}              # one step and out: a worker takes n + 3
    names = ["minivae", *(name for name in peers if name in ("PyTorch eager", "JAX jit"))]
    with tempfile.TemporaryDirectory() as cache:
        env = {"NUMBA_CACHE_DIR": cache}
        not_cached, _ = in_new_process("minivae", question, env)
        runs = {name: [in_new_process(name, question, env) for _ in range(1 if quick else 3)]
                for name in names}
    seconds = {name: median(s for s, _ in found)
               for name, found in runs.items() if None not in found}
    peer = fastest_peer(seconds)
    return {"start to first step, not cached, s": Measured(not_cached, *peer),
            "start to first step, cached, s": Measured(seconds["minivae"], *peer)}


def compare_memory(peers, rows):
    """The peak memory of a process that trains for an epoch, in MB, beside one peer's."""
    beside = [name for name in peers if name in ("PyTorch eager", "JAX jit")][:1]
    question = {"task": "epoch", "net": SMALL, "batch": 128, "rows": rows}
    found = {name: in_new_process(name, question) for name in ["minivae", *beside]}
    megabytes = {name: answer[1] for name, answer in found.items() if answer is not None}
    return {"peak memory while training, MB": against_fastest_peer(megabytes)}


def beside_neighbours(peers, neighbours, seconds=8.0):
    """{name: mean ms of a step of the small net at batch 128}, beside so many busy processes.

    A mean and not a median: whoever waits for a thread that has no core waits long, and now and
    then.  Each contestant steps for `seconds`, twice, in turns.
    """
    names = [name for name in CONTESTANTS if name.startswith("minivae")]
    names += [name for name in peers if name in ("PyTorch fused Adam", "JAX jit")]
    team = {name: Contestant(name) for name in names}
    times = {name: [] for name in team}
    try:
        with busy_processes(neighbours):
            for _ in range(2):
                for name, one in team.items():
                    begin = perf_counter()
                    while perf_counter() - begin < seconds:
                        times[name] += one.ask(task="steps", net=SMALL, batch=128, n=10)["ms"]
    finally:
        for one in team.values():
            one.close()
    return {name: sum(ms) / len(ms) for name, ms in times.items()}


@contextmanager
def busy_processes(n):
    """Within `with`, n processes want a core each."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(n)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def train_beside_neighbours(neighbours, epochs=10):
    """Seconds of a whole `minivae train --data mnist`, of so many epochs: beside them, and quiet.

    From its start to its end, with its pictures; twice each, in turns, and the sums are compared.
    """
    command = [sys.executable, "-m", "minivae", "train", "--data", "mnist", "--epochs", str(epochs)]
    seconds = [0.0, 0.0]
    for _ in range(2):
        for i, n in enumerate((neighbours, 0)):
            with tempfile.TemporaryDirectory() as folder, busy_processes(n):
                begin = perf_counter()
                subprocess.run([*command, "--out", f"{folder}/run"], check=True,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                seconds[i] += perf_counter() - begin
    return Measured(seconds[0], f"quiet, {epochs} epochs twice", seconds[1])


# --- the record -----------------------------------------------------------------------------------


def machine():
    """What ran the measurements: the processor, and the versions of the packages."""
    lines = []
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        cpu = platform.processor()
    versions = {}
    for package in ("numpy", "numba", "onednn-cpu-gomp", "torch", "jax"):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    flags = next((line for line in lines if line.startswith("flags")), "").split()
    widest = next((name for name in ("avx512f", "avx2", "avx") if name in flags), "none known")
    return {"cpu": cpu, "instructions": widest, "cores": len(os.sched_getaffinity(0)),
            "python": platform.python_version(), **versions,
            "OPENBLAS_CORETYPE": os.environ.get("OPENBLAS_CORETYPE", "OpenBLAS's choice"),
            "load before": os.getloadavg()[0]}


def show(table):
    print(f"\n{'work':64}{'minivae':>9}  {'against':22}{'theirs':>9}{'ratio':>8}{'must':>7}"
          f"{'aim':>6}")
    for r in table:
        short = "" if r["reached"] else "   short"
        print(f"{r['work']:64}{r['ours']:9.3f}  {r['against']:22}{r['theirs']:9.3f}"
              f"{r['ratio']:8.2f}{r['must']:7.4g}{r['aim']:6.4g}{short}")


def draw(record, folder):
    """Write step.png, a bar for each contestant and step, and scaling.png, time against batch."""
    step_figure(record["ms per step"]).savefig(folder / "step.png", dpi=200)
    scaling_figure(record["us per image"]).savefig(folder / "scaling.png", dpi=200)


def step_figure(times):
    """times[step][contestant] in ms  ->  a panel for each step, a column for each net."""
    nets = {}
    for title in times:
        net, batch = title.split(", batch ")
        nets.setdefault(net, []).append(int(batch))
    # 8.4 inches are shown on 838 pixels, so that a point of type is 1.4 pixels high
    height = max(len(batches) for batches in nets.values())
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8.4, 0.8 + 2.25 * height), layout="constrained")
        figure.suptitle("The time of a training step: less is better", x=0.01, ha="left")
        panels = figure.subplots(height, len(nets), squeeze=False)
        for column, (net, batches) in zip(panels.T, nets.items()):
            for axes, batch in zip(column, sorted(batches)):
                _draw_bars(axes, times[f"{net}, batch {batch}"])
                axes.set_title(f"{net}, batch {batch}", fontsize=10)
            for axes in column[len(batches):]:
                axes.set_axis_off()
            column[len(batches) - 1].set_xlabel("ms per step")
        if not panels[-1, -1].axison:                      # there is room for what names mean
            for row, (color, words) in enumerate((
                    (ORANGE, "minivae"), (BLUE, "another library"),
                    (GREY, "only the matrix products of the step:\nthe least that it can take"),
                    (DARK, "plain install: without oneDNN,\nwhich pip install '.[fast]' brings"))):
                panels[-1, -1].text(0, 0.9 - 0.24 * row, words, color=color, va="top", fontsize=9)
    return figure


def _draw_bars(axes, found):
    """A bar for each contestant, the quickest above, its time at its end."""
    names = sorted(found, key=found.get, reverse=True)
    bars = axes.barh([_in_words(name) for name in names], [found[name] for name in names],
                     color=[_color_of(name) for name in names])
    axes.bar_label(bars, fmt="%.2f", padding=2, fontsize=8)
    axes.set_xlim(0, 1.15 * max(found.values()))
    axes.tick_params(axis="y", labelsize=8, length=0)
    axes.tick_params(axis="x", labelsize=8)


def _in_words(name):
    return name.replace("products", "products alone")


def _color_of(name):
    kinds = {"minivae": ORANGE, "products": GREY}
    return kinds.get(name.removesuffix(PLAIN), BLUE)


def scaling_figure(us_per_image):
    """us_per_image[batch][contestant]  ->  a line for each contestant, its name at its end."""
    styles = dict(zip(("-", "--", ":"), ("o", "s", "^")))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8.4, 4.8), layout="constrained")
        axes = figure.subplots()
        drawn = {}
        for name in CONTESTANTS:
            points = [(int(batch), us[name]) for batch, us in us_per_image.items() if name in us]
            if not points:
                continue
            color = _color_of(name)
            style = list(styles)[sum(other == color for other in drawn.values()) % len(styles)]
            drawn[name] = color
            axes.loglog(*zip(*points), style, marker=styles[style], color=color, markersize=4,
                        label=_in_words(name))
        batches = [int(batch) for batch in us_per_image]
        axes.set_xticks(batches, batches)
        axes.minorticks_off()
        axes.yaxis.set_major_formatter("{x:g}")
        axes.set(xlabel="batch size", ylabel="microseconds per image",
                 title="A training step of 784-400-20: its time for each image, less is better")
        axes.legend()
    return figure


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few rounds: a look, not a record")
    parser.add_argument("--ours", action="store_true", help="leave the peers out")
    parser.add_argument("--neighbours", type=int, metavar="N",
                        help="time one step beside N busy processes, and nothing else")
    parser.add_argument("--rows", type=int, default=60_000, help="images of an epoch")
    parser.add_argument("--percentile", type=int, default=50,
                        help="of the times; below 50 where the machine is shared with others")
    parser.add_argument("--draw", action="store_true",
                        help="draw the pictures of the stored record again, and measure nothing")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args(argv)
    about = machine()
    installed = [name for name in PEERS
                 if about["jax" if "JAX" in name else "torch"] != "not installed"]
    peers = [] if args.ours else installed
    print(*(f"{key}: {value}" for key, value in about.items()), sep="   ")
    for name in set(PEERS) - set(peers):
        print(f"{name} is left out: {'--ours' if args.ours else 'not installed'}")
    args.out.mkdir(parents=True, exist_ok=True)
    if args.neighbours:
        found = beside_neighbours(peers, args.neighbours)
        table = [row(work, Measured(found["minivae"], peer, found[peer])) for work, peer in
                 zip(BESIDE_NEIGHBOURS, ("JAX jit", "PyTorch fused Adam")) if peer in found]
        table.append(row(list(BESIDE_NEIGHBOURS)[-1], train_beside_neighbours(args.neighbours)))
        show(table)
        record = {"machine": about, "neighbours": args.neighbours, "table": table,
                  "mean ms per step": found}
        (args.out / "neighbours.json").write_text(json.dumps(record, indent=1) + "\n")
        return
    if args.draw:
        draw(json.loads((args.out / "step.json").read_text()), args.out)
        print(f"wrote step.png and scaling.png in {args.out}")
        return
    table, times, quartiles, scaling = measure(peers, args.quick, args.rows, args.percentile)
    show(table)
    record = {"machine": about, "percentile": args.percentile, "table": table,
              "ms per step": times, "quartiles": quartiles, "us per image": scaling}
    (args.out / "step.json").write_text(json.dumps(record, indent=1) + "\n")
    draw(record, args.out)
    print(f"wrote step.json, step.png and scaling.png in {args.out}")


if __name__ == "__main__":
    main()
