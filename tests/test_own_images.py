"""The user's own images: arrays in colour, folders of pictures, tables, labels, and how to ask about one image."""

import io
import os
import warnings
import zipfile

import numpy as np
import pytest
from PIL import Image

from minivae import VAE, fit, load_data
from minivae.app.cli import main
from minivae.app.train import Run
from minivae.data import arrays, load_test_images
from minivae.pixels import as_pixel_rows, check_pixels, doubt_about_scale, scales_of
from minivae.saving.runs import open_run
from minivae.training.batches import draw
from minivae.training.evaluation import evaluate


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def greys(rng, n=10, H=3, W=4):
    return rng.integers(0, 256, (n, H, W)).astype(np.uint8)


def colours(rng, n=10, H=3, W=4):
    return rng.integers(0, 256, (n, H, W, 3)).astype(np.uint8)


def save_pictures(folder, images, ending=".png"):
    folder.mkdir(parents=True)
    for i, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{i:03d}{ending}")


# --- colours in arrays --------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_a_colour_image_is_a_row_of_all_its_numbers(rng, dtype):
    x = colours(rng) if dtype == np.uint8 else rng.random((10, 3, 4, 3), dtype)
    np.save("x.npy", x)
    np.savez("x.npz", x_train=x, x_test=x[:2])
    data = load_test_images("x.npy")
    assert data.image_shape == (3, 4, 3) and data.x_test.shape == (10, 36)
    np.testing.assert_array_equal(data.x_test[7].reshape(data.image_shape), x[7])
    np.testing.assert_array_equal(load_data("x.npz").x_test[1].reshape(3, 4, 3), x[1])


def test_rows_that_can_be_a_square_in_colour_are_drawn_so_and_the_note_says_it(rng):
    np.save("x.npy", rng.random((10, 3 * 28 * 28)))
    data = load_data("x.npy")
    assert data.image_shape == (28, 28, 3) and "drawn as 28 x 28 in colour" in data.note


def test_training_and_test_images_must_both_have_colours_or_not(rng):
    np.savez("x.npz", x_train=colours(rng), x_test=greys(rng))
    with pytest.raises(ValueError, match=r"x_train has images of \(3, 4, 3\), x_test of \(3, 4\)"):
        load_data("x.npz")


@pytest.mark.parametrize("shape, mended", [
    ((28, 28), "one image is x[None]"), ((28, 28), "28 rows of 28 pixels are x[:, None]"),
    ((9, 8, 3), "one image is x[None]"), ((9, 8, 3), "9 images of 8 x 3 pixels are x[..., None]"),
    ((28, 28, 1), "one image is x[None]"), ((28, 28, 1), "28 images of 28 x 1 pixels are x[..., None]"),
    ((5, 1, 2, 4), "x[:, 0] takes"), ((5, 3, 2, 4), "x.transpose(0, 2, 3, 1) puts"),
    ((5, 2, 4, 4), "x[..., :3] leaves"), ((5, 4, 2, 5), "x[:, :3].transpose(0, 2, 3, 1) leaves"),
    ((6,), "one image of 6 pixels is x.reshape(1, -1)")])
def test_the_sentence_that_refuses_a_shape_mends_it(rng, shape, mended):
    """What the message says to write is written, and then the array is taken."""
    x = rng.random(shape)
    np.save("x.npy", x)
    with pytest.raises(ValueError) as caught:
        load_test_images("x.npy")
    assert mended in str(caught.value) and "\n" not in str(caught.value)
    expression = next(word for word in mended.replace("x.reshape(1, -1)", "x.reshape(1,-1)").replace(
        "x[:, ", "x[:,").replace("(0, 2, 3, 1)", "(0,2,3,1)").replace("x[..., ", "x[...,").split()
        if word.startswith(("x[", "x.")))
    np.save("x.npy", eval(expression, {"x": x}))
    assert load_test_images("x.npy").x_test.dtype == np.float64


# --- folders of pictures ------------------------------------------------------------------------------


