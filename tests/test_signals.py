"""Signals as they come, and surroundings that are wrong: one line, and the right exit code."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from minivae.app.cli import main
from minivae.app.signals import Interrupts
from minivae.saving import checkpoint

from conftest import JIT, folder_of_images, small_run

ENV = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
ENDLESS = ["--data", "mine.npy", "--epochs", "100000", "--hidden", "4", "--latent", "2"]


@pytest.fixture(scope="module", autouse=True)
def here(tmp_path_factory):
    """A folder with images, and a run of them."""
    with folder_of_images(tmp_path_factory, "signals") as folder:
        small_run("run")
        yield folder


def started(*words):
    return subprocess.Popen([sys.executable, "-m", "minivae", *words], env=ENV, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True)


def wait_for_handlers(process):
    """Until the process answers signals in its own way; Python itself takes some time to start."""
    asks_for = 1 << signal.SIGTERM - 1
    while process.poll() is None:
        with suppress(OSError):
            status = Path(f"/proc/{process.pid}/status").read_text()
            if int(status.split("SigCgt:")[1].split()[0], 16) & asks_for:
                return
        time.sleep(0.005)


def ended(process):
    """The exit code, and stderr but for the line that announces a first compilation."""
    _, err = process.communicate(timeout=300)
    return process.returncode, "".join(line for line in err.splitlines(True) if "minivae: compiling" not in line)


def wait_for_epoch(process):
    """Until the first epoch is printed."""
    for line in process.stdout:
        if line.split()[:1] == ["1"]:
            return


def in_shell(command, **environment):
    """A shell's command, in which `minivae` is this one; its exit code, stdout and stderr."""
    command = command.replace("minivae", f"{sys.executable} -m minivae", 1)
    return subprocess.run(["bash", "-c", command], env={**ENV, **environment}, capture_output=True, text=True,
                          timeout=300)


# --- signals ---


# a process that says READY and then waits within the handlers of the command line
WAITS = """
import sys, time
from minivae.app.signals import Interrupts, StopAsked
with {kind}() as asked:
    try:
        print("READY", flush=True)
        for _ in range(1000):
            time.sleep(0.01)
            if {kind} is StopAsked and asked():
                print("ASKED", flush=True)
    except KeyboardInterrupt:
        print("RAISED", flush=True)
        time.sleep(10)
"""


@pytest.mark.parametrize("kind, answer", [("Interrupts", "RAISED"), ("StopAsked", "ASKED")])
@pytest.mark.parametrize("first, second", [(signal.SIGINT, signal.SIGINT), (signal.SIGTERM, signal.SIGINT),
                                           (signal.SIGINT, signal.SIGTERM)])
def test_the_first_signal_is_told_and_the_second_leaves_at_once_in_silence(kind, answer, first, second):
    process = subprocess.Popen([sys.executable, "-c", WAITS.format(kind=kind)], env=ENV, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "READY\n"
    process.send_signal(first)
    assert process.stdout.readline() == f"{answer}\n"
    process.send_signal(second)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + second and err.startswith("minivae: ") and err.count("\n") == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_storm_of_signals_is_answered_with_one_line(here, number):
    process = started(*ENDLESS, "--out", f"storm{number}")
    wait_for_epoch(process)
    for _ in range(20):
        if process.poll() is None:
            process.send_signal(number)
        time.sleep(0.003)
    code, err = ended(process)
    assert code == 128 + number and err.count("\n") == 1, err
    assert err.startswith("minivae: finishing the batch and saving")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_start_that_is_interrupted_says_so_and_its_name_stays_free(here, number):
    process = started(*ENDLESS, "--out", f"early{number}")
    wait_for_handlers(process)
    process.send_signal(number)
    code, err = ended(process)
    assert code == 128 + number
    if "interrupted" in err:
        assert err == "minivae: interrupted\n"
        assert main(["--data", "mine.npy", "--epochs", "1", "--hidden", "2", "--out", f"early{number}"]) == 0
    else:                                                  # a quick machine had begun to train
        assert err.count("\n") == 1 and (here / f"early{number}" / "model.npz").exists()


def test_a_terminal_that_is_closed_ends_the_training_and_saves(here):
    process = started(*ENDLESS, "--out", "hup")
    wait_for_epoch(process)
    process.send_signal(signal.SIGHUP)
    assert ended(process)[0] == 129 and checkpoint.read("hup/model.npz")[1]["state"]["history"]


def swallows(*_):
    try:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)
    except KeyboardInterrupt:
        raise ValueError("Invalid affine transformation matrix") from None


