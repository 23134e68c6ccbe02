"""What becomes of the commands and the Python API when everything around them is wrong.

python -m benchmarks.hostile    an hour; writes results/hostile.json

A case is one call with one expectation.  A command must end with a documented exit code that is not
70, within a limit of time, and where that code is not 0, with exactly one line on stderr, which
begins with "minivae: ".  A wrong argument in Python must give a ValueError or a TypeError in one
line that names the argument.  No case may change a file that is not its own.  Cases are made
systematically: every option with every bad value, every field of a header with every other type,
every region of a file cut or flipped.
"""

# ruff: noqa: B023  (a case is called before the loop that made it goes on)

import argparse
import copy
import gzip
import hashlib
import io
import itertools
import json
import os
import random
import re
import resource
import shutil
import signal
import socketserver
import subprocess
import sys
import tempfile
import time
import zipfile
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout, suppress
from fractions import Fraction
from pathlib import Path
from threading import Thread

import numpy as np

import minivae
from minivae.app.cli import main as command
from minivae.app.folders import _holds_nothing, shown
from minivae.app.options import parser
from minivae.app.train import Run
from minivae.data import published
from minivae.data.published import PUBLISHED, Published
from minivae.saving import archive

LIMIT = 120                     # seconds for a case in this process, on a busy machine
PROCESS_LIMIT = 600             # seconds for a process: it may compile, beside others
MESSAGE = 400                   # characters of an error in Python
MEMORY = 8 << 30                # bytes of address space: the system refuses more, as elsewhere
OK, REFUSED = {0}, {2}
ENDS = {0, 2, 3}                # done, wrong input, or a number that is not finite
STOPPED = {129, 130, 143}

TINY = ["--epochs", "1", "--hidden", "2", "--latent", "2"]


class Hang(BaseException):
    """A case took longer than its limit."""


# --- one case -------------------------------------------------------------------------------------


@contextmanager
def limited(seconds=LIMIT):
    """Raise Hang in the block after so many seconds."""
    def hang(*_):
        raise Hang

    before = signal.signal(signal.SIGALRM, hang)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def judged(code, err, codes, names=()):
    """What is wrong with an exit code and the text on stderr; "" where nothing is.

    names : where the command refuses, its message must have one of these.
    """
    if code < 0 and 128 - code in codes and not err:       # the signal came before Python was up
        return ""
    code = 128 - code if code < 0 else code                # as a shell counts it
    lines = [line for line in err.splitlines()
             if line and not line.startswith(("minivae: warning: ", "minivae: compiling ",
                                              "minivae: fetching "))
             and not line.endswith(": fetching it again")]
    if code not in codes:
        return f"exit code {code}: {' '.join(err.split())[-200:]}"
    if "Traceback" in err:
        return f"traceback: {err[-200:]}"
    if code and not (len(lines) == 1 and lines[0].startswith("minivae: ") and len(lines[0]) > 12):
        return f"{len(lines)} lines on stderr: {err[:200]!r}"
    if code == 2 and names and not any(name in lines[0] for name in names):
        return f"does not name it: {lines[0][:200]!r}"
    return f"a line of {len(lines[0])} characters" if code and len(lines[0]) > 900 else ""


def called(argv, codes=ENDS, limit=LIMIT, names=()):
    """What is wrong with a command in this process.  names : as in `judged`."""
    err = io.StringIO()
    with redirect_stdout(io.StringIO()), redirect_stderr(err):
        try:
            with limited(limit):
                code = command([str(word) for word in argv])
        except SystemExit as stop:
            code = stop.code or 0
        except Hang:
            return f"took more than {limit} s"
        except BaseException as error:
            return f"{type(error).__name__}: {error}"
    return judged(code, err.getvalue(), codes, names)


def asked(call, *names):
    """What is wrong with a call of the Python API in which an argument is wrong.

    names : one of these words, regular expressions, must stand in the message.
    """
    try:
        with limited(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            call()
    except (ValueError, TypeError, FloatingPointError) as error:
        message = str(error)
        if "\n" in message or not message:
            return f"no message of one line: {message[:150]!r}"
        if len(message) > MESSAGE:
            return f"a message of {len(message)} characters: {message[:150]}"
        named = any(re.search(rf"\b{name}\b", message) for name in names)
        return "" if named else f"does not name it: {message[:150]}"
    except Hang:
        return f"took more than {LIMIT} s"
    except BaseException as error:
        return f"{type(error).__name__}: {str(error)[:150]}"
    return ""


def process(words, **surroundings):
    """A command in a process of its own."""
    env = {**os.environ, "OPENBLAS_NUM_THREADS": "1", **surroundings.pop("env", {})}
    settings = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **surroundings}
    return subprocess.Popen([sys.executable, "-m", "minivae", *map(str, words)], env=env,
                            **settings)


def ended(started, codes=ENDS, names=()):
    """What is wrong with how a process ended.  names : as in `judged`."""
    try:
        _, err = started.communicate(timeout=PROCESS_LIMIT)
    except subprocess.TimeoutExpired:
        started.kill()
        started.communicate()
        return f"took more than {PROCESS_LIMIT} s"
    return judged(started.returncode, (err or b"").decode(errors="replace"), codes, names)


def made_run(folder, *options):
    """A run in `folder`, of images in mine.npy, without pictures."""
    if not Path("mine.npy").exists():
        np.save("mine.npy", np.random.default_rng(0).random((30, 5, 4)))
    wrong = called(["--data", "mine.npy", "--epochs", "2", "--hidden", "4", "--latent", "2",
                    "--out", folder, *options], OK,
                    limit=900)           # it may compile the kernels
    if wrong:
        raise RuntimeError(f"a sound run fails: {wrong}")


def contents(*paths):
    """{path: sha256} of files, and of all files in folders."""
    files = [file for path in map(Path, paths)
             for file in ([path] if path.is_file() else sorted(path.rglob("*")))]
    return {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in files
            if file.is_file() and file.name != ".train.lock"}


def changed_files(before):
    """Which files are no longer what `contents` found."""
    now = contents(*before)
    changed = [path for path in before if now.get(path) != before[path]]
    return f"no longer what they were: {changed}" if changed else ""


