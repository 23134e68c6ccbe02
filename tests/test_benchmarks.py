"""The benchmarks run at a tiny setting.  Nothing is asserted about times."""

import json
import os
import subprocess
import sys
from pathlib import Path

import looks
import numpy as np
import pytest

from benchmarks import calibration, scaleout, step
from benchmarks.checkers import CHECKERS, MODELS, FlatLoss, accepts
from benchmarks.step import TARGETS
from conftest import JIT


def test_an_epoch_is_compared_round_by_round_and_the_record_keeps_every_ratio():
    """A machine that slows down from round to round changes the times and not the ratios."""
    class Slowing:
        pace = 1.0

        def ask(self, task, **_):
            self.pace *= 1.1
            return {"ms": [6 * self.pace] if task == "epoch" else [2 * self.pace] * 2}

    measured = step.compare_epoch(Slowing(), quick=False, rows=256)
    (work, found), = measured.items()
    row = step.row(work, found)
    # an epoch of 6 p beside 4 p / 1.1 before it and 4 p * 1.1 after it
    assert row["ratios"] == pytest.approx([12 / (4 / 1.1 + 4 * 1.1)] * 9, rel=1e-12)
    assert row["ratio"] == sorted(row["ratios"])[4] and "ratios" not in step.row(work, found._replace(ratios=None))


def test_the_benchmark_measures_every_row_without_its_peers(tmp_path):
    if not JIT:                                            # its pictures have 784 pixels: minutes without the JIT
        return
    command = [sys.executable, "-m", "benchmarks.step", "--quick", "--ours", "--rows", "256", "--out", str(tmp_path)]
    env = {**os.environ, "MPLBACKEND": "Agg", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=Path(__file__).resolve().parents[1], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    assert "JAX jit is left out" in done.stdout and "PyTorch eager is left out" in done.stdout
    record = json.loads((tmp_path / "step.json").read_text())
    assert [row["work"] for row in record["table"]] == list(TARGETS)
    assert all(row["ours"] > 0 for row in record["table"])
    assert record["machine"]["cores"] >= 1
    assert (tmp_path / "step.png").stat().st_size > 5000 and (tmp_path / "scaling.png").stat().st_size > 5000


def test_the_pictures_of_speed_can_be_read_where_they_are_shown():
    """The page shows step.png 838 pixels wide."""
    record = json.loads((Path(step.__file__).parent / "results" / "step.json").read_text())
    bars, lines = step.step_figure(record["ms per step"]), step.scaling_figure(record["us per image"])
    assert looks.faults(bars) == [] and looks.overlapping_words(lines) == []
    pixels_per_point = 838 / bars.get_figwidth() / 72
    assert min(text.get_fontsize() for axes in bars.axes for part in looks.texts_of(axes) for text in part
               ) * pixels_per_point > 11
    assert "less is better" in bars.get_suptitle()
    titles = [axes.get_title(loc="left") for axes in bars.axes]
    assert [t for t in titles if "400-20" in t] == [f"784-400-20, batch {n}" for n in (20, 128, 512)]
    assert [t for t in titles if "tanh" in t] == [f"784-200-200-50 tanh, batch {n}" for n in (20, 100)]
    for axes in bars.axes:
        for label, patch in zip(axes.get_yticklabels(), axes.patches):
            name = label.get_text().replace("products alone", "products")
            assert patch.get_width() == record["ms per step"][axes.get_title(loc="left")][name]


def test_the_benchmark_of_convolutions_measures_every_row_without_its_peers(tmp_path):
    if not JIT:                                            # images of 784 pixels: minutes without the JIT
        return
    command = [sys.executable, "-m", "benchmarks.conv", "--quick", "--ours", "--results", str(tmp_path)]
    env = {**os.environ, "MPLBACKEND": "Agg", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=Path(__file__).resolve().parents[1], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "conv.json").read_text())
    assert set(record["ms per step"]) == {"minivae", "products", "minivae, plain install", "products, plain install"}
    assert all(ms > 0 for ms in record["ms per step"].values()) and (tmp_path / "conv.png").stat().st_size > 5000
    # patches of a tile, not of the batch: four times the batch takes no more memory
    one, four, patches = record["memory"].values()
    assert four < 1.1 * one < 0.1 * patches


# --- how honest is the error bar ---


def test_the_true_gradient_lies_within_the_bar():
    """200 functions of another seed than the record's; at 99.9 % of some 400 entries, none is outside."""
    found = calibration.measure(200, seed=1)
    counts = calibration.summary(found["checked"])
    assert counts["functions"] == 200 and counts["within"] == counts["entries"]
    assert counts["false FAIL"] == 0 and counts["INCONCLUSIVE"] <= 4
    assert counts["fault FAILed"] >= 180
    decades = calibration.by_decade(found["checked"], "value")
    assert sum(row["functions"] for row in decades.values()) == 200 and len(decades) == 16


