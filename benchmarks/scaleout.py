"""Training on several ranks of MPI, measured and predicted: python -m benchmarks.scaleout [--quick]

Measured here, on two cores: a step of fit(.., comm=) on one rank and on two, and of fit without
comm, which has both cores for its threads; and the bytes that a rank sends.  Predicted: a step on p
machines of one rank each, from the step on one rank and the published latency and bandwidth of
three networks, by `step_on`.  It needs mpi4py and an MPI: pip install '.[mpi]'.
Writes benchmarks/results/scaleout.json and scaleout.png.
"""

import argparse
import json
import shlex
import subprocess
import sys
from math import ceil, log2
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from benchmarks.step import machine
from minivae import VAE, fit
from minivae.app.sheets import BLUE, DARK, ORANGE, STYLE
from minivae.optim import Adam
from minivae.saving.archive import write_whole
from minivae.training.blocks import blocks_of, shares
from minivae.training.ranks import Ranks

NETS = {"784-400-20": lambda: VAE.mlp(784, [400], 20, rng=0),
        "conv 32-64": lambda: VAE.conv((28, 28), (32, 64), 20, rng=0)}
BATCHES = (128, 512, 2048, 8192)
MACHINES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
RESULTS = Path(__file__).parent / "results"
FLOAT32 = 4                             # bytes


class Network(NamedTuple):
    """What a message costs: latency + bytes / bandwidth."""

    latency: float                      # seconds
    bandwidth: float                    # bytes a second
    source: str


# what somebody measured or promises for one message between two machines that do nothing else
NETWORKS = {
    "10 Gbit Ethernet": Network(
        8.9e-6, 7.6e9 / 8, "measured with TCP in the adapter: Feng, Balaji, Baron, Bhuyan and "
        "Panda (2005), Performance Characterization of a 10-Gigabit Ethernet TOE, abstract"),
    "100 Gbit Ethernet": Network(
        10e-6, 100e9 / 8, "latency measured with TCP at the University of New Mexico, reported in "
        "naddod.com/blog/edr-infiniband-vs-100gb-ethernet-performance-competition; line rate of "
        "IEEE 802.3ba"),
    "InfiniBand EDR": Network(
        0.6e-6, 100e9 / 8, "latency of the adapter, product brief of ConnectX-5; effective "
        "bandwidth, its user manual, table 4"),
}


# --- measured -------------------------------------------------------------------------------------


