"""The settings of a run: one place for defaults, recipes, options and JSON; and a run made from Python."""

import doctest
import json
from dataclasses import fields, replace

import numpy as np
import pytest

import minivae
from minivae import load_data
from minivae.app import settings, train
from minivae.app.cli import main
from minivae.app.options import parser
from minivae.app.lines import in_cells
from minivae.app.settings import LARGE, RunSettings
from minivae.app.resuming import ABOUT_THE_RUN
from minivae.app.train import Run
from minivae.saving.runs import read_config


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("module", [settings, train], ids=["settings", "train"])
def test_the_examples_in_the_docstrings_are_true(module):
    found = doctest.testmod(module)
    assert found.failed == 0 and found.attempted > 0


def test_a_run_made_in_python_is_the_run_of_the_command(here, monkeypatch, capsys):
    monkeypatch.setattr(Run, "_draw_pictures", lambda self: None)
    folder = here / "python"
    folder.mkdir()
    run = Run(load_data("digits"), RunSettings(epochs=1), lambda: folder)
    assert run.train() == 0
    printed = capsys.readouterr().out
    assert main(["--epochs", "1", "--out", "command"]) == 0
    a, b = (minivae.load(name).state() for name in ("python", "command"))
    assert a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)
    assert read_config(folder) == read_config(here / "command") == json.loads(json.dumps(run.config()))
    assert printed.startswith("\n".join(run.describe()))


@pytest.mark.parametrize("data", ["digits", "mnist", "fashion-mnist", "kmnist", "mine.npy"])
def test_settings_come_back_from_json(data):
    s = RunSettings.for_data(data, seed=3, patience=2)
    assert s.data == data and RunSettings.from_json(json.loads(json.dumps(s.to_json()))) == s


def test_json_with_an_unknown_or_a_missing_name_is_refused_in_one_line():
    found = RunSettings().to_json()
    with pytest.raises(ValueError, match="^no setting of a run is called colour, size$"):
        RunSettings.from_json({**found, "size": 1, "colour": 2})
    del found["lr"], found["beta"]
    with pytest.raises(ValueError, match="^the settings of the run lack beta, lr$"):
        RunSettings.from_json(found)


def test_what_is_given_goes_before_the_recipe_and_the_recipe_before_the_defaults():
    assert RunSettings.for_data("digits") == RunSettings()
    mnist, own = RunSettings.for_data("mnist", latent=2), RunSettings.for_data("images.npy")
    assert (mnist.latent, mnist.hidden, mnist.batch_size, mnist.epochs, mnist.lr) == (2, [400, 200], 128, 30, 1e-3)
    assert (own.latent, own.hidden, own.batch_size, own.epochs, own.lr) == (10, [200], 64, 30, 1e-3)
    assert own == RunSettings.for_data("images.npy", x_dim=LARGE - 1)
    large = RunSettings.for_data("images.npy", x_dim=LARGE)
    assert (large.latent, large.hidden, large.batch_size, large.lr) == (30, [400, 200], 64, 1e-3)
    assert RunSettings.for_data("digits", x_dim=784) == RunSettings()              # a name goes before the size
    assert mnist.beta == own.beta == 1 and mnist.activation == own.activation == "relu"


def test_coins_have_an_estimator_that_trains_them():
    coins = RunSettings.for_data("mnist", latent_kind="bernoulli")
    assert (coins.estimator, coins.samples) == ("disarm", 2)
    coins = RunSettings.for_data("mnist", latent_kind="bernoulli", estimator="vimco", samples=5)
    assert (coins.estimator, coins.samples) == ("vimco", 5)


@pytest.mark.parametrize("changed, message", [
    ({"epochs": 0}, "epochs must be at least 1, got 0"), ({"lr": 0.0}, "lr must be a number > 0"),
    ({"decay": 2.0}, "decay must be a number > 0 and at most 1"),
    ({"dtype": "float16"}, "unknown dtype 'float16'; choose from float32, float64"),
    ({"latent_kind": "poisson"}, "unknown latent_kind 'poisson'; choose from gaussian"),
    ({"beta": -1.0}, "beta must be a number >= 0"), ({"activation": "gelu"}, "unknown activation 'gelu'"),
    ({"estimator": "vimco"}, "it wants K >= 2")], ids=str)
def test_wrong_settings_are_refused_before_a_folder_is_made(changed, message):
    def make_folder():
        raise AssertionError("a folder for a run that cannot be")

    with pytest.raises(ValueError) as caught:
        Run(load_data("digits"), replace(RunSettings(), **changed), make_folder)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_every_setting_is_an_option_and_stands_in_config_json():
    names = [setting.name for setting in fields(RunSettings)]
    options = vars(parser().parse_args(["train"]))
    assert set(names) == set(options) - {"command", "out", "resume", "quiet", "debug"}
    assert all(options[name] is None for name in names)                # the default is not argparse's to know
    run = Run(load_data("digits"), RunSettings(), lambda: None)
    assert set(run.config()) == {*names, *ABOUT_THE_RUN}


def test_images_in_letters_stand_side_by_side():
    images = np.array([[0.0, 1.0, 0.5, -3.0], [9.0, 0.0, 0.0, 0.0]])
    upper, lower = " " * 8 + "@" * 8 + "  " + "@" * 8 + " " * 8, "=" * 8 + " " * 26
    assert in_cells(images, (2, 2), blocks=False).splitlines() == 4 * [upper] + 4 * [lower]
