"""The pictures of training: what their titles claim, and that they can be read; and how that is told."""

import looks
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.textpath import TextPath
from PIL import Image
from sklearn.datasets import load_digits

from minivae.app import plots


@pytest.fixture
def drawn(monkeypatch):
    """A function that gives the axes of curves.png for these losses, and finds no fault with its looks."""
    figures = []
    monkeypatch.setattr(plots, "_save", lambda figure, path: figures.append(figure))

    def curves(loss, chance=None, beta=1.0, held=False):
        loss = np.asarray(loss, float)
        history = [{"epoch": i + 1, "loss": value, "recon": value - 1, "kl": 1.0, "test_elbo": -value - 0.3,
                    "beta": beta if i else 0.5 * beta + 0.5, "lr": 1e-3} | ({"held_elbo": -value - 0.6} if held else {})
                   for i, value in enumerate(loss)]
        plots.curves(history, "curves.png", chance)
        assert looks.faults(figures[-1]) == []
        return figures[-1].axes

    return curves


def title(axes):
    return axes.get_title(loc="left")


FALLING = [33.5, 27.7, *(23 + 3 / np.arange(1, 59))]


def test_the_title_says_what_the_loss_does(drawn):
    assert title(drawn(FALLING)[0]).startswith("the loss falls: 33.50 to 23.05")
    assert title(drawn([20, 21, 22])[0]).startswith("the loss does not fall: 20.00 to 22.00")
    assert title(drawn([20, np.nan])[0]).startswith("the loss does not fall: 20.00 to nan")
    assert title(drawn([20])[0]) == "the loss after one epoch"


def test_early_epochs_leave_the_scale_to_the_others(drawn):
    left = drawn(FALLING, chance=44.36)[0]
    low, high = left.get_ylim()
    assert low < 23.05 and 27 > high and "above the picture: epoch 1 (33.50) and chance (44.36)" in title(left)
    left = drawn([20, 21, 22])[0]                          # where nothing falls nothing is cut
    assert left.get_ylim()[0] < 20 and left.get_ylim()[1] > 22.3 and "above" not in title(left)


def test_chance_is_a_line_where_it_is_in_sight(drawn):
    left = drawn([44.1, 44.6, 44.3], chance=44.36)[0]
    assert [line.get_ydata()[0] for line in left.lines if line.get_linestyle() == ":"] == [44.36]
    assert any("chance, 44.36" in text.get_text() for text in left.get_legend().get_texts())
    assert "above" not in title(left)


def test_every_panel_has_units_and_the_legend_tells_test_from_train(drawn):
    left, right = drawn(FALLING, held=True)
    assert left.get_ylabel() == right.get_ylabel() == "nats per image" and left.get_xlabel() == "epoch"
    told = [text.get_text() for text in left.get_legend().get_texts()]
    assert told == ["training loss, mean over the epoch", "-test ELBO, after the epoch",
                    "-ELBO held out to stop by, after it"]
    assert len(drawn(FALLING, beta=4.0)) == 3              # what is scheduled, beside


def test_a_run_tells_the_picture_what_chance_is(drawn, monkeypatch, tmp_path):
    from minivae.app.cli import main

    told = []
    monkeypatch.setattr(plots, "curves", lambda history, path, chance: told.append(chance))
    np.save(tmp_path / "mine.npy", np.random.default_rng(0).random((40, 5, 4)))
    for likelihood in ("bernoulli", "gaussian"):
        words = f"--epochs 1 --hidden 4 --latent 2 --quiet --likelihood {likelihood} --data {tmp_path / 'mine.npy'}"
        assert main(["train", *words.split(), "--out", str(tmp_path / likelihood)]) == 0
    assert told[0] == pytest.approx(20 * np.log(2)) and told[-1] is None


# --- latents ---


@pytest.fixture
def figure(monkeypatch):
    """A function that calls one of `plots` and gives its figure, after a look for words that lie on each other."""
    figures = []
    monkeypatch.setattr(plots, "_save", lambda figure, path: figures.append(figure))

    def draw(function, *args, **options):
        function(*args, path="a.png", **options)
        assert looks.overlapping_words(figures[-1]) == []
        return figures[-1]

    return draw


