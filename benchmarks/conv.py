"""Convolutions beside PyTorch and JAX, and on MNIST: python -m benchmarks.conv [--train] [--quick]

Without --train: a training step of 1-32-64 channels, kernel 4, stride 2, 20 latents, at batch 128.
The rounds are interleaved as in benchmarks.step.  Then the memory that the step's products of
patches take.  With --train: thirty epochs on MNIST, dynamically binarised, from three seeds, and
what each model reaches, beside the dense model of `minivae train --data mnist`; it needs the MNIST
files (MINIVAE_DATA), and goes on where it was stopped.
Each writes its part of benchmarks/results/conv.json, and conv.png or conv_samples.png.
"""

import argparse
import json
import tracemalloc
from pathlib import Path
from statistics import mean, stdev

import numpy as np

from benchmarks.mnist import judge
from benchmarks.step import (OVERHEAD, SPEEDUP, Contestant, Measured, fastest_peer, machine,
                             side_by_side)
from benchmarks.workers import CONV_CONTESTANTS, KERNEL, PADDING, PLAIN, STRIDE
from minivae import VAE, cores, fit, load_data
from minivae.saving.archive import write_whole
from minivae.training.evaluation import evaluate

NET, BATCH = {"channels": [32, 64], "z": 20, "activation": "relu"}, 128
PEERS = [name for name in CONV_CONTESTANTS if not name.startswith(("minivae", "products"))]
# work -> (what its ratio is, what it must reach, what it should reach)
TARGETS = {
    "step, ms": (SPEEDUP, 1.2, 1.5),
    "step / its matrix products, ms": (OVERHEAD, 1.6, 1.35),
}
EPOCHS, LR, SEEDS = 30, 2e-3, (0, 1, 2)
DECAY = 0.05 ** (1 / EPOCHS)             # lr falls to a twentieth
RESULTS = Path(__file__).parent / "results"


# --- speed ----------------------------------------------------------------------------------------


def measure_steps(peers: list[str], quick: bool) -> dict:
    """The median ms of a step of every contestant, and the rows of the table."""
    ours = [name for name in CONV_CONTESTANTS if name not in PEERS]
    team = {name: Contestant(name) for name in [*ours, *peers]}
    question = dict(task="steps", net=NET, batch=BATCH, n=4 if quick else 10, rows=4096, warm=5)
    try:
        times, quartiles = side_by_side(team, 2 if quick else 12, 50, {"step": question})
    finally:
        for contestant in team.values():
            contestant.close()
    ms, table = times["step"], []
    peer, theirs = fastest_peer({name: ms[name] for name in PEERS if name in ms})
    for plain in ("", PLAIN):
        ours, products = ms["minivae" + plain], ms["products" + plain]
        table.append(row("step, ms", plain, Measured(ours, peer, theirs)))
        table.append(row("step / its matrix products, ms", plain,
                         Measured(ours, "products", products)))
    return {"ms per step": ms, "quartiles": quartiles["step"], "table": table}


def row(work: str, plain: str, measured: Measured) -> dict:
    """One row of the table."""
    what, must, aim = TARGETS[work]
    speedup = measured.theirs / measured.ours
    ratio = speedup if what == SPEEDUP else 1 / speedup
    reached = ratio >= must if what == SPEEDUP else ratio <= must
    return {"work": work + plain, "ours": measured.ours, "against": measured.against,
            "theirs": measured.theirs, "ratio": ratio, "must": must, "aim": aim,
            "reached": bool(reached)}


def memory() -> dict:
    """MB that the patches of the second convolution take, at two batch sizes, in float64.

    In float64 np.matmul multiplies, and all arrays are NumPy's, so tracemalloc sees them.
    """
    rng, found, (n_in, n_out) = np.random.default_rng(0), {}, NET["channels"]
    W, step = rng.standard_normal((KERNEL**2 * n_in, n_out)), (KERNEL, STRIDE, PADDING)
    for batch in (BATCH, 4 * BATCH):
        x, out = rng.standard_normal((batch, 14, 14, n_in)), np.empty((batch, 7, 7, n_out))
        cores.patches_times(x, W, step, out)                 # compiles
        tracemalloc.start()
        cores.patches_times(x, W, step, out)
        found[f"batch {batch}, MB"] = tracemalloc.get_traced_memory()[1] / 1e6
        tracemalloc.stop()
    return {**found, f"all patches of a batch of {BATCH}, MB": 8 * BATCH * 7 * 7 * len(W) / 1e6}


# --- MNIST ----------------------------------------------------------------------------------------


def train(name: str, vae: VAE, data, args, **settings) -> dict:
    """Train, or go on where it was stopped; the test ELBO, and the minutes of the training."""
    args.out.mkdir(parents=True, exist_ok=True)
    checkpoint = args.out / f"{name}.npz"

    def say(row: dict) -> None:
        print(f"{name} epoch {row['epoch']:3d}  loss {row['loss']:8.3f}  "
              f"{row['seconds'] / 60:5.1f} min", flush=True)

    history = fit(vae, data.x_train, epochs=args.epochs, batch_size=BATCH, callback=say,
                  checkpoint=checkpoint, resume=checkpoint if checkpoint.exists() else None,
                  **settings)
    found = {"elbo": evaluate(vae, data.x_test)["elbo"], "minutes": history[-1]["seconds"] / 60}
    print(f"{name}: test ELBO {found['elbo']:.2f} after {found['minutes']:.1f} minutes", flush=True)
    return found


