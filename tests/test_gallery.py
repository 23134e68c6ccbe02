"""Pictures and arrays of a finished run: what is in them, and what is refused."""

import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.special import ndtr

import minivae
from minivae import VAE
from minivae.app import gallery, plots
from minivae.app.cli import main
from minivae.app.folders import PICTURES
from minivae.app.train import Run
from minivae.data import load_data
from minivae.discrete import DiscreteVAE
from minivae.estimators import disarm
from minivae.saving.runs import open_run

QUICK = ["--data", "mine.npy", "--epochs", "1", "--hidden", "4", "--quiet"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three runs on 40 images of 5 x 4 pixels, of which 4 are held out: three latents, two, and four coins."""
    place, patch = tmp_path_factory.mktemp("gallery"), pytest.MonkeyPatch()
    with patch.context() as patched:
        patched.chdir(place)
        patched.setattr(Run, "_draw_pictures", lambda self: None)
        np.save("mine.npy", np.random.default_rng(0).random((40, 5, 4)))
        for name, options in (("three", "--latent 3"), ("two", "--latent 2"),
                              ("coins", "--latent 4 --latent-kind bernoulli")):
            assert main([*QUICK, *options.split(), "--out", f"runs/{name}"]) == 0
    return place


@pytest.fixture(autouse=True)
def here(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    capsys.readouterr()


def read(path):
    with np.load(path) as arrays:
        return dict(arrays)


def is_png(path):
    return Path(path).read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", ["three", "two", "coins"])
def test_samples_are_those_of_the_model_at_this_seed(name, tmp_path):
    assert main(["sample", f"runs/{name}", "--n", "7", "--seed", "3", "--npz", "--out", str(tmp_path)]) == 0
    found, vae = read(tmp_path / "samples.npz"), minivae.load(f"runs/{name}/model.npz")
    assert np.array_equal(found["images"].reshape(7, 20), vae.sample(7, rng=3)) and found["images"].shape == (7, 5, 4)
    assert np.array_equal(vae.decode(found["z"]), vae.sample(7, rng=3)) and is_png(tmp_path / "samples.png")
    assert name != "coins" or set(np.unique(found["z"])) == {0, 1}


@pytest.mark.parametrize("name", ["three", "coins"])
def test_reconstructions_are_those_of_the_model_for_the_pixels_that_it_saw(name, tmp_path, capsys):
    assert main(["reconstruct", f"runs/{name}", "--npz", "--out", str(tmp_path / "a.png")]) == 0
    found, vae = read(tmp_path / "a.npz"), minivae.load(f"runs/{name}/model.npz")
    x = found["x"].reshape(4, 20)
    assert "4 of the 4 test images of mine" in capsys.readouterr().out
    assert set(np.unique(x)) == {0, 1}  # drawn black or white
    assert np.array_equal(found["reconstruction"].reshape(4, 20), vae.reconstruct(x)) and is_png(tmp_path / "a.png")
    images = found["image"].reshape(4, 20)                 # as they are in the file, and x is drawn from them
    assert np.array_equal(images, load_data("mine.npy").x_test[found["index"]].astype(np.float32))
    assert np.all(x[images == 0] == 0) and np.all(x[images == 1] == 1) and len(np.unique(images)) > 50


def test_images_of_a_file_are_all_shown_be_they_one_and_a_split_is_kept(tmp_path, capsys, rng):
    np.save(tmp_path / "one.npy", np.eye(5, 4)[None])
    np.savez(tmp_path / "both.npz", x_train=rng.random((9, 5, 4)), x_test=rng.random((2, 5, 4)))
    for name, shown in (("one.npy", 1), ("both.npz", 2)):
        where = ["--data", str(tmp_path / name), "--out", str(tmp_path / "seen")]
        assert main(["reconstruct", "runs/three", "--npz", *where]) == 0
        assert f"{shown} of the {shown} in {tmp_path / name}" in " ".join(capsys.readouterr().out.split())
        assert len(read(tmp_path / "seen" / "reconstructions.npz")["x"]) == shown
    where = ["--data", str(tmp_path / "one.npy"), "--out", str(tmp_path / "ways")]
    assert main(["latent", "runs/three", "--n", "2", "--npz", *where]) == 0
    assert read(tmp_path / "ways" / "latent.npz")["index"].tolist() == [0, 0]


def test_the_latent_of_two_dimensions_gets_a_manifold_whose_grid_has_even_probability(tmp_path):
    assert main(["latent", "runs/two", "--n", "1", "--npz", "--out", str(tmp_path)]) == 0
    found, vae = read(tmp_path / "latent.npz"), minivae.load("runs/two/model.npz")
    side, z = gallery.SIDE, found["manifold_z"]
    even = (np.arange(side) + 0.5) / side
    assert np.allclose(ndtr(z[0, :, 0]), even, atol=1e-6)
    assert np.allclose(ndtr(z[:, 0, 1]), even[::-1], atol=1e-6)  # float32 quantiles
    assert np.array_equal(found["manifold"].reshape(-1, 20), vae.decode(z.reshape(-1, 2)))
    assert is_png(tmp_path / "manifold.png")


@pytest.mark.parametrize("name, word", [
    ("three", "it takes two latents, this model has 3"), ("coins", "coins are 0 or 1, with nothing between")])
def test_other_models_get_none_and_one_line_says_so(name, word, tmp_path, capsys):
    assert main(["latent", f"runs/{name}", "--n", "1", "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out.count(word) == 1
    assert {path.name for path in tmp_path.iterdir()} == {"interpolation.png", "traversal.png"}


def gaussian():
    return VAE.mlp(6, [5], 3, rng=0)


def coins():
    return DiscreteVAE.mlp(6, [5], 4, estimator=disarm, rng=0)


def test_an_interpolation_of_gaussians_is_the_straight_line_and_meets_both_ends(rng):
    a, b = rng.standard_normal((2, 5, 3), np.float32)
    walk = gallery.interpolation(gaussian(), a, b, 5)
    assert walk.shape == (5, 5, 3) and np.array_equal(walk[:, 0], a) and np.array_equal(walk[:, -1], b)
    assert np.allclose(walk[:, 2], (a + b) / 2, atol=1e-6)         # float32


def test_an_interpolation_of_coins_turns_each_that_differs_once_and_no_other(rng):
    a, b = rng.integers(0, 2, (2, 20, 4)).astype(np.float32)
    walk = gallery.interpolation(coins(), a, b, 9)
    turns = np.abs(np.diff(walk, axis=1))
    assert np.array_equal(walk[:, 0], a) and np.array_equal(walk[:, -1], b)
    assert np.array_equal(turns.sum(axis=1), np.abs(a - b))
    assert turns.sum(axis=2).max() == 1                    # one by one: there are more steps than coins


def test_a_traversal_moves_one_latent_in_each_row_and_leaves_the_others():
    z, dims = np.array([[0.1, 0.2, 0.3]], np.float32), np.array([2, 0])
    walk = gallery.traversal(gaussian(), z, dims)
    for row, j in zip(walk, dims):
        assert np.allclose(row[:, j], np.linspace(-3, 3, 11))
        assert np.array_equal(np.delete(row, j, 1), np.tile(np.delete(z, j, 1), (11, 1)))
    two = np.array([[0, 1, 1, 0], [1, 1, 0, 0]], np.float32)
    walk = gallery.traversal(coins(), two, np.arange(4))
    for j, row in enumerate(walk):
        assert row[:, j].tolist() == [0, 1, 0, 1]
        assert np.array_equal(np.delete(row, j, 1), np.delete(two[[0, 0, 1, 1]], j, 1))


def test_the_busiest_latent_is_above_and_of_many_only_some_are_shown(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(gallery, "MOST_LATENTS", 2)
    monkeypatch.setattr(gallery, "active_units", lambda mean: np.ones(3, bool))
    assert main(["latent", "runs/three", "--n", "2", "--npz", "--out", str(tmp_path)]) == 0
    assert "traversal the 2 busiest of 3 latents\n" in capsys.readouterr().out
    found, vae = read(tmp_path / "latent.npz"), minivae.load("runs/three/model.npz")
    _, _, _, x = gallery._choose_images(open_run("runs/three"), None, None, 500, 0)
    kl = vae.q_mean_and_kl(x)[1].mean(axis=0)
    assert found["traversal_dims"].tolist() == np.argsort(-kl)[:2].tolist()
    assert found["traversal"].shape == (2, 11, 5, 4)
    assert np.array_equal(found["interpolation"].reshape(-1, 20), vae.decode(found["interpolation_z"].reshape(-1, 3)))


def test_the_newest_run_is_taken_and_its_best_model_where_there_is_one(tmp_path, capsys):
    best = Path("runs/coins/best.npz")
    minivae.save(minivae.load("runs/three/model.npz"), best)
    try:
        assert main(["sample", "--npz", "--n", "2", "--out", str(tmp_path)]) == 0
    finally:
        best.unlink()
    out = capsys.readouterr().out
    assert "run       runs/coins, the newest one\nmodel     best.npz" in out
    assert read(tmp_path / "samples.npz")["z"].shape == (2, 3)


def test_pictures_go_into_the_run_s_gallery_where_nothing_is_said(capsys):
    before = {path.name: path.read_bytes() for path in Path("runs/two").iterdir() if path.is_file()}
    assert main(["sample", "runs/two", "--n", "1"]) == 0
    assert capsys.readouterr().out.endswith("\nwrote runs/two/gallery/samples.png\n")
    assert is_png("runs/two/gallery/samples.png")
    assert {path.name: path.read_bytes() for path in Path("runs/two").iterdir() if path.is_file()} == before


@pytest.mark.parametrize("options, message", [
    (["sample", "nowhere"], "there is no run folder nowhere"),
    (["sample", "runs/two", "--out", "new.npy"], "Format 'npy' is not supported"),
    (["latent", "runs/two", "--out", "a.png"], "--out a.png is a file, and this command writes several: name a folder"),
    (["reconstruct", "runs/two", "--data", "none.npy"], "--data none.npy: no such file"),
    (["reconstruct", "runs/two", "--data", "digits"], "must have 20 pixels per row for this model"),
    (["sample", "runs/two", "--n", "0"], "wanted a whole number of at least 1")],
    ids=["no folder", "no picture's name", "a file for several", "no file", "other pixels", "none"])
def test_what_cannot_be_shown_gets_one_line_and_exit_code_2(options, message, capsys, folder):
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert main(options) == 2
    err = capsys.readouterr().err
    assert message in err and err.startswith("minivae: ") and err.count("\n") == 1
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


@pytest.mark.parametrize("shape", [[3, 4], "wide", None])
def test_a_config_with_a_wrong_shape_or_none_is_refused(shape, capsys, tmp_path):
    path = Path("runs/two/config.json")
    text = path.read_text()
    config = {**json.loads(text), "image_shape": shape}
    if shape is None:
        del config["image_shape"]
    try:
        path.write_text(json.dumps(config))
        assert main(["sample", "runs/two", "--npz", "--out", str(tmp_path)]) == 2
    finally:
        path.write_text(text)
    err = capsys.readouterr().err
    assert "config.json is damaged" in err and err.count("\n") == 1 and not list(tmp_path.iterdir())


def test_a_model_that_gives_no_finite_image_exits_with_3(tmp_path, capsys):
    run = open_run("runs/two")
    run.vae.to_out.params["b"][...] = np.nan
    with pytest.raises(FloatingPointError, match="not finite"):
        gallery.sample(run, 3, 0, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def drawn(monkeypatch):
    """What `plots.strips` is asked to draw: its arguments by name, a dict for each picture."""
    calls, signature = [], inspect.signature(plots.strips)

    def keep(*args, **options):
        bound = signature.bind(*args, **options).arguments
        calls.append({**bound, **bound.pop("names", {})})

    monkeypatch.setattr(plots, "strips", keep)
    return calls


def test_only_active_latents_are_traversed_unless_none_is():
    mean, kl = np.zeros((9, 4)), np.array([0.1, 3.0, 2.0, 0.0])
    mean[:, [0, 1]] = np.linspace(-1, 1, 9)[:, None]
    dims, said = gallery.latents_to_show(mean, kl)
    assert dims.tolist() == [1, 0] and said == "the 2 active of 4 latents"
    for unmoved in (np.zeros((9, 4)), mean[:1]):           # a posterior that ignores x; one image, which cannot tell
        dims, said = gallery.latents_to_show(unmoved, kl)
        assert dims.tolist() == [1, 2, 0, 3] and said == "all 4 latents"


@pytest.mark.parametrize("name, unit, columns", [
    ("three", " (prior std)", ["\u22123", "\u22122.4", "\u22121.8", "\u22121.2", "\u22120.6", "0", "0.6", "1.2", "1.8",
                               "2.4", "3"]), ("coins", "", ["0", "1"] * 4)])
def test_a_traversal_marks_the_image_s_own_values_and_says_what_its_columns_are(name, unit, columns, drawn):
    assert main(["latent", f"runs/{name}", "--n", "1"]) == 0
    picture, vae = drawn[1], minivae.load(f"runs/{name}/model.npz")
    assert picture["above"] == f"value of z_j{unit}" and picture["column_names"] == columns
    _, _, _, x = gallery._choose_images(open_run(f"runs/{name}"), None, None, 500, 0)
    count = len(vae.latent.values_to_try)
    for row, words in zip(picture["marks"], picture["row_names"]):
        own = vae.likeliest_z(x)[:, int(words.split()[0][1:])][: len(columns) // count]
        at = np.interp(own, vae.latent.values_to_try, np.arange(count))
        assert np.allclose(row, at + count * np.arange(len(own)), atol=1e-5)      # float32


@pytest.mark.parametrize("binarize, ends", [("dynamic", ["test\nimage", "given,\nblack or\nwhite"]),
                                            ("none", ["test\nimage"])])
def test_an_interpolation_shows_the_image_what_was_given_and_its_reconstruction(binarize, ends, drawn, monkeypatch):
    run = open_run("runs/three")
    run.config["binarize"] = binarize
    gallery.latent(run, 2, 0)
    picture, k = drawn[0], len(ends)
    assert picture["column_names"] == [*ends, "recon", *[""] * 7, "recon", *ends[::-1]]
    assert picture["cuts"] == [k, k + 9]
    _, _, images, x = gallery._choose_images(run, None, None, 500, 0)
    columns = picture["images"]
    assert np.array_equal(columns[:, [0, -1]].reshape(-1, 20), images)
    assert np.array_equal(columns[:, [k - 1, -k]].reshape(-1, 20), x)
    assert np.allclose(columns[:, k].reshape(-1, 20), run.vae.reconstruct(x[::2]), atol=1e-6)     # float32


def test_a_picture_that_cannot_be_drawn_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    plots.samples(np.ones((3, 4)), (2, 2), path)
    before = path.read_bytes()
    monkeypatch.setattr(plots.Figure, "savefig", lambda self, file, **options: (file.write(b"half"), 1 / 0))
    with pytest.raises(ZeroDivisionError):
        plots.samples(np.zeros((3, 4)), (2, 2), path)
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_latent_0_goes_to_the_right_whichever_latent_is_busier(tmp_path, monkeypatch, rng):
    """As in the manifold: the two pictures of one model are looked at side by side."""
    drawn = []
    monkeypatch.setattr(plots, "_save", lambda figure, path: drawn.append(figure))
    mean = rng.standard_normal((6, 2))
    for kl in ([1.0, 2.0], [2.0, 1.0]):
        plots.latent(mean, None, np.array(kl), tmp_path / "a.png")
        axes = drawn.pop().axes[0]
        assert (axes.get_xlabel(), axes.get_ylabel()) == ("mu of latent 0", "mu of latent 1")
        assert np.array_equal(axes.collections[0].get_offsets(), mean)


def test_drawing_leaves_the_user_s_matplotlib_alone(tmp_path):
    """Neither pyplot nor another backend: asking rcParams for the backend would import pyplot itself."""
    code = ("import sys, matplotlib, numpy\nfrom minivae.app import plots\n"
            "plots.samples(numpy.ones((3, 4)), (2, 2), 'a.png')\nprint('matplotlib.pyplot' in sys.modules)\n"
            "matplotlib.use('svg')\nplots.samples(numpy.ones((3, 4)), (2, 2), 'a.png')\n"
            "print(matplotlib.get_backend())")
    environment = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.stdout.split() == ["False", "svg"], done.stderr
    assert is_png(tmp_path / "a.png")


# --- what --out may replace --------------------------------------------------------------------------


def refused(capsys, *command):
    """The one line with which a command ends, exit code 2."""
    capsys.readouterr()
    assert main(list(command)) == 2
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1 and "wrote" not in printed.out
    return printed.err


def test_arrays_never_take_the_place_of_the_images_that_were_named(tmp_path, capsys, rng):
    data = tmp_path / "images.npz"
    np.savez(data, x_train=rng.random((9, 5, 4)), x_test=rng.random((2, 5, 4)))
    before = data.read_bytes()
    err = refused(capsys, "reconstruct", "runs/three", "--data", str(data), "--out", str(data.with_suffix(".png")),
                  "--npz")
    assert f"{data} exists already, and is nothing that this command wrote" in err and "--force" in err
    assert data.read_bytes() == before and list(tmp_path.iterdir()) == [data]


@pytest.mark.parametrize("out", ["taken.html", ""])
@pytest.mark.parametrize("force", [[], ["--force"]], ids=["plain", "forced"])
def test_a_folder_is_never_an_output_and_force_is_not_advised(out, force, tmp_path, capsys):
    (tmp_path / "taken.html").mkdir()
    said = refused(capsys, "explain", "runs/three", f"--out={tmp_path / out if out else out}", *force)
    assert "is a folder: choose the name of a file with --out" in said and "--force" not in said


@pytest.mark.parametrize("name", ["model.npz", "best.npz", "model.prev.npz"])
@pytest.mark.parametrize("force", [[], ["--force"]], ids=["plain", "forced"])
def test_no_output_takes_a_name_of_the_runs_own_files(name, force, capsys):
    """A best.npz that is no model would make the run unreadable: forced or not, there or not."""
    picture = f"runs/three/{Path(name).stem}.png"
    before = {path: path.read_bytes() for path in Path("runs/three").iterdir() if path.is_file()}
    for command in (["sample", "runs/three", "--npz", "--out", picture],
                    ["explain", "runs/three", "--out", f"runs/three/{name}"]):
        assert f"a run keeps what its training wrote under the name {name}" in refused(capsys, *command, *force)
    for out in ("runs/three", "runs/three/curves.png"):    # its pictures are those of the training
        assert "a run keeps what its training wrote" in refused(capsys, "sample", "runs/three", "--out", out, *force)
    assert {path: path.read_bytes() for path in Path("runs/three").iterdir() if path.is_file()} == before


def test_a_picture_of_one_kind_has_one_name_wherever_it_lies(tmp_path):
    for command in ("sample", "reconstruct"):
        assert main([command, "runs/three", "--n", "2", "--out", str(tmp_path / "new")]) == 0
    names = {path.name for path in (tmp_path / "new").iterdir()}
    assert names == {"samples.png", "reconstructions.png"} < set(PICTURES)


@pytest.mark.parametrize("command, name", [
    (["sample"], "mine.png"), (["reconstruct"], "mine.pdf"), (["evaluate", "--eval-samples", "2"], "mine.svg"),
    (["latent", "--n", "1"], "traversal.png"), (["explain"], "page.html"), (["explain"], "mine.npy")])
def test_out_replaces_what_a_command_wrote_before_and_nothing_else_unless_forced(command, name, tmp_path, capsys):
    path = tmp_path / name
    out = ["--out", str(tmp_path if command[0] == "latent" else path)]
    path.write_bytes(b"my own work")
    assert "exists already" in refused(capsys, command[0], "runs/two", *command[1:], *out)
    assert path.read_bytes() == b"my own work" and list(tmp_path.iterdir()) == [path]
    for more in (["--force"], []):                         # the second time it is an earlier output
        assert main([command[0], "runs/two", *command[1:], *out, *more]) == 0
        assert path.read_bytes() != b"my own work"