def put_json(data, change):
    """The bytes of an archive with another header, sealed anew."""
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        parts = {name.removesuffix(".npy"): np.load(io.BytesIO(file.read(name)))
                 for name in file.namelist()}
    header = json.loads(parts["header"].tobytes())
    change(header)
    parts["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)
    parts["seal"] = archive._seal(parts["header"])
    stream = io.BytesIO()
    np.savez(stream, **parts)
    return stream.getvalue()


def damaged(data, every, seed):
    """(what was done, bytes): cut short, and a bit flipped, in each region of `every` bytes."""
    rng = random.Random(seed)
    for start in range(0, len(data), every):
        place = min(len(data) - 1, start + rng.randrange(every))
        yield f"cut at byte {place}", data[:place]
        flipped = bytearray(data)
        flipped[place] ^= 1 << rng.randrange(8)
        yield f"a bit of byte {place}", bytes(flipped)


# --- the kinds: each yields (case, a call that says what is wrong, or what it said) ----------


def data_files(rng):
    """Files of images that are no such thing, read by sample's and train's own ways."""
    x = rng.random((30, 5, 4))
    made_run("run")
    odd = {"empty": np.zeros((0, 4)), "scalar": np.array(3.0), "row": np.zeros(20),
           "five axes": np.zeros((3, 2, 2, 2, 2)), "no pixels": np.zeros((3, 0)),
           "objects": np.array([[None]]), "texts": np.array([["a"]]), "complex": x + 1j,
           "records": np.zeros(3, [("a", "f4")]), "dates": np.zeros((3, 4), "M8[s]"),
           "times": np.zeros((3, 4), "m8[s]"), "void": np.zeros((3, 4), "V3"),
           "one": x[:1], "colours": rng.random((9, 5, 4, 3)),
           "many channels": rng.random((9, 5, 4, 7))}
    odd |= {f"of {kind}": (x * 255).astype(kind) for kind in
            ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "g", ">f4", ">i2")}
    odd |= {f"with {value}": np.where(x > 0.9, value, x) for value in
            (np.nan, np.inf, -np.inf, -1e-9, 1 + 1e-9, 255.0, -1.0, 1e300, 5e-324)}
    files = {f"{name}.npy": npy_bytes(array) for name, array in odd.items()}
    files |= {f"{name}.npz": npz_bytes(x_train=array) for name, array in odd.items()}
    files |= {f"{name} as test.npz": npz_bytes(x_train=x, x_test=array) for name,
              array in odd.items()}
    files |= {"two arrays.npz": npz_bytes(a=x, b=x), "none.npz": npz_bytes(),
              "test alone.npz": npz_bytes(x_test=x), "text.npy": b"hello", "nothing.npy": b"",
              "PK.npz": b"PK", "picture.png": b"\x89PNG\r\n\x1a\n" + bytes(40),
              "table.csv": b"1,2\n3,4\n",
              "broken.csv": b"1,2\n3\n", "page.html": b"<html></html>", "a.json": b"{}",
              "a.pdf": b"%PDF-1.4",
              "pickle.npy": b"\x80\x04\x95", "a.txt": b"\xff\xfe\x00", "a.gz": b"\x1f\x8b\x08"}
    member = io.BytesIO()
    with zipfile.ZipFile(member, "w") as file:
        file.writestr("a.txt", "hi")
    files["no array.npz"] = member.getvalue()
    files |= {f"{what}.npy": data for what, data in damaged(npy_bytes(x), 97, 0)}
    files |= {f"{what}.npz": data for what, data in damaged(npz_bytes(x_train=x, x_test=x[:5]), 97,
                                                            0)}
    for name, data in files.items():
        path = Path("odd-" + name.replace(" ", "-"))
        path.write_bytes(data)
        yield (f"train on {name}",
               lambda: called(["--data", path, *TINY, "--out", f"out-{path.name}"]))
        yield (f"reconstruct {name}",
               lambda: called(["reconstruct", "run", "--data", path, "--n", 2]))
    Path("folder.npy").mkdir()
    os.mkfifo("pipe.npy")
    for name in ("folder.npy", "pipe.npy", "/dev/null", "/", "", "none.npy", "x" * 300,
                 "a\x1b[31m"):
        yield f"train on {name!r}", lambda: called(["--data", name, *TINY, "--out", "o"], REFUSED)


def npy_bytes(array):
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


def npz_bytes(**arrays):
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


WRONG = {"None": None, "a text": "nonsense", "bytes": b"nonsense", "True": True, "-1": -1, "0": 0,
         "1.5": 1.5,
         "nan": float("nan"), "inf": float("inf"), "10**12": 10**12, "10**40": 10**40, "1j": 1j,
         "[]": [], "{}": {}, "an object": object(), "a class": int, "a function": len,
         "a fraction": Fraction(1, 3), "a set": {1}, "an iterator": iter([1]),
         "an empty array": np.zeros(0), "a 0-d array": np.array(1.0),
         "NaNs": np.full((3, 20), np.nan),
         "complex numbers": np.ones((3, 20)) * 1j, "objects": np.array([[None] * 20] * 3),
         "texts": np.array([["a"] * 20] * 3), "masked": np.ma.masked_equal(np.zeros((3, 20)), 0),
         "three axes": np.zeros((2, 3, 20)), "one column": np.zeros((3, 1)),
         "a cyclic list": [[...]]}