@pytest.mark.parametrize("Z", [1, 2, 8, 20, 30, 45, 64, 100, 300])
def test_the_names_of_many_latents_do_not_overlap(Z, figure, rng):
    kl, mean = 3 * rng.random(Z) ** 4, rng.standard_normal((60, Z))
    latent = figure(plots.latent, mean, np.arange(60) % 10, kl, unit="prior std")
    bars = figure(plots.kl_per_dimension, kl, kl / 3, n=500)
    for axes in (latent.axes[1], bars.axes[1]):
        names = [tick.label1 for tick in axes.xaxis.get_major_ticks()]
        assert min(name.get_fontsize() for name in names) >= 5         # points; what is smaller nobody reads
        if Z <= 45:                                                    # there is room for each
            assert [name.get_text() for name in names] == [str(j) for j in np.argsort(-kl, kind="stable")]


def test_the_colours_of_classes_differ_for_those_who_see_no_green_too():
    """The least of tab10's 45 distances is 7: its colours 2 and 3 are one olive."""
    apart = [looks.distance(a, b) for i, a in enumerate(plots.CLASSES) for b in plots.CLASSES[:i]]
    assert len(plots.CLASSES) == 10 and min(apart) > 30
    assert all(looks.distance(colour, "white") > 30 for colour in plots.CLASSES)


@pytest.mark.parametrize("labels", [np.array([3, 1, 3, 10]), np.array(["cat", "emu", "cat", "horse"]),
                                    np.array([0.5, 2, 0.5, 7])], ids=["whole numbers", "words", "floats"])
def test_each_image_is_drawn_as_its_class(labels, figure):
    mean = np.array([[0, 1.0], [1, 0], [2, 2], [3, 1]])
    drawn = figure(plots.latent, mean, labels, np.ones(2)).axes[0].collections[0]
    paths, colours = drawn.get_paths(), [tuple(colour) for colour in drawn.get_facecolor()]
    for path, label in zip(paths, labels.tolist()):
        assert len(path.vertices) == len(TextPath((0, 0), f"{label}".removesuffix(".0")).vertices)
        box = path.get_extents()
        assert abs(box.x0 + box.x1) < 1e-6 and abs(box.y0 + box.y1) < 1e-6     # in the middle of its point
    assert colours[0] == colours[2] and len(set(colours)) == 3
    assert np.array_equal(drawn.get_offsets(), mean)


def test_without_labels_images_are_dots_and_one_latent_is_a_histogram(figure, rng):
    axes = figure(plots.latent, rng.standard_normal((9, 3)), None, np.arange(3.0)).axes[0]
    assert "class" not in title(axes) and len(axes.collections[0].get_offsets()) == 9
    axes = figure(plots.latent, rng.standard_normal((9, 1)), np.arange(9), np.ones(1)).axes[0]
    assert sum(bar.get_height() for bar in axes.patches) == 9 and axes.get_ylabel() == "images, of 9"


def test_the_picture_of_active_units_shows_what_decides_and_where_the_limit_is(figure):
    kl, variance = np.array([0.001, 2.0, 0.5, 0.0]), np.array([0.0004, 0.9, 0.02, 0.0])
    above, below = figure(plots.kl_per_dimension, kl, variance, n=500, name="mu").axes
    assert [text.get_text() for text in above.get_legend().get_texts()] == ["active: 2", "inactive: 2"]
    assert below.get_yscale() == "log" and below.lines[-1].get_ydata()[0] == 0.01
    heights = dict(pair for line in below.lines[:-1] for pair in zip(line.get_xdata(), line.get_ydata()))
    assert heights == {0: 0.9, 1: 0.02, 2: 0.0004, 3: 1e-6} and "1e-06 or less" in title(below)
    assert "2.50 nats" in title(above) and "500 test images" in title(above)


# --- sheets ---


def shown(figure):
    """The picture on a sheet : (height, width, 3) bytes, and the middles of rows and columns that have names."""
    (axes,) = figure.axes
    return axes.images[0].get_array(), axes.get_yticks().astype(int), axes.get_xticks().astype(int)


def names_of(ticks):
    return [label.get_text() for label in ticks]


