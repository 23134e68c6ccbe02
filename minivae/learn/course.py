"""All exercises, in their order: the ladder, then the hunt."""

from minivae.learn.exercise import Exercise
from minivae.learn.hunts import HUNTS
from minivae.learn.ladder import EXERCISES


def all_exercises() -> list[Exercise]:
    """The ladder's exercises, then the hunt's."""
    return [*EXERCISES.values(), *HUNTS.values()]


def exercise_named(name: str) -> Exercise:
    """The exercise of this exact name.  Raises KeyError where there is none."""
    return (EXERCISES | HUNTS)[name]
