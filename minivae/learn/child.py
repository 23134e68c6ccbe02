"""The child process in which the reader's code runs.  grading.py starts it and reads its answer.

Whatever the reader's code does, the answer is a file of JSON in a folder that the parent made, or
it is missing.  Another file there, "where", gets the lines that ran when the child was stopped.
"""

from __future__ import annotations

import faulthandler
import json
import linecache
import math
import os
import re
import sys
import traceback
import types
import warnings
from contextlib import suppress
from pathlib import Path

MEMORY = 2 << 30                # bytes of address space, where the system can limit it
MESSAGE = 400                   # characters of an exception's message, at most
ANSWER, WHERE = "answer.json", "where"


def main(exchange: str, job: str) -> None:
    """Do one job and leave the answer in the folder `exchange`.  Does not return.

    job : JSON of {"task": "grade" or "finish", "limit": seconds, ..}
    """
    process, job = os.getpid(), json.loads(job)
    where = open(Path(exchange, WHERE), "w")           # stays open: it is written to at the end
    leave, os._exit = os._exit, sys.exit               # so that a call of it has a line
    faulthandler.enable(where)
    faulthandler.dump_traceback_later(job["limit"], exit=True, file=where)
    _limit_memory()
    warnings.formatwarning = _one_line
    answer = TASKS[job["task"]](job)
    if os.getpid() == process:                         # else the reader's code has forked
        Path(exchange, ANSWER).write_text(json.dumps(_plain(answer), allow_nan=False))
    with suppress(Exception):
        sys.stdout.flush()
    leave(0)                                           # does not wait for the reader's threads


def grade(job: dict) -> dict:
    """Run one file and grade it; the answer is the fields of grading.Result."""
    from minivae.learn.course import exercise_named

    path, exercise = Path(job["file"]), exercise_named(job["exercise"])
    try:
        source = path.read_bytes()
    except OSError as error:
        return {"passed": False, "sentence": f"{path.name} cannot be read: {error.strerror}"}
    try:
        passed, sentence, report = exercise.grade(names_of(path, source))
    except BaseException as error:                     # sys.exit of the reader's is one, too
        return refusal(error, {path.name: source})
    rows = [] if report is None else [row._asdict() for row in report.rows]
    table = "" if report is None else str(report)
    return {"passed": bool(passed), "sentence": sentence, "rows": rows, "table": table}


def finish(job: dict) -> dict:
    """Train the digits with the reader's functions; see digits.train."""
    from minivae.learn.digits import train

    sources, functions = {}, {}
    try:
        for name, file in job["files"].items():
            path = Path(file)
            sources[path.name] = path.read_bytes()
            functions[name] = names_of(path, sources[path.name])[name]
        return train(**functions)
    except BaseException as error:
        return refusal(error, sources)


TASKS = {"grade": grade, "finish": finish}


def names_of(path: Path, source: bytes) -> dict:
    """Run the reader's file; returns its globals.

    It is known by its name without the folder, as that is what messages should show.
    """
    module = types.ModuleType("exercise")
    module.__file__ = str(path)
    sys.modules["exercise"] = module
    lines = source.decode(errors="replace").splitlines(keepends=True)
    linecache.cache[path.name] = len(source), None, lines, path.name
    exec(compile(source, path.name, "exec"), module.__dict__)
    return vars(module)


def refusal(error: BaseException, sources: dict[str, bytes]) -> dict:
    """What is said of an exception: its message, and the line of the reader's file.

    sources : the text of each of the reader's files, by name
    """
    file, line, names = None, None, {}
    for frame, number in traceback.walk_tb(error.__traceback__):
        if frame.f_code.co_filename in sources:
            file, line, names = frame.f_code.co_filename, number, frame.f_locals
    if isinstance(error, SyntaxError) and error.filename in sources:
        file, line, names = error.filename, error.lineno, {}
    source = source_line(sources.get(file, b""), line)
    open_names = [name for name, value in names.items()
                  if value is ... and re.search(rf"\b{name}\b", source)]
    said = _in_words(error, file is not None, open_names)
    return {"passed": False, "sentence": said, "line": line, "source": source}


def _in_words(error: BaseException, is_theirs: bool, open_names: list[str]) -> str:
    """The sentence; open_names are those in the line that hold `...`, which no formula can use."""
    kind = type(error).__name__
    if isinstance(error, SystemExit):
        return "the file leaves Python here; a check goes on to call its functions"
    if isinstance(error, EOFError):
        return "this waits for input, and a check runs without a keyboard"
    if isinstance(error, MemoryError):
        return f"{kind}: a check has {MEMORY >> 30} GiB. {_message(error)}".rstrip()
    if isinstance(error, (TypeError, ValueError, AttributeError)) and open_names:
        return (f"this line needs {open_names[0]}, which is still `...`: fill in the lines from "
                "the top")
    if is_theirs or isinstance(error, SyntaxError):
        return f"{kind}: {_message(error)}".rstrip(": ")
    return f"what the file defines could not be graded: {kind}: {_message(error)}"


def source_line(source: bytes, line: int | None) -> str:
    """The text of one line of the source, without its indentation."""
    lines = source.decode(errors="replace").splitlines()
    return lines[line - 1].strip() if line and line <= len(lines) else ""


def _message(error: BaseException) -> str:
    try:
        text = error.msg if isinstance(error, SyntaxError) else str(error)
    except Exception:
        text = "its message cannot be read"
    return text if len(text) <= MESSAGE else text[:MESSAGE] + " .."


def _one_line(message, category, filename, lineno, line=None) -> str:
    """A warning in one line, without the folder."""
    return f"{Path(filename).name}, line {lineno}: {category.__name__}: {message}\n"


def _limit_memory() -> None:
    """Let an endless list end in MemoryError, before the machine runs out."""
    with suppress(ImportError, ValueError, OSError):
        import resource
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _plain(value):
    """The value as JSON has it: None for NaN and infinity, Python's numbers for NumPy's."""
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