def passes_over(*_):
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)


@pytest.mark.parametrize("library", [swallows, passes_over])
def test_a_library_that_swallows_ctrl_c_changes_nothing(monkeypatch, capfd, library):
    """matplotlib, for one, makes another exception of it."""
    monkeypatch.setattr("minivae.app.loss.print_readings", library)
    before = signal.getsignal(signal.SIGINT)
    assert main(["loss", "--recon", "1", "--kl", "1", "--pixels", "2", "--latents", "2", "--batch", "2"]) == 130
    assert capfd.readouterr().err == "minivae: interrupted\n" and signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_in_a_place_that_no_exception_leaves_ends_the_process():
    code = ("import os, signal\nfrom minivae.app.signals import Interrupts\n"
            "class Late:\n    def __del__(self):\n        os.kill(os.getpid(), signal.SIGINT)\n"
            "with Interrupts():\n    late = Late()\n    del late\n    print('went on')")
    done = subprocess.run([sys.executable, "-c", code], env=ENV, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "minivae: interrupted\n")


def test_in_another_thread_no_signal_is_touched(capsys):
    from threading import Thread

    codes = []
    thread = Thread(target=lambda: codes.append(main(["evaluate", "nowhere"])))
    thread.start()
    thread.join()
    assert codes == [2] and capsys.readouterr().err.startswith("minivae: there is no run folder nowhere")
    with Interrupts() as interrupts:
        assert interrupts.number is None


# --- streams ---


COMMANDS = ["walk run", "evaluate run --eval-samples 2 --json", "--help",
            "--data mine.npy --epochs 1 --hidden 2 --latent 2 --out {}"]


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("words", COMMANDS)
def test_a_closed_stream_is_no_trouble(words, closed):
    out = f"closed{closed.count('>')}{closed[0]}".replace(">", "").replace("<", "all")
    done = in_shell(f"exec minivae {words.format(out)} {closed}")
    assert done.returncode == 0, done.stderr + done.stdout
    if words.startswith("evaluate") and closed == "2>&-":
        assert done.stdout.startswith("{")


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", ["--help", "--version", "train --help", "walk run"])
def test_a_full_disk_under_stdout_is_told(words, unbuffered):
    done = in_shell(f"exec minivae {words} >/dev/full", PYTHONUNBUFFERED=unbuffered)
    assert done.returncode == 2 and "No space left on device" in done.stderr
    assert done.stderr.startswith("minivae: ") and done.stderr.count("\n") == 1


def test_an_error_that_cannot_be_told_keeps_its_exit_code():
    assert in_shell("exec minivae evaluate nowhere 2>/dev/full").returncode == 2
    assert in_shell("exec minivae evaluate nowhere >/dev/full 2>&1").returncode == 2


def test_a_reader_that_has_gone_is_no_fault_of_the_input():
    done = in_shell("set -o pipefail; minivae walk run | true")
    assert done.returncode in (0, 141) and done.stderr == ""


@pytest.mark.parametrize("encoding", ["ascii", "ascii:strict", "latin-1"])
def test_a_letter_that_the_terminal_lacks_is_written_otherwise(here, encoding):
    np.save("\u0142.npy", np.load("mine.npy"))
    words = "--epochs 1 --hidden 2 --latent 2"
    out = encoding.replace(":", "")
    done = in_shell(f"exec minivae --data \u0142.npy {words} --out {out}", PYTHONIOENCODING=encoding)
    assert done.returncode == 0 and "\\u0142.npy" in done.stdout, done.stderr
    assert (here / out / "model.npz").exists()


def test_no_escape_sequence_of_a_file_name_reaches_the_terminal(capsys):
    assert main(["--data", "a\x1b[31mb.npy"]) == 2
    assert "a?[31mb.npy" in capsys.readouterr().err


