"""minivae.save and minivae.load, and the folder of a run: every reader takes the same model from it."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

import minivae
from minivae import VAE, DiscreteVAE, fit
from minivae.app.cli import main
from minivae.app.train import Run
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


def test_a_file_of_a_model_put_together_by_hand_wants_a_builder(tmp_path):
    model = VAE.mlp(D, [7], 3, rng=0)
    model.config = None
    minivae.save(model, tmp_path / "mine.npz")
    with pytest.raises(ValueError, match="builder"):
        minivae.load(tmp_path / "mine.npz")


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


# --- where a run goes, and who trains in it ----------------------------------------------------------


TINY = ["--data", "mine.npy", "--hidden", "4", "--latent", "2", "--quiet"]


@pytest.fixture
def place(tmp_path, monkeypatch, rng):
    """A folder to work in, with images; pictures are left out, which take a second."""
    monkeypatch.setattr(Run, "_draw_pictures", lambda self: None)
    monkeypatch.chdir(tmp_path)
    np.save("mine.npy", rng.random((30, 5, 4)))
    return tmp_path


@pytest.mark.parametrize("kind, out", [("a link to nowhere", []), ("a file", ["--out", "runs/x"])])
def test_where_runs_is_no_folder_one_line_says_so_at_once(place, kind, out):
    """It went round and round: every number seemed to be taken."""
    if kind == "a file":
        (place / "runs").write_text("mine")
    else:
        os.symlink(place / "not mounted", place / "runs")
    done = subprocess.run([sys.executable, "-m", "minivae", *TINY, *out], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "the folder runs cannot be made" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("left", ["nothing", "config.json", "half a save"])
def test_the_folder_of_a_run_that_never_began_is_taken_again(place, left):
    assert main([*TINY, "--epochs", "1", "--out", "r"]) == 0
    for path in (place / "r").iterdir():                   # as a kill leaves it before the first save
        if path.name != left:
            path.unlink()
    if left == "half a save":                              # by process 99999999, which nobody is
        (place / "r" / ".model.npz.99999999.ab12.tmp").write_bytes(b"PK")
    assert main([*TINY, "--epochs", "1", "--out", "r"]) == 0
    assert minivae.load("r") and not list((place / "r").glob(".*.tmp"))


@pytest.mark.parametrize("name, text", [("config.json", '{"my": 1}'), ("config.json", "[1"), ("notes.txt", "mine")])
def test_a_folder_that_holds_anything_else_is_refused(place, capsys, name, text):
    (place / "r").mkdir()
    (place / "r" / name).write_text(text)
    assert main([*TINY, "--epochs", "1", "--out", "r"]) == 2
    assert "--out r exists already" in capsys.readouterr().err
    assert [path.read_text() for path in (place / "r").iterdir()] == [text]


def test_resume_refuses_a_copy_that_lies_in_another_folder(place, capsys):
    assert main([*TINY, "--epochs", "1", "--out", "r"]) == 0
    (place / "dl").mkdir()
    shutil.copy("r/model.npz", "dl/copy.npz")
    (place / "dl" / "config.json").write_text('{"my": 1}')
    before = {path.name: path.read_bytes() for path in (place / "dl").iterdir()}
    assert main(["train", "--resume", "dl/copy.npz", "--epochs", "3"]) == 2
    assert "wanted a run folder, or model.npz or model.prev.npz in one" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in (place / "dl").iterdir()} == before


def test_a_name_that_begins_with_a_dash_can_be_copied_from_the_hint(place, capsys):
    assert main([*TINY[:-1], "--epochs", "1", "--out=-y"]) == 0
    printed = capsys.readouterr().out
    assert "minivae evaluate ./-y" in printed and "minivae evaluate -y" not in printed


HOLDER = """
import sys, time
from pathlib import Path
from minivae.locks import locked
with locked(Path(sys.argv[1]), "x"):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_folder_in_which_somebody_trains_is_refused_by_name_until_that_process_is_dead(place, capsys):
    assert main([*TINY, "--epochs", "1", "--out", "r"]) == 0
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, "r/.train.lock"], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        before = {path.name: path.read_bytes() for path in (place / "r").iterdir()}
        assert main(["train", "--resume", "r", "--epochs", "3"]) == 2
        assert f"r is being trained by process {holder.pid}: wait until it is done" in capsys.readouterr().err
        assert {path.name: path.read_bytes() for path in (place / "r").iterdir()} == before
    finally:
        holder.kill()                                      # SIGKILL: nobody tidies up
        holder.communicate()
    assert main(["train", "--resume", "r", "--epochs", "3"]) == 0


AT_ONCE = """
import os, sys
from numba.core.registry import cpu_target
from minivae.app import cli, gallery, plots, train        # everything is loaded before the children begin
cpu_target.target_context.refresh()
train.Run._draw_pictures = lambda self: None
gate, opener = os.pipe()
children = []
for _ in range(int(sys.argv[1])):
    child = os.fork()
    if child == 0:
        os.close(opener)
        os.read(gate, 1)                                   # all begin when the parent closes the pipe
        code = cli.main(sys.argv[2:])
        sys.stderr.flush()
        os._exit(code)
    children.append(child)
os.close(opener)
print([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children])
"""


def at_once(number, *command):
    """Exit codes of `number` commands that begin together, in processes of their own, and what they said."""
    done = subprocess.run([sys.executable, "-c", AT_ONCE, str(number), *command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), done.stderr


def test_of_five_resumes_at_once_one_trains_and_the_others_say_who_does(place):
    """Or one after another, where a process comes late: the run is the one never stopped all the same."""
    for out, epochs in (("r", "2"), ("never", "40")):
        assert main([*TINY, "--epochs", epochs, "--out", out]) == 0
    codes, said = at_once(5, "train", "--resume", "r", "--epochs", "40", "--quiet")
    assert set(codes) <= {0, 2} and 0 in codes, said
    assert said.count("r is being trained by process ") == codes.count(2) == said.count("\n"), said
    rows = [[line.rsplit(",", 1)[0] for line in (place / name / "history.csv").read_text().splitlines()]
            for name in ("r", "never")]
    assert rows[0] == rows[1] and len(rows[0]) == 41
    assert_same(minivae.load("r"), minivae.load("never"))
    assert not list((place / "r").glob("*.tmp")) and not list((place / "r").glob(".*.tmp"))


def test_twelve_commands_at_once_on_one_run_all_succeed(place):
    assert main([*TINY, "--epochs", "1", "--out", "r"]) == 0
    codes, said = at_once(12, "sample", "r", "--n", "1", "--npz", "--quiet")
    assert codes == [0] * 12, said
    assert {path.name for path in (place / "r" / "gallery").iterdir()} == {"samples.png", "samples.npz"}


def test_a_file_name_cannot_steer_the_terminal(place, capsys):
    """Names hold any byte but two: here the codes that clear a screen."""
    os.rename("mine.npy", "a\x1b[2Jb.npy")
    options = ["--hidden", "4", "--latent", "2"]
    assert main(["--data", "a\x1b[2Jb.npy", "--epochs", "1", "--out", "r", *options]) == 0
    assert main(["reconstruct", "r", "--data", "a\x1b[2Jb.npy", "--out", "c\x1b[2J.png"]) == 0
    assert main(["--data", "no\x1b[2J.npy"]) == 2
    printed = capsys.readouterr()
    assert "\x1b" not in printed.out + printed.err and "a?[2Jb.npy" in printed.out and "no?[2J.npy" in printed.err
    assert "wrote c?[2J.png" in printed.out
