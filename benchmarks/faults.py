"""What becomes of a checkpoint when the power fails, the disk is full, or a bit flips.

python -m benchmarks.faults    a minute and a half on a quiet machine; writes results/faults.json
"""

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

from minivae import VAE
from minivae.optim import Adam
from minivae.saving import checkpoint
from minivae.saving.archive import ArchiveError, previous
from minivae.saving.checkpoint import CheckpointError, Saver, TrainingState

# what can come of reading a file, or of writing one; the last two must never happen
RIGHT, REFUSED = "loads right", "refused in one line"
TRACEBACK, WRONG = "traceback", "silently wrong"


def training(x_dim, hidden, path):
    """A training's state, and what saves it to `path`."""
    vae = VAE.mlp(x_dim, hidden, 2, rng=0)
    state = TrainingState(vae, Adam(vae.named_params()), np.random.default_rng(0), np.arange(30))
    return state, Saver(path, state, {}, None)


def outcome(path, is_sound):
    """What reading `path` comes to; is_sound(arrays, meta) says whether they are the saved ones."""
    try:
        arrays, meta = checkpoint.read(path)
    except CheckpointError as error:
        return TRACEBACK if "\n" in str(error) else REFUSED
    except Exception:
        return TRACEBACK
    return RIGHT if is_sound(arrays, meta) else WRONG


# --- killed while saving --------------------------------------------------------------------------


def save_forever(path):
    """Save again and again; in save n, every parameter is n."""
    state, saver = training(784, [100], path)
    for n in range(1, 10**9):
        state.epoch = n
        for _, param, _ in state.vae.named_params():
            param[...] = n
        saver.save()


def save_naively_forever(path):
    """The same with np.savez straight into the file, for comparison."""
    state, _ = training(784, [100], path)
    for n in range(1, 10**9):
        np.savez(path, **{name: np.full_like(a, n) for name, a in state.arrays().items()})


# what a process does that is to be killed
WORKERS = {"safe": save_forever, "naive": save_naively_forever}


def of_one_save(arrays, meta):
    """Whether everything in a file is of one and the same save of `save_forever`."""
    own = [a for name, a in arrays.items() if not name.startswith("training.")]
    return len(own) == 10 and all((a == meta["state"]["epoch"]).all() for a in own)


def of_one_naive_save(path):
    """The same for `save_naively_forever`; raises where the file cannot be read."""
    with np.load(path) as file:
        own = [name for name in file.files if not name.startswith("training.")]
        return len({float(file[name].flat[0]) for name in own}) == 1


def kill(worker, folder, rng):
    """Start a process that saves in a loop and kill it at some moment after its second save.

    Returns the path that it wrote to.
    """
    path = folder / "model.npz"
    command = [sys.executable, "-m", "benchmarks.faults", "--worker", worker, str(path)]
    process = subprocess.Popen(command, env={**os.environ, "OPENBLAS_NUM_THREADS": "1"})

    def has_saved():
        return path.exists() and (worker == "naive" or previous(path).exists())

    while process.poll() is None and not has_saved():
        time.sleep(0.001)
    time.sleep(rng.uniform(0, 0.1))
    process.kill()
    process.wait()
    return path


def kills(times, seed=0):
    """SIGKILL while saving: outcomes for model.npz and for model.prev.npz, and two counts.

    The counts: kills after which neither file could be read, and temporary files of dead processes
    that the next save left behind.
    """
    rng = random.Random(seed)
    newest, earlier, stale, lost = Counter(), Counter(), 0, 0
    for _ in range(times):
        with tempfile.TemporaryDirectory() as folder:
            path = kill("safe", Path(folder), rng)
            found = outcome(path, of_one_save)
            found_earlier = outcome(previous(path), of_one_save)
            newest[found] += 1
            earlier[found_earlier] += 1
            lost += RIGHT not in (found, found_earlier)
            training(4, [], path)[1].save()
            stale += len(list(Path(folder).glob(".*")))
    table = {"SIGKILL while saving: model.npz": newest,
             "SIGKILL while saving: model.prev.npz": earlier}
    return table, {"lost": lost, "stale": stale}


