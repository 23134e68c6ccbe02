"""All commands speak in one style: --help, errors, --debug, --quiet."""

import argparse
import json

import numpy as np
import pytest

from minivae.app import doctor
from minivae.app.cli import COMMANDS as RUN_BY
from minivae.app.cli import main
from minivae.app.exit_codes import EXIT_CODES
from minivae.app.options import parser
from minivae.app.train import Run
from minivae.gradcheck import suite as checks

# what each command does in no time and succeeds with, and an error that it finds only after parsing; a new command
# belongs here
QUICK = {
    "train": (["--data", "mine.npy", "--epochs", "1", "--hidden", "4", "--latent", "2"], ["--activation", "gelu"]),
    "evaluate": (["run", "--eval-samples", "2"], ["nowhere"]),
    "sample": (["run", "--n", "3"], ["nowhere"]),
    "reconstruct": (["run", "--n", "3"], ["nowhere"]),
    "latent": (["run", "--n", "1"], ["nowhere"]),
    "gradcheck": (["ReLU"], ["no-such-check"]),
    "walk": (["run"], ["nowhere"]),
    "explain": (["run"], ["nowhere"]),
    "learn": (["status", "--dir", "exercises"], ["nowhere"]),
    "loss": ("--recon 100 --kl 20 --pixels 784 --latents 20 --batch 8".split(), ["--recon", "much"]),
    "doctor": ([], None),                                  # it reports what is broken, and never fails
}
COMMANDS = next(action for action in parser()._actions if isinstance(action, argparse._SubParsersAction)).choices
JSON = [name for name, command in COMMANDS.items() if "[--json]" in command.format_usage()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A trained run, made once, its pictures left out, and its data."""
    place, patch = tmp_path_factory.mktemp("commands"), pytest.MonkeyPatch()
    with patch.context() as patched:
        patched.chdir(place)
        patched.setattr(Run, "_draw_pictures", lambda self: None)
        np.save("mine.npy", np.random.default_rng(0).random((30, 5, 4)))
        assert main([*"train --out run --quiet".split(), *QUICK["train"][0]]) == 0
        assert main("learn --once --quiet --dir exercises".split()) == 0
    return place


@pytest.fixture(autouse=True)
def here(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(Run, "_draw_pictures", lambda self: None)
    monkeypatch.setattr(doctor, "_speed", lambda: {"steps a second": 1.0})
    capsys.readouterr()


def out_option(name, place):
    return ["--out", str(place / "here")] if "[--out" in COMMANDS[name].format_usage() else []


def test_every_command_is_walked_here():
    assert set(QUICK) == set(COMMANDS) == set(RUN_BY) and set(JSON) >= {"evaluate", "gradcheck", "doctor"}


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_help_has_an_example_and_exits_with_0(name, capsys):
    with pytest.raises(SystemExit) as stop:
        main([*name.split(), "--help"])
    printed = capsys.readouterr()
    assert stop.value.code == 0 and "example" in printed.out
    assert f"minivae {name}".strip() in printed.out and printed.err == ""
    assert (name == "") == (EXIT_CODES in printed.out)
    assert (name == "") != ("--quiet" in printed.out and "--debug" in printed.out)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_wrong_argument_gives_exit_2_and_one_line(name, capsys):
    late = [] if QUICK[name][1] is None else [QUICK[name][1]]
    for wrong in (["--nonsense"], ["one", "two", "three"], *late):
        assert main([name, *wrong]) == 2
        printed = capsys.readouterr()
        assert printed.out == "" and printed.err.startswith("minivae: ") and printed.err.count("\n") == 1, wrong
        assert main([name, *wrong, "--quiet"]) == 2        # an error is told all the same
        assert capsys.readouterr().err == printed.err


@pytest.mark.parametrize("name", COMMANDS)
def test_debug_gives_the_traceback_and_the_same_exit_code(name, capsys):
    late = [] if QUICK[name][1] is None else [QUICK[name][1]]
    for wrong in (["--nonsense"], *late):
        assert main([name, *wrong, "--debug"]) == 2
        lines = capsys.readouterr().err.splitlines()
        assert lines[0] == "Traceback (most recent call last):"
        assert lines[-1].startswith("minivae: ") and "Error" in lines[-2]


@pytest.mark.parametrize("name", COMMANDS)
def test_quiet_prints_nothing_on_success(name, tmp_path, capsys):
    assert main([name, *QUICK[name][0], *out_option(name, tmp_path), "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("name", JSON)
def test_quiet_leaves_json_alone(name, tmp_path, capsys):
    assert main([name, *QUICK[name][0], *out_option(name, tmp_path), "--quiet", "--json"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out) and printed.err == ""


@pytest.mark.parametrize("name", COMMANDS)
def test_every_file_that_is_written_is_named_and_lies_where_out_says(name, folder, tmp_path, capsys):
    before, out = set(folder.rglob("*")), out_option(name, tmp_path)
    assert main([name, *QUICK[name][0], *out, *["--npz"] * ("[--npz]" in COMMANDS[name].format_usage())]) == 0
    said = capsys.readouterr().out
    written = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != ".train.lock"]
    assert set(folder.rglob("*")) == before and bool(written) == bool(out)
    assert all(str(path) in said for path in written) and "\x1b" not in said


def test_quiet_keeps_a_wrong_gradient_to_the_exit_code(monkeypatch, capsys):
    report = checks.CHECKS["ReLU"](0)
    report.rows[0] = report.rows[0]._replace(verdict="FAIL")
    monkeypatch.setitem(checks.CHECKS, "ReLU", lambda seed: report)
    assert main(["gradcheck", "ReLU", "--quiet"]) == 1
    assert capsys.readouterr() == ("", "")


def test_a_fault_of_the_program_is_one_line_too_and_no_other_exit_code(monkeypatch, capsys):
    def broken(*_):
        raise KeyError("over there")

    monkeypatch.setattr(doctor, "as_text", broken)
    assert main(["doctor"]) == 70
    printed = capsys.readouterr().err
    assert printed == "minivae: a fault of minivae itself, KeyError: 'over there' (--debug shows where)\n"
    assert main(["doctor", "--debug"]) == 70
    assert "in broken" in capsys.readouterr().err


def test_ctrl_c_exits_with_130(monkeypatch, capsys):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(doctor, "as_text", stop)
    assert main(["doctor"]) == 130 and capsys.readouterr().err == "minivae: interrupted\n"
