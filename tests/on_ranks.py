"""What the ranks of tests/test_mpi.py do: mpiexec -n N python on_ranks.py FOLDER TASK ...

Rank 0 writes what the tasks found into FOLDER/N.json, after all ranks were seen to have found the same.
"""

import hashlib
import json
import os
import signal
import sys
from pathlib import Path

import numpy as np
from mpi4py import MPI

from minivae import VAE, DiscreteVAE, fit
from minivae.layers import Dense, Sequential
from minivae.likelihoods import BernoulliLikelihood
from minivae.optim import Adam
from minivae.saving import checkpoint
from minivae.training.ranks import Ranks

COMM = MPI.COMM_WORLD
D = 36
X = np.random.default_rng(0).integers(0, 256, (330, D), dtype=np.uint8)


class Dropout:
    """A layer of one's own, with noise of its own from the Generator that fit gets."""

    def __init__(self, rng):
        self.rng = rng

    def forward(self, x):
        self.kept = (self.rng.random(x.shape) < 0.8).astype(x.dtype)
        return x * self.kept

    def backward(self, dy):
        return dy * self.kept


def with_dropout(rng):
    start = np.random.default_rng(0)
    return VAE(Sequential(Dropout(rng), Dense(D, 9, start)), Dense(9, 2, start), Dense(9, 2, start),
               Sequential(Dense(2, 9, start)), Dense(9, D, start), likelihood=BernoulliLikelihood(), x_dim=D)


def bits(vae, adam, history):
    """A digest of all that training has moved, and of the history but for its clock."""
    sha = hashlib.sha256()
    for name, a in [*vae.state().items(), *adam.state().items()]:
        sha.update(name.encode() + a.tobytes())
    sha.update(repr([{name: n for name, n in row.items() if name != "seconds"} for row in history]).encode())
    return sha.hexdigest()


def trained(vae, **options):
    adam = Adam(vae.named_params())
    usual = dict(X=X, X_test=X[:20], epochs=2, batch_size=130, rng=1, warmup=0.0, comm=COMM, adam=adam)
    return bits(vae, adam, fit(vae, **{**usual, **options}))


def same_bits(folder):
    """Two epochs of small models, each of 130, 130 and 70 images in 5, 5 and 3 blocks."""
    own = np.random.Generator(np.random.Philox(3))
    return few_bits(folder) | {
        "warm-up, decay, patience": trained(VAE.mlp(D, [8], 3, rng=0), warmup=1.5, decay=0.9, patience=1, epochs=3),
        "float64": trained(VAE.mlp(D, [16], 3, rng=0, dtype=np.float64)),
        "gaussian": trained(VAE.mlp(D, [16], 3, rng=0, likelihood="gaussian"), batch_size=64),
        "conv, dreg": trained(VAE.conv((6, 6), (4,), 3, rng=0, estimator="dreg"), samples=2),
        "a layer's own noise": trained(with_dropout(own), rng=own),
        "a batch of one block": trained(VAE.mlp(D, [16], 3, rng=0), batch_size=20, X=X[:50]),
        "more blocks than ranks": trained(VAE.mlp(D, [16], 3, rng=0), batch_size=330),
    }


def few_bits(folder):
    """The same, for many ranks on few cores.  All ranks but the first have other parameters: those of rank 0 count."""
    seed = COMM.rank
    return {
        "elbo": trained(VAE.mlp(D, [16], 3, rng=seed)),
        "dreg": trained(VAE.mlp(D, [16], 3, rng=seed, estimator="dreg"), samples=3),
        "coins": trained(DiscreteVAE.mlp(D, [16], 3, rng=0, estimator="disarm"), samples=2),
        "conv": trained(VAE.conv((6, 6), (4,), 3, rng=0)),
        "two images": trained(VAE.mlp(D, [16], 3, rng=0), X=X[:2], X_test=None),
    }


def error_of(do):
    try:
        do()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "no error"