def measure_mnist(args) -> dict:
    """Test ELBO and minutes of every seed and of the dense model; -log p(x) of the first seed."""
    data, trainings = load_data("mnist"), []
    for seed in SEEDS[: args.seeds]:
        vae = VAE.conv((28, 28), NET["channels"], NET["z"], rng=seed)
        found = train(f"seed {seed}", vae, data, args, lr=LR, decay=DECAY, rng=[seed, 1])
        trainings.append({"seed": seed, **found})
        if seed == SEEDS[0]:
            nll, conv = judge(vae, data, args.images, args.samples), vae
            print(f"-log p(x) {nll['nll']:.2f} of {args.images} images", flush=True)
    dense = VAE.mlp(784, [400, 200], 30, rng=0)
    beside = train("dense", dense, data, args, lr=1e-3, rng=[0, 1])
    draw_samples(dense, conv, args.results / "conv_samples.png")
    elbos = [one["elbo"] for one in trainings]
    return {"epochs": args.epochs, "trainings": trainings, "elbo": mean(elbos),
            "elbo_spread": stdev(elbos) if len(elbos) > 1 else None,
            "minutes": mean(one["minutes"] for one in trainings), "log p(x)": nll, "dense": beside}


def draw_samples(dense: VAE, conv: VAE, path: Path, side: int = 8) -> None:
    """New images of both models, side by side."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.3), layout="constrained", dpi=120)
    for axes, vae, name in zip(figure.subplots(1, 2), (dense, conv),
                               ("784 - 400 - 200 - 30, dense", "1 - 32 - 64, convolutions")):
        images = vae.sample(side * side, rng=0).reshape(side, side, 28, 28)
        axes.imshow(images.swapaxes(1, 2).reshape(28 * side, -1), cmap="gray_r", vmin=0, vmax=1)
        axes.set_title(name, loc="left")
        axes.set_axis_off()
    figure.savefig(path)


# --- the record -----------------------------------------------------------------------------------


def show(record: dict) -> None:
    """Print what was measured."""
    for r in record.get("table", []):
        print(f"{r['work']:48} {r['ours']:7.2f}  {r['against']:22} {r['theirs']:7.2f}"
              f"{r['ratio']:7.2f}{r['must']:6.3g}{r['aim']:6.3g}"
              f"{'' if r['reached'] else '   short'}")
    for name, megabytes in record.get("memory", {}).items():
        print(f"{name:48} {megabytes:7.1f}")
    if "mnist" in record:
        m = record["mnist"]
        for name, one in (("convolutions", m), ("dense", m["dense"])):
            print(f"MNIST, {m['epochs']} epochs, {name}: test ELBO {one['elbo']:.2f}, "
                  f"{one['minutes']:.1f} minutes")


def draw(ms: dict, path: Path) -> None:
    """conv.png: a bar for each contestant, the fastest above."""
    from matplotlib.figure import Figure

    names = sorted(ms, key=ms.get)
    figure = Figure(figsize=(7, 3.4), layout="constrained", dpi=120)
    axes = figure.subplots()
    ours = [name.startswith("minivae") for name in names]
    floor = [name.startswith("products") for name in names]
    colors = ["#c05621" if a else "#a0aec0" if b else "#2b6cb0" for a, b in zip(ours, floor)]
    bars = axes.barh(names, [ms[name] for name in names], color=colors)
    axes.bar_label(bars, fmt="%.1f", padding=3)
    axes.invert_yaxis()
    axes.set(xlabel="ms per training step, lower is better", xlim=(0, 1.15 * max(ms.values())))
    axes.set_title("Convolutions, 1-32-64 channels, batch 128", loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", action="store_true", help="MNIST, and not the speed")
    parser.add_argument("--quick", action="store_true", help="few rounds: a look, not a record")
    parser.add_argument("--ours", action="store_true", help="leave the peers out")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="how many trainings")
    parser.add_argument("--images", type=int, default=1000, help="test images for log p(x)")
    parser.add_argument("--samples", type=int, default=5000, help="draws of z for each")
    parser.add_argument("--out", type=Path, default=Path("runs/conv-benchmark"),
                        help="where the checkpoints are")
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args(argv)
    args.results.mkdir(parents=True, exist_ok=True)
    about = machine()
    installed = [name for name in PEERS
                 if about["jax" if "JAX" in name else "torch"] != "not installed"]
    peers = [] if args.ours else installed
    found = {"mnist": measure_mnist(args)} if args.train else \
        {"machine": about, **measure_steps(peers, args.quick), "memory": memory()}
    path = args.results / "conv.json"
    record = json.loads(path.read_text()) if path.exists() else {}
    record |= found
    write_whole(path, (json.dumps(record, indent=1) + "\n").encode())
    show(found)
    if not args.train:
        draw(record["ms per step"], args.results / "conv.png")


if __name__ == "__main__":
    main()