@pytest.mark.parametrize("make, image_shape", [(greys, (3, 4)), (colours, (3, 4, 3))], ids=["grey", "colour"])
def test_a_folder_of_png_is_the_array_sorted_by_name(here, rng, make, image_shape):
    x = make(rng)
    save_pictures(here / "mine.v2", x)
    (here / "mine.v2" / "readme.txt").write_text("no image")
    (here / "mine.v2" / "._000.png").write_bytes(b"what a Mac leaves")
    data = load_test_images("mine.v2")
    assert data.image_shape == image_shape and data.y_test is None and data.x_test.dtype == np.uint8
    np.testing.assert_array_equal(data.x_test.reshape(x.shape), x)
    both = load_data("mine.v2")
    np.save("x.npy", x)
    np.testing.assert_array_equal(both.x_test, load_data("x.npy").x_test)          # the same are held out
    assert (len(both.x_train), len(both.x_test)) == (9, 1)


def test_jpeg_is_read_and_grey_pictures_saved_in_colour_are_grey(here, rng):
    x = np.full((4, 8, 8), 200, np.uint8)                                           # flat: JPEG keeps it
    save_pictures(here / "jpg", x, ".JPG")
    np.testing.assert_array_equal(load_test_images("jpg").x_test, x.reshape(4, -1))
    x = greys(rng)
    save_pictures(here / "rgb", np.repeat(x[..., None], 3, axis=3))
    data = load_test_images("rgb")
    assert data.image_shape == (3, 4)
    np.testing.assert_array_equal(data.x_test, x.reshape(10, -1))


def test_one_picture_in_colour_makes_all_of_them_so(here, rng):
    grey, colour = greys(rng, 1), colours(rng, 1)
    save_pictures(here / "x", [grey[0], colour[0]])
    data = load_test_images("x")
    np.testing.assert_array_equal(data.x_test[0].reshape(3, 4, 3), grey[0][..., None].repeat(3, axis=2))
    np.testing.assert_array_equal(data.x_test[1].reshape(3, 4, 3), colour[0])


def one_pixel(mode, value):
    return Image.new(mode, (1, 1), value)


def palette(value):
    image = one_pixel("P", 1)
    image.putpalette([0, 0, 0, *value])
    return image


@pytest.mark.parametrize("image, seen", [
    (one_pixel("1", 1), 255), (one_pixel("L", 77), 77), (one_pixel("LA", (0, 0)), 255),
    (one_pixel("LA", (40, 255)), 40), (one_pixel("RGBA", (9, 8, 7, 0)), 255),
    (one_pixel("RGBA", (9, 8, 7, 255)), (9, 8, 7)), (one_pixel("RGBA", (0, 0, 0, 51)), 204),
    (palette((1, 2, 3)), (1, 2, 3)), (palette((5, 5, 5)), 5),
    (Image.fromarray(np.array([[0x80FF]], np.uint16)), 0x80)],
    ids=["1", "L", "LA transparent", "LA", "transparent", "RGBA", "a fifth of black", "palette", "grey palette",
         "16 bits"])
def test_a_picture_becomes_what_a_viewer_shows_on_white(image, seen):
    image.save("x.png")
    data = load_test_images("x.png")
    assert data.x_test.tolist() == [[seen] if isinstance(seen, int) else list(seen)]
    assert data.image_shape == ((1, 1) if isinstance(seen, int) else (1, 1, 3))


def test_a_photograph_stands_as_its_camera_says():
    exif = Image.Exif()
    exif[0x0112] = 6                                                                # turn by 90 degrees
    Image.new("L", (16, 8), 9).save("x.jpg", exif=exif)
    assert load_test_images("x.jpg").image_shape == (16, 8)


def test_images_of_two_sizes_are_refused_in_a_line_that_names_two_files(here, rng):
    save_pictures(here / "x", [*greys(rng, 2), greys(rng, 1, 5, 4)[0]])
    with pytest.raises(ValueError, match=r"^x/000.png has 3 x 4 pixels and x/002.png has 5 x 4: all images must have"):
        load_data("x")


def test_a_damaged_picture_is_named(here, rng):
    save_pictures(here / "x", greys(rng, 3))
    whole = (here / "x" / "001.png").read_bytes()
    for damaged in (whole[:-30], whole[:20], b"hello", b""):
        (here / "x" / "001.png").write_bytes(damaged)
        with pytest.raises(ValueError, match="x/001.png cannot be read as an image") as caught:
            load_data("x")
        assert "\n" not in str(caught.value)


