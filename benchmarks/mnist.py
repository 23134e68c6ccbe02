"""How tight a bound gets on MNIST at a budget of minutes: python -m benchmarks.mnist [NAME ..]

784-200-200-50, tanh, dynamic binarisation: the model of Burda et al. (2016), trained as a VAE, by
IWAE and by DReG.  Each is then judged by -log p(x) of the 10,000 test images, with 5000 importance
samples each, and by its active units.  Stopped at any moment, the same command goes on from the
last save.  Needs the MNIST files: see MINIVAE_DATA.  Writes benchmarks/results/mnist.json.

The paper's recipe is 3280 passes, batches of 20, and eight steps of the learning rate.  Here it is
550 passes, batches of 50, and a learning rate that falls by the same factor in every pass, from
2e-3 to 5e-5.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from minivae import VAE, estimators, fit, load_data
from minivae.pixels import scales_of
from minivae.saving.archive import write_whole
from minivae.training.batches import draw
from minivae.training.evaluation import EVALUATION_SEED
from minivae.training.metrics import ACTIVE_VARIANCE, measure

# name: (estimator, K)
TRAININGS = {
    "vae": (estimators.elbo, 1),
    "iwae": (estimators.iwae, 5),
    "dreg": (estimators.dreg, 5),
}
# -log p(x) and active units of Burda et al. (2016), table 1, after 3280 passes
PAPER = {"vae": (86.76, 19), "iwae": (85.54, 22)}
PASSES, BATCH, LR = 550, 50, 2e-3
DECAY = 0.05 ** (1 / 450)        # lr falls to a twentieth in 450 passes, to 5e-5 in 550
RESULTS = Path(__file__).parent / "results" / "mnist.json"


def train(name: str, data, passes: int, out: Path) -> tuple[VAE, list[dict]]:
    """Train, or go on where the last call was stopped."""
    estimator, K = TRAININGS[name]
    vae = VAE.mlp(784, [200, 200], 50, activation="tanh", estimator=estimator, rng=0)
    out.mkdir(parents=True, exist_ok=True)
    checkpoint = out / f"{name}.npz"

    def say(row: dict) -> None:
        print(f"{name} pass {row['epoch']:4d}  loss {row['loss']:8.3f}  "
              f"{row['seconds'] / 60:5.1f} min", flush=True)

    history = fit(vae, data.x_train, epochs=passes, batch_size=BATCH, lr=LR, decay=DECAY, samples=K,
                  rng=1, callback=say, checkpoint=checkpoint,
                  resume=checkpoint if checkpoint.exists() else None)
    return vae, history


def judge(vae: VAE, data, images: int, samples: int) -> dict:
    """-log p(x), its standard errors, the ELBO, in nats per image, and the active units.

    Of the first `images` test images, binarised once.
    """
    _, scale = scales_of(data.x_train, data.x_test)
    rng = np.random.default_rng(EVALUATION_SEED)
    x = draw(data.x_test, np.arange(images), scale, "dynamic", rng, vae.dtype)
    report = measure(vae, x, samples, rng=[EVALUATION_SEED, 1])
    return {"nll": -float(report.log_px.mean()),
            "error_draws": float(np.sqrt((report.log_px_error**2).sum()) / images),
            "error_images": float(report.log_px.std() / np.sqrt(images)),
            "elbo": float(report.elbo.mean()),
            "active": int((report.mu_variance > ACTIVE_VARIANCE).sum()),
            "images": images, "samples": samples}


def show(results: dict) -> None:
    print("trained by    K  passes  minutes  -log p(x)     +-  -ELBO  active   "
          "paper, 3280 passes")
    for name, r in results.items():
        paper = "{:.2f} / {}".format(*PAPER[name]) if name in PAPER else "-"
        print(f"{name:12s} {r['K']:2d} {r['passes']:7d} {r['minutes']:8.1f} {r['nll']:10.2f} "
              f"{r['error_draws']:6.2f} {-r['elbo']:6.2f} {r['active']:7d}   {paper}")


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=list(TRAININGS), metavar="NAME",
                        help=f"of {', '.join(TRAININGS)}; all by default")
    parser.add_argument("--passes", type=int, default=PASSES,
                        help="over the training images, %(default)s by default")
    parser.add_argument("--images", type=int, default=10_000, help="test images to judge")
    parser.add_argument("--samples", type=int, default=5000, help="draws of z for each")
    parser.add_argument("--out", type=Path, default=Path("runs/mnist-benchmark"),
                        help="where the checkpoints are")
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args(argv)
    if unknown := set(args.names) - set(TRAININGS):
        parser.error(f"unknown {', '.join(sorted(unknown))}; choose from {', '.join(TRAININGS)}")
    data = load_data("mnist")
    for name in args.names:
        vae, history = train(name, data, args.passes, args.out)
        found = {"K": TRAININGS[name][1], "passes": len(history),
                 "minutes": history[-1]["seconds"] / 60}
        found |= judge(vae, data, args.images, args.samples)
        # read only now: another process may have written its own training meanwhile
        results = json.loads(args.results.read_text()) if args.results.exists() else {}
        results[name] = found
        write_whole(args.results, (json.dumps(results, indent=1) + "\n").encode())
        show(results)


if __name__ == "__main__":
    main()
