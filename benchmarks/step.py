"""minivae beside PyTorch, JAX and the bare matrix products: python -m benchmarks.step [--quick]

Every contestant runs in a process of its own; the rounds are interleaved, so that a disturbance of the
machine meets all alike, and the medians are compared.  Writes benchmarks/results/step.json, step.png
and scaling.png.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter, sleep

from benchmarks.workers import CONTESTANTS

SMALL = {"hidden": [400], "z": 20, "activation": "relu"}            # 784-400-20
DEEP = {"hidden": [200, 200], "z": 50, "activation": "tanh"}        # 784-200-200-50
PEERS = [name for name in CONTESTANTS if name not in ("minivae", "products")]
# (title, net, batch, must, aim): at least so many times faster than the fastest peer
STEPS = [("784-400-20, batch 128", SMALL, 128, 1.2, 1.3), ("784-400-20, batch 20", SMALL, 20, 1.35, 1.5),
         ("784-400-20, batch 512", SMALL, 512, 1.07, 1.1), ("784-200-200-50 tanh, batch 20", DEEP, 20, 1.3, 1.5),
         ("784-200-200-50 tanh, batch 100", DEEP, 100, 1.3, 1.5)]
FLOORS = {128: (1.2, 1.08), 512: (1.12, 1.05), 20: (1.4, 1.25)}     # batch: step / products, at most


class Contestant:
    """A worker process that answers one question at a time."""

    def __init__(self, name):
        self.process = subprocess.Popen([sys.executable, "-m", "benchmarks.workers", name], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.DEVNULL, text=True)

    def ask(self, **question):
        print(json.dumps(question), file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        sleep(0.05)                                                 # its threads go to sleep before the next one's turn
        return json.loads(answer) if answer else {"missing": f"the process ended ({self.process.poll()})"}

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def side_by_side(team, rounds, percentile, questions):
    """{title: {name: ms}}: in every round each question goes to each contestant in turn; who cannot take part is left out.

    So a slow spell of the machine meets all alike.  Percentile 50 is the median.
    """
    times, out = {title: {name: [] for name in team} for title in questions}, set()
    for _ in range(rounds):
        for title, question in questions.items():
            for name in [name for name in team if name not in out]:
                answer = team[name].ask(**question)
                if "missing" in answer:
                    out.add(name)
                else:
                    times[title][name] += answer["ms"]
    at = lambda ms: quantiles(ms, n=100, method="inclusive")[percentile - 1] if len(ms) > 1 else ms[0]
    return {title: {name: at(ms) for name, ms in found.items() if ms} for title, found in times.items()}


def fresh(name, question, env=None):
    """(seconds from the start of a new process to its answer, its peak RSS in MB); None when it cannot."""
    start = perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.workers", name], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               stderr=subprocess.DEVNULL, text=True, env={**os.environ, **(env or {})})
    print(json.dumps(question), file=process.stdin, flush=True)
    answer = process.stdout.readline()
    seconds = perf_counter() - start                                # what the process needs to end is not counted
    process.communicate()
    found = json.loads(answer) if answer else {"missing": "no answer"}
    return None if "missing" in found else (seconds, found["rss"])


def machine():
    try:
        cpu = next(line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name"))
    except (OSError, StopIteration):
        cpu = platform.processor()
    versions = {}
    for package in ("numpy", "numba", "torch", "jax"):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return {"cpu": cpu, "cores": len(os.sched_getaffinity(0)), "python": platform.python_version(), **versions,
            "OPENBLAS_CORETYPE": os.environ.get("OPENBLAS_CORETYPE", "OpenBLAS's choice"), "load before": os.getloadavg()[0]}


def row(work, ours, against, other, must, aim, ratio, at_most=False):
    ok = ratio <= must if at_most else ratio >= must
    return {"work": work, "ours": ours, "against": against, "theirs": other, "ratio": ratio, "must": must, "aim": aim, "reached": bool(ok)}


def fastest(times):
    peers = {name: times[name] for name in PEERS if name in times}
    return min(peers.items(), key=lambda item: item[1]) if peers else ("no peer installed", float("nan"))


def measure(peers, quick, rows=60_000, percentile=50, log=print):
    """All rows of the table, the times of every contestant, and the scaling curves."""
    table = []
    rounds, n = (3, 5) if quick else (15, 20)
    team = {name: Contestant(name) for name in ["minivae", "products", *peers]}
    try:
        every = side_by_side(team, rounds, percentile, {title: dict(task="steps", net=net, batch=batch, n=n) for title, net, batch, *_ in STEPS})
        for title, net, batch, must, aim in STEPS:
            times = every[title]
            log(title, {name: round(ms, 3) for name, ms in times.items()})
            name, theirs = fastest(times)
            table.append(row(f"step, {title}, ms", times["minivae"], name, theirs, must, aim, theirs / times["minivae"]))
            if net is SMALL:
                table.append(row(f"step / its matrix products, batch {batch}, ms", times["minivae"], "products", times["products"],
                                 *FLOORS[batch], times["minivae"] / times["products"], at_most=True))
        # each epoch between two bare stretches of as many steps, all summed: the machine's pace drifts, and its hiccups count on both sides
        ours, question, steps = team["minivae"], dict(net=SMALL, batch=128), -(-rows // 128)
        stretch = lambda: sum(ours.ask(task="steps", n=steps, **question)["ms"])
        bare, epochs, ratios = [stretch()], [], []
        for _ in range(1 if quick else 9):
            epochs.append(ours.ask(task="epoch", rows=rows, **question)["ms"][0])
            bare.append(stretch())
            ratios.append(2 * epochs[-1] / (bare[-2] + bare[-1]))
        table.append(row("epoch by fit / its bare steps, ms", median(epochs), "bare steps", median(bare), 1.15, 1.05, median(ratios), at_most=True))
        torch = [name for name in peers if name == "PyTorch eager"]
        question = dict(task="log_px", net=DEEP, rows=5 if quick else 200, samples=200 if quick else 5000)
        found = side_by_side({name: team[name] for name in ["minivae", *torch]}, 1 if quick else 3, percentile, {"log p(x)": question})["log p(x)"]
        name, theirs = fastest(found)
        table.append(row("log p(x) by importance sampling, ms", found["minivae"], name, theirs, 1.2, 1.4, theirs / found["minivae"]))
        runners = {name: one for name, one in team.items() if name != "PyTorch compiled"}         # it would compile anew for every size
        sizes = (1, 16, 256) if quick else [2**k for k in range(13)]
        found = side_by_side(runners, 2 if quick else 6, percentile,
                             {batch: dict(task="steps", net=SMALL, batch=batch, n=3 if quick else 6, warm=5) for batch in sizes})
        scaling = {batch: {name: 1e3 * ms / batch for name, ms in times.items()} for batch, times in found.items()}       # us per image
        for batch, times in scaling.items():
            log("batch", batch, {name: round(us, 1) for name, us in times.items()})
    finally:
        for contestant in team.values():
            contestant.close()
    return table + startup_and_memory(peers, quick, rows), every, scaling


def startup_and_memory(peers, quick, rows):
    table, beside = [], [name for name in peers if name in ("PyTorch eager", "JAX jit")]
    first = {"task": "steps", "net": SMALL, "batch": 128, "rows": 512, "n": -2, "warm": 0}     # one step and out
    with tempfile.TemporaryDirectory() as cache:
        env = {"NUMBA_CACHE_DIR": cache}
        cold = fresh("minivae", first, env)
        runs = {name: [fresh(name, first, env) for _ in range(1 if quick else 3)] for name in ["minivae", *beside]}
    starts = {name: median(s for s, _ in found) for name, found in runs.items() if None not in found}
    name, theirs = fastest(starts)
    table.append(row("start to first step, not cached, s", cold[0], name, theirs, 10.0, 5.0, cold[0], at_most=True))
    table.append(row("start to first step, cached, s", starts["minivae"], name, theirs, 1.0, 0.6, starts["minivae"], at_most=True))
    training = {"task": "epoch", "net": SMALL, "batch": 128, "rows": rows}
    sizes = {name: found[1] for name in ["minivae", *beside[:1]] if (found := fresh(name, training)) is not None}
    name, theirs = fastest(sizes)
    table.append(row("peak memory while training, MB", sizes["minivae"], name, theirs, 400, 320, sizes["minivae"], at_most=True))
    return table


def show(table):
    print(f"\n{'work':48}{'minivae':>9}  {'against':22}{'theirs':>9}{'ratio':>8}{'must':>7}{'aim':>6}")
    for r in table:
        print(f"{r['work']:48}{r['ours']:9.3f}  {r['against']:22}{r['theirs']:9.3f}{r['ratio']:8.2f}{r['must']:7.4g}{r['aim']:6.4g}"
              f"{'' if r['reached'] else '   short'}")


def draw(every, scaling, folder):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    color = dict(zip(CONTESTANTS, ["#d1495b", "#bbbbbb", "#9ecae1", "#6baed6", "#2171b5", "#66a182"]))
    fig, axes = plt.subplots(1, len(every), figsize=(3.2 * len(every), 3.4), layout="constrained")
    for ax, (title, times) in zip(axes, every.items()):
        bars = ax.barh(list(times), list(times.values()), color=[color[name] for name in times])
        ax.bar_label(bars, fmt="%.2f", padding=2, fontsize=8)
        ax.set(title=title.replace(", ", "\n"), xlabel="ms per training step", xlim=(0, 1.2 * max(times.values())))
        ax.invert_yaxis()
        ax.tick_params(axis="y", labelleft=ax is axes[0])
        ax.spines[["top", "right"]].set_visible(False)
    fig.savefig(folder / "step.png", dpi=110)
    fig, ax = plt.subplots(figsize=(6.5, 4.2), layout="constrained")
    for name in color:
        points = [(batch, us[name]) for batch, us in scaling.items() if name in us]
        if points:
            ax.loglog(*zip(*points), "--" if name == "products" else "o-", color=color[name], markersize=4,
                      label="matrix products alone" if name == "products" else name)
    ax.set(xlabel="batch size", ylabel="microseconds per image", title="A training step of 784-400-20")
    ax.legend(frameon=False)
    fig.savefig(folder / "scaling.png", dpi=110)
    plt.close("all")


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few rounds: a look, not a record")
    parser.add_argument("--ours", action="store_true", help="leave the peers out")
    parser.add_argument("--rows", type=int, default=60_000, help="images of an epoch")
    parser.add_argument("--percentile", type=int, default=50, help="of the times; below 50 where the machine is shared with others")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args(argv)
    about = machine()
    peers = [name for name in PEERS if not args.ours and about["jax" if "JAX" in name else "torch"] != "not installed"]
    print(*(f"{key}: {value}" for key, value in about.items()), sep="   ")
    for name in set(PEERS) - set(peers):
        print(f"{name} is left out: {'--ours' if args.ours else 'not installed'}")
    table, every, scaling = measure(peers, args.quick, args.rows, args.percentile)
    show(table)
    args.out.mkdir(parents=True, exist_ok=True)
    record = {"machine": about, "percentile": args.percentile, "table": table, "ms per step": every, "us per image": scaling}
    (args.out / "step.json").write_text(json.dumps(record, indent=1) + "\n")
    draw(every, scaling, args.out)
    print(f"wrote step.json, step.png and scaling.png in {args.out}")


if __name__ == "__main__":
    main()