def test_folders_train_and_test_are_the_split_and_folders_in_them_the_labels(here, rng):
    x = greys(rng, 6)
    save_pictures(here / "d" / "train", x[:4])
    data = load_data("d")                                                           # without test/: a tenth
    assert (len(data.x_train), len(data.x_test)) == (3, 1)
    save_pictures(here / "d" / "test" / "cat", x[4:5])
    save_pictures(here / "d" / "test" / "ant", x[5:])
    data = load_data("d")
    np.testing.assert_array_equal(data.x_train.reshape(4, 3, 4), x[:4])
    np.testing.assert_array_equal(data.x_test.reshape(2, 3, 4), x[[5, 4]])
    assert "split as given" in data.note and data.y_test is None                    # train/ has no labels
    save_pictures(here / "e" / "cat", x[:4])
    save_pictures(here / "e" / "ant", x[4:])
    data = load_test_images("e")
    assert data.y_test.tolist() == ["ant"] * 2 + ["cat"] * 4
    np.testing.assert_array_equal(data.x_test.reshape(6, 3, 4), x[[4, 5, 0, 1, 2, 3]])
    held = load_data("e")
    index = [data.x_test.tolist().index(row) for row in held.x_test.tolist()]
    assert held.y_test.tolist() == [data.y_test[i] for i in index]


def test_one_picture_is_one_image_to_ask_about_and_too_few_to_train_on(rng):
    Image.fromarray(greys(rng, 1)[0]).save("x.png")
    assert len(load_test_images("x.png").x_test) == 1
    with pytest.raises(ValueError, match="x.png has 1 image: at least 2 are needed"):
        load_data("x.png")


# --- tables -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text, rows, labels", [
    ("0,255,7\n1,2,3\n", [[0, 255, 7], [1, 2, 3]], None),
    ("a,b,c\n0,255,7\n1,2,3\n", [[0, 255, 7], [1, 2, 3]], None),
    ("label,a,b\n4,0.5,0\n2,0.25,1\n", [[0.5, 0], [0.25, 1]], [4, 2]),
    ('a,"Label ",b\n0,cat,1\n1,"dog, old",1\n', [[0, 1], [1, 1]], ["cat", "dog, old"]),
    ("\ufeffa,b\n-1,1000\n0,0\n", [[-1, 1000], [0, 0]], None)],
    ids=["bytes", "names", "labels", "words", "floats with a mark of order"])
def test_a_table_of_numbers(here, text, rows, labels):
    (here / "x.csv").write_text(text)
    data = load_test_images("x.csv")
    assert data.x_test.tolist() == rows and (labels is None) == (data.y_test is None)
    assert labels is None or data.y_test.tolist() == labels
    assert data.x_test.dtype == (np.uint8 if all(type(v) is int and 0 <= v < 256 for row in rows for v in row)
                                 else np.float64)


@pytest.mark.parametrize("text, message", [
    ("", "no data"), ("a,b\n", "no data"), ("1,2\n3\n", "column"), ("1,2\n3,x\n", "could not convert string 'x'"),
    ("1,2\n3,\n", "could not convert string ''"), (",a,b\n0,1,1\n1,1,1\n", "a column without a name, an index"),
    ("1,nan\n", "must be finite"), ("label\n3\n", "is empty"), ("1;2\n3;4\n", "could not convert string")], ids=repr)
def test_a_table_that_is_none_is_refused_in_one_line(here, text, message):
    (here / "x.csv").write_text(text)
    with pytest.raises(ValueError) as caught:
        load_data("x.csv")
    assert message in str(caught.value) and str(caught.value).startswith("x.csv") and "\n" not in str(caught.value)


# --- names and labels in a .npz -----------------------------------------------------------------------


