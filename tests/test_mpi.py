"""Training on MPI: any number of ranks gives the same bits, and whatever goes wrong ends all of them."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from minivae import VAE, fit, load, load_data
from minivae.app.cli import main
from minivae.app.settings import RunSettings
from minivae.saving import checkpoint
from minivae.saving.model_file import build
from minivae.training import blocks

from conftest import skip


class OneRank:
    """As much of a communicator as one rank needs."""

    Get_rank, Get_size = (lambda self: 0), (lambda self: 1)
    allgather, bcast = (lambda self, value: [value]), (lambda self, value: value)
    Alltoallv = Allgatherv = None


def mpiexec(n, *command, cwd=None):
    """Run a command on n ranks, each with one thread."""
    beside = Path(sys.executable).parent / "mpiexec"
    program = str(beside) if beside.exists() else shutil.which("mpiexec")
    if program is None or importlib.util.find_spec("mpi4py") is None:
        skip("mpi4py or mpiexec not found: pip install mpi4py mpich")
    one = {f"{library}_NUM_THREADS": "1" for library in ("OPENBLAS", "OMP", "NUMBA")}
    return subprocess.run([program, "-n", str(n), sys.executable, *map(str, command)], cwd=cwd, capture_output=True,
                          text=True, timeout=300, env={**os.environ, **one})


def on_ranks(n, folder, *tasks):
    """What the tasks of on_ranks.py found."""
    done = mpiexec(n, Path(__file__).parent / "on_ranks.py", folder, *tasks)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((folder / f"{n}.json").read_text())


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """One launch for each number of ranks, because to start costs more than to train.

    One training moves from two ranks to three and to one; on four ranks it stays.
    """
    folder = tmp_path_factory.mktemp("ranks")
    tasks = {2: ["same_bits", "sent", "four_batches", "refusals", "manual"],
             3: ["same_bits", "four_batches", "refusals"],
             1: ["same_bits", "sent", "the_rest", "manual"],
             4: ["same_bits", "sent", "moving"],
             8: ["few_bits"]}
    return {n: on_ranks(n, folder, *tasks[n]) for n in tasks}


def test_any_number_of_ranks_gives_the_same_bits(found):
    for case, bits in found[1]["same_bits"].items():
        assert [found[n]["same_bits"][case] for n in (2, 3, 4)] == [bits] * 3, case
    for case, bits in found[8]["few_bits"].items():
        assert found[1]["same_bits"][case] == bits, case
    assert len(set(found[1]["same_bits"].values())) == len(found[1]["same_bits"])


def test_a_training_that_moved_from_two_ranks_to_three_and_to_one_ends_as_one_that_stayed(found):
    assert [found[n]["four_batches"][1] for n in (2, 3)] == [1, 2]         # epochs: it stopped within one
    assert found[1]["the_rest"] == found[4]["moving"] and found[1]["the_rest"][1] == 4


def test_the_manual_s_program_gives_the_same_on_two_ranks(found):
    assert found[1]["manual"] == found[2]["manual"]


WANTED = ": all ranks want the same data, settings and model"
REFUSED = {
    "data": "ValueError: rank {last} was given another X than rank 0" + WANTED,
    "lr": "ValueError: rank {last} was given lr 0.5 and rank 0 0.1" + WANTED,
    "bad data": "ValueError: X must have 36 pixels per row for this model, got shape (330, 35)",
    "model": "ValueError: rank {last} was given another model than rank 0" + WANTED,
    "activation": "ValueError: rank {last} was given another model than rank 0" + WANTED,
    "stop": "OSError: the last rank's stop has failed",
    "baseline": "ValueError: the baseline running-mean learns from whole batches, and with comm a rank sees a part of "
                "each: take another baseline",
    "callback": "ZeroDivisionError: division by zero",
}


@pytest.mark.parametrize("n", [2, 3])
def test_all_ranks_raise_the_error_of_one(found, n):
    said = found[n]["refusals"]
    for case, message in REFUSED.items():
        assert said[case] == message.format(last=n - 1), case
    assert said["folder"].startswith("ArchiveError: ") and "none" in said["folder"]
    assert said["nan"].startswith("NonFiniteError: training turned non-finite in epoch 2, batch 1: first in dec.0, ")
    assert said["nan, file"] == 1                          # the last good epoch is saved
    assert "trained with rng PCG64, not Philox by blocks (of fit with comm" in said["resumed with"]
    assert "trained with rng Philox by blocks" in said["resumed without"] and "not PCG64" in said["resumed without"]


def test_the_bytes_of_a_step_are_those_of_two_exchanges(found):
    """n = 2, 4 ranks that have whole subtrees: each number goes to n - 1 ranks, and its sum to n - 1."""
    for n in (1, 2, 4):
        total, gradient = found[n]["sent"]
        assert total == 2 * (n - 1) * gradient


@pytest.mark.parametrize("n", range(1, 24))
def test_the_tree_over_blocks_has_one_order_of_additions(n, rng):
    leaves = rng.standard_normal((n, 7)).astype(np.float32) * 10.0 ** rng.integers(-6, 6, (n, 7)).astype(np.float32)

    def add_up(node):
        begin, end = node
        if end - begin == 1:
            return leaves[begin].copy()
        mid = blocks.middle(begin, end)
        return add_up((begin, mid)) + add_up((mid, end))

    for size in range(1, 13):
        shares = blocks.shares(n, size)
        assert [i for nodes in shares for begin, end in nodes for i in range(begin, end)] == [*range(n)]
        blocks_of_each = [sum(end - begin for begin, end in nodes) for nodes in shares]
        assert max(blocks_of_each) - min(blocks_of_each) <= 1
        assert max(map(len, shares)) <= 2 * n.bit_length()
        sums = {node: add_up(node) for nodes in shares for node in nodes}
        assert blocks.finished((0, n), sums).tobytes() == add_up((0, n)).tobytes()


def test_blocks_hold_every_row_once_and_are_neither_small_nor_large():
    for B in [*range(1, 600), 1000, 4096, 8192, 10**5]:
        found = blocks.blocks_of(B)
        assert [begin for begin, _ in found] + [B] == [0] + [end for _, end in found]
        lengths = {end - begin for begin, end in found}
        assert max(lengths) - min(lengths) <= 1 and max(lengths) <= 256 and min(lengths) >= min(B, 16)
    assert [len(blocks.blocks_of(B)) for B in (1, 32, 33, 64, 128, 512, 2048, 4096)] == [1, 1, 2, 2, 4, 8, 8, 16]


def test_an_error_that_one_rank_has_for_itself_ends_all_with_a_line(tmp_path):
    done = mpiexec(3, Path(__file__).parent / "on_ranks.py", tmp_path, "abort")
    assert done.returncode != 0 and "minivae: rank 1: ValueError: only here\n" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_rank_that_is_killed_ends_all_and_the_file_is_whole(tmp_path):
    done = mpiexec(2, Path(__file__).parent / "on_ranks.py", tmp_path, "killed")
    assert done.returncode != 0
    arrays, meta = checkpoint.read(tmp_path / "killed.npz")            # raises where it is damaged
    assert len(meta["state"]["history"]) >= 1


def test_what_is_no_communicator_is_refused():
    with pytest.raises(TypeError, match="comm must be a communicator of mpi4py, e.g. MPI.COMM_WORLD, got int"):
        fit(VAE.mlp(9, [4], 2, rng=0), np.zeros((4, 9)), comm=4)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of two epochs by two ranks, the second one after a resume by three; what each printed."""
    place = tmp_path_factory.mktemp("commands")
    np.save(place / "mine.npy", np.random.default_rng(0).random((90, 5, 4)))
    train = "-m minivae train --data mine.npy --hidden 8 --latent 2 --out run --epochs 1".split()
    done = mpiexec(2, *train, cwd=place)
    assert done.returncode == 0, done.stderr
    resumed = mpiexec(3, *"-m minivae train --resume run --epochs 2".split(), cwd=place)
    assert resumed.returncode == 0, resumed.stderr
    return place, done, resumed


