"""Find the fault: every answer is graded, every level is what it says, and every number shown is a real one."""

import re
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from conftest import JIT

from minivae.gradcheck.museum import edited_source, planted
from minivae.gradcheck.report import FAIL
from minivae.gradcheck.suite import CHECKS, DISCRETE_VAES, LAYERS, VAES
from minivae.learn import curves, record
from minivae.learn.excerpts import excerpt, page, source_of
from minivae.learn.excerpts import planted as text_with_fault
from minivae.learn.hunt import HIDDEN, recorded
from minivae.learn.hunts import HUNTS

hunts = pytest.mark.parametrize("hunt", HUNTS.values(), ids=HUNTS)
# planted faults overflow as they please
overflows = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def failing(name: str) -> set[str]:
    """The kinds of the rows that fail: array (finite differences), clause (of the contract) or claim."""
    return {"array" if row.index is not None else "clause" if row.shape == () else "claim"
            for row in CHECKS[name](0).rows if row.verdict == FAIL}


# --- the file ---


def test_there_are_enough_in_three_levels():
    levels = [hunt.level for hunt in HUNTS.values()]
    assert len(HUNTS) >= 15 and levels == sorted(levels) and min(map(levels.count, (1, 2, 3))) >= 5
    assert set(recorded()) == set(HUNTS)
    for name, hunt in HUNTS.items():
        assert hunt.name == name and re.fullmatch("[a-z-]+", name) and len(hunt.title) <= 50


@hunts
def test_the_code_differs_from_the_package_in_the_faulty_lines_alone(hunt):
    lines = hunt.skeleton().split("\n")
    restored = [hunt.faulty.get(i, line.strip()) for i, line in enumerate(lines, 1)]
    restored = [line for i, line in enumerate(restored, 1) if not (i in hunt.faulty and line == "")]
    right = excerpt(page(hunt.module), hunt.shown)
    wanted = [line.strip() for line in right.split("\n")]
    assert restored[-len(wanted):] == wanted
    assert 1 <= len(hunt.faulty) <= 2
    assert all(hunt.faulty[i] != lines[i - 1].strip() for i in hunt.faulty)


@hunts
def test_a_fault_is_planted_as_the_museum_plants_it(hunt):
    for where, old, new in hunt.edits:
        path = where.split(":")[1]
        function = textwrap.indent(edited_source(where, old, new), "    " if "." in path else "")
        assert function in text_with_fault(page(hunt.module), path, old, new)


@hunts
def test_nothing_but_its_mathematics_marks_the_faulty_line(hunt):
    text = hunt.skeleton()
    story, code = text.split('"""\n', 1)
    assert all(len(line) <= 80 and line.isascii() for line in story.split("\n"))
    assert 40 <= len(code.split("\n")) <= 155 and all(len(line) <= 100 for line in code.split("\n"))
    for i in hunt.faulty:
        line = text.split("\n")[i - 1]
        assert "#" not in line and ";" not in line and "  " not in line.strip() and not line.endswith(" ")
    assert HIDDEN in story and hunt.fault.name not in text and hunt.fault.mechanism not in story
    assert hunt.note not in " ".join(story.split())