def python_api(rng):
    """Every public function with every wrong kind of argument, one argument at a time."""
    x = (rng.random((12, 20)) < 0.5).astype(np.float32)
    vae = minivae.VAE.mlp(20, [4], 2, rng=0)
    coins = minivae.DiscreteVAE.mlp(20, [4], 2, rng=0)
    exact = minivae.VAE.mlp(20, [4], 2, dtype=np.float64, rng=0)
    small = {"epochs": 1, "hidden": (4,), "z_dim": 2}
    estimator = minivae.VAEEstimator(**small).fit(x)
    choices = {"likelihood": "bernoulli", "activation": "relu", "beta": 1.0, "estimator": "elbo",
               "baseline": "others", "latent": None, "rng": 0, "dtype": np.float32}
    dense = {"x_dim": 20, "hidden": [4], "z_dim": 2, **choices}
    conv = {"image_shape": (5, 4), "channels": (2,), "z_dim": 2, "kernel": 3, "stride": 2,
            "padding": 1, **choices}
    parts = {name: getattr(vae, name) for name in ("enc", "to_mu", "to_logvar", "dec", "to_out",
                                                   "likelihood", "latent", "estimator",
                                                   "baseline", "beta", "x_dim", "z_dim")}
    of_coins = {name: getattr(coins, name) for name in ("enc", "to_a", "dec", "to_out",
                                                        "likelihood", "latent", "estimator",
                                                        "baseline", "beta", "x_dim", "z_dim")}
    training = {"X": x, "X_test": x, "epochs": 1, "batch_size": 4, "lr": 1e-3, "samples": 1,
                "binarize": "none", "warmup": 0, "decay": 1.0, "patience": None, "rng": 0,
                "callback": None, "checkpoint": "c.npz", "resume": None, "stop": None, "note": None,
                "adam": None, "progress": False}
    terms = {"recon": 3.0, "kl": 1.0, "x": x, "logits": np.zeros((12, 20)), "mu": np.zeros((12, 2)),
             "logvar": np.zeros((12, 2))}
    judged_on = {"vae": vae, "X": x, "binarize": "none", "scale": 1.0}
    measured_on = {"vae": vae, "x": x, "samples": 2, "rng": 0, "progress": False}
    of_estimator = {**small, "channels": None, "image_shape": None, "likelihood": "bernoulli",
                    "activation": "relu", "beta": 1.0, "samples": 1, "batch_size": 4, "lr": 1e-3,
                    "random_state": 0}
    images = {**small, "channels": (2,), "image_shape": (5, 4)}
    noise = {"x": x, "eps": np.zeros((12, 2), np.float32)}
    uniform = {"x": x, "u": np.full((12, 2), 0.5, np.float32)}
    fresh = minivae.VAEEstimator(**small)
    sound = {
        "VAE.mlp": (minivae.VAE.mlp, dense), "DiscreteVAE.mlp": (minivae.DiscreteVAE.mlp, dense),
        "VAE.conv": (minivae.VAE.conv, conv), "DiscreteVAE.conv": (minivae.DiscreteVAE.conv, conv),
        "VAE": (minivae.VAE, {**parts, "rng": 0, "dtype": np.float32}),
        "DiscreteVAE": (minivae.DiscreteVAE, {**of_coins, "rng": 0, "dtype": np.float32}),
        "VAE.forward": (vae.forward, noise), "DiscreteVAE.forward": (coins.forward, uniform),
        "encode": (vae.encode, {"x": x}), "coins.encode": (coins.encode, {"x": x}),
        "decode": (vae.decode, {"z": np.zeros((12, 2))}),
        "coins.decode": (coins.decode, {"z": np.zeros((9, 2))}),
        "reconstruct": (vae.reconstruct, {"x": x}), "sample": (vae.sample, {"n": 2, "rng": 0}),
        "fit": (lambda **a: minivae.fit(minivae.VAE.mlp(20, [4], 2, rng=0), **a), training),
        "fit's model": (lambda vae: minivae.fit(vae, x, epochs=1), {"vae": vae}),
        "evaluate": (minivae.evaluate, judged_on), "elbo": (minivae.elbo, judged_on),
        "measure": (minivae.measure, measured_on),
        "interpolate": (minivae.interpolate, {"vae": vae, "x_from": x, "x_to": x, "steps": 2}),
        "save": (minivae.save, {"model": vae, "path": "m.npz"}),
        "load": (minivae.load, {"path": "m.npz", "rng": 0, "builder": None}),
        "load_data": (minivae.load_data, {"source": "digits", "data_dir": None, "key": None}),
        "which_loss": (minivae.which_loss, terms),
        "VAEEstimator": (lambda **a: minivae.VAEEstimator(**a).fit(x), of_estimator),
        "VAEEstimator of convolutions": (lambda **a: minivae.VAEEstimator(**a).fit(x), images),
        "VAEEstimator.fit": (fresh.fit, {"X": x}),
        "VAEEstimator.partial_fit": (estimator.partial_fit, {"X": x}),
        "VAEEstimator.transform": (estimator.transform, {"X": x}),
        "VAEEstimator.inverse_transform": (estimator.inverse_transform, {"X": np.zeros((3, 2))}),
        "VAEEstimator.reconstruct": (estimator.reconstruct, {"X": x}),
        "VAEEstimator.sample": (estimator.sample, {"n_samples": 2, "random_state": 0}),
        "VAEEstimator.score_samples": (estimator.score_samples, {"X": x}),
        "VAEEstimator.score": (estimator.score, {"X": x}),
        "check_function": (lambda f, grad, x, rng: minivae.check_function(f, grad, x, rng=rng),
                           {"f": np.sum, "grad": np.ones_like, "x": np.ones(3), "rng": 0}),
        "check_vjp": (lambda forward, backward, x, rng:
                      minivae.check_vjp(forward, backward, x, rng=rng),
                      {"forward": np.exp, "backward": lambda x, dy: dy * np.exp(x),
                       "x": np.ones(3), "rng": 0}),
        "check_layer": (lambda layer, x, rng: minivae.check_layer(layer, x, rng=rng),
                        {"layer": exact.to_mu, "x": np.ones((3, 4)), "rng": 0}),
        "check_model": (minivae.check_model, {"vae": exact, "x": x[:3].astype(float),
                                              "eps": np.ones((3, 2)), "rng": 0}),
    }
    minivae.save(vae, "m.npz")
    for function, (call, arguments) in sound.items():
        call(**copy.copy(arguments))                       # the sound call must work
        for name, (what, value) in itertools.product(arguments, WRONG.items()):
            if not is_wrong(name, what):
                continue
            # a path is named well enough by itself, and the inputs of a check have no names
            names = [name, *({"nonsense"} if what == "a text" else ()),
                     *({"inputs?"} if function.startswith("check_") and name == "x" else ())]
            yield (f"{function}({name}={what})",
                   lambda: asked(lambda: call(**{**arguments, name: copy.copy(value)}), *names))


def is_wrong(name, what):
    """Whether this value can be judged where this argument is wanted."""
    if name == "progress":                                 # anything is true or false
        return False
    # taken at its word: nobody waits for 10**12 epochs
    if name in ("epochs", "samples", "patience", "batch_size", "n_samples") and "10**" in what:
        return False
    # a number like any other; that x / scale leaves [0, 1] is said of x
    if (name, what) == ("scale", "a fraction"):
        return False
    # a function of the caller's: what it raises when it is called goes through
    takes_function = name in ("callback", "stop", "builder", "f", "grad", "forward", "backward")
    return not (takes_function and what in ("a class", "a function"))


# nothing here may lead out of the folder: these words are names of outputs, too
BAD = ["", " ", "-1", "0", "1.5", "nan", "inf", "-inf", "1e400", "abc", "ü", "²", "١", "\x1b[31m",
       "\n",
       "None", "[]", "1,2", ",", "1,,2", "0x10", "1_0", "+1", "1e3", "1000000000000", "9" * 40,
       "9" * 5000,
       "a" * 5000, "mine.npy/x", "pipe", "dangling", ".", "no/such/x", "-y", "--", "%s", "{}",
       "$HOME", "*"]