def refusals(folder):
    """What every rank is told where one of them has something else, or fails; and then training goes on."""
    last = COMM.rank == COMM.size - 1
    vae = VAE.mlp(D, [4], 2, rng=0)
    poisoned = VAE.mlp(D, [4], 2, rng=0)
    usual = dict(epochs=1, batch_size=300, rng=0, comm=COMM)
    path = folder / f"refused{COMM.size}.npz"

    def fails():
        raise OSError("the last rank's stop has failed")

    def poison(row):
        poisoned.dec.layers[0].params["W"][0, 0] = np.nan

    other = VAE.mlp(D, [4], 2, rng=0, activation="tanh" if last else "relu")
    mixed = VAE.mlp(D, [4], 2, rng=0, estimator="score", baseline="running-mean")
    found = {
        "data": error_of(lambda: fit(vae, X + last, **usual)),
        "lr": error_of(lambda: fit(vae, X, lr=0.5 if last else 0.1, **usual)),
        "bad data": error_of(lambda: fit(vae, X[:, 1:] if last else X, **usual)),
        "model": error_of(lambda: fit(VAE.mlp(D, [5 if last else 4], 2, rng=0), X, **usual)),
        "activation": error_of(lambda: fit(other, X, **usual)),
        "stop": error_of(lambda: fit(vae, X, stop=fails if last else None, **usual)),
        "baseline": error_of(lambda: fit(mixed, X, **usual)),
        "folder": error_of(lambda: fit(vae, X, checkpoint=folder / "none" / "x.npz", **usual)),
        "callback": error_of(lambda: fit(vae, X, callback=lambda row: 1 / 0, **usual)),
        "nan": error_of(lambda: fit(poisoned, X, callback=poison, checkpoint=path, **{**usual, "epochs": 2})),
    }
    with_comm = folder / f"with{COMM.size}.npz"
    fit(vae, X, checkpoint=with_comm, **usual)
    if COMM.rank == 0:
        found["nan, file"] = len(checkpoint.read(path)[1]["state"]["history"])
        without = folder / f"without{COMM.size}.npz"
        fit(vae, X, checkpoint=without, **{**usual, "comm": None})
        found["resumed without"] = error_of(lambda: fit(vae, X, resume=with_comm, **{**usual, "comm": None}))
    COMM.Barrier()
    without = folder / f"without{COMM.size}.npz"
    found["resumed with"] = error_of(lambda: fit(vae, X, resume=without, **usual))
    rank_0 = COMM.bcast(found)
    return rank_0 | found


def moving(folder, path=None, stop=None):
    vae = VAE.mlp(D, [8], 3, rng=0)
    adam = Adam(vae.named_params())
    resume = path if path is not None and path.exists() else None
    history = fit(vae, X, epochs=4, batch_size=130, rng=7, checkpoint=path, resume=resume, stop=stop, comm=COMM,
                  adam=adam)
    return [bits(vae, adam, history), len(history)]


def four_batches(folder):
    """Go on from moving.npz, if it is there, and stop after four of twelve batches: the last rank says so."""
    asked = iter([False] * 3 + [True])
    COMM.Barrier()
    return moving(folder, folder / "moving.npz", (lambda: next(asked)) if COMM.rank == COMM.size - 1 else None)


def the_rest(folder):
    return moving(folder, folder / "moving.npz")


def sent(folder):
    """The bytes that each rank sent in one step of a model with P parameters."""
    ranks, vae = Ranks(COMM), VAE.mlp(D, [8], 3, rng=0)
    fit(vae, X[:256], epochs=1, batch_size=256, comm=ranks)
    return [sum(COMM.allgather(ranks.sent)), 4 * len(vae.gradient())]


def manual(folder):
    """The code of docs/run.md, as it stands there."""
    page = (Path(__file__).parents[1] / "docs" / "run.md").read_text()
    code = next(block.split("```")[0] for block in page.split("```python\n")[1:] if "COMM_WORLD" in block)
    names = {}
    exec(code, names)
    return hashlib.sha256(b"".join(a.tobytes() for a in names["vae"].state().values())).hexdigest()


def abort(folder):
    """An error that only one rank has, and outside of all that they agree about."""
    ranks = Ranks(COMM)
    with ranks.ending_all():
        if COMM.rank == 1:
            raise ValueError("only here")
        COMM.Barrier()


def killed(folder):
    """The last rank is killed in the second epoch."""
    def stop():
        if COMM.rank == COMM.size - 1 and next(batches) == 4:
            os.kill(os.getpid(), signal.SIGKILL)
        return False

    batches = iter(range(100))
    fit(VAE.mlp(D, [8], 3, rng=0), X, epochs=30, batch_size=130, rng=7, checkpoint=folder / "killed.npz", stop=stop,
        callback=lambda row: None, comm=COMM)


def main():
    folder, tasks = Path(sys.argv[1]), sys.argv[2:]
    found = {task: globals()[task](folder) for task in tasks}
    everyones = COMM.allgather(found)
    if COMM.rank == 0:
        assert all(other == found for other in everyones), everyones
        (folder / f"{COMM.size}.json").write_text(json.dumps(found))


main()