def test_every_file_runs_as_it_is_and_grading_loads_no_numba(tmp_path):
    code = ("import sys, time; from minivae.learn.hunts import HUNTS; longest = 0\n"
            "for hunt in HUNTS.values():\n"
            "    start = time.perf_counter(); names = {}\n"
            "    exec(compile(hunt.skeleton(), hunt.name, 'exec'), names)\n"
            "    assert names['LINE'] is None and not hunt.grade(names).passed\n"
            "    assert not hunt.grade({'LINE': 9}).passed\n"
            "    longest = max(longest, time.perf_counter() - start)\n"
            "print('numba' in sys.modules, longest < 1)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


@hunts
def test_the_solution_passes_and_shows_the_right_line(hunt):
    names = {}
    exec(compile(hunt.solution(), hunt.name, "exec"), names)
    assert hunt.grade(names).passed
    before, after = hunt.solution().split("# %% The answer")
    assert re.sub("LINE = .*", "", before).rstrip() == re.sub("LINE = .*", "", hunt.skeleton()).rstrip()
    for i, right in hunt.faulty.items():
        assert (f"Line {i} should read\n#     {right}" if right else f"Line {i} should not be there") in after
        assert right in hunt.where_it_lives()
    assert source_of(hunt.fault.where) in hunt.where_it_lives()


# --- the grade ---


@hunts
def test_the_faulty_lines_pass_and_no_other(hunt):
    assert not hunt.grade({"LINE": None}).passed and not hunt.grade({}).passed
    lines = hunt.skeleton().split("\n")
    for i in range(1, len(lines) + 1):
        passed, sentence, report = hunt.grade({"LINE": i})
        assert passed == (i in hunt.faulty) == (report is not None), (i, sentence)
        if passed:
            assert hunt.faulty[i] in sentence and hunt.note in sentence and hunt.fault.mechanism in sentence
            assert HIDDEN not in str(report) and not report.ok
        else:
            assert all(i == wrong or str(wrong) not in sentence.split() for wrong in hunt.faulty)
            nearer = "below" if "Look in a function below" in sentence or "Look below" in sentence else "above"
            assert any((wrong > i) == (nearer == "below") for wrong in hunt.faulty)


@pytest.mark.parametrize("line, sentence", [
    ("12", "LINE is '12': it must be a whole number"), (3.0, "LINE is 3.0: it must be a whole number"),
    (True, "must be a whole number"), (0, "LINE is 0, and this file has"), (-4, "LINE is -4"), (10**9, "this file has"),
    ([1], "must be a whole number"), (1, "it is in no function.  Look below")])
def test_an_answer_that_is_no_line_gets_a_sentence(line, sentence):
    grade = HUNTS["dying-units"].grade({"LINE": line})
    assert not grade.passed and sentence in grade.sentence and "\n" not in grade.sentence


def test_the_way_to_the_line():
    hunt = HUNTS["company"]                                # two faulty lines, in kl and in kl_backward
    lines = hunt.skeleton().split("\n")

    def said(text: str, nth: int = 0) -> str:
        return hunt.grade({"LINE": [i for i, line in enumerate(lines, 1) if text in line][nth]}).sentence

    assert "GaussianLatent.sample is right.  Look in a function below" in said("kernels.sample_forward")
    assert "but GaussianLatent.kl is the faulty function.  Look below" in said("kernels.kl_forward")
    assert "but GaussianLatent.kl_backward is the faulty function.  Look below" in said('self._take("kl")')
    assert "GaussianLatent.log_q is right.  Look in a function above" in said("kernels.log_q_forward")
    adam = HUNTS["slow-start"]
    assert "a line of the faulty statement.  Look above" in adam.grade({"LINE": max(adam.faulty) + 1}).sentence


@hunts
def test_lines_that_the_reader_put_in_are_reckoned_with(hunt, tmp_path):
    lines, wrong = hunt.skeleton().split("\n"), max(hunt.faulty)
    at = next(i for i, line in enumerate(lines) if line.startswith("LINE"))
    lines[at: at + 1] = ["# I think that it is here:", f"LINE = {wrong + 3}", "import math", ""]
    path = tmp_path / "hunt.py"
    path.write_text("\n".join(lines))
    names = {"__file__": str(path)}
    assert hunt.grade({**names, "LINE": wrong + 3}).passed
    assert not hunt.grade({**names, "LINE": wrong}).passed
    assert "you wrote yourself" in hunt.grade({**names, "LINE": at + 3}).sentence
    lines[wrong + 2] = "    # mended"                      # who has mended the line may still name it
    path.write_text("\n".join(lines))
    assert hunt.grade({**names, "LINE": wrong + 3}).passed


@hunts
def test_the_hints_tell_more_and_more_but_no_number(hunt):
    where, quantity, lines = hunt.hints
    assert hunt.fault.where.split(":")[1] in where and hunt.note in quantity
    candidates = lines.removeprefix("It is one of these: ").split("; or ")
    text = [line.strip() for line in hunt.skeleton().split("\n")]
    assert len(candidates) == 3 and len(set(candidates)) == 3 and set(candidates) <= set(text)
    assert sum(text[i - 1] in candidates for i in hunt.faulty) == 1
    for hint in (where, quantity, lines):
        assert not any(re.search(rf"\b{i}\b", hint) for i in hunt.faulty)


# --- the levels ---


@pytest.mark.gradients
@overflows
@hunts
def test_the_level_is_the_first_kind_of_check_that_sees_it(hunt):
    with planted(hunt.fault):
        seen = failing(hunt.check)
        if hunt.level == 1:
            assert "array" in seen
            return
        assert seen == {"clause" if hunt.level == 2 else "claim"}
        for name in {**LAYERS, **VAES, **DISCRETE_VAES}:   # no finite difference sees it, of whatever node or model
            kinds = failing(name)
            assert "array" not in kinds and (hunt.level == 2 or "clause" not in kinds), name


# --- what is shown was measured ---


@pytest.mark.gradients
@overflows
@hunts
def test_the_report_is_what_the_check_says(hunt):
    now, shown = record.checked(hunt), hunt.report(hidden=False)
    assert (now.title, len(now.rows)) == (shown.title, len(shown.rows))
    for a, b in zip(now.rows, shown.rows):
        assert (a.name, a.shape, a.verdict, a.note) == (b.name, b.shape, b.verdict, b.note)
        if a.index == b.index and a.verdict == FAIL:       # of entries that pass, rounding may choose another as worst
            np.testing.assert_allclose([a.analytic, a.numeric], [b.analytic, b.numeric], rtol=1e-6, atol=1e-9)


@pytest.mark.gradients
@pytest.mark.parametrize("name", ["dying-units", "sharp-likelihood", "encoder-at-rest"])
def test_the_curves_are_what_training_gives(name):
    images, kept = record.digits(), recorded()[name]
    run = HUNTS[name].run._replace(epochs=12 if JIT else 1)            # minutes without
    # rounding differs from one processor to another, and 900 steps of Adam make more of it
    np.testing.assert_allclose(record.curve(run, images), kept["right"][: run.epochs], rtol=1e-4)
    with planted(HUNTS[name].fault):
        np.testing.assert_allclose(record.curve(run, images), kept["wrong"][: run.epochs], rtol=1e-4)


def test_a_curve_that_stops_and_one_that_meets_the_other_are_drawn():
    right, wrong = [[4.0, 3.0, 1.0], [2.0, 1.5, 0.5], [1.0, 0.5, 0.5]], [[4.0, 3.0, 1.0]]
    drawn = curves.picture(right, wrong).split("\n")
    assert "*" in drawn[0] and "o" in drawn[curves.HEIGHT - 1] and drawn[0].startswith("   4.00")
    assert "stopped" in curves.table(right, wrong).split("\n")[-1]