# the options whose larger values are taken at their word: nobody waits for 10**9 epochs
LONG = {"--epochs", "--eval-samples", "--warmup", "--patience", "--samples", "--batch-size"}


def arguments(rng):
    """Every option of every command with every bad value, and bad words in every place."""
    made_run("run")
    commands = next(a for a in parser()._actions if isinstance(a,
                                                               argparse._SubParsersAction)).choices
    base = {"train": ["train", "--data", "mine.npy", *TINY],
            "evaluate": ["evaluate", "--eval-samples", 3],
            "sample": ["sample", "--n", 2], "reconstruct": ["reconstruct", "--n", 2],
            "latent": ["latent", "--n", 1], "gradcheck": ["gradcheck"],
            "doctor": ["doctor", "--json"],
            "loss": ["loss", "--recon", 1, "--kl", 1, "--pixels", 2, "--latents", 2, "--batch", 2],
            "walk": ["walk"], "explain": ["explain", "--out", "page.html"],
            "learn": ["learn", "--once", "--dir", "exercises"]}
    takes_run = {"evaluate", "sample", "reconstruct", "latent", "walk", "explain"}
    os.mkfifo("pipe")
    os.symlink("nowhere", "dangling")
    Path("notes.txt").write_text("mine")
    kept = contents("run", "mine.npy", "notes.txt")
    counter = itertools.count()
    for name, options in commands.items():
        if name not in base:
            continue
        words, run = base[name], ["run"] if name in takes_run else []
        run = ["ReLU"] if name == "gradcheck" else run
        for action, bad in itertools.product(options._actions, BAD):
            if action.nargs == 0 or isinstance(action, argparse._SubParsersAction):
                continue
            word = shown(bad.split("/")[0].strip())[:40]
            names = [action.dest, action.dest.replace("_", " "), word]
            if action.option_strings:
                option = action.option_strings[-1]
                names += [option, option.strip("-")]
                if (option in LONG and bad in ("1e3", "9" * 40)) or (name, option) == ("doctor",
                                                                                       "--data-dir"):
                    continue
                given = [*words, *run, f"{option}={bad}"]
            else:
                given = [*words, bad]
            if name == "train" and "--out" not in str(given):
                given += ["--out", f"out/{next(counter)}"]
            codes = ENDS | {1} if name in ("gradcheck", "learn") else ENDS
            # a folder whose name is empty is called ".", and one of blanks is shown as blanks
            names = [*filter(None, names)] if bad.strip() else []
            yield (f"{given}",
                   lambda: called(given, codes, names=names) or changed_files(kept))
    for bad in BAD:
        yield f"[{bad!r}]", lambda: called([bad, *TINY] if bad.startswith("-") else [bad], REFUSED)
    for name, out in itertools.product(("sample", "reconstruct", "latent", "evaluate", "explain"),
                                       ("mine.npy", "notes.txt", "run/model.npz", "run/config.json",
                                        "run/history.csv", "run", "/dev/null", "/dev/full")):
        given = [*base[name], "run", "--out", out]
        yield f"{given}", lambda: called(given, OK | REFUSED) or changed_files(kept)


SURROUNDINGS = {
    "PYTHONIOENCODING": ("ascii", "latin-1", "utf-16", "utf-8:strict", "ascii:strict"),
    "MPLBACKEND": ("nope", "module://matplotlib_inline.backend_inline", "", "Qt5Agg",
                   "module://nope"),
    "NUMBA_NUM_THREADS": ("0", "-1", "x", "", "1", "7", "99999999999", "1.5"),
    "TQDM_MININTERVAL": ("abc", "", "-1", "nan"), "TQDM_DISABLE": ("x", "1"),
    "TQDM_NCOLS": ("x", "0"),
    "NUMBA_DEBUG": ("x",), "NUMBA_OPT": ("x",), "NUMBA_THREADING_LAYER": ("x", "workqueue"),
    "NUMBA_CACHE_DIR": ("/dev/null", "/proc/nope", ""), "OMP_NUM_THREADS": ("abc", "0"),
    "COLUMNS": ("0", "-1", "x", "1", "100000"), "LINES": ("x",), "TERM": ("", "dumb", "nope"),
    "HOME": ("/nonexistent", ""), "TMPDIR": ("/nonexistent",), "LC_ALL": ("C", "nope"),
    "TZ": ("nope",),
    "XDG_CACHE_HOME": ("/dev/null", "nope"), "MINIVAE_DATA": ("/dev/null", "", "/nonexistent"),
    "NO_COLOR": ("1",), "PYTHONWARNINGS": ("error", "nope"), "PYTHONHASHSEED": ("0",),
    "PYTHONOPTIMIZE": ("2",), "PYTHONUNBUFFERED": ("1",), "PYTHONDEVMODE": ("1",),
    "PYTHONUTF8": ("0",),
    "MPLCONFIGDIR": ("/dev/null",), "OPENBLAS_NUM_THREADS": ("0", "x", "1000"),
    "BROWSER": ("false",)}


# a command is refused for these alone, and then the line has the variable's name
REFUSABLE = ("NUMBA_", "TQDM_", "OMP_", "OPENBLAS_", "MINIVAE_", "TMPDIR", "PYTHONWARNINGS")
STREAMS = {"no stdout": ">&-", "no stderr": "2>&-", "no stdin": "<&-", "nothing": "<&- >&- 2>&-",
           "stdout full": ">/dev/full", "stderr full": "2>/dev/full",
           "both full": ">/dev/full 2>&1", "nobody reads": "| true"}
# `cd` to where nothing can be written, to names that must be quoted, to a folder that is gone
PLACES = {"/proc": "cd /proc", "/sys": "cd /sys", "gone": "mkdir gone; cd gone; rmdir ../gone",
          "a space": "mkdir -p 'a b'; cd 'a b'", "a dash": "mkdir -p ./-y; cd ./-y",
          "a line end": "mkdir -p $'a\\nb'; cd $'a\\nb'",
          "no UTF-8": "mkdir -p $'\\xff'; cd $'\\xff'",
          "signs": "mkdir -p '%s{}$HOME'; cd '%s{}$HOME'",
          "deep": "d=$(printf 'd%.0s' {1..200}); for i in {1..15}; do mkdir -p $d; cd $d; done",
          "runs is a file": "mkdir -p f; cd f; touch runs",
          "runs leads nowhere": "mkdir -p l; cd l; ln -sf /nonexistent/disk runs"}