def test_key_names_the_array_of_images(rng):
    np.savez("x.npz", photographs=greys(rng), masks=greys(rng, 4))
    with pytest.raises(ValueError, match="holds photographs, masks: .* or say which with --key NAME"):
        load_data("x.npz")
    assert len(load_test_images("x.npz", key="masks").x_test) == 4
    with pytest.raises(ValueError, match="x.npz has no array mask: it holds photographs, masks$"):
        load_data("x.npz", key="mask")
    np.save("x.npy", greys(rng))
    for source in ("x.npy", "digits", "mnist"):
        with pytest.raises(ValueError, match="--key masks goes with a .npz"):
            load_data(source, key="masks")


def test_a_long_list_of_arrays_is_cut(rng):
    np.savez("x.npz", **{f"array{i}": greys(rng) for i in range(40)})
    with pytest.raises(ValueError, match="array4 and 35 more: it needs"):
        load_data("x.npz")


@pytest.mark.parametrize("name", ["y_train", "y", "labels", "label"])
@pytest.mark.parametrize("y", [np.arange(20) % 3, (np.arange(20) % 3)[:, None], (np.arange(20) % 3).astype(float),
                               np.array(["ant", "cat"] * 10)], ids=["integers", "a column", "floats", "words"])
def test_labels_go_with_the_images_that_are_held_out(rng, name, y):
    x = rng.permutation(240).reshape(20, 12).astype(np.uint8)
    np.savez("x.npz", **{"x_train": x, name: y})
    data = load_data("x.npz")
    index = [x.tolist().index(row) for row in data.x_test.tolist()]
    assert data.y_test.tolist() == np.ravel(y)[index].tolist()
    np.savez("x.npz", **{"pictures": x, name: y})                                  # the only array but for them
    assert load_data("x.npz").y_test.tolist() == data.y_test.tolist()
    np.savez("x.npz", x_train=x, x_test=x[:5], y_test=np.ravel(y)[:5], **{name: y})
    assert load_data("x.npz").y_test.tolist() == np.ravel(y)[:5].tolist()


@pytest.mark.parametrize("y", [np.eye(10), np.arange(9), np.linspace(0, 1, 10)],
                         ids=["one-hot", "too few", "no classes"])
def test_labels_that_are_none_are_left_out_and_the_note_says_so(rng, y):
    np.savez("x.npz", x_train=greys(rng), y_train=y)
    data = load_data("x.npz")
    assert data.y_test is None and f"y_train of shape {y.shape} and dtype {y.dtype} left out" in data.note


# --- sources ------------------------------------------------------------------------------------------


def test_a_source_that_is_none_is_refused(here, rng):
    np.save("x.npy", greys(rng))
    for source in ("x.npy", "digits"):
        with pytest.raises(ValueError, match=f"^--data-dir nonsense goes with mnist, .* not with {source}$"):
            load_data(source, "nonsense")
    with pytest.raises(ValueError, match="^--data : no such file or folder"):
        load_data("")
    with pytest.raises(TypeError, match="^source must be a name or a path, got ndarray: fit and encode take"):
        load_data(greys(rng))
    os.mkfifo("pipe")
    with pytest.raises(ValueError, match="^pipe is neither a file nor a folder"):    # and does not wait
        load_data("pipe")


# --- scales -------------------------------------------------------------------------------------------


def test_whole_numbers_that_are_too_dark_for_bytes_are_refused(rng):
    x = rng.integers(0, 17, (6, 4))
    x[0, 0] = 16
    with pytest.raises(ValueError, match=r"whole numbers from 0 to 16: if 16 is white, pass x / 16; if 255 is, x.ast"):
        check_pixels(x)
    assert check_pixels(x.astype(np.uint8)).max() == 16 and "up to 16 only" in doubt_about_scale(x.astype(np.uint8))
    assert check_pixels(x * 8).dtype == np.uint8                                   # 128: bytes


@pytest.mark.parametrize("X, doubt", [
    (np.array([[0, 128]], np.uint8), None), (np.array([[0, 127]], np.uint8), "bytes and go up to 127 only"),
    (np.array([[0, 1]], np.uint8), None), (np.array([[True]]), None), (np.array([[0.0, 255]]), "divide them by 255"),
    (np.array([[-3.0, 255]]), None), (np.array([[0.0, 100]]), None), (np.array([[0.0, 1]]), None)], ids=str)
def test_a_doubtful_scale_is_remarked_on(X, doubt):
    said = doubt_about_scale(X)
    assert said is None if doubt is None else doubt in said


