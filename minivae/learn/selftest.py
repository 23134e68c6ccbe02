"""The grader graded: skeletons are refused, solutions accepted, known faults refused by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from minivae.gradcheck.report import FAIL
from minivae.learn.exercise import Exercise, Grade
from minivae.learn.known import defined_by
from minivae.learn.ladder import EXERCISES
from minivae.learn.restated import NO_TWIN, RESTATED, faulty
from minivae.learn.verdict import has_no_pattern

# This one breaks a clause of the contract, which has no entry.
CLAUSES = {"dense-writes-upstream"}
# This one draws noise in forward: other numbers in every run, which no pattern explains.
NO_CAUSE = {"vae-noise-in-backward-only"}


class Finding(NamedTuple):
    """What the grader did with one text: a skeleton, a solution, or a solution with a fault."""

    exercise: str
    text: str           # "skeleton", "solution", or the fault's name
    well: bool          # whether the grader did what it should
    sentence: str       # what it said


def selftest() -> list[Finding]:
    """Every skeleton, every solution, every restated fault, graded."""
    found = []
    for name, exercise in EXERCISES.items():
        skeleton, solution = (_graded(exercise, text) for text in (exercise.skeleton(),
                                                                   exercise.solution()))
        found += [Finding(name, "skeleton", not skeleton.passed, skeleton.sentence),
                  Finding(name, "solution", solution.passed, solution.sentence)]
    for fault, (name, *changes) in RESTATED.items():
        grade = _graded(EXERCISES[name], faulty(EXERCISES[name].solution(), *changes))
        found.append(Finding(name, fault, _refused_for_a_reason(grade, fault), grade.sentence))
    return found


def run(show: Callable[[str], None]) -> bool:
    """Show the findings, a line for each exercise; True where all is well."""
    found = selftest()
    for name in EXERCISES:
        of_it = [finding for finding in found if finding.exercise == name]
        faults = len(of_it) - 2
        well = sum(finding.well for finding in of_it[2:])
        skeleton = "refused" if of_it[0].well else "NOT REFUSED"
        solution = "accepted" if of_it[1].well else "NOT ACCEPTED"
        show(f"{name:15} skeleton {skeleton}, solution {solution}"
             + (f", faults refused {well}/{faults}" if faults else ""))
    for finding in found:
        if not finding.well:
            show(f"WRONG  {finding.exercise}, {finding.text}: {finding.sentence}")
    faults = sum(finding.text in RESTATED for finding in found)
    show(f"{len(EXERCISES)} exercises, {faults} known faults; {len(NO_TWIN)} more faults of the "
         "museum")
    show("cannot be made in an exercise.")
    wrong = sum(not finding.well for finding in found)
    show(f"The grader was wrong {wrong} times." if wrong else "The grader is right every time.")
    return not wrong


def _graded(exercise: Exercise, text: str) -> Grade:
    return exercise.grade(defined_by(text))


def _refused_for_a_reason(grade: Grade, fault: str) -> bool:
    """Refused, with the row and the entry, and a suspect."""
    if grade.passed or grade.report is None:
        return False
    row = grade.report.worst
    in_place = row.verdict == FAIL and (row.index is not None or fault in CLAUSES)
    named = (not has_no_pattern(grade.report) or "known mistake" in grade.sentence
             or "draw its own noise" in grade.sentence)
    return in_place and (named or fault in NO_CAUSE)