LIMITS = {"files stay empty": "ulimit -f 0", "files of 8 KB": "ulimit -f 8",
          "20 open files": "ulimit -n 20", "umask 777": "umask 777", "nice": "renice -n 19 $$"}


def environment(rng):
    """Variables set to nonsense; streams closed, full or gone; odd folders, full disks, limits."""
    made_run("run")
    here = Path().resolve()
    np.save("ü.npy", rng.random((30, 20)))
    kept = contents("run", "ü.npy")
    counter = itertools.count()

    def commands():
        return [["--data", here / "ü.npy", *TINY, "--out", f"{here}/e/{next(counter)}"],
                ["walk", here / "run"],
                ["evaluate", here / "run", "--eval-samples", 2, "--json"],
                ["explain", here / "run", "--out", "ö.html"]]

    def whole(words, wrong):
        """`wrong`, or what is wrong with the files after the command."""
        out = Path(words[-1]) if words[0] == "--data" else here / "none"
        torn = out.exists() and not (out / "model.npz").exists() and not _holds_nothing(out)
        return wrong or ("a run without a model" if torn else changed_files(kept))

    variables = [(name, value) for name, values in SURROUNDINGS.items() for value in values]
    for name, value in variables:
        codes, three = OK | REFUSED if name.startswith(REFUSABLE) else OK, commands()[:3]
        for words, wrong in zip(three, several(three, name, value, codes)):
            yield f"{name}={value} {words[:1]}", whole(words, wrong)
    for what, how in STREAMS.items():
        silent = any(part in how for part in ("2>&-", "2>/dev/full", "2>&1"))
        for words in [*commands(), ["sample", here / "run", "--n", 1], ["gradcheck", "ReLU"],
                      ["--help"], ["--version"], ["nonsense"], ["evaluate", "nowhere"]]:
            yield f"{what}: {words[:1]}", lambda: whole(words, in_shell(words, how, silent))
    for what, first in (PLACES | LIMITS).items():
        for words in commands():
            given = words[:-2] if words[0] == "--data" and what in PLACES else words
            yield f"{what}: {words[:1]}", lambda: whole(words, in_shell(given, "", first=first))


SEVERAL = """
import json, sys
from minivae.app.cli import process
for words in json.loads(sys.argv[1]):
    sys.argv[1:] = words
    try:
        process()
    except SystemExit as stop:
        print(f"ended {stop.code}", file=sys.stderr, flush=True)
"""


def several(commands, name, value, codes):
    """What is wrong with each of some commands, which one process with a variable runs in turn."""
    words = json.dumps([[*map(str, command)] for command in commands])
    env = {**os.environ, "OPENBLAS_NUM_THREADS": "1", name: value}
    try:
        done = subprocess.run([sys.executable, "-c", SEVERAL, words], capture_output=True, env=env,
                              timeout=PROCESS_LIMIT)
    except subprocess.TimeoutExpired:
        return [f"took more than {PROCESS_LIMIT} s"] * len(commands)
    said = done.stderr.replace(b"\0", b"").decode(errors="replace")      # it may be UTF-16
    *parts, rest = re.split(r"ended (\d+)\n", said)
    found = [judged(int(code), err, codes, [name]) for err, code in zip(parts[::2], parts[1::2])]
    return found + [f"it came to no end: {rest[-200:]}"] * (len(commands) - len(found))


def in_shell(words, how, silent=False, first=":"):
    """What is wrong with a command in a shell; where stderr is lost, only by its exit code.

    first : what the shell does before the command; then the command may be refused.
    """
    line = " ".join([sys.executable, "-m", "minivae", *(f"'{word}'" for word in words), how])
    line = f"{first} >/dev/null; {line}"
    try:
        done = subprocess.run(["bash", "-c", f"set -o pipefail; {line}"], capture_output=True,
                              text=True, timeout=PROCESS_LIMIT,
                              env={**os.environ, "OPENBLAS_NUM_THREADS": "1"})
    except subprocess.TimeoutExpired:
        return f"took more than {PROCESS_LIMIT} s"
    refused = words[0] == "nonsense" or "nowhere" in words
    lost = "/dev/full" in how and "2>/dev/full" not in how and not refused
    wanted = REFUSED if refused or lost else {0, 141} if "true" in how else OK
    wanted = OK | REFUSED if first != ":" else wanted
    if silent or done.returncode == 141:
        return "" if done.returncode in wanted else f"exit code {done.returncode}"
    return judged(done.returncode, done.stderr, wanted)


def races(rng):
    """Several processes at once on one run, or for one name."""
    made_run("run")
    for times, words in ((8, ["sample", "run", "--n", "2"]), (6, ["evaluate", "run",
                                                                  "--eval-samples", "2"]),
                         (6, ["reconstruct", "run", "--n", "2"]),
                         (6, ["latent", "run", "--n", "1"]),
                         (6, ["explain", "run", "--out", "page.html"]),
                         (8, ["--data", "mine.npy", *TINY]),
                         (6, ["--data", "mine.npy", *TINY, "--out", "one"]),
                         (5, ["train", "--resume", "run", "--epochs", "40"])):
        for turn in range(2):
            started = [process(words) for _ in range(times)]
            # of those that want one name or one folder all but one may be refused, in one line
            codes = ENDS if "--out" in words or "--resume" in words else OK
            found = [ended(one, codes) for one in started]
            yield from ((f"{words[:2]}, {i + 1} of {times}, turn {turn}", w) for i,
                        w in enumerate(found))
    yield "the run can be opened", lambda: called(["sample", "run"], OK)
    yield "no temporary file stays", "; ".join(str(p) for p in Path().rglob("*.tmp"))


def sigkill(rng, times=20):
    """SIGKILL at any moment of a training; what is left is whole, and goes on bit for bit."""
    np.save("mine.npy", np.random.default_rng(0).random((400, 5, 4)))
    training = ["--data", "mine.npy", "--epochs", 100, "--batch-size", 20, "--hidden", "8",
                "--latent", "2"]
    wrong = called([*training, "--out", "never stopped"], OK, limit=900)
    if wrong:
        raise RuntimeError(f"a sound run fails: {wrong}")
    wanted = archive.read("never stopped/model.npz")[0]
    for i in range(times):
        folder = Path(f"k{i}")
        started = process([*training, "--out", folder])
        wait_for_handlers(started)
        while i % 2 and started.poll() is None and not (folder / "model.npz").exists():
            time.sleep(0.01)                   # every other one is killed after its first save
        time.sleep(rng.uniform(0, 2))
        started.kill()
        started.communicate()
        saved = (folder / "model.npz").exists()
        yield (f"evaluate after kill {i}, {'a' if saved else 'no'} model",
               lambda: called(["evaluate", folder, "--eval-samples", 2], OK if saved else REFUSED))
        again = (["train", "--resume", folder] if saved else [*training, "--out", folder])
        yield (f"{again[:2]} after kill {i}",
               lambda: called(again, OK, limit=900) or otherwise_trained(folder, wanted))


