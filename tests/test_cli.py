"""The command, as people call it."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from time import sleep

import numpy as np
import pytest

import minivae
from minivae.app.cli import main
from minivae.app.options import parser
from minivae.app.settings import RunSettings
from minivae.app.train import Run, compile_kernels
from minivae.data import load_data

from conftest import JIT

FILES = {"model.npz", "model.prev.npz", "config.json", "history.csv", "curves.png", "reconstructions.png",
         "samples.png", "latent.png"}


def names_in(folder):
    """The files of a folder that a plain `ls` shows."""
    return {path.name for path in folder.iterdir() if not path.name.startswith(".")}


QUICK = ["--epochs", "2", "--hidden", "8", "--latent", "3"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def mine(here, rng):
    np.save(here / "mine.npy", rng.random((30, 5, 4)))
    return "mine.npy"


def history(folder):
    return list(csv.DictReader((folder / "history.csv").read_text().splitlines()))


def test_train_writes_the_run_folder_and_names_every_file(here, capsys):
    assert main(["train", *QUICK]) == 0
    out = capsys.readouterr().out
    assert names_in(here / "runs" / "digits") == FILES
    assert all(f"runs/digits/{name}" in out for name in FILES) and "try next" in out
    assert "(dynamic binarisation)" in " ".join(out.split())
    rows = history(here / "runs" / "digits")
    assert list(rows[0]) == ["epoch", "loss", "recon", "kl", "test_elbo", "beta", "lr", "seconds"]
    assert [r["epoch"] for r in rows] == ["1", "2"]
    assert f"{float(rows[1]['loss']):.2f}" in out and f"{-float(rows[1]['test_elbo']):.2f}" in out
    assert minivae.load(here / "runs" / "digits" / "model.npz").sample(2).shape == (2, 64)


def test_a_run_is_never_written_over(here, mine):
    for _ in range(3):
        assert main(["train", "--data", mine, *QUICK]) == 0
    assert sorted(p.name for p in (here / "runs").iterdir()) == ["mine", "mine-2", "mine-3"]


def test_out_chooses_the_folder_and_refuses_an_old_one(here, mine, capsys):
    assert main(["--data", mine, "--out", "a/b", *QUICK]) == 0          # train is the default command
    assert names_in(here / "a" / "b") == FILES and not (here / "runs").exists()
    assert main(["--data", mine, "--out", "a/b", *QUICK]) == 2
    assert "--out a/b exists already" in capsys.readouterr().err


def test_same_seed_same_history(here, mine):
    for out in "ab":
        main(["--data", mine, "--out", out, "--seed", "5", *QUICK])
    a, b = ([row.rsplit(",", 1)[0] for row in (here / out / "history.csv").read_text().splitlines()] for out in "ab")
    assert a == b and len(a) == 3


@pytest.mark.parametrize("options", [
    ["--likelihood", "gaussian"], ["--activation", "tanh"], ["--beta", "0.5"], ["--samples", "3"],
    ["--samples", "3", "--estimator", "dreg"],
    ["--estimator", "score", "--samples", "2"], ["--estimator", "score_analytic_kl", "--baseline", "running-mean"],
    ["--latent-kind", "bernoulli"], ["--latent-kind", "bernoulli", "--estimator", "vimco", "--samples", "3"],
    ["--latent-kind", "bernoulli", "--estimator", "score", "--samples", "1", "--baseline", "nvil"],
    ["--latent-kind", "straight-through"],
    ["--latent-kind", "concrete", "--temperature", "0.3"], ["--latent-kind", "bernoulli", "--likelihood", "gaussian"],
    ["--dtype", "float64"], ["--hidden", ""],
    ["--binarize", "threshold"], ["--lr", "0.01", "--batch-size", "7"], ["--latent", "1"],
    ["--warmup", "1.5"], ["--decay", "0.9"], ["--patience", "2"]], ids=" ".join)
def test_every_option_trains(mine, options):
    assert main(["--data", mine, "--epochs", "1", "--hidden", "8,6", "--latent", "3", *options]) == 0


def test_grey_pixels_under_a_bernoulli_bring_a_warning(mine, capsys):
    main(["--data", mine, "--binarize", "none", *QUICK])
    assert "no likelihood of the data" in capsys.readouterr().err


def wrong(here, x, **files):
    np.save(here / "wrong.npy", x)
    return ["--data", "wrong.npy"]


@pytest.mark.parametrize("make, message", [
    (lambda here: ["--data", "none.npy"], "none.npy: no such file"),
    (lambda here: wrong(here, np.full((9, 4), 255.0)),
     "found 255 at row 0, pixel 0 (min 255, max 255): divide by 255?"),
    (lambda here: wrong(here, np.full((9, 4), np.nan)), "must be finite, found nan"),
    (lambda here: wrong(here, np.zeros((0, 4))), "is empty"),
    (lambda here: wrong(here, np.zeros(4)), "must have shape (N, D)"),
    (lambda here: wrong(here, np.array([[None]])), "holds Python objects"),
    (lambda here: ["--activation", "gelu"], "unknown activation 'gelu'; choose from"),
    (lambda here: ["--likelihood", "poisson"], "unknown likelihood 'poisson'; choose from"),
    (lambda here: ["--beta", "-1"], "beta must be a number >= 0"),
    (lambda here: ["--lr", "0"], "lr must be a number > 0"),
    (lambda here: ["--estimator", "reinforce"], "unknown estimator 'reinforce'; choose from elbo, elbo_mc, stl"),
    (lambda here: ["--estimator", "vimco"], "vimco takes its baseline from the other samples: it wants K >= 2"),
    (lambda here: ["--estimator", "iwae", "--beta", "2"], "wants beta = 1, got 2"),
    (lambda here: ["--latent-kind", "bernoulli", "--estimator", "elbo"], "so no gradient passes through it"),
    (lambda here: ["--latent-kind", "concrete", "--estimator", "score"], "it takes the estimator elbo"),
    (lambda here: ["--latent-kind", "concrete", "--temperature", "0"], "temperature must be a number > 0"),
    (lambda here: ["--temperature", "0.3"], "--temperature 0.3 goes with --latent-kind concrete, and not with"),
    (lambda here: ["--latent-kind", "bernoulli", "--samples", "3"], "disarm wants K = 2 exactly"),
    (lambda here: ["--estimator", "disarm", "--samples", "2"], "disarm wants binary latents"),
    (lambda here: ["--baseline", "nvil"], "the estimator elbo takes no baseline"),
    (lambda here: ["--estimator", "iwae", "--warmup", "2"], "wants beta = 1, got 0"),
    (lambda here: ["--decay", "2"], "decay must be a number > 0 and at most 1"),
], ids=["missing file", "0..255", "NaN", "empty", "one dimension", "objects", "activation", "likelihood", "beta", "lr",
        "estimator", "vimco", "iwae with beta", "no path", "no density", "temperature", "temperature of a Gaussian",
        "disarm alone", "disarm on normal z", "baseline", "iwae with warm-up", "decay"])
def test_wrong_input_gets_one_line_and_exit_code_2(here, make, message, capsys):
    assert main([*make(here), "--epochs", "1"]) == 2
    err = capsys.readouterr().err
    assert message in err and err.startswith("minivae: ") and err.count("\n") == 1
    assert not (here / "runs").exists() or not list((here / "runs").iterdir())


@pytest.mark.parametrize("options", [
    ["--epochs", "0"], ["--epochs", "many"], ["--hidden", "4,x"], ["--dtype", "float16"],
    ["frobnicate"], ["--nonsense"]], ids=" ".join)
def test_a_mistyped_command_exits_with_2_and_one_line_that_names_the_help(options, capsys):
    assert main(options) == 2
    err = capsys.readouterr().err
    assert err.startswith("minivae: ") and err.count("\n") == 1 and "(see `minivae" in err and "--help`)" in err


@pytest.mark.parametrize("words, said", [
    ("--lattent 3", "--lattent 3, did you mean --latent? (see `minivae train --help`)"),
    ("evaluate run --imges=3", "--imges=3, did you mean --images? (see `minivae evaluate --help`)"),
    ("learn check --diir x", "--diir, did you mean --dir? (see `minivae learn check --help`)"),
    ("sample run again", "again (see `minivae sample --help`)")])
def test_an_unknown_option_is_answered_with_the_nearest_and_the_help_of_its_command(words, said, capsys):
    assert main(words.split()) == 2
    assert capsys.readouterr().err == f"minivae: unrecognized arguments: {said}\n"


def test_git_passes_over_what_the_commands_write_into_a_clone():
    ignored = (Path(__file__).parents[1] / ".gitignore").read_text().splitlines()
    defaults = parser().parse_args(["explain"]).out, parser().parse_args(["learn"]).dir + "/"
    assert {f"/{name}" for name in (*defaults, "runs/")} <= set(ignored)


@pytest.mark.parametrize("words", [
    ["--data"], ["--out"], ["evaluate"], ["train", "--resume"], ["--data-dir"], ["--key"], ["--estimator"],
    ["--latent-kind"], ["gradcheck"], ["gradcheck", "--plant"], ["--lr"], ["--epochs"]], ids=" ".join)
def test_a_word_of_5000_letters_is_shortened_in_the_message(words, here, mine, capsys):
    more = {"--data": [], "--data-dir": ["--data", "mnist"], "--key": ["--data", mine]}
    train = more.get(words[0], ["--data", mine]) if words[0].startswith("--") else []
    assert main([*words, "x" * 5000, *train]) == 2
    err = capsys.readouterr().err
    assert err.startswith("minivae: ") and err.count("\n") == 1 and len(err) < 640 and "xxx" in err
    assert "Errno" not in err


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")    # NumPy's, without the JIT
def test_training_that_turns_non_finite_says_where_and_exits_with_3(here, mine, capsys):
    assert main(["--data", mine, "--lr", "1e12", "--epochs", "40", "--hidden", "8", "--latent", "3", "--out", "r"]) == 3
    err = capsys.readouterr().err
    assert err.splitlines()[-1].startswith("minivae: training turned non-finite in epoch ") and " first in " in err
    for path in (here / "r").glob("model.npz"):               # there is one if an epoch was whole
        assert all(np.isfinite(p).all() for _, p, _ in minivae.load(path).named_params())


# --- evaluate ---------------------------------------------------------------------------------------


EVALUATE = ["evaluate", "--eval-samples", "20"]


@pytest.fixture
def trained(mine):
    assert main(["--data", mine, "--epochs", "1", "--hidden", "8", "--latent", "3"]) == 0
    return "runs/mine"


def test_the_run_notes_what_it_was_trained_on(here, trained):
    config = json.loads((here / "runs" / "mine" / "config.json").read_text())
    assert config["data"] == str(here / "mine.npy") and config["data_dir"] is None and config["binarize"] == "dynamic"
    assert config["likelihood"] == "bernoulli" and config["hidden"] == [8] and config["latent"] == 3
    assert config["epochs"] == 1


def test_evaluate_judges_the_run_and_draws_its_bars(here, trained, capsys):
    capsys.readouterr()
    assert main([*EVALUATE, trained]) == 0
    printed = capsys.readouterr()
    assert printed.err == "" and "all 3 test images" in printed.out and "20 of z per image" in printed.out
    for words in ("ELBO = -(recon + KL)", "log p(x), importance sampling", "standard error", "gap = log p(x) - ELBO",
                  "of 3 active: variance > 0.01"):
        assert words in printed.out
    assert "wrote runs/mine/kl_per_dimension.png" in printed.out
    assert names_in(here / "runs" / "mine") == FILES - {"model.prev.npz"} | {"kl_per_dimension.png"}


def test_evaluate_as_json_has_the_same_numbers_and_nothing_else(here, trained, capsys):
    capsys.readouterr()
    main([*EVALUATE, trained])
    printed = capsys.readouterr().out
    assert main([*EVALUATE, trained, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    for name in ("elbo", "recon", "kl", "log_px", "gap"):
        assert f"{found[name]:9.3f}" in printed, name
    assert found["elbo"] == pytest.approx(-(found["recon"] + found["kl"]))
    assert found["gap"] == pytest.approx(found["log_px"] - found["elbo"])
    assert sum(found["kl_per_dim"]) == pytest.approx(found["kl"], rel=1e-5) and len(found["kl_per_dim"]) == 3
    assert found["active_units"] == sum(variance > 0.01 for variance in found["mu_variance"])
    assert found["log_px_error"] > 0
    assert found["images"] == found["test_images"] == 3 and found["samples"] == 20 and found["warnings"] == []


def test_evaluate_takes_the_newest_run_and_says_so(here, mine, capsys):
    for name in ("mine", "mine-2", "mine-3"):
        assert main(["--data", mine, "--epochs", "1", "--hidden", "8", "--latent", "2"]) == 0
        assert (here / "runs" / name / "model.npz").exists()
    os.utime(here / "runs" / "mine-2" / "model.npz", ns=(2**62, 2**62))
    (here / "runs" / "mine-9").mkdir()                     # a training that failed in its first epoch leaves no model
    capsys.readouterr()
    assert main(EVALUATE) == 0
    assert capsys.readouterr().out.splitlines()[0] == "run       runs/mine-2, the newest one"


def test_a_larger_test_set_is_thinned_evenly_and_that_is_said(here, rng, capsys):
    np.save(here / "many.npy", rng.random((6000, 4)))
    assert main(["--data", "many.npy", "--epochs", "1", "--hidden", "2", "--latent", "1"]) == 0
    assert main(["evaluate", "--eval-samples", "2"]) == 0
    assert "500 of 600 test images, evenly spaced; --images 600 takes them all" in capsys.readouterr().out
    assert main(["evaluate", "--eval-samples", "2", "--images", "7", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 7


def test_moved_data_can_be_named_and_other_data_bring_a_warning(here, trained, rng, capsys):
    os.rename(here / "mine.npy", here / "moved.npy")
    assert main([*EVALUATE, trained]) == 2
    assert f"--data {here / 'mine.npy'}: no such file" in capsys.readouterr().err
    assert main([*EVALUATE, trained, "--data", "moved.npy"]) == 0
    assert capsys.readouterr().err == ""
    np.save(here / "mine.npy", rng.random((30, 5, 4)))
    assert main([*EVALUATE, trained]) == 0
    assert "warning: these are not the test images" in capsys.readouterr().err


def test_mnist_is_found_again_where_training_found_it(here, mnist_dir, monkeypatch, capsys):
    monkeypatch.setenv("MINIVAE_DATA", str(mnist_dir))
    settings = RunSettings.for_data("mnist", epochs=1, batch_size=100, hidden=[4], latent=2)
    (here / "r").mkdir()
    run = Run(load_data("mnist"), settings, lambda: here / "r")
    # untrained: only where the data are found is of interest
    minivae.save(run.vae, "r/model.npz")
    (here / "r" / "config.json").write_text(json.dumps(run.config()))
    monkeypatch.delenv("MINIVAE_DATA")
    assert main([*EVALUATE, "r", "--images", "30"]) == 0
    printed = capsys.readouterr()
    assert "30 of 10000 test images" in printed.out and printed.err == ""
    assert main([*EVALUATE, "r", "--data-dir", "nowhere"]) == 2
    assert "--data-dir nowhere: no such folder" in capsys.readouterr().err


def spoil(path, change):
    path.write_bytes(change(path.read_bytes()))


@pytest.mark.parametrize("damage, message", [
    (lambda run: run.rename("elsewhere"), "there is no run folder runs/mine"),
    (lambda run: (run / "config.json").unlink(), "config.json does not exist"),
    (lambda run: (run / "model.npz").unlink(), "model.npz does not exist"),
    (lambda run: spoil(run / "model.npz", lambda b: b[: len(b) // 2]), "model.npz is damaged"),
    (lambda run: spoil(run / "config.json", lambda b: b[: len(b) // 2]), "config.json is damaged"),
    (lambda run: spoil(run / "config.json", lambda b: b"[]"), "config.json is damaged"),
    (lambda run: spoil(run / "config.json", lambda b: b"\xff"), "config.json is damaged"),
    (lambda run: spoil(run / "config.json", lambda b: b.replace(b"dynamic", b"maybe")), "config.json is damaged"),
    (lambda run: np.save("mine.npy", np.ones((9, 3))), "must have 20 pixels per row for this model"),
], ids=["no folder", "no config", "no model", "half a model", "half a config", "a list", "no text", "unknown binarize",
        "other data"])
def test_a_damaged_run_gets_one_line_and_exit_code_2(here, trained, damage, message, capsys):
    damage(here.joinpath("runs/mine").relative_to(here))
    capsys.readouterr()
    assert main([*EVALUATE, trained]) == 2
    printed = capsys.readouterr()
    assert message in printed.err and printed.err.startswith("minivae: ")
    assert printed.err.count("\n") == 1 and printed.out == ""


def test_evaluate_without_a_run_says_what_to_do_and_one_sample_is_refused(here, trained, capsys):
    assert main(["evaluate", "--eval-samples", "1"]) == 2
    assert "--eval-samples: wanted a whole number of at least 2, got '1'" in capsys.readouterr().err
    os.rename("runs", "elsewhere")
    assert main(["evaluate"]) == 2
    err = capsys.readouterr().err
    assert "there is no run under" in err and "train one with `minivae train`" in err and err.count("\n") == 1


def test_grey_pixels_and_a_gaussian_are_evaluated_too(here, mine, capsys):
    main(["--data", mine, "--binarize", "none", *QUICK])
    main(["--data", mine, "--likelihood", "gaussian", *QUICK])
    capsys.readouterr()
    assert main([*EVALUATE, "runs/mine"]) == 0
    assert "no likelihood of the data" in " ".join(capsys.readouterr().err.split())
    assert main([*EVALUATE, "runs/mine-2"]) == 0
    assert capsys.readouterr().err == ""


# --- as a process -----------------------------------------------------------------------------------


def run(*command, **environment):
    return subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=300,
                          env={**os.environ, **environment})


def test_piped_output_is_plain_lines(here, mine):
    done = run("-m", "minivae", "--data", mine, *QUICK)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "" and "\r" not in done.stdout and "\x1b" not in done.stdout
    assert sum(line.split()[:1] in (["1"], ["2"]) for line in done.stdout.splitlines()) == 2


def test_the_main_job_with_no_arguments_from_a_cold_start(here, tmp_path):
    done = run("-m", "minivae", *([] if JIT else ["--epochs", "1"]), NUMBA_CACHE_DIR=str(tmp_path / "empty-cache"))
    assert done.returncode == 0, done.stderr
    before = set() if JIT else {"model.prev.npz"}                         # one epoch is saved once
    assert names_in(here / "runs" / "digits") == FILES - before
    last = history(here / "runs" / "digits")[-1]
    if JIT:
        # chance is 44.4; the run of the README reached 23.1
        assert last["epoch"] == "60" and -float(last["test_elbo"]) < 24


@pytest.mark.parametrize("seconds, says", [(0.0, False), (1.5, True)])
def test_a_first_compilation_that_takes_over_a_second_is_announced(monkeypatch, capsys, seconds, says):
    monkeypatch.setattr("minivae.app.train.fit", lambda *data, **settings: sleep(seconds))
    compile_kernels(np.zeros((2, 4), bool), RunSettings(), "dynamic")
    assert ("compiling the kernels" in capsys.readouterr().err) == says


HEAVY = {"numpy", "numba", "scipy", "sklearn", "matplotlib", "tqdm"}


def test_importing_minivae_imports_nothing_heavy():
    done = run("-c", f"import sys, minivae; print(sorted({HEAVY} & set(sys.modules)))")
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


@pytest.mark.parametrize("words", [
    ["--help"], ["train", "--help"], ["--epochs", "0"], ["frobnicate"], ["gradcheck", "--seed", "x"]], ids=" ".join)
def test_help_and_a_mistyped_option_import_nothing_heavy(words):
    code = ("import sys\nfrom minivae.app.cli import main\ntry:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
            f"print('heavy:', sorted({HEAVY} & set(sys.modules)))")
    done = run("-c", code, *words)
    assert done.stdout.splitlines()[-1] == "heavy: []", done.stdout + done.stderr


def test_a_file_that_is_not_there_is_refused_before_numba_is_loaded(here):
    code = ("import sys\nfrom minivae.app.cli import main\ncode = main(sys.argv[1:])\n"
            "print(code, 'numpy' in sys.modules, 'numba' in sys.modules)")
    done = run("-c", code, "--data", "none.npy")
    assert done.stdout.split() == ["2", "True", "False"], done.stdout + done.stderr


def test_help_shows_an_example(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["train", "--help"])
    assert stop.value.code == 0 and "example: minivae train" in capsys.readouterr().out


@pytest.mark.parametrize("options", [
    ["bernoulli"], ["bernoulli", "--estimator", "score", "--baseline", "nvil"], ["concrete"], ["straight-through"]],
    ids=" ".join)
def test_a_run_with_a_discrete_latent_is_evaluated_and_says_what_it_is(here, mine, options, capsys):
    assert main(["--data", mine, *QUICK, "--latent-kind", *options]) == 0
    assert f"{options[0]} latent" in capsys.readouterr().out
    config = json.loads((here / "runs" / "mine" / "config.json").read_text())
    assert config["latent_kind"] == options[0]
    assert config["estimator"] == ("score" if len(options) > 1 else "disarm" if options == ["bernoulli"] else "elbo")
    assert main([*EVALUATE, "runs/mine", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert 0 <= found["kl"] <= 3 * np.log(2)
    assert sum(found["kl_per_dim"]) == pytest.approx(found["kl"], rel=1e-5)  # three coins
    assert all(0 <= variance <= 0.25 for variance in found["mu_variance"])                 # of a number between 0 and 1


# --- convolutions ---


@pytest.mark.parametrize("shape, options", [((7, 5), []), ((6, 8, 3), ["--likelihood", "gaussian"]),
                                            ((5, 5), ["--latent-kind", "bernoulli"])], ids=["grey", "colour", "coins"])
def test_a_model_of_convolutions_through_every_command(here, rng, capsys, shape, options):
    """Odd sides, not square, in colour; stopped after the first epoch and resumed it has the same numbers."""
    np.save("mine.npy", rng.random((30, *shape), np.float32))
    common = ["--data", "mine.npy", "--conv", "3,4", "--latent", "2", *options]
    assert main(["train", *common, "--epochs", "2", "--out", "whole"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    C = (*shape, 1)[2]
    assert f"convolutions of {shape[0]} x {shape[1]} images, channels {C} - 3 - 4, 2 latents" in said
    assert main(["train", *common, "--epochs", "1", "--out", "half"]) == 0
    assert main(["train", "--resume", "half", "--epochs", "2"]) == 0
    whole, half = minivae.load("whole"), minivae.load("half")
    assert whole.config["channels"] == [3, 4] and whole.config["image_shape"] == list(shape)
    for name, param, _ in whole.named_params():
        np.testing.assert_array_equal(param, dict((n, p) for n, p, _ in half.named_params())[name], name)
    for command in (["evaluate", "whole", "--eval-samples", "3", "--images", "3"], ["sample", "whole", "--npz"],
                    ["reconstruct", "whole"], ["latent", "whole", "--n", "2"], ["walk", "whole"],
                    ["explain", "whole"]):
        assert main(command) == 0, command
    with np.load("whole/gallery/samples.npz") as arrays:
        assert arrays["images"].shape[1:] == shape


def test_images_that_are_too_small_for_the_convolutions_are_refused_before_training(mine, here, capsys):
    assert main(["train", "--data", mine, "--conv", "2,2,2,2"]) == 2
    assert capsys.readouterr().err == ("minivae: a kernel of 4 x 4 does not fit into images of 1 x 1 with a padding of "
                                       "1: take a smaller kernel or fewer layers\n")
    assert main(["train", "--data", mine, "--conv", "2", "--hidden", "3"]) == 2
    assert "--conv with --hidden" in capsys.readouterr().err and not (here / "runs").exists()


def test_a_run_of_before_there_was_a_setting_can_be_resumed(mine, here):
    """Its config has neither key nor conv."""
    settings = RunSettings.for_data(mine).to_json()
    old = {name: value for name, value in settings.items() if name not in ("key", "conv")}
    assert RunSettings.from_json(old) == RunSettings.for_data(mine)