def time_steps(net: str, batch: int, with_comm: bool, quick: bool) -> dict:
    """The ms of a step, and what a rank sends in it: run by every rank, returned by the first."""
    ranks = None
    if with_comm:
        from mpi4py import MPI

        ranks = Ranks(MPI.COMM_WORLD)
    vae = NETS[net]()
    steps = 1 if quick else max(1, 4096 // batch)
    X = np.random.default_rng(0).integers(0, 256, (steps * batch, 784), np.uint8)
    history = fit(vae, X, epochs=2 if quick else 5, batch_size=batch, rng=0, comm=ranks)
    seconds = np.diff([row["seconds"] for row in history])             # the first epoch compiles
    found = {"ms": 1e3 * min(seconds) / steps,                         # others disturb the rest
             "parameters": sum(param.size for _, param, _ in vae.named_params())}
    if ranks is not None:
        found |= {"ranks": ranks.size, "bytes": ranks.sent / (steps * len(history)),
                  "ms of the update": _ms_of_update(vae, ranks)}
        return found if ranks.first else {}
    return found


def _ms_of_update(vae: VAE, ranks: Ranks) -> float:
    """Of a step of Adam, and of one copy of the gradients: every rank does them for itself."""
    adam, times = Adam(vae.named_params()), []
    with ranks.at_work():
        for _ in range(20):
            start = perf_counter()
            vae.gradient()
            adam.step()
            times.append(perf_counter() - start)
    return 1e3 * median(times)


def measure(mpiexec: list[str], quick: bool) -> list[dict]:
    """A row for each net and batch: the ms of a step in one process, on one rank and on two."""
    table = []
    for net in NETS:
        for batch in BATCHES[:1] if quick else BATCHES:
            starts = mpiexec[:-1], [*mpiexec, "-n", "1"], [*mpiexec, "-n", "2"]
            # twice, in turns, for a spell in which somebody else needs the cores
            tries = [[_ask(start, net, batch, quick) for start in starts] for _ in range(2)]
            alone, one, two = (min(pair, key=lambda found: found["ms"]) for pair in zip(*tries))
            row = {"net": net, "batch": batch, "blocks": len(blocks_of(batch)),
                   "parameters": alone["parameters"], "ms without comm": alone["ms"],
                   "ms on 1 rank": one["ms"], "ms on 2 ranks": two["ms"],
                   "efficiency": one["ms"] / two["ms"] / 2,
                   "bytes": two["bytes"], "ms of the update": one["ms of the update"]}
            table.append(row)
            print(f"{net}, batch {batch}: {alone['ms']:.2f} ms without comm, {one['ms']:.2f} on "
                  f"1 rank, {two['ms']:.2f} on 2: efficiency {row['efficiency']:.2f}", flush=True)
    return table


def _ask(before: list[str], net: str, batch: int, quick: bool) -> dict:
    """What time_steps finds in processes of their own; `before` starts them."""
    mine = [sys.executable, "-m", "benchmarks.scaleout", "--time", net, str(batch)]
    options = ["--comm"] * ("-n" in before) + ["--quick"] * quick
    done = subprocess.run([*before, *mine, *options], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{shlex.join([*before, *mine])} failed: {done.stderr.strip()}")
    return json.loads(done.stdout.splitlines()[-1])


# --- predicted ------------------------------------------------------------------------------------


def bytes_sent(parameters: int, batch: int, p: int) -> float:
    """The most bytes that one of p ranks sends in a step.

    (nodes + 1) * 4 * P * (p - 1) / p:  of each node that a rank has added up, every other rank
    gets its p-th; then the p-th that it has finished goes to every other rank.
    """
    nodes = max(len(nodes) for nodes in shares(len(blocks_of(batch)), p))
    return (nodes + 1) * FLOAT32 * parameters * (p - 1) / p


def step_on(p: int, row: dict, network: Network) -> float:
    """The ms of a step on p machines of one rank each.

    T(p) = (T(1) - U) * ceil(n / p) / n + U + (2 (p - 1) + log2 p) * latency + bytes / bandwidth

    n : blocks of the batch;  U : the update, which every rank does for itself.  Messages leave a
    rank one after another: p - 1 with its part of the others' slices, p - 1 with its own slice,
    log2 p with the loss.  Source: Hockney (1994), "The communication challenge for MPP".
    """
    n, update = row["blocks"], row["ms of the update"]
    work = (row["ms on 1 rank"] - update) * ceil(n / p) / n
    messages = 2 * (p - 1) + ceil(log2(p))
    sent = bytes_sent(row["parameters"], row["batch"], p)
    return work + update + 1e3 * (messages * network.latency + sent / network.bandwidth)


def predict(table: list[dict]) -> list[dict]:
    """For each row and network: the speed-up on MACHINES over one, and where it is largest."""
    curves = []
    for row in table:
        for name, network in NETWORKS.items():
            gains = [row["ms on 1 rank"] / step_on(p, row, network) for p in MACHINES]
            most = int(np.argmax(gains))
            # to the last number of machines that is used by half or more
            half = max(p for p, gain in zip(MACHINES, gains) if gain >= p / 2)
            curves.append({"net": row["net"], "batch": row["batch"], "network": name,
                           "speed-up": gains, "largest": gains[most],
                           "largest at": MACHINES[most], "pays to": half})
    return curves


# --- shown ----------------------------------------------------------------------------------------


def figure_of(curves: list[dict]) -> Figure:
    """The speed-up against the number of machines: a panel for each net and batch."""
    colors = dict(zip(NETWORKS, (ORANGE, BLUE, DARK)))
    panels = list(dict.fromkeys((curve["net"], curve["batch"]) for curve in curves))
    columns = len({batch for _, batch in panels})
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8.4, 5.2), layout="constrained")
        figure.suptitle("Predicted speed-up over one rank, which is one core.  Dashed line: p "
                        "ranks are p times as fast", x=0.01, ha="left", fontsize=10)
        grid = figure.subplots(len(panels) // columns, columns, sharex=True, sharey=True,
                               squeeze=False)
        for axes, (net, batch) in zip(grid.flat, panels):
            axes.plot(MACHINES, MACHINES, "--", color="grey", linewidth=1)
            for curve in curves:
                if (curve["net"], curve["batch"]) == (net, batch):
                    axes.plot(MACHINES, curve["speed-up"], color=colors[curve["network"]],
                              label=curve["network"])
            axes.set_xscale("log", base=2)
            axes.set_yscale("log", base=2)
            axes.set_xticks((1, 4, 16, 64, 256), ("1", "4", "16", "64", "256"))
            axes.set_yticks((0.25, 1, 4, 16, 64), ("1/4", "1", "4", "16", "64"))
            axes.set_ylim(0.1, 64)
            axes.set_title(f"{net}\nbatch {batch}", fontsize=10)
        for axes in grid[-1]:
            axes.set_xlabel("machines")
        grid[0, 0].legend(fontsize=7, loc="lower left", frameon=False)
    return figure


def show(table: list[dict], curves: list[dict]) -> None:
    for row in table:
        print(f"\n{row['net']}, batch {row['batch']}: {row['bytes'] / 1e6:.2f} MB a step")
        for curve in curves:
            if (curve["net"], curve["batch"]) == (row["net"], row["batch"]):
                gains = " ".join(f"{gain:6.2f}" for gain in curve["speed-up"])
                print(f"  {curve['network']:18s} {gains}   pays to {curve['pays to']}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="batch 128 alone, and few steps")
    parser.add_argument("--mpiexec", default="mpiexec", help="what starts ranks, its last word")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--time", nargs=2, metavar=("NET", "BATCH"), help=argparse.SUPPRESS)
    parser.add_argument("--comm", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.time:
        net, batch = arguments.time
        found = time_steps(net, int(batch), arguments.comm, arguments.quick)
        if found:
            print(json.dumps(found), flush=True)
        return
    about = machine()
    table = measure(shlex.split(arguments.mpiexec), arguments.quick)
    curves = predict(table)
    show(table, curves)
    record = {"machine": about, "table": table,
              "networks": {name: network._asdict() for name, network in NETWORKS.items()},
              "machines": MACHINES, "curves": curves}
    arguments.out.mkdir(exist_ok=True)
    write_whole(arguments.out / "scaleout.json", json.dumps(record, indent=1).encode() + b"\n")
    figure_of(curves).savefig(arguments.out / "scaleout.png", dpi=120)
    print(f"\nwrote scaleout.json and scaleout.png into {arguments.out}")


if __name__ == "__main__":
    main()