def test_a_line_on_stderr_is_never_endless(capsys):
    assert main(["evaluate", 1500 * "ab"]) == 2
    err = capsys.readouterr().err
    assert 500 < len(err) < 700 and "b .. " in err and err.startswith("minivae: ") and err.count("\n") == 1


# --- variables ---


@pytest.mark.parametrize("backend", ["nope", "module://matplotlib_inline.nowhere"])
def test_pictures_are_drawn_whatever_a_notebook_has_set(here, backend):
    out = f"backend{len(backend)}"
    done = in_shell(f"exec minivae --data mine.npy --epochs 1 --hidden 2 --latent 2 --out {out}", MPLBACKEND=backend)
    assert done.returncode == 0 and (here / out / "curves.png").exists(), done.stderr


@pytest.mark.parametrize("name, value", [("NUMBA_NUM_THREADS", "0"), ("NUMBA_NUM_THREADS", "x"),
                                         ("NUMBA_NUM_THREADS", "99999999"), ("TQDM_MININTERVAL", "abc")])
def test_a_variable_that_a_library_cannot_read_is_named(name, value):
    done = in_shell("exec minivae walk run", **{name: value})
    assert done.returncode == 2 and name in done.stderr and value in done.stderr
    assert done.stderr.startswith("minivae: ") and done.stderr.count("\n") == 1


def test_a_warning_of_a_library_is_one_line():
    if not JIT:                                            # there, Numba reads fewer variables
        return
    done = in_shell("exec minivae walk run", NUMBA_DEBUG="x")
    assert done.returncode == 0 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("minivae: warning: ") and "NUMBA_DEBUG" in done.stderr


# --- sizes and files that are none ---


@pytest.mark.parametrize("words, says", [
    (["--hidden", "1000000000000"], "wanted a whole number of at most 1,000,000,000, got '1000000000000'"),
    (["--hidden", "1000000000"], "and this machine has"),
    (["--latent", "900000000,"], "wanted a whole number of at least 1"),
    (["--epochs", "9" * 5000], "wanted a whole number of at least 1, got '9999"),
    (["--beta=--"], "--beta=--: wanted a value after the ="),
    (["sample", "run", "--n", "999999999999"], "wanted a whole number of at most 10,000"),
    (["latent", "run", "--n", "999999999999"], "wanted a whole number of at most 500"),
    (["latent", "run", "--n", "9" * 40], "wanted a whole number of at most 500")], ids=lambda words: str(words)[:30])
def test_an_absurd_size_is_refused_at_once(words, says, capsys):
    begin = time.perf_counter()
    assert main(words) == 2
    err = capsys.readouterr().err
    assert says in err and err.startswith("minivae: ") and err.count("\n") == 1 and len(err) < 300
    assert time.perf_counter() - begin < 30                # it once tried for a minute; now milliseconds


@pytest.mark.parametrize("name", ["model.npz", "config.json"])
def test_a_pipe_in_the_place_of_a_file_is_refused_and_not_waited_for(here, name):
    small_run(f"pipe-{name}")
    path = here / f"pipe-{name}" / name
    path.unlink()
    os.mkfifo(path)
    done = in_shell(f"exec timeout 60 minivae sample pipe-{name}")
    assert done.returncode == 2 and f"{name} is a pipe: wanted a file" in done.stderr


def test_a_module_that_leaves_python_is_no_check_that_passed(here, capsys, monkeypatch):
    monkeypatch.setattr("sys.path", sys.path[:])           # the command looks for modules in this folder, too
    (here / "leaves.py").write_text("import sys\nsys.exit(0)\n")
    assert main(["gradcheck", "leaves:thing"]) == 2
    assert "leaves:thing gives nothing to check (SystemExit: 0)" in capsys.readouterr().err


@pytest.mark.filterwarnings("error")
def test_numbers_that_run_away_are_told_in_our_words_alone(capsys):
    assert main(["--data", "mine.npy", "--lr", "1e3", "--epochs", "40", "--hidden", "8", "--latent", "3"]) == 3
    err = capsys.readouterr().err
    assert err.startswith("minivae: training turned non-finite in epoch ") and err.count("\n") == 1
