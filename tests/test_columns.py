"""Every command's output fits the terminal: 80 columns, 120, and 80 where it goes into a pipe."""

import fcntl
import json
import os
import re
import shlex
import shutil
import struct
import subprocess
import sys
import termios
from contextlib import chdir, suppress
from pathlib import Path

import numpy as np
import pytest

from conftest import small_run
from minivae import VAE, fit
from minivae.app import gradcheck, lines
from minivae.app.cli import error_message, main
from minivae.app.options import parser
from minivae.app.settings import RunSettings
from minivae.gradcheck import museum
from minivae.saving import checkpoint
from minivae.saving.archive import ArchiveError, check_fit

# what the commands print in no time; `run` is a small run, `coins` one of a row of coins
COMMAND_LINES = """
--help
train --help
train --data mine.npy --epochs 2 --hidden 4 --latent 2 --patience 1 --warmup 1 --decay 0.9 --out new
train --data grey.npy --epochs 1 --binarize none --estimator iwae
train --resume new --epochs 3
evaluate --help
evaluate run --eval-samples 2
evaluate coins --eval-samples 2 --data mine.npy
sample --help
sample run
reconstruct --help
reconstruct run --n 3
latent --help
latent run --n 1
latent coins --n 1
gradcheck --help
gradcheck
gradcheck Dense
gradcheck --plant kl-mu-dropped
gradcheck --plant list
loss --help
loss --recon 0.15 --kl 5.2 --pixels 784 --latents 20 --batch 128
doctor --help
doctor
walk --help
walk run
walk run --estimator dreg
walk coins
explain --help
explain run
explain coins
learn --help
learn --once
learn status
learn status --help
learn check 1
learn check --help
learn hint 1
learn hint --help
learn solution 1
learn solution --help
learn reset 1
learn reset --help
learn finish --help
learn selftest --help
""".strip().splitlines()

# all commands in one process: starting one for each would take a minute
IN_ONE_PROCESS = """
import json, sys
from minivae.app import doctor, train
from minivae.app.cli import main
from minivae.gradcheck import suite

doctor._speed = lambda: {"steps a second": 1.0}
train.Run._draw_pictures = lambda self: None
suite.CHECKS = {name: suite.CHECKS[name] for name in list(suite.CHECKS)[:3]}
for words in json.loads(sys.argv[1]):
    print("\\n<" + " ".join(words) + ">", flush=True)
    try:
        code = main(words)
    except SystemExit as stop:
        code = stop.code
    print("\\n" + "ends with", code, flush=True)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with images, a run and a run of coins."""
    here = tmp_path_factory.mktemp("columns")
    with chdir(here):
        np.save("mine.npy", np.random.default_rng(0).random((30, 5, 4)))
        np.save("grey.npy", np.random.default_rng(0).random((30, 28, 28)))
        small_run("run")
        small_run("coins", latent_kind="bernoulli", estimator="score")
    return here


def said_in(place, columns, commands=COMMAND_LINES):
    """The lines that each command prints on a terminal of so many columns, or with None into a pipe.

    A process of its own writes it: the terminal is asked for its width there, as anywhere.
    """
    for folder in ("new", "runs", "minivae-learn"):
        shutil.rmtree(place / folder, ignore_errors=True)
    paths = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": paths, "TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8"}
    for name in ("COLUMNS", "LINES", "NO_COLOR"):
        environment.pop(name, None)
    screen, inside = os.pipe() if columns is None else os.openpty()
    if columns is not None:
        fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    command = [sys.executable, "-c", IN_ONE_PROCESS, json.dumps([line.split() for line in commands])]
    child = subprocess.Popen(command, cwd=place, env=environment, stdin=subprocess.DEVNULL, stdout=inside,
                             stderr=inside, start_new_session=True)
    os.close(inside)
    printed = b""
    with suppress(OSError):                                # EIO: nobody writes any more
        while part := os.read(screen, 1 << 16):
            printed += part
    os.close(screen)
    assert child.wait() == 0, printed.decode(errors="replace")[-2000:]
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", printed.decode().replace("\r\n", "\n"))
    texts = dict(zip(commands, re.split(r"^<.*>$", text, flags=re.M)[1:], strict=True))
    ends = {name: said.rsplit("ends with ", 1)[1].strip() for name, said in texts.items()}
    fails = {"gradcheck --plant kl-mu-dropped": "1", "learn check 1": "1"}
    assert ends == {name: fails.get(name, "0") for name in commands}
    return {name: re.split(r"[\n\r]", said) for name, said in texts.items()}


