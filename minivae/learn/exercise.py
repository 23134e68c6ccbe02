"""What an exercise is: a file with a gap, three hints, a solution, and a grade.

An exercise knows nothing of folders, keys or processes.  Its `grade` gets the names that the
reader's file defined, calls the reader's functions and may raise whatever they raise.
"""

from __future__ import annotations

from typing import NamedTuple

from minivae.gradcheck.report import Report


class Grade(NamedTuple):
    """A verdict and a sentence.

    report holds the rows of the check; None where nothing came to be compared.
    """

    passed: bool
    sentence: str
    report: Report | None = None


class Exercise:
    """One exercise; the ladder and the hunt have a subclass each.

    Attributes
    ----------
    name : str
        As it is typed: "dense-dx".  The file is its number and its name: 02_dense_dx.py.
    title : str
        One line for the list, of 50 columns at most.
    hints : three sentences, each telling more than the one before
    """

    name: str
    title: str
    hints: tuple[str, str, str]

    def skeleton(self) -> str:
        """The file's text as it is first written, with a gap for the reader to fill."""
        raise TypeError(f"{type(self).__name__} has no skeleton")

    def solution(self) -> str:
        """The same text with the gap filled from the package's own source."""
        raise TypeError(f"{type(self).__name__} has no solution")

    def where_it_lives(self) -> str:
        """The compiled kernel, or the page, that does the same in the package: its source text."""
        raise TypeError(f"{type(self).__name__} does not say where it lives")

    def grade(self, names: dict) -> Grade:
        """Grade what the reader's file defined: its globals after it ran.

        What the reader's own functions raise goes through; the caller says it in a sentence.
        """
        raise TypeError(f"{type(self).__name__} has no grade")
