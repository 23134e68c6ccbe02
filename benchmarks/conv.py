"""Convolutions beside PyTorch and JAX, and on MNIST: python -m benchmarks.conv [--train] [--quick]

Without --train: a training step of 1-32-64 channels, kernel 4, stride 2, 20 latents, at batch 128.
The rounds are interleaved as in benchmarks.step.  Then the memory that the step's products of
patches take.  With --train: thirty epochs on MNIST, dynamically binarised, from three seeds, and
what each model reaches; it needs the MNIST files (MINIVAE_DATA), and goes on where it was stopped.
Both write their part of benchmarks/results/conv.json, and conv.png.
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
from minivae import VAE, fit, load_data
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


def measure_steps(quick: bool) -> dict:
    """The median ms of a step of every contestant, and the rows of the table."""
    team = {name: Contestant(name) for name in CONV_CONTESTANTS}
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
    """MB that a step takes beyond its parameters and what its layers keep, at two batch sizes.

    If it were the patches of the batch it would grow with the batch.
    """
    found = {}
    for batch in (BATCH, 4 * BATCH):
        vae = VAE.conv((28, 28), NET["channels"], NET["z"], kernel=KERNEL, stride=STRIDE,
                       padding=PADDING, rng=0)
        x = np.random.default_rng(0).random((batch, 784), np.float32)
        for _ in range(2):               # compiles, and makes the work arrays of the layers
            vae.forward(x)
            vae.backward()
        tracemalloc.start()
        vae.forward(x)
        vae.backward()
        found[f"batch {batch}, MB"] = tracemalloc.get_traced_memory()[1] / 1e6
        tracemalloc.stop()
    # of all its images: 14 x 14 patches of 4 x 4 x 1, and 7 x 7 of 4 x 4 x 32; in both halves
    patches = 4 * BATCH * (14 * 14 * 16 + 7 * 7 * 16 * 32)
    return {**found, f"patches of a batch of {BATCH}, MB": patches / 1e6}


# --- MNIST ----------------------------------------------------------------------------------------


def train(seed: int, data, out: Path, epochs: int = EPOCHS) -> tuple[VAE, float]:
    """The model, and the minutes that its training took; goes on where it was stopped."""
    vae = VAE.conv((28, 28), NET["channels"], NET["z"], rng=seed)
    out.mkdir(parents=True, exist_ok=True)
    checkpoint = out / f"seed{seed}.npz"

    def say(row: dict) -> None:
        print(f"seed {seed} epoch {row['epoch']:3d}  loss {row['loss']:8.3f}  "
              f"{row['seconds'] / 60:5.1f} min", flush=True)

    history = fit(vae, data.x_train, epochs=epochs, batch_size=BATCH, lr=LR, decay=DECAY,
                  rng=[seed, 1], callback=say, checkpoint=checkpoint,
                  resume=checkpoint if checkpoint.exists() else None)
    return vae, history[-1]["seconds"] / 60


def measure_mnist(args) -> dict:
    """Test ELBO and minutes of every seed, and -log p(x) of the first one's model."""
    data, found = load_data("mnist"), []
    for seed in SEEDS[: args.seeds]:
        vae, minutes = train(seed, data, args.out, args.epochs)
        test = evaluate(vae, data.x_test)
        found.append({"seed": seed, "elbo": test["elbo"], "minutes": minutes})
        print(f"seed {seed}: test ELBO {test['elbo']:.2f} after {minutes:.1f} minutes", flush=True)
        if seed == SEEDS[0]:
            nll = judge(vae, data, args.images, args.samples)
            print(f"-log p(x) {nll['nll']:.2f} of {args.images} images", flush=True)
    elbos = [one["elbo"] for one in found]
    return {"epochs": args.epochs, "trainings": found, "elbo": mean(elbos),
            "elbo_spread": stdev(elbos) if len(elbos) > 1 else None,
            "minutes": mean(one["minutes"] for one in found), "log p(x)": nll}


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
        print(f"MNIST, {m['epochs']} epochs: test ELBO {m['elbo']:.2f}, {m['minutes']:.1f} minutes")


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
    found = {"mnist": measure_mnist(args)} if args.train else \
        {"machine": about, **measure_steps(args.quick), "memory": memory()}
    path = args.results / "conv.json"
    record = json.loads(path.read_text()) if path.exists() else {}
    record |= found
    write_whole(path, (json.dumps(record, indent=1) + "\n").encode())
    show(found)
    if not args.train:
        draw(record["ms per step"], args.results / "conv.png")


if __name__ == "__main__":
    main()