@pytest.fixture(scope="module")
def piped(place):
    return said_in(place, None)


@pytest.fixture(scope="module")
def at_80(place):
    return said_in(place, 80)


def is_one_piece(line):
    """Whether a line is a command to copy, or one word that holds a path, behind at most a name."""
    return bool(re.fullmatch(r"  \S*(minivae|python -m minivae) .*|.{0,32}(?<!\S)\S*/\S*", line))


def too_long(said, columns):
    return [(name, line) for name, lines in said.items() for line in lines
            if len(line) > columns and not is_one_piece(line)]


def test_every_line_fits_80_columns(at_80):
    assert not too_long(at_80, 80)


def test_every_line_fits_120_columns(place):
    """Of what asks for the width, help, images and bars; the rest is wrapped at 80, as above."""
    asks = [line for line in COMMAND_LINES if "--help" in line or line.startswith(("train", "evaluate", "sample"))]
    assert not too_long(said_in(place, 120, asks), 120)


def test_every_line_of_a_pipe_fits_80_columns(piped):
    assert not too_long(piped, 80)
    assert not any("\u2580" in line for lines in piped.values() for line in lines)


# --- the table of epochs ---


def row(epoch, test_elbo, **more):
    return {"epoch": epoch, "loss": 30.0, "recon": 25.0, "kl": 5.0, "test_elbo": test_elbo, "seconds": 0.5 * epoch,
            **more}


def test_the_table_repeats_its_head_marks_the_best_epochs_and_gives_both_losses_one_sign():
    elbos = [-20.0, -19.0, -19.5, *[-18.0] * 37]
    table = lines.EpochTable(40, [])
    text = "\n".join(table.row(row(epoch, elbo)) for epoch, elbo in enumerate(elbos, 1)).splitlines()
    heads = [i for i, line in enumerate(text) if line == lines.EpochTable.HEAD]
    assert heads == [0, 22]                                # 20 rows and an empty line between
    cells = [line.split() for line in text if line and line != lines.EpochTable.HEAD]
    assert [int(cell[0]) for cell in cells if "*" in cell] == [1, 2, 4]
    assert cells[0][:6] == ["1", "30.00", "25.00", "5.00", "20.00", "*"] and table.best["epoch"] == 4
    assert text[1].index("20.00") + 5 == lines.EpochTable.HEAD.index("test loss") + len("test loss")


def test_the_best_epoch_is_that_of_the_images_held_out_also_after_a_resume():
    table = lines.EpochTable(9, [row(1, -9.0, held_elbo=-20.0), row(2, -8.0, held_elbo=-21.0)])
    assert "*" not in table.row(row(3, -7.0, held_elbo=-20.5)) and table.best["epoch"] == 1
    assert "*" in table.row(row(4, -10.0, held_elbo=-19.0)) and table.best["epoch"] == 4


def test_the_time_left_is_that_of_the_epochs_to_come():
    table = lines.EpochTable(62, [row(1, -9.0), row(2, -8.0) | {"seconds": 100.0}])     # resumed: this pace is old
    assert table.row(row(3, -7.0) | {"seconds": 103.0}).endswith(" 3 min")               # 59 epochs of 3 s
    assert table.row(row(4, -7.0) | {"seconds": 104.0}).endswith(" 2 min")               # 58 epochs of 2 s
    assert table.row(row(62, -7.0) | {"seconds": 220.0}).endswith(" 220.0")
    assert [lines.duration(s) for s in (0.4, 99, 100, 5000, 7500)] == ["0 s", "99 s", "2 min", "83 min", "2 h 05"]


