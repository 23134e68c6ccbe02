"""Grade one file, in a process of its own: nothing that it does can hang or harm the caller.

The child has 10 seconds, no keyboard and a limit on its memory.  What it prints is kept up to a
limit; the rest is read and thrown away.  The processes that it started end with it.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import NamedTuple

from minivae.learn.child import ANSWER, WHERE, source_line
from minivae.learn.exercise import Exercise

LIMIT = 10.0                    # seconds for one file, the start of Python included
GRACE = 2.0                     # seconds more for a child that does not stop by itself
PRINTED = 2000                  # characters of what the file prints that are kept

PACKAGES = str(Path(__file__).parents[2])
# The last on the path: where minivae is installed, its packages come before ours.
START = ("import sys; sys.path.append(sys.argv[1]); "
         "from minivae.learn.child import main; main(*sys.argv[2:])")


class Result(NamedTuple):
    """What came of grading one file.

    line and source : the line of the reader's file that the sentence is about, where there is one
    printed : what the file printed, up to a limit
    rows and table : of the check, empty where nothing came to be compared
    """

    passed: bool
    sentence: str
    line: int | None = None
    source: str = ""
    printed: str = ""
    rows: list = []
    table: str = ""


def grade_file(exercise: Exercise, file: Path, limit: float = LIMIT) -> Result:
    """Grade what the reader wrote into `file`."""
    job = {"task": "grade", "exercise": exercise.name, "file": str(file.resolve())}
    return Result(**in_child(job, [file], limit))


def in_child(job: dict, files: list[Path], limit: float) -> dict:
    """The child's answer to a job; the fields of a Result that was refused, where there is none.

    files : those of the reader that run; the child works in the folder of the first.
    printed is added to the answer.
    """
    with tempfile.TemporaryDirectory(prefix="minivae-") as exchange:
        words = [PACKAGES, exchange, json.dumps({**job, "limit": limit})]
        # -P: a file numpy.py in the folder is not taken for NumPy
        child = subprocess.Popen([sys.executable, "-P", "-B", "-X", "utf8", "-c", START, *words],
                                 cwd=files[0].parent, env=_environment(), start_new_session=True,
                                 stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                 stderr=subprocess.STDOUT, bufsize=0)
        kept = bytearray()
        reader = Thread(target=_keep_the_first, args=(child.stdout, kept), daemon=True)
        reader.start()
        try:
            with suppress(subprocess.TimeoutExpired):
                child.wait(limit + GRACE)
            code = child.returncode                    # None: it did not stop by itself
        finally:
            _end(child)
        reader.join(1)
        if not reader.is_alive():                      # else somebody still holds the other end
            child.stdout.close()
        answer = _answer(Path(exchange), files, code, limit)
    return {**answer, "printed": _readable(kept)}


def _environment() -> dict:
    """One thread for products: the arrays are small, and Python starts sooner."""
    return {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


def _keep_the_first(stream, kept: bytearray) -> None:
    """Read a stream to its end, and keep a little more than PRINTED bytes."""
    while chunk := stream.read(1 << 16):
        kept += chunk[: max(0, PRINTED + 1 - len(kept))]


def _readable(kept: bytearray) -> str:
    """What was printed, without control characters: they could clear the terminal."""
    text = bytes(kept[:PRINTED]).decode(errors="replace")
    text = re.sub(r"[^\n\t\x20-\x7e\xa0-\U0010ffff]", "?", text.replace("\r\n", "\n")).rstrip()
    return text + ("\n.. and more" if len(kept) > PRINTED else "")


def _end(child: subprocess.Popen) -> None:
    """End the child and every process that it started and left."""
    with suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg"):
            os.killpg(child.pid, signal.SIGKILL)
        else:
            child.kill()
    child.wait()


def _answer(exchange: Path, files: list[Path], code: int | None, limit: float) -> dict:
    """The answer that the child wrote, or what can be said without one."""
    with suppress(OSError, ValueError):
        return json.loads((exchange / ANSWER).read_text())
    where = ""
    with suppress(OSError):
        where = (exchange / WHERE).read_text(errors="replace")
    if "Timeout (" in where or code is None:
        said = f"it was stopped after {limit:g} s, in this line: does it ever end?"
    elif code < 0:
        said = f"Python itself was stopped by {signal.Signals(-code).name}"
    else:
        said = f"the process ended before the file was graded, with exit code {code}"
    line, source = _last_line(where, files)
    if line is None:
        said = said.replace(", in this line", "")
    return {"passed": False, "sentence": said, "line": line, "source": source}


def _last_line(where: str, files: list[Path]) -> tuple[int | None, str]:
    """The line of the reader's that ran, in the words of faulthandler.

    It lists every thread, the main one last, and in each the innermost call first.
    """
    for thread in reversed(where.split("\n\n")):
        for name, line in re.findall(r'File "(.+)", line (\d+)', thread):
            for file in files:
                if file.name == name:
                    with suppress(OSError):
                        return int(line), source_line(file.read_bytes(), int(line))
    return None, ""