def test_bytes_and_binary_bytes_are_two_scales():
    grey, binary, black = (np.array([[0, top]], np.uint8) for top in (255, 1, 0))
    for pair in ((grey, binary), (binary, grey)):
        with pytest.raises(ValueError, match="bring them to one scale"):
            scales_of(*pair)
    assert scales_of(grey, black) == (255, 255)                                    # black is black on any


def test_the_hint_about_the_scale_comes_before_training_and_where_training_breaks(rng, capsys):
    x = (rng.random((40, 30)) * 254 + 1).astype(np.float32)
    x[:, 0], x[:, 1] = 1, 255
    np.save("x.npy", x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")                                             # of the overflow itself
        assert main(["--data", "x.npy", "--likelihood", "gaussian", "--epochs", "1", "--out", "r"]) == 3
    said = " ".join(capsys.readouterr().err.split())
    assert "minivae: warning: the images are floats from 1 to 255, and are taken as they are: divide them by" in said
    # numbers so large that the first pass already fails
    with warnings.catch_warnings(), pytest.raises(FloatingPointError, match="The images are floats from 1 to 255"):
        warnings.simplefilter("ignore")
        vae = VAE.mlp(30, [5], 2, likelihood="gaussian", rng=0)
        for _, param, _ in vae.named_params():
            param *= 1e15
        fit(vae, x, epochs=1, rng=0)


# --- the same arrays everywhere -----------------------------------------------------------------------


@pytest.mark.parametrize("make", [greys, colours])
@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32, bool])
def test_encode_and_reconstruct_take_what_fit_takes(rng, make, dtype):
    x = make(rng)
    x[0] = 255
    x = x / np.float32(255) if dtype == np.float32 else x > 127 if dtype is bool else x.astype(dtype)
    rows = check_pixels(x)
    vae, other = (VAE.mlp(rows.shape[1], [5], 2, likelihood="gaussian", rng=0) for _ in range(2))
    fit(vae, x, X_test=x, epochs=1, rng=0)
    fit(other, rows, X_test=rows, epochs=1, rng=0)
    scale = 255.0 if rows.dtype == np.uint8 else 1.0
    drawn = draw(rows, np.arange(len(rows)), scale, "none", None, vae.dtype)       # what fit saw
    for model in (vae, other):
        for images in (x, rows):
            np.testing.assert_array_equal(model.encode(images)[0], other.encode(drawn)[0])
            np.testing.assert_array_equal(model.reconstruct(images), other.reconstruct(drawn))
            assert evaluate(model, images) == evaluate(other, rows)
            assert model.forward(images, np.zeros((10, 2))).loss == other.forward(drawn, np.zeros((10, 2))).loss


def test_rows_of_images_keep_the_order_of_their_pixels():
    x = np.arange(24.0).reshape(2, 2, 2, 3)
    np.testing.assert_array_equal(as_pixel_rows(x), np.arange(24.0).reshape(2, 12))


# --- whole commands -----------------------------------------------------------------------------------


def test_a_run_of_pictures_with_a_key_and_labels_is_asked_about_one_picture(here, rng, capsys):
    x = greys(rng, 20, 8, 9)
    np.savez("x.npz", pictures=x, others=x[:3], labels=np.arange(20) % 4)
    assert main(["--data", "x.npz", "--key", "pictures", "--epochs", "1", "--latent", "2", "--out", "r"]) == 0
    run = open_run("r")
    assert run.config["key"] == "pictures" and run.images().y_test is not None
    Image.fromarray(x[0]).save("one.png")
    save_pictures(here / "folder", x[:5])
    for command in (["reconstruct", "r", "--data", "one.png"], ["latent", "r", "--data", "folder"],
                    ["reconstruct", "r", "--data", "x.npz", "--key", "others"], ["evaluate", "r"],
                    ["evaluate", "r", "--data", "x.npz", "--key", "pictures", "--eval-samples", "2"],
                    ["train", "--resume", "r", "--epochs", "2"]):
        capsys.readouterr()
        assert main(command) == 0, capsys.readouterr().err
    assert len((here / "r" / "history.csv").read_text().splitlines()) == 1 + 2
    assert main(["reconstruct", "r", "--data", "folder", "--key", "k"]) == 2
    assert "--key k goes with a .npz, which folder is not" in capsys.readouterr().err