def test_large_numbers_stay_in_their_columns():
    line = lines.EpochTable(1, []).row(row(1, -1.5e9, loss=2e7) | {"recon": 3e12}).splitlines()[1]
    assert len(line) <= 80 and line.split()[:5] == ["1", "2.000e+07", "3.000e+12", "5.00", "1.500e+09"]


def test_seconds_are_those_of_training_without_what_the_callback_takes(monkeypatch, rng):
    now = [0.0]
    monkeypatch.setattr(checkpoint, "perf_counter", lambda: now[0])

    def draw_for_an_hour(row):
        now[0] += 3600

    def count_a_second():                                  # asked after each batch
        now[0] += 1
        return False

    X = (rng.random((12, 9)) < 0.5).astype(np.float32)
    history = fit(VAE.mlp(9, [3], 2, rng=0), X, epochs=3, batch_size=6, callback=draw_for_an_hour, stop=count_a_second)
    assert [row["seconds"] for row in history] == [2, 4, 6]


# --- images in a terminal ---


@pytest.mark.parametrize("columns, n", [("80", 2), ("120", 4), ("28", 1)])
def test_as_many_images_are_drawn_as_fit(monkeypatch, columns, n):
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("LINES", "50")
    for terminal in (True, False):
        monkeypatch.setattr(lines, "has_blocks", lambda answer=terminal: answer)
        caption, *rows = lines.new_images(VAE.mlp(784, [3], 2, rng=0), (28, 28), 7).splitlines()
        assert caption == f"{n} new image{'s' * (n > 1)}, z from N(0, I), after epoch 7" and len(rows) == 14
        assert {len(re.sub(r"\x1b\[[0-9;]*m", "", line)) for line in rows} == {30 * n - 2}
        assert all(line.isascii() for line in rows) != terminal


@pytest.mark.parametrize("columns, rows", [("27", "50"), ("80", "13")])
def test_an_image_that_does_not_fit_is_not_drawn(monkeypatch, columns, rows):
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("LINES", rows)
    assert lines.new_images(VAE.mlp(784, [3], 2, rng=0), (28, 28), 1) == ""


def colours(line):
    """The pairs of colours of a line of half blocks, as a terminal would show them."""
    found = re.findall(r"\x1b\[38;5;(\d+);48;5;(\d+)m(\u2580+)|\x1b\[0m( *)", line)
    return [(int(a), int(b)) for a, b, blocks, _ in found for _ in blocks]


def test_a_half_block_has_the_colours_of_two_pixels():
    images = np.linspace(-0.2, 1.2, 32 * 17).reshape(1, -1)                # 17 rows: the last one stands for two
    shown = np.array([colours(line) for line in lines.in_cells(images, (17, 32), True).splitlines()])
    ink = (255 - shown.transpose(0, 2, 1).reshape(18, 32)) / 23
    assert shown.min() == 232 and shown.max() == 255
    assert abs(ink[:17] - images.reshape(17, 32).clip(0, 1)).max() <= 0.5 / 23 + 1e-9
    assert (ink[17] == ink[16]).all()


def test_a_half_block_of_a_colour_image_is_in_colours():
    pixels = np.zeros((16, 16, 3))
    pixels[0] = 1, 0, 0
    pixels[1] = 0.4, 1, 0.2
    first = colours(lines.in_cells(pixels.reshape(1, -1), (16, 16, 3), True).splitlines()[0])
    assert first == [(16 + 36 * 5, 16 + 36 * 2 + 6 * 5 + 1)] * 16
    letters = lines.in_cells(pixels.reshape(1, -1), (16, 16, 3), False).splitlines()
    assert letters[1] == "@" * 16 and letters[0] != letters[1]             # black is ink


