"""The pictures of training: what their titles claim, and that they can be read; and how that is told."""

import looks
import numpy as np
import pytest
from matplotlib.figure import Figure

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
    assert looks.seen("white") == pytest.approx([100, 0, 0], abs=0.01)     # no cone is missed in white: rows sum to 1
    assert looks.seen("red", False) == pytest.approx([53.24, 80.09, 67.20], abs=0.01)      # as tables of sRGB have it
    assert looks.distance("red", "red") == 0