def test_a_grey_picture_asked_of_a_model_of_colours_becomes_colour(rng):
    x = colours(rng, 10, 8, 8)
    np.save("x.npy", x)
    data = load_test_images("x.npy")
    run = fake_run({"data": "digits", "data_dir": None, "image_shape": [8, 8, 3]})
    grey = greys(rng, 1, 8, 8)[0]
    Image.fromarray(grey).save("one.png")
    found = run.images("one.png", hold_out=False)
    assert found.image_shape == (8, 8, 3) and found.x_test.shape == (1, 192)
    np.testing.assert_array_equal(found.x_test[0].reshape(8, 8, 3), grey[..., None].repeat(3, axis=2))
    np.testing.assert_array_equal(run.images("x.npy", hold_out=False).x_test, data.x_test)
    run = fake_run({"data": "digits", "data_dir": None, "image_shape": [8, 8]})
    with pytest.raises(ValueError, match=r"^x.npy has images in colour, the run has grey ones: save them grey"):
        run.images("x.npy")


def test_a_run_of_colour_images_is_trained_walked_resumed_and_explained(rng, capsys, monkeypatch):
    monkeypatch.setattr(Run, "_draw_pictures", lambda self: None)
    np.save("x.npy", colours(rng, 20, 6, 5))
    assert main(["--data", "x.npy", "--epochs", "1", "--latent", "2", "--out", "r"]) == 0
    assert open_run("r").config["image_shape"] == [6, 5, 3] and "model     90 - 200 - 2" in capsys.readouterr().out
    assert main(["train", "--resume", "r", "--epochs", "2"]) == 0
    assert main(["evaluate", "r", "--eval-samples", "2"]) == 0 and main(["walk", "r"]) == 0
    capsys.readouterr()
    assert main(["explain", "r"]) == 0 and "wrote     explain.html" in capsys.readouterr().out


def fake_run(config):
    from minivae.saving.runs import TrainedRun
    return TrainedRun(None, config, None, "model.npz")


def test_a_npz_is_unpacked_once_and_what_is_not_wanted_not_at_all(rng, monkeypatch):
    x = greys(rng, 50)
    np.savez_compressed("x.npz", x_train=x, x_test=x[:5], weights=rng.random(10**5))
    unpacked, read = [], zipfile.ZipExtFile.read

    def counting(self, n=-1):
        data = read(self, n)
        unpacked.append(len(data))
        return data

    monkeypatch.setattr(zipfile.ZipExtFile, "read", counting)
    load_data("x.npz")
    headers = 2 * 128
    assert sum(unpacked) == 55 * 12 + headers


@pytest.mark.parametrize("save", [np.save, lambda name, x: np.savez_compressed("x.npz", x_train=x, x_test=x[:0])])
def test_what_does_not_fit_into_memory_is_refused_before_it_is_read(monkeypatch, save):
    save("x.npy", np.zeros((30_000, 100), np.uint8))
    path = "x.npz" if os.path.exists("x.npz") else "x.npy"
    monkeypatch.setattr(arrays, "_free_memory", lambda: 2e6)
    monkeypatch.setattr(zipfile.ZipExtFile, "read", None)
    with pytest.raises(ValueError, match=f"^{path} does not fit into memory: its images take 3 MB, and 2 MB are free;"):
        load_data(path)


def test_linux_says_how_much_memory_is_free():
    if os.path.exists("/proc/meminfo"):
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        assert 0 < arrays._free_memory() <= total


def test_a_header_that_lies_about_its_size_takes_no_memory():
    """64 TB in 8 bytes, in a .npz whose checksums are right."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f8", "fortran_order": False, "shape": (2**20, 2**23)})
    with zipfile.ZipFile("x.npz", "w") as file:
        file.writestr("x_train.npy", stream.getvalue() + bytes(8))
    with pytest.raises(ValueError, match="^x.npz is no readable .npy or .npz file") as caught:
        load_data("x.npz")
    assert "\n" not in str(caught.value)