@pytest.mark.parametrize("name", calibration.ELEMENTARY)
def test_the_truth_is_the_derivative(name):
    """mpmath differentiates the wide function itself; float64 gives the same value to a few roundings."""
    u = calibration.mpf(0.7)
    narrow, wide, _ = calibration.ELEMENTARY[name]
    dual = calibration.elementary(name, calibration.Dual(u, 1))
    assert abs(dual.slope - calibration.mp.diff(wide, u)) < 1e-20
    assert float(dual.value) == pytest.approx(float(narrow(np.float64(0.7))), rel=1e-14)


def test_functions_that_no_difference_can_judge_stand_apart_and_say_why():
    found = calibration.measure(100, seed=2)
    assert found["drawn"] == 100 + sum(found["apart"].values()) and len(found["apart"]) >= 2


def test_the_record_is_drawn_and_shown(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["calibration", "--functions", "20", "--out", str(tmp_path)])
    calibration.main()
    record = json.loads((tmp_path / "calibration.json").read_text())
    assert calibration.line("all", record["all"]) in capsys.readouterr().out
    assert (tmp_path / "calibration.png").stat().st_size > 10_000


# --- the graders of courses ---


GRADERS = {name: check for name, (_, check) in CHECKERS.items() if "grader" in name or "CS231n" in name}


def doubled(problem):
    problem.grad = lambda flat: 2 * FlatLoss.grad(problem, flat)
    return problem


@pytest.mark.parametrize("name", GRADERS)
def test_a_grader_sees_what_its_rule_sees(name):
    """The tanh model: each accepts the right gradient, and all but TinyTorch's refuse twice the gradient."""
    model = MODELS["tanh, Bernoulli, K=3"]
    assert GRADERS[name](FlatLoss(*model))
    assert GRADERS[name](doubled(FlatLoss(*model))) == (name == "TinyTorch's grader")


def test_every_checker_gets_the_same_model():
    """A likelihood with parameters of its own is not handed from one model to the next."""
    model = MODELS["softplus, Gaussian, K=3"]
    assert (FlatLoss(*model).start == FlatLoss(*model).start).all()


def test_an_exception_counts_as_an_objection():
    assert not accepts(lambda problem: 1 / 0)


# --- more machines ---


ROW = {"net": "any", "batch": 256, "blocks": 8, "parameters": 1_000_000, "ms on 1 rank": 82.0, "ms of the update": 2.0}


def test_a_step_on_several_machines_costs_what_the_formula_says():
    network = scaleout.Network(1e-3, 1e9, "none")
    assert scaleout.step_on(1, ROW, network) == 82
    # half of the work, the update, 2 + 1 messages, and 8 MB / 2 of two nodes' slices and of its own
    assert scaleout.step_on(2, ROW, network) == pytest.approx(40 + 2 + 3 + 4)
    # 16 machines have 8 blocks: 8 of them have no work, and all send
    assert scaleout.step_on(16, ROW, network) == pytest.approx(10 + 2 + 34 + 7.5)
    free = scaleout.Network(0.0, np.inf, "none")
    assert scaleout.step_on(256, ROW, free) == scaleout.step_on(8, ROW, free) == 12


def test_the_curves_name_the_largest_gain_and_how_far_half_of_it_is_used():
    curve = scaleout.predict([ROW])[2]                    # InfiniBand
    assert curve["network"] == "InfiniBand EDR" and curve["largest"] == max(curve["speed-up"])
    assert scaleout.MACHINES[curve["speed-up"].index(curve["largest"])] == curve["largest at"] == 8
    assert curve["pays to"] == 8 and curve["speed-up"][0] == 1


def test_a_step_is_timed_without_ranks():
    found = scaleout.time_steps("784-400-20", 128, with_comm=False, quick=True)
    assert found["ms"] > 0 and found["parameters"] == 652_824


def test_the_record_of_ranks_is_what_the_program_makes_of_its_measurements():
    """The bytes were counted as they were sent; all that is predicted follows from the table."""
    record = json.loads((Path(step.__file__).parent / "results" / "scaleout.json").read_text())
    for row in record["table"]:
        assert row["bytes"] == scaleout.bytes_sent(row["parameters"], row["batch"], 2), row
        assert row["efficiency"] == row["ms on 1 rank"] / row["ms on 2 ranks"] / 2
    assert scaleout.predict(record["table"]) == record["curves"]
    assert looks.overlapping_words(scaleout.figure_of(record["curves"])) == []