def test_colours_are_those_of_the_images(figure, rng):
    x = rng.random((6, 3 * 5 * 3))
    drawn = figure(plots.strips, x.reshape(2, 3, -1), (3, 5, 3), title="t", cuts=[1], row_names=["a", "b"],
                   column_names=["1", "2", "3"])
    sheet, rows, columns = shown(drawn)
    for i, image in enumerate(x.reshape(6, 3, 5, 3)):
        y, x = rows[i // 3], columns[i % 3]
        assert np.array_equal(sheet[y - 1 : y + 2, x - 2 : x + 3], np.rint(255 * image))


@pytest.mark.parametrize("shape", [(5, 4), (4, 9), (9, 4), (1, 7), (7, 1)])
def test_grey_images_keep_their_shape_and_are_ink_or_light(shape, figure, rng):
    H, W = shape
    x = rng.random((1, 1, H * W))
    for ink in (True, False):
        sheet, _, _ = shown(figure(plots.strips, x, shape, title="t", ink=ink))
        light = np.rint(255 * (1 - x if ink else x)).reshape(H, W, 1)
        assert np.array_equal(sheet[1:-1, 1:-1], light.repeat(3, axis=2))      # a line of one pixel around it
    assert plots.is_ink("digits") and plots.is_ink("mnist") and not plots.is_ink("/home/me/photos.npy")


@pytest.mark.parametrize("low, high, words", [
    (-1, 1, "black is \u22121, white is 1"), (0, 255, "black is 0, white is 255"), (0, 1, None), (0.2, 0.7, None)])
def test_pixels_outside_0_to_1_are_not_clipped_and_the_title_tells_the_scale(low, high, words, figure):
    x = np.linspace(low, high, 36)[None]
    for function in (plots.samples, lambda x, *rest, **options: plots.reconstructions(x, x, x, *rest, **options)):
        drawn = figure(function, x, (6, 6), ink=False)
        said = title(drawn.axes[0])
        assert words in said if words else "black" not in said
        assert len(np.unique(shown(drawn)[0][:, :, 0])) >= 36


def test_what_the_model_was_given_stands_between_where_it_is_not_the_image(figure, rng):
    x, recon = rng.random((13, 4)), rng.random((13, 4))
    given = (x > 0.5).astype(float)
    for second, names in ((given, ["test image", "given to the model,\nblack or white", "reconstruction"]),
                          (x, ["test image", "reconstruction"])):
        drawn = figure(plots.reconstructions, x, second, recon, (2, 2))
        sheet, _, _ = shown(drawn)
        assert names_of(drawn.axes[0].get_yticklabels()) == 2 * names
        rows = {"test image": x, "reconstruction": recon, "given to the model,\nblack or white": given}
        for y, (block, name) in zip(drawn.axes[0].get_yticks(), [(b, name) for b in (0, 1) for name in names]):
            for i in range(10 * block, min(13, 10 * block + 10)):
                top, left = round(y - 0.5), 1 + 3 * (i % 10)           # two pixels and a line for each image
                assert np.array_equal(sheet[top : top + 2, left : left + 2, 0],
                                      np.rint(255 * (1 - rows[name][i])).reshape(2, 2))


def test_of_colours_each_is_off_or_on(figure, rng):
    x = rng.random((2, 12))
    drawn = figure(plots.reconstructions, x, x > 0.5, x, (2, 2, 3))
    assert names_of(drawn.axes[0].get_yticklabels())[1] == "given to the model,\neach colour off or on"


@pytest.mark.parametrize("n, shape", [(1, (8, 8)), (3, (28, 28)), (40, (28, 28)), (100, (64, 20)), (40, (12, 90)),
                                      (9, (1, 2352)), (40, (99, 99)), (2000, (8, 8)), (40, (32, 32, 3))])
def test_no_sheet_is_gigantic_and_names_fit_their_rows(n, shape, tmp_path, figure, rng, monkeypatch):
    x = rng.random((n, np.prod(shape)), np.float32)
    few = x[: 4 * plots.in_a_row(shape)]                   # as many as training shows
    axes = figure(plots.reconstructions, few, few > 0.5, few, shape).axes[0]
    assert min(label.get_fontsize() for label in axes.get_yticklabels()) >= 6
    monkeypatch.undo()
    plots.samples(x, shape, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        assert max(picture.size) < 4300 and round(picture.info["dpi"][0]) == 200
        assert max(picture.size) < 2500 or n * np.prod(shape) > 80_000         # 13 inches: much is in it


def test_pictures_of_digits_are_sharp_and_weigh_little(tmp_path):
    x = load_digits().data[:100] / 16
    plots.reconstructions(x[:40], (x[:40] > 0.5).astype(float), x[:40], (8, 8), tmp_path / "a.png")
    plots.samples(x, (8, 8), tmp_path / "b.png")
    for path in tmp_path.iterdir():
        with Image.open(path) as picture:
            assert picture.width > 1200 and path.stat().st_size < 150_000


@pytest.mark.parametrize("shape", [(8, 8), (28, 28), (10, 30), (30, 10), (32, 32, 3)])
def test_the_names_above_columns_do_not_overlap(shape, figure, rng):
    """As many columns as the gallery has, and its names."""
    D, ends = np.prod(shape), ["test\nimage", "given,\nblack or\nwhite"]
    for rows, cuts, names in ((8, [2, 11], [*ends, "recon", *[""] * 7, "recon", *ends[::-1]]),
                              (30, [], [plots.number(value) for value in np.linspace(-3, 3, 11)])):
        axes = figure(plots.strips, rng.random((rows, len(names), D)), shape, "t", cuts=cuts, column_names=names,
                      row_names=["z10  KL 0.12"] * rows, above="value of z_j", marks=np.full((rows, 1), 2.5)).axes[0]
        assert min(label.get_fontsize() for label in (*axes.get_xticklabels(), *axes.get_yticklabels())) >= 6
        triangles = axes.lines[0].get_xydata()
        x, y = axes.get_xticks(), axes.get_yticks()
        assert np.allclose(triangles[:, 0], (x[2] + x[3]) / 2)
        assert np.all(triangles[:, 1] > y) and np.all(triangles[:-1, 1] < y[1:])       # y goes down


def test_the_plane_of_z_names_both_axes_with_their_unit(figure, rng):
    axes = figure(plots.manifold, rng.random((20, 20, 12)), np.linspace(-1.96, 1.96, 20), (2, 2, 3)).axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("z of latent 0 (prior std)", "z of latent 1 (prior std)")
    assert names_of(axes.get_xticklabels())[0] == "\u22121.5"


# --- the eye of these tests, on figures whose faults are known ---


def axes_with(*lines, **settings):
    """Axes of 4 x 3 inches with a line for each pair of heights and colour."""
    axes = Figure(figsize=(4, 3), layout="constrained").subplots()
    for heights, colour in lines:
        axes.plot(np.arange(len(heights)), heights, color=colour)
    axes.set(**settings)
    return axes


def test_tick_labels_that_overlap_are_found():
    crowded = axes_with(([0, 1], "k"), xticks=np.linspace(0, 1, 5), xticklabels=["a long label"] * 5)
    assert "'a long label' lies on 'a long label'" in looks.overlapping_words(crowded.figure)
    assert looks.faults(axes_with(([0, 1], "k"), xticks=[0, 1]).figure) == []


def test_words_on_a_line_are_found_and_words_beside_it_are_not():
    axes = axes_with(([0, 0], "k"))
    axes.text(0.5, 0.02, "above", ha="center")
    assert looks.crossed_words(axes.figure) == []
    axes.text(0.5, 0, "on it", ha="center", va="center")
    assert looks.crossed_words(axes.figure) == ["a line touches 'on it'"]


def test_lines_of_one_colour_for_those_who_see_no_green_are_found():
    red, olive = "#cc0000", "#5f6b00"
    assert np.linalg.norm(looks.seen(red, False) - looks.seen(olive, False)) > 50        # with green cones they differ
    assert len(looks.alike_lines(axes_with(([0, 1], red), ([1, 0], olive)).figure)) == 1
    assert looks.alike_lines(axes_with(([0, 1], "#0072b2"), ([1, 0], "#d55e00")).figure) == []
    dashed = axes_with(([0, 1], "#0072b2"), ([1, 0], "#0072b2"))
    assert looks.alike_lines(dashed.figure) == []          # of exactly one colour: they belong together


def test_colours_are_those_of_cielab():
    # the published matrices and tables have two to four digits
    assert looks.seen("white") == pytest.approx([100, 0, 0], abs=0.01)     # no cone is missed in white: rows sum to 1
    assert looks.seen("red", False) == pytest.approx([53.24, 80.09, 67.20], abs=0.01)      # as tables of sRGB have it
    assert looks.distance("red", "red") == 0