@pytest.mark.parametrize("encoding, variables, blocks", [
    ("utf-8", {}, True), ("UTF8", {}, True), ("ascii", {}, False), ("iso8859-1", {}, False),
    ("utf-8", {"NO_COLOR": "1"}, False), ("utf-8", {"TERM": "dumb"}, False)], ids=str)
def test_half_blocks_want_utf_8_and_colours(monkeypatch, encoding, variables, blocks):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "stdout", open(os.devnull, "w", encoding=encoding))
    assert lines.has_blocks() == blocks
    sys.stdout.close()


# --- what to do next, and what a run says of itself ---


def proposed(said):
    """The commands below "try next", without the program's name."""
    below = said[said.index("try next") + 1 :]
    return [re.sub(r"^  \S*(minivae|python -m minivae) ", "", line) for line in below if re.match(r"  \S", line)]


def test_what_is_proposed_can_be_run_as_printed_and_is_not_what_was_just_done(at_80):
    for said in (at_80[COMMAND_LINES[2]], at_80[COMMAND_LINES[3]]):
        commands = proposed(said)
        folder = next(line.split()[1] for line in said if line.startswith("folder"))
        assert commands[0] == f"explain {folder} --open" and len(commands) == 4
        for command in commands:
            parser().parse_args(shlex.split(command))
            assert "images.npy" not in command             # there is no such file
    (again,) = [command for command in proposed(at_80[COMMAND_LINES[2]]) if command.startswith("train")]
    ran = COMMAND_LINES[2].replace(" --out new", " --beta 4")          # it had two latents already
    assert parser().parse_args(again.split()) == parser().parse_args(ran.split())
    done = subprocess.run(f"{lines.program()} --version", shell=True, capture_output=True, text=True,
                          cwd=Path(__file__).parents[1])
    assert done.returncode == 0 and done.stdout.startswith("minivae ")


@pytest.mark.parametrize("changed, wanted", [
    ({}, "train --latent 2"), ({"latent": 2}, "train --latent 2 --beta 4"), ({"latent": 2, "beta": 4.0}, None),
    ({"latent_kind": "concrete"}, "train --beta 4 --latent-kind concrete"), ({"latent_kind": "bernoulli"}, None),
    ({"estimator": "iwae", "samples": 5, "lr": 0.01}, "train --latent 2 --estimator iwae --samples 5 --lr 0.01"),
    ({"data": "mnist", "data_dir": "my data"}, "train --data mnist --data-dir 'my data' --latent 2"),
    ({"data": "a b.npy", "hidden": [9, 7]}, "train --data 'a b.npy' --hidden 9,7 --latent 2"),
    ({"data": "digits", "warmup": 2.0, "epochs": 5}, "train --epochs 5 --latent 2 --warmup 2")], ids=str)
def test_the_next_training_is_another_one(changed, wanted):
    settings = RunSettings.for_data(**changed)
    text = lines.next_commands(settings, Path("runs/a b"))
    commands = proposed(["try next", *text.splitlines()])
    commands = [command.split("  ")[0] for command in commands]
    trainings = [command for command in commands if command.startswith("train ") and "--help" not in command]
    assert trainings == ([wanted] if wanted else [])
    assert "explain 'runs/a b' --open" in commands
    assert ("train --help" in commands) == (settings.data in ("digits", "mnist"))
    for command in commands[:-1]:
        parser().parse_args(shlex.split(command))


def test_the_program_is_called_by_the_name_that_works(monkeypatch, tmp_path):
    there = tmp_path / ".venv" / "bin" / "minivae"
    there.parent.mkdir(parents=True)
    there.write_text("#!/bin/sh\n")
    there.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [".venv/bin/minivae"])
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert lines.program() == ".venv/bin/minivae"          # the environment is not activated
    said = lines.next_commands(RunSettings(), Path("runs/digits")).splitlines()
    assert len(said) == 5 and max(map(len, said)) <= 80
    assert all(line.startswith("  .venv/bin/minivae ") and line[48:50].strip() for line in said)       # one column
    monkeypatch.setenv("PATH", f"{there.parent}:/usr/bin:/bin")
    assert lines.program() == "minivae"
    monkeypatch.setattr(sys, "argv", ["/somewhere/minivae/__main__.py"])
    assert lines.program() == f"{sys.executable} -m minivae"