def otherwise_trained(folder, wanted):
    """What is wrong with a run that went on after it was killed."""
    found = archive.read(folder / "model.npz")[0]
    other = [name for name in wanted if not np.array_equal(found[name], wanted[name])]
    epochs = len((folder / "history.csv").read_text().splitlines()) - 1
    left = [path.name for path in folder.glob("*.tmp")]
    if other or epochs != 100 or left:
        return f"other bits in {other}, {epochs} epochs in history.csv, left behind {left}"
    return ""


def wait_for_handlers(started):
    """Until the process answers signals in its own way; Python itself takes some time to start."""
    asks_for = 1 << signal.SIGTERM - 1
    while started.poll() is None:
        with suppress(OSError):
            status = Path(f"/proc/{started.pid}/status").read_text()
            if int(status.split("SigCgt:")[1].split()[0], 16) & asks_for:
                return
        time.sleep(0.005)


def signals(rng):
    """One signal, two, or a storm of twenty, at any moment of a training and of other commands."""
    made_run("run")
    mix = [(signal.SIGINT,), (signal.SIGTERM,), (signal.SIGHUP,), (signal.SIGINT, signal.SIGINT),
           (signal.SIGTERM, signal.SIGINT), (signal.SIGINT, signal.SIGTERM), (signal.SIGINT,) * 20,
           (signal.SIGTERM,) * 20]
    commands = [["--data", "mine.npy", "--epochs", 100000, "--hidden", "4", "--latent", "2"],
                ["gradcheck"], ["evaluate", "run", "--eval-samples", 100000000], ["doctor"]]
    for i, (sent, words, late) in enumerate(itertools.product(mix, commands, (0, 0.7, 2, 4))):
        folder = ["--out", f"s{i}"] if words[0] == "--data" else []
        started = process([*words, *folder])
        wait_for_handlers(started)
        time.sleep(late + rng.uniform(0, 0.3))
        for number in sent:
            if started.poll() is None:
                started.send_signal(number)
            time.sleep(rng.uniform(0, 0.02))
        codes = STOPPED | OK if words == ["doctor"] or words == ["gradcheck"] else STOPPED
        names = "+".join(number.name for number in dict.fromkeys(sent)) + f" x{len(sent)}"
        yield f"{names} after {late} s: {words[0:1]}", ended(started, codes)
        folder = Path(f"s{i}")
        if folder.exists():
            yield f"the run after {names}", (
                called(["sample", folder, "--n", 1], OK) if (folder / "model.npz").exists()
                # a start that has saved nothing keeps its name free
                else called(["--data", "mine.npy", *TINY, "--out", folder], OK))


OTHER = [None, True, -1, 0, 1.5, 10**40, float("nan"), float("inf"), "x", "", [], {}, [None],
         {"a": 1}, [[]]]


def fields_of(tree, path=()):
    """The path of every field of nested dicts and lists (of a list, of its first entry)."""
    children = ()
    if isinstance(tree, dict):
        children = tree.items()
    elif isinstance(tree, list):
        children = enumerate(tree[:1])
    for key, value in children:
        yield (*path, key)
        yield from fields_of(value, (*path, key))


def changed(tree, path, value):
    """The same tree, in place, with another value at `path`."""
    *above, last = path
    for key in above:
        tree = tree[key]
    tree[last] = value


def resume(rng):
    """Every field of a checkpoint's header with every other type, sealed anew, resumed, loaded."""
    made_run("run")
    path = Path("run/model.npz")
    sound = path.read_bytes()
    rest = {p.name: p.read_bytes() for p in Path("run").iterdir()}
    header = {"meta": archive.read(path)[1]}
    header["meta"]["note"] = dict(header["meta"]["note"])
    for place, value in itertools.product(fields_of(header), OTHER):
        for name, data in rest.items():
            Path("run", name).write_bytes(data)
        path.write_bytes(put_json(sound, lambda h: changed(h, place, copy.deepcopy(value))))
        name = ".".join(map(str, place))
        yield (f"resume, {name} = {value!r}",
               lambda: called(["train", "--resume", "run", "--epochs", 3]))
        path.write_bytes(put_json(sound, lambda h: changed(h, place, copy.deepcopy(value))))
        if "state" not in place and "note" not in place and "settings" not in place:
            yield f"walk, {name} = {value!r}", lambda: called(["walk", "run"])


def numerics(rng):
    """Pixels, step sizes and weights that no number can follow."""
    pixels = {"zeros": np.zeros((20, 12)), "ones": np.ones((20, 12)), "one differs": np.eye(20, 12),
              "tiny": np.full((20, 12), 5e-324), "small": np.full((20, 12), 1e-30),
              "grey": rng.random((20, 12)),
              "huge": np.full((20, 12), 1e30), "float32's end": np.full((20, 12), 3e38),
              "beyond float32": np.full((20, 12), 1e153),
              "float64's end": np.full((20, 12), 1.7e308)}
    for name, x in pixels.items():
        np.save(f"{name.replace(' ', '')}.npy", x)
    bernoulli = ("zeros", "ones", "one differs", "tiny", "small", "grey")
    odd = [[], ["--lr", "1e-300"], ["--lr", "1e3"], ["--lr", "1e38"], ["--lr", "1e300"],
           ["--beta", "0"],
           ["--beta", "1e30"], ["--beta", "1e300"], ["--beta", "1e-300"], ["--decay", "1e-300"],
           ["--warmup", "1e-300"], ["--warmup", "1e300"], ["--samples", "7"], ["--batch-size", "1"],
           ["--estimator", "iwae", "--samples", "5", "--lr", "10"],
           ["--estimator", "dreg", "--samples", "5"],
           ["--estimator", "score", "--samples", "2", "--lr", "1e3"],
           ["--latent-kind", "bernoulli"],
           ["--latent-kind", "concrete", "--temperature", "1e-30"],
           ["--latent-kind", "concrete", "--temperature", "1e30"],
           ["--latent-kind", "straight-through"],
           ["--activation", "softplus", "--lr", "1e3"], ["--activation", "tanh", "--patience", "1"]]
    runs = itertools.product(pixels, ("bernoulli", "gaussian"), ("float32", "float64"), odd)
    for i, (name, likelihood, dtype, options) in enumerate(runs):
        if likelihood == "gaussian" or name in bernoulli:
            yield f"{name}, {likelihood}, {dtype}, {options}", lambda: called(
                ["--data", f"{name.replace(' ', '')}.npy", "--likelihood", likelihood, "--dtype",
                 dtype,
                 "--epochs", 2, "--hidden", 3, "--latent", 2, "--out", f"n{i}", *options])
            if Path(f"n{i}/model.npz").exists() and not options:
                for judge in (["evaluate", "--eval-samples", 3], ["sample", "--n", 2], ["walk"]):
                    yield (f"{judge[0]} of {name}, {likelihood}, {dtype}",
                           lambda: called([judge[0], f"n{i}", *judge[1:]]))


