"""minivae.save and minivae.load, and the folder of a run: every reader takes the same model from it."""

import json
import os

import numpy as np
import pytest

import minivae
from minivae import VAE, DiscreteVAE, fit
from minivae.app.cli import main
from minivae.explain.subject import find_subject
from minivae.saving import archive
from minivae.saving.archive import ArchiveError, digest
from minivae.saving.runs import newest_run, open_run

D = 12


def assert_same(one, two):
    assert one.state().keys() == two.state().keys()
    for name, array in one.state().items():
        np.testing.assert_array_equal(array, two.state()[name], err_msg=name)


def differ(one, two):
    return any((array != two.state()[name]).any() for name, array in one.state().items())


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """What a training with patience leaves: model.npz, best.npz and config.json."""
    folder = tmp_path_factory.mktemp("runs") / "early"
    folder.mkdir()
    X = np.random.default_rng(0).random((60, 3, 4))
    np.save(folder / "mine.npy", X)
    data = minivae.load_data(folder / "mine.npy")
    vae = VAE.mlp(D, [64], 4, beta=0.1, rng=0)
    fit(vae, data.x_train, epochs=300, batch_size=9, lr=0.01, patience=3, rng=0, checkpoint=folder / "model.npz")
    config = {"data": str(folder / "mine.npy"), "data_dir": None, "image_shape": [3, 4], "binarize": "dynamic",
              "lr": 0.01, "test_sha256": digest(data.x_test)}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


# --- one model for all -------------------------------------------------------------------------------


def test_every_reader_takes_the_best_model_of_a_run_that_was_stopped_early(run):
    best, last = minivae.load(run / "best.npz"), minivae.load(run / "model.npz")
    assert differ(best, last)
    assert_same(minivae.load(run), best)
    assert_same(open_run(run).vae, best)
    assert_same(find_subject(run, 0).vae, best)


@pytest.mark.parametrize("command", [["walk", "early"], ["evaluate", "early", "--eval-samples", "5"],
                                     ["sample", "early", "--out", "sample.png"]], ids=lambda command: command[0])
def test_every_command_says_that_it_takes_the_best_model(run, monkeypatch, capsys, command):
    monkeypatch.chdir(run.parent)
    assert main(command) == 0
    assert "best.npz" in capsys.readouterr().out


# --- minivae.save and minivae.load -------------------------------------------------------------------


@pytest.mark.parametrize("kind", [VAE, DiscreteVAE])
def test_a_model_that_was_saved_is_loaded_from_its_file(tmp_path, kind):
    model = kind.mlp(D, [7], 3, beta=0.5, activation="tanh", likelihood="gaussian", rng=0)
    minivae.save(model, tmp_path / "mine.npz")
    found = minivae.load(str(tmp_path / "mine.npz"))
    assert type(found) is kind and (found.beta, found.config) == (model.beta, model.config)
    assert_same(found, model)


def test_a_folder_gives_its_best_model_and_without_one_its_last(tmp_path):
    last, best = (VAE.mlp(D, [7], 3, rng=seed) for seed in (0, 1))
    minivae.save(last, tmp_path / "model.npz")
    assert_same(minivae.load(tmp_path), last)
    minivae.save(best, tmp_path / "best.npz")
    assert_same(minivae.load(tmp_path), best)


def test_a_checkpoint_is_loaded_as_the_model_that_it_holds(run):
    arrays, _ = archive.read(run / "model.npz")
    found = minivae.load(run / "model.npz")
    assert any(name.startswith("training.") for name in arrays)
    assert found.state().keys() == {name for name in arrays if not name.startswith("training.")}
    for name, array in found.state().items():
        np.testing.assert_array_equal(array, arrays[name], err_msg=name)


def test_what_holds_no_model_is_refused_in_one_line(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.npz").write_text("hello")
    np.savez(tmp_path / "data.npz", x_train=np.ones((3, 4)))
    archive.write(tmp_path / "numbers.npz", {"a": np.ones(3)}, {})
    cases = {"missing.npz": "missing.npz does not exist", "empty": "model.npz does not exist",
             "text.npz": "is damaged or no minivae file", "data.npz": "no minivae file: it has no header",
             "numbers.npz": "describes no model"}
    for name, message in cases.items():
        with pytest.raises(ArchiveError, match=message) as caught:
            minivae.load(tmp_path / name)
        assert "\n" not in str(caught.value) and str(tmp_path / name) in str(caught.value)


def test_a_model_put_together_by_hand_is_refused_and_no_file_is_written(tmp_path):
    model = VAE.mlp(D, [7], 3, rng=0)
    model.config = None
    with pytest.raises(ValueError, match=r"keep its numbers with model.state\(\) and model.restore\(state\)"):
        minivae.save(model, tmp_path / "mine.npz")
    assert list(tmp_path.iterdir()) == []


# --- config.json, and the newest run -----------------------------------------------------------------


@pytest.mark.parametrize("name, value", [
    ("data", 3), ("data_dir", 3), ("test_sha256", None), ("binarize", "maybe"), ("lr", "fast"), ("lr", 0),
    ("image_shape", [3, 4.0]), ("image_shape", [12])])
def test_a_value_that_training_does_not_write_is_named(run, tmp_path, name, value):
    config = json.loads((run / "config.json").read_text()) | {name: value}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ArchiveError, match=f"config.json is damaged: {name} is not what training writes"):
        open_run(tmp_path)


@pytest.mark.parametrize("text, message", [
    (None, "config.json does not exist: wanted a folder that `minivae train` wrote"), ("", "is damaged"),
    ("[]", "is damaged"), ("{}", "is damaged: KeyError 'data'"), ("[" * 100_000, "is damaged")],
    ids=["missing", "empty", "a list", "no names", "deep"])
def test_a_damaged_config_is_refused_in_one_line(tmp_path, text, message):
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(ArchiveError, match=message) as caught:
        open_run(tmp_path)
    assert "\n" not in str(caught.value)


def test_the_newest_run_is_the_one_whose_model_was_written_last(tmp_path):
    with pytest.raises(ValueError, match="there is no run under .* train one with `minivae train`"):
        newest_run(tmp_path)
    for name, seconds in (("old", 1000), ("new", 3000), ("middle", 2000)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.npz").touch()
        os.utime(tmp_path / name / "model.npz", (seconds, seconds))
    assert newest_run(tmp_path) == tmp_path / "new"
    with pytest.raises(ValueError, match="there is no run folder .*nowhere"):
        open_run(tmp_path / "nowhere")