def test_one_sample_of_a_tighter_bound_brings_a_remark(piped):
    said = " ".join(" ".join(piped[COMMAND_LINES[3]]).split())
    assert "with 1 sample of z the bound of iwae is the plain ELBO: --samples 5, for example, makes it tighter" in said
    assert "the bound of" not in " ".join(piped[COMMAND_LINES[2]])


def test_the_best_epoch_is_named(piped):
    said = piped[COMMAND_LINES[2]]
    marked = [line.split()[0] for line in said if "*" in line.split()]
    best = next(line for line in said if line.startswith("the best was epoch "))
    assert best.startswith(f"the best was epoch {marked[-1]}, test loss ") and best.endswith("best.npz is its model")


def test_a_model_s_file_is_taken_as_its_run(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    shutil.copytree("run", "two")
    small_run("other")
    shutil.copy("other/model.npz", "two/best.npz")
    elbos = {}
    for name in ("two", "two/best.npz", "two/model.npz", "run"):
        assert main(["evaluate", name, "--eval-samples", "2", "--json", "--out", "pictures"]) == 0
        elbos[name] = json.loads(capsys.readouterr().out)["elbo"]
    assert elbos["two"] == elbos["two/best.npz"] and elbos["two/model.npz"] == elbos["run"]
    assert main(["sample", "two/best.npz", "--n", "3", "--out", "pictures"]) == 0
    assert capsys.readouterr().out.startswith("run       two\nmodel     best.npz")
    assert main(["walk", "two/best.npz"]) == 0 and "two, best.npz\n" in capsys.readouterr().out
    assert main(["sample", "two/none.npz"]) == 2 and "two/none.npz" in capsys.readouterr().err


@pytest.mark.parametrize("n", ["9" * 12, "9" * 40])
def test_an_absurd_number_of_images_is_refused_in_words(place, monkeypatch, n, capsys):
    monkeypatch.chdir(place)
    assert main(["latent", "run", "--n", n]) == 2
    assert f"wanted a whole number of at most 500, got '{n}'" in capsys.readouterr().err
    assert error_message(MemoryError()) == ("there is not enough memory for this.", 2)


def test_a_file_of_another_model_names_three_arrays_and_counts_the_rest(tmp_path):
    few, many = VAE.mlp(4, [3], 2, rng=0).state(), VAE.mlp(4, [3, 3, 3, 3], 2, rng=0).state()
    names = "dec.2.W, dec.2.b, dec.4.W and 9 more"
    for wanted, found, says in ((many, few, f"arrays missing: {names}; unexpected: none"),
                                (few, many, f"arrays missing: none; unexpected: {names}")):
        with pytest.raises(ArchiveError) as caught:
            check_fit("r/model.npz", wanted, found)
        assert str(caught.value) == f"r/model.npz is damaged: {says}"


def test_every_fault_of_the_museum_fits_80_columns(monkeypatch, capsys):
    long = museum.Catch("a check of some length", "the row of an array", "suspect: " + "10 entries are wrong, " * 9)
    n = len(museum.FAULTS)
    monkeypatch.setattr(museum, "catch", lambda fault, seed: long)
    assert main("gradcheck --plant all".split()) == 0
    said = capsys.readouterr().out
    assert max(map(len, said.splitlines())) <= 80 and f"{n} of {n} caught" in said
    assert said.count("    caught by a check of some length, the row of an array\n") == n
    for fault in museum.FAULTS:
        gradcheck._print_edits(fault)
    code = ("    - ", "    + ")                             # a line of code is shown as it stands
    assert max(len(line) for line in capsys.readouterr().out.splitlines() if not line.startswith(code)) <= 80