def archives(rng):
    """model.npz and config.json damaged in every region, and data sets in the wrong format."""
    made_run("run")
    for name in ("model.npz", "config.json"):
        path = Path("run", name)
        sound = path.read_bytes()
        for what, data in damaged(sound, 60 if name == "model.npz" else 9, 1):
            path.write_bytes(data)
            yield f"{name}, {what}", lambda: called(["sample", "run", "--n", 1])
        path.write_bytes(sound)
    path = Path("run/config.json")
    sound = path.read_bytes()
    for place, value in itertools.product(fields_of(json.loads(sound)), OTHER):
        config = json.loads(sound)
        changed(config, place, value)
        path.write_text(json.dumps(config))
        yield f"config.json, {place} = {value!r}", lambda: called(["reconstruct", "run", "--n", 1])
    path.write_bytes(sound)
    for name in ("model.npz", "config.json"):
        path = Path("run", name)
        sound = path.read_bytes()
        for make in (Path.mkdir, os.mkfifo, lambda p: os.symlink("/nonexistent", p),
                     lambda p: os.symlink("/dev/zero", p), lambda p: os.symlink(p.name, p)):
            path.unlink()
            make(path)
            yield (f"{name} is none: {oct(path.lstat().st_mode)}",
                   lambda: called(["sample", "run"], REFUSED))
            path.rmdir() if path.is_dir() else path.unlink()
            path.write_bytes(sound)
    Path("idx/mnist").mkdir(parents=True)
    for name, data in SET.items():
        for what, bad in damaged(data, 3, 2):
            for part, good in SET.items():
                Path("idx/mnist", part).write_bytes(bad if part == name else good)
            yield f"{name}, {what}", lambda: called(["--data", "mnist", "--data-dir", "idx", *TINY,
                                             "--out", f"i/{name}-{what}"])


IMAGES = bytes([0, 0, 8, 3, 0, 0, 0, 4, 0, 0, 0, 2, 0, 0, 0, 3]) + bytes(range(24))
SET = {"train-images-idx3-ubyte": IMAGES, "t10k-images-idx3-ubyte": IMAGES,
       "t10k-labels-idx1-ubyte": bytes([0, 0, 8, 1, 0, 0, 0, 4]) + bytes(4)}
PACKED = {f"{part}.gz": gzip.compress(data, mtime=0) for part, data in SET.items()}


def http_answer(body, status="200 OK", **headers):
    """The bytes of an answer; Content_Length=None leaves that header out."""
    headers = {"Content_Length": len(body), "Connection": "close", **headers}
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()
             if value is not None]
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode() + body


def bad_answers(body):
    """{what is wrong: the bytes that a server sends for a file}; endless ones are iterators."""
    sound, chunked = http_answer(body), {"Content_Length": None, "Transfer_Encoding": "chunked"}
    found = {f"status {status}": http_answer(b"<html>no</html>", f"{status} x") for status in
             (201, 204, 206, 300, 304, 400, 401, 403, 404, 407, 408, 410, 418, 429, 451, 500, 502,
              503, 504, 599, 999)}
    found |= {f"a redirect to {place!r}": http_answer(b"", "302 Found", Location=place) for place in
              ("file:///etc/passwd", "ftp://127.0.0.1/", "//", "", "http://127.0.0.1:9/x",
               "http://[", "http://nowhere.invalid/", "\x1b[31m", "/loop", "a" * 9000,
               "javascript:alert(1)", "http://user:pass@127.0.0.1:9/")}
    found |= {f"{length} as the length": http_answer(body, Content_Length=length) for length in
              (0, 1, len(body) - 1, len(body) + 1, -1, "x", "", "1e3", 2**63, "9" * 40)}
    found |= {f"{coding} as the coding": http_answer(body, Content_Encoding=coding) for coding in
              ("gzip", "deflate", "br", "zstd", "nonsense", "gzip, gzip")}
    found |= {f"the body {what}": http_answer(bad) for what, bad in damaged(body, 8, 3)}
    found |= {f"of the answer {what}": bad for what, bad in damaged(sound, 16, 4)
              if what.startswith("cut")}
    found |= {f"a body of {what}": http_answer(bad) for what, bad in
              {"nothing": b"", "a page": b"<html>log in</html>", "twice the file": body + body,
               "a byte more": body + b"x", "other images": gzip.compress(IMAGES[:-1] + b"?"),
               "a zip": b"PK\x03\x04" + bytes(40), "gzip in gzip": gzip.compress(body),
               "a bomb": gzip.compress(bytes(10**8)), "200 kB": bytes(200_000)}.items()}
    found |= {"no HTTP": b"SSH-2.0-OpenSSH\r\n", "nothing": b"", "zeros": bytes(1000),
              "HTTP/9.9": b"HTTP/9.9 200 OK\r\n\r\n" + body, "no status": b"HTTP/1.1\r\n\r\n",
              "a long line": b"HTTP/1.1 200 " + b"a" * 100_000 + b"\r\n\r\n",
              "200 headers": http_answer(body, **{f"X_{i}": i for i in range(200)}),
              "a broken header": http_answer(body, **{"X": "a\r\n b\r\nnone"}),
              "no length": http_answer(body[:-3], Content_Length=None),
              "chunks that end early": http_answer(b"%x\r\n%s\r\n" % (len(body), body), **chunked),
              "chunks of no number": http_answer(b"xyz\r\n" + body, **chunked),
              "chunks of negative size": http_answer(b"-5\r\n" + body, **chunked),
              "silence": itertools.repeat(b""), "a byte at a time": itertools.repeat(b"H"),
              "headers without end": itertools.chain([b"HTTP/1.1 200 OK\r\n"],
                                                     itertools.repeat(b"X: y\r\n")),
              "a body without end": itertools.chain([http_answer(b"", Content_Length=None)],
                                                    itertools.repeat(bytes(4096))),
              "single bytes without end": itertools.chain([http_answer(b"", Content_Length=10**6)],
                                                          itertools.repeat(b"x"))}
    return found


