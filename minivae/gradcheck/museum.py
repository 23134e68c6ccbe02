"""The museum: plant a fault of faults.py, in memory, and see which check catches it.

The faulty function's source is taken, the line replaced, and the result put in the function's place
for as long as `planted` lasts.  No file is touched.
"""

import inspect
import textwrap
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from typing import NamedTuple

from minivae.gradcheck.faults import FAULTS, Fault
from minivae.gradcheck.report import FAIL
from minivae.gradcheck.suite import CHECKS

BY_NAME = {fault.name: fault for fault in FAULTS}
AN_ERROR = "an error"           # the row of a fault that made a check raise
TOO_SLOW = "VAE.784-400-20"     # a planted kernel runs as Python


class Catch(NamedTuple):
    """What caught a fault: the check, the array or clause, and its message.

    check is "" for a fault that was MISSED.
    """

    check: str
    row: str
    message: str


def catch(fault: Fault, seed: int = 0) -> Catch:
    """Plant the fault and run all checks but the slow one, in their order, until one fails."""
    with planted(fault):
        for name, check in CHECKS.items():
            if name == TOO_SLOW:
                continue
            try:
                report = check(seed)
            except (ValueError, RuntimeError, FloatingPointError, OverflowError) as error:
                return Catch(name, AN_ERROR, f"{type(error).__name__}: {error}")
            for row in report.rows:
                if row.verdict == FAIL:
                    return Catch(name, row.name, row.note)
    return Catch("", "", "")


def record(fault: Fault, caught: Catch) -> dict:
    """One fault and what caught it, for --json."""
    return {"fault": fault.name, "mechanism": fault.mechanism, "where": fault.where,
            "symptom": fault.symptom, **caught._asdict()}


@contextmanager
def planted(fault: Fault) -> Iterator[None]:
    """The package with the fault in it, in memory, until the block ends.

    A function's code is exchanged, so that whoever holds the function has the fault; a compiled
    kernel gives way to the faulty one in plain Python.
    """
    with ExitStack() as undo:
        for where, old, new in ((fault.where, fault.old, fault.new), *fault.also):
            holder, attribute, function = _find(where)
            names = {**function.__globals__, "kernel": lambda f: f}
            source = edited_source(where, old, new)
            exec(compile(source, f"<planted: {fault.name}>", "exec"), names)
            faulty = inspect.unwrap(names[function.__name__])
            if hasattr(vars(holder)[attribute], "py_func"):
                undo.callback(setattr, holder, attribute, vars(holder)[attribute])
                setattr(holder, attribute, faulty)
            else:
                undo.callback(setattr, function, "__code__", function.__code__)
                function.__code__ = faulty.__code__
        yield


def edited_source(where: str, old: str, new: str) -> str:
    """The function's source with `new` in the place of `old`.

    Raises ValueError unless `old` is there exactly once.
    """
    source = textwrap.dedent(inspect.getsource(_find(where)[2]))
    if source.count(old) != 1:
        raise ValueError(f"{where} has {source.count(old)} times {old!r}, wanted once")
    line = next(line for line in source.splitlines() if old in line)
    indent = line[: len(line) - len(line.lstrip())]
    return source.replace(old, f"\n{indent}".join(part.strip() for part in new.splitlines()))


def _find(where: str) -> tuple[object, str, Callable]:
    """The holder (module or class), the attribute, and the plain Python function at `where`."""
    module_name, _, path = where.partition(":")
    holder = import_module(f"minivae.{module_name}")
    *parents, attribute = path.split(".")
    for name in parents:
        holder = getattr(holder, name)
    function = vars(holder)[attribute]
    return holder, attribute, inspect.unwrap(getattr(function, "py_func", function))
