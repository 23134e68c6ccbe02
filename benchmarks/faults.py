"""What becomes of a checkpoint when the power fails, the disk is full, or a bit falls over.

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
from minivae.saving.archive import ArchiveError, previous
from minivae.saving import checkpoint
from minivae.saving.checkpoint import CheckpointError, Progress, Saver
from minivae.optim import Adam

RIGHT, REFUSED, TRACEBACK, WRONG = "loads right", "refused in one line", "traceback", "silently wrong"


def training(x_dim, hidden, path):
    """A training's state, and what saves it."""
    vae = VAE.mlp(x_dim, hidden, 2, rng=0)
    progress = Progress(vae, Adam(vae.named_params()), np.random.default_rng(0), np.arange(30))
    return progress, Saver(path, progress, {}, None)


def save_forever(path):
    """Save again and again; in save n, every parameter is n."""
    progress, saver = training(784, [100], path)
    for n in range(1, 10**9):
        progress.epoch = n
        for _, param, _ in progress.vae.named_params():
            param[...] = n
        saver.save()


def save_naively_forever(path):
    """The same with np.savez straight into the file, for comparison."""
    progress, _ = training(784, [100], path)
    for n in range(1, 10**9):
        np.savez(path, **{name: np.full_like(a, n) for name, a in progress.arrays().items()})


def outcome(path, sound):
    """What reading `path` comes to; `sound` says of arrays and numbers whether they are those that were saved."""
    try:
        arrays, meta = checkpoint.read(path)
    except CheckpointError as error:
        return TRACEBACK if "\n" in str(error) else REFUSED
    except Exception:
        return TRACEBACK
    return RIGHT if sound(arrays, meta) else WRONG


def one_save(arrays, meta):
    """Whether all of it is of one and the same save of save_forever."""
    own = [a for name, a in arrays.items() if not name.startswith("training.")]
    return len(own) == 10 and all((a == meta["progress"]["epoch"]).all() for a in own)


def kill(worker, folder, pick):
    """Start a process that saves in a loop and kill it at some moment after its second save; the path it wrote."""
    path = folder / "model.npz"
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.faults", "--worker", worker, str(path)],
                               env={**os.environ, "OPENBLAS_NUM_THREADS": "1"})
    while process.poll() is None and not (path.exists() and (worker == "naive" or previous(path).exists())):
        time.sleep(0.001)
    time.sleep(pick.uniform(0, 0.1))
    process.kill()
    process.wait()
    return path


def kills(times, seed=0):
    """SIGKILL while saving: model.npz, model.prev.npz, and what a new save leaves of the dead one's temporary file."""
    pick, found, before, stale, lost = random.Random(seed), Counter(), Counter(), 0, 0
    for _ in range(times):
        with tempfile.TemporaryDirectory() as folder:
            path = kill("safe", Path(folder), pick)
            now = outcome(path, one_save)
            found[now] += 1
            earlier = outcome(previous(path), one_save)
            before[earlier] += 1
            lost += RIGHT not in (now, earlier)
            training(4, [], path)[1].save()
            stale += len(list(Path(folder).glob(".*")))
    return {"SIGKILL while saving: model.npz": found, "SIGKILL while saving: model.prev.npz": before}, {"lost": lost, "stale": stale}


def naive_kills(times, seed=0):
    """The same for np.savez straight into the file."""
    pick, found = random.Random(seed), Counter()
    for _ in range(times):
        with tempfile.TemporaryDirectory() as folder:
            path = kill("naive", Path(folder), pick)
            try:
                with np.load(path) as file:
                    sound = len({float(file[name].flat[0]) for name in file.files if not name.startswith("training.")}) == 1
                found[RIGHT if sound else WRONG] += 1
            except Exception:
                found[TRACEBACK] += 1
    return found


def damages(every, seed=0):
    """A small file cut short at every byte; with one bit flipped at every byte; with two flipped anywhere."""
    pick = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.npz"
        _, saver = training(4, [], path)
        saver.save()
        data = path.read_bytes()
        arrays, meta = checkpoint.read(path)

        def sound(found, found_meta):
            same = found.keys() == arrays.keys() and all(found[k].dtype == a.dtype and np.array_equal(found[k], a) for k, a in arrays.items())
            return same and json.dumps(found_meta) == json.dumps(meta)

        def after(*bits):
            spoilt = bytearray(data)
            for bit in bits:
                spoilt[bit // 8] ^= 1 << bit % 8
            path.write_bytes(spoilt)
            return outcome(path, sound)

        def cut(size):
            path.write_bytes(data[:size])
            return outcome(path, sound)

        places = range(0, len(data), every)
        return {"cut short at a byte": Counter(cut(size) for size in places),
                "one bit flipped": Counter(after(8 * byte + pick.randrange(8)) for byte in places),
                "two bits flipped": Counter(after(*pick.sample(range(8 * len(data)), 2)) for _ in places)}


def full_disk(every):
    """A disk that is full after n bytes (a limit on the size of a file stands in for it): the old file stays whole."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    found = Counter()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.npz"
        progress, saver = training(4, [], path)
        saver.save()
        old = path.read_bytes()
        for room in range(0, len(old), every):
            progress.epoch += 1
            resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
            try:
                saver.save()
                old = path.read_bytes()                    # a shorter one: it just fitted
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


def measure(kill_times, naive_times, every):
    killed, extra = kills(kill_times)
    table = {**killed, **damages(every), "disk full while saving": full_disk(every)}
    table["np.savez under SIGKILL, for comparison"] = naive_kills(naive_times)
    return {name: dict(counts) for name, counts in table.items()}, extra


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--naive-kills", type=int, default=25)
    parser.add_argument("--every", type=int, default=1, help="take every n-th byte")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.worker:
        {"safe": save_forever, "naive": save_naively_forever}[args.worker[0]](args.worker[1])
    table, extra = measure(args.kills, args.naive_kills, args.every)
    print(f"{'':42}{RIGHT:>14}{REFUSED:>22}{TRACEBACK:>12}{WRONG:>17}")
    for name, counts in table.items():
        print(f"{name:42}" + "".join(f"{counts.get(kind, 0):{width}}" for kind, width in ((RIGHT, 14), (REFUSED, 22), (TRACEBACK, 12), (WRONG, 17))))
    print(f"neither model.npz nor model.prev.npz readable: {extra['lost']}; temporary files left after the next save: {extra['stale']}")
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "faults.json").write_text(json.dumps({"table": table, **extra}, indent=1) + "\n")


if __name__ == "__main__":
    main()