class Answers(socketserver.BaseRequestHandler):
    """Sends what the server has for the path that is asked for, whatever that is."""

    def handle(self):
        path = self.request.recv(9000).split(b" ")[1].decode()
        answer = self.server.answers.get(path)
        if answer is None:
            data = PACKED.get(path.rsplit("/", 1)[-1])
            answer = http_answer(b"", "404 Not Found") if data is None else http_answer(data)
        with suppress(OSError):
            if isinstance(answer, bytes):
                self.request.sendall(answer)
                return
            until = time.monotonic() + 60
            for data in copy.copy(answer):
                self.request.sendall(data)
                time.sleep(0.01)
                if self.server.over or time.monotonic() > until:
                    return


def downloads(rng):
    """Every bad answer for each file of a set, from the only mirror and from the first of two."""
    known = {part: (hashlib.sha256(PACKED[f"{part}.gz"]).hexdigest(),
                    hashlib.sha256(data).hexdigest()) for part, data in SET.items()}
    cache = Path("cache").resolve()
    sound = published.cache_folder, published.SILENCE, published.DEADLINE, PUBLISHED["mnist"]
    published.cache_folder = lambda name: cache / name
    published.SILENCE, published.DEADLINE = 0.5, 4
    counter = itertools.count()
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Answers) as server:
        server.daemon_threads, server.answers, server.over = True, {}, False
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        urls = tuple(f"http://127.0.0.1:{server.server_address[1]}/{who}/" for who in "ab")

        def fetched(file, answer, mirrors, before=lambda: None):
            """What is wrong with a download; of two mirrors the second is sound."""
            shutil.rmtree(cache, ignore_errors=True)
            loop = http_answer(b"", "302 Found", Location="/loop")
            server.answers = {f"/a/{file}": answer, "/loop": loop}
            PUBLISHED["mnist"] = Published(urls[:mirrors], known)
            before()
            # an answer may be odd and still bring the right bytes
            wrong = called(["--data", "mnist", *TINY, "--out", f"d/{next(counter)}"],
                           OK if mirrors == 2 else OK | REFUSED, 30, ["127.0.0.1"])
            torn = [path.name for path in cache.glob("mnist/*.gz")
                    if path.is_file() and path.read_bytes() != PACKED.get(path.name)
                    and not published.is_published("mnist", path.stem, path.read_bytes())]
            return wrong or (f"kept what is not the file: {torn}" if torn else "")

        for file, body in PACKED.items():
            for (what, answer), mirrors in itertools.product(bad_answers(body).items(), (1, 2)):
                yield f"{file}, {mirrors} mirrors: {what}", lambda: fetched(file, answer, mirrors)

            def there(make):
                path = cache / "mnist" / file
                path.parent.mkdir(parents=True)
                make(path)

            for what, make in {
                    "a folder in its place": Path.mkdir, "a pipe in its place": os.mkfifo,
                    "a link to nowhere": lambda p: os.symlink("/nonexistent/x", p),
                    "a link to itself": lambda p: os.symlink(p.name, p),
                    "another file unpacked":
                        lambda p: p.with_suffix("").write_bytes(IMAGES[:-1] + b"?"),
                    "nothing in it": Path.touch,
                    "half of it": lambda p: p.write_bytes(PACKED[p.name][:20])}.items():
                yield (f"{file} is there, {what}",
                       lambda: fetched(file, None, 1, lambda: there(make)))
        for what, make in {"a file": Path.touch, "a pipe": os.mkfifo,
                           "a link to nowhere": lambda p: os.symlink("/nonexistent/x", p)}.items():
            for place in (cache, cache / "mnist", cache / ".mnist.lock"):
                def in_the_way():
                    place.parent.mkdir(parents=True, exist_ok=True)
                    make(place)

                yield (f"{what} at {place.name}", lambda: called_and_cleared(
                    lambda: fetched("x.gz", None, 1, in_the_way), place))
        server.over = True
        server.shutdown()
    (published.cache_folder, published.SILENCE, published.DEADLINE, PUBLISHED["mnist"]) = sound


def called_and_cleared(case, place):
    """`case`, and then nothing at `place`."""
    wrong = case()
    with suppress(OSError):
        place.unlink()
    return wrong


KINDS = {"data files": data_files, "Python API": python_api, "arguments": arguments,
         "environment": environment, "races": races, "SIGKILL": sigkill, "signals": signals,
         "resume": resume, "numerics": numerics, "archives": archives,
         "downloads": downloads}


# --- the table ------------------------------------------------------------------------------------


def try_kind(kind: str, every: int, verbose: bool) -> dict:
    """Run the cases of one kind, or one in `every`, in a new folder; count the failures."""
    cases, failures, begin = 0, [], time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        for name, case in itertools.islice(KINDS[kind](np.random.default_rng(0)), 0, None, every):
            wrong = case() if callable(case) else case
            cases += 1
            if wrong:
                failures.append(f"{name[:150]}: {wrong}")
                if verbose:
                    print(f"    {failures[-1]!r}", flush=True)
    return {"cases": cases, "failures": len(failures),
            "seconds": round(time.perf_counter() - begin),
            "examples": failures[:20]}


def main(argv=None):
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    options.add_argument("--every", type=int, default=1, help="take every n-th case")
    options.add_argument("--verbose", action="store_true", help="print each failure")
    options.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    chosen = options.parse_args(argv)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    Run._draw_pictures = lambda self: None                 # they take a second
    path = (chosen.out / "hostile.json").resolve()
    # the kinds that are not run keep their rows
    table = json.loads(path.read_text())["table"] if path.exists() else {}
    print(f"{'':24}{'cases':>8}{'failures':>10}{'seconds':>9}")
    for kind in chosen.kinds:
        table[kind] = found = try_kind(kind, chosen.every, chosen.verbose)
        print(f"{kind:24}{found['cases']:8}{found['failures']:10}{found['seconds']:9}", flush=True)
    table = {kind: table[kind] for kind in KINDS if kind in table}
    total = {name: sum(found[name] for found in table.values()) for name in ("cases", "failures",
                                                                             "seconds")}
    print(f"{'':24}{total['cases']:8}{total['failures']:10}{total['seconds']:9}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"table": table, **total}, indent=1) + "\n")


if __name__ == "__main__":
    main()