def naive_kills(times, seed=0):
    """The outcomes for np.savez straight into the file."""
    rng, found = random.Random(seed), Counter()
    for _ in range(times):
        with tempfile.TemporaryDirectory() as folder:
            path = kill("naive", Path(folder), rng)
            try:
                found[RIGHT if of_one_naive_save(path) else WRONG] += 1
            except Exception:
                found[TRACEBACK] += 1
    return found


# --- damaged on the disk --------------------------------------------------------------------------


def damages(every, seed=0):
    """A small file cut short at every byte, with a bit flipped in every byte, with two flipped."""
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.npz"
        _, saver = training(4, [], path)
        saver.save()
        data = path.read_bytes()
        saved, saved_meta = checkpoint.read(path)

        def same(a, b):
            return a.dtype == b.dtype and np.array_equal(a, b)

        def is_sound(arrays, meta):
            return (arrays.keys() == saved.keys()
                    and all(same(arrays[name], a) for name, a in saved.items())
                    and json.dumps(meta) == json.dumps(saved_meta))

        def flipped(*bits):
            damaged = bytearray(data)
            for bit in bits:
                damaged[bit // 8] ^= 1 << bit % 8
            path.write_bytes(damaged)
            return outcome(path, is_sound)

        def cut(size):
            path.write_bytes(data[:size])
            return outcome(path, is_sound)

        places, all_bits = range(0, len(data), every), range(8 * len(data))
        return {
            "cut short at a byte": Counter(cut(size) for size in places),
            "one bit flipped": Counter(flipped(8 * byte + rng.randrange(8)) for byte in places),
            "two bits flipped": Counter(flipped(*rng.sample(all_bits, 2)) for _ in places)}


def full_disk(every):
    """A disk that is full after n bytes, for which a limit on the size of a file stands in.

    The file from before must stay whole.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    found = Counter()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.npz"
        state, saver = training(4, [], path)
        saver.save()
        old = path.read_bytes()
        for room in range(0, len(old), every):
            state.epoch += 1
            resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
            try:
                saver.save()
                old = path.read_bytes()                    # a shorter one, which just fitted
                found[RIGHT] += 1
            except ArchiveError as error:
                found[REFUSED if "\n" not in str(error) else TRACEBACK] += 1
            except Exception:
                found[TRACEBACK] += 1
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            if path.read_bytes() != old or list(Path(folder).glob(".*")):
                found[WRONG] += 1
    return found


# --- the table ------------------------------------------------------------------------------------


def measure(kill_times, naive_times, every):
    """{what was done: {outcome: how often}}, and the two counts of `kills`."""
    killed, counts = kills(kill_times)
    table = {**killed, **damages(every), "disk full while saving": full_disk(every)}
    table["np.savez under SIGKILL, for comparison"] = naive_kills(naive_times)
    return {name: dict(found) for name, found in table.items()}, counts


def show(table, counts):
    widths = {RIGHT: 14, REFUSED: 22, TRACEBACK: 12, WRONG: 17}
    print(f"{'':42}" + "".join(f"{kind:>{width}}" for kind, width in widths.items()))
    for name, found in table.items():
        cells = [f"{found.get(kind, 0):{width}}" for kind, width in widths.items()]
        print(f"{name:42}" + "".join(cells))
    print(f"neither model.npz nor model.prev.npz readable: {counts['lost']}; "
          f"temporary files left after the next save: {counts['stale']}")


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--naive-kills", type=int, default=25)
    parser.add_argument("--every", type=int, default=1, help="take every n-th byte")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.worker:
        name, path = args.worker
        WORKERS[name](path)
    table, counts = measure(args.kills, args.naive_kills, args.every)
    show(table, counts)
    args.out.mkdir(parents=True, exist_ok=True)
    record = json.dumps({"table": table, **counts}, indent=1)
    (args.out / "faults.json").write_text(record + "\n")


if __name__ == "__main__":
    main()