def test_minivae_train_under_mpiexec_is_one_run_that_one_rank_prints(run):
    place, done, resumed = run
    assert done.stdout.count("nats per image") == resumed.stdout.count("nats per image") == 1
    assert "ranks     2 of MPI, each takes its part of every batch" in done.stdout
    assert "minivae: warning: a batch of 64 images makes 2 of the 3 ranks work" in resumed.stderr
    assert [path.name for path in place.iterdir() if path.is_dir()] == ["run"]
    history = (place / "run" / "history.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in history] == ["epoch", "1", "2"]
    # what fit gives with the same seeds, on one rank
    settings = RunSettings.for_data("mine.npy", x_dim=20, hidden=[8], latent=2, epochs=2)
    data = load_data(str(place / "mine.npy"))
    vae = build(settings.model_config(data.image_shape), np.random.default_rng(settings.seed))
    fit(vae, data.x_train, X_test=data.x_test, epochs=2, batch_size=64, lr=settings.lr, rng=[settings.seed, 1],
        comm=OneRank())
    for name, a in load(place / "run" / "model.npz").state().items():
        np.testing.assert_array_equal(a, vae.state()[name], name)


def test_a_wrong_word_on_the_command_line_is_answered_once(tmp_path):
    done = mpiexec(2, *"-m minivae train --data nowhere.npy".split(), cwd=tmp_path)
    assert done.returncode == 2 and done.stderr == "minivae: --data nowhere.npy: no such file or folder\n"


def test_without_mpi4py_mpiexec_is_told_what_is_missing(monkeypatch, capsys):
    monkeypatch.setenv("PMI_SIZE", "2")
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    assert main(["train"]) == 2
    assert capsys.readouterr().err.startswith("minivae: mpiexec started this, and mpi4py cannot be used (")
