"""A sample of the hostile cases.  The whole is `python -m benchmarks.hostile`."""

import json
import os
import subprocess
import sys
from pathlib import Path

from benchmarks import hostile
from benchmarks.hostile import asked, judged
from conftest import JIT


def test_a_sample_of_hostile_cases_passes(tmp_path):
    if not JIT:                                            # minutes in place of seconds
        return
    # kinds that run in one process; of each some hundred cases at most
    command = [sys.executable, "-m", "benchmarks.hostile", "--kinds", "arguments", "resume", "downloads",
               "Python API", "--every", "45", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=Path(__file__).resolve().parents[1], capture_output=True, text=True,
                          env={**os.environ, "OPENBLAS_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "hostile.json").read_text())
    for kind, found in record["table"].items():
        assert found["cases"] >= 10 and found["failures"] == 0, (kind, found["examples"])


def test_the_table_of_the_readme_is_that_of_the_record():
    folder = Path(hostile.__file__).parent
    record = json.loads((folder / "results" / "hostile.json").read_text())
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in
            (folder / "README.md").read_text().split("## Hostile cases")[1].splitlines() if line.startswith("| ")]
    shown = {kind: (cases, failures) for kind, _, cases, failures in rows[1:]}
    assert list(shown) == [*hostile.KINDS, "all"]
    for kind, found in (record["table"] | {"all": record}).items():
        assert shown[kind] == (f"{found['cases']:,}", f"{found['failures']:,}"), kind


def test_kinds_that_are_not_run_keep_their_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(hostile, "KINDS", {"one": lambda rng: [("sound", ""), ("torn", "it is torn")],
                                           "two": lambda rng: [("sound", "")] * 3})
    monkeypatch.setattr(hostile.Run, "_draw_pictures", None)
    monkeypatch.setattr(hostile.resource, "setrlimit", lambda *_: None)
    for kind in ("two", "one"):
        hostile.main(["--kinds", kind, "--out", str(tmp_path)])
    record = json.loads((tmp_path / "hostile.json").read_text())
    assert [(kind, row["cases"], row["failures"]) for kind, row in record["table"].items()] == [("one", 2, 1),
                                                                                                ("two", 3, 0)]
    assert (record["cases"], record["failures"]) == (5, 1)
    assert record["table"]["one"]["examples"] == ["torn: it is torn"]


def test_the_judge_knows_a_failure():
    assert judged(0, "", {0}) == "" and judged(2, "minivae: no such file\n", {2}) == ""
    assert judged(-15, "", {143}) == ""                    # killed before it could say a word
    assert "exit code 70" in judged(70, "minivae: a fault of minivae itself\n", {0, 2})
    assert "2 lines" in judged(2, "RuntimeWarning: overflow\nminivae: it is infinite\n", {2})
    assert "0 lines" in judged(2, "", {2}) and "1 lines" in judged(2, "minivae: \n", {2})
    assert "does not name it" in judged(2, "minivae: no such file\n", {2}, ["--data", "a.npy"])
    assert judged(2, "minivae: --data: no such file\n", {2}, ["--data", "a.npy"]) == ""
    assert "traceback" in judged(0, "Traceback (most recent call last):\n", {0})


def test_the_judge_of_python_wants_one_line_that_names_the_argument():
    def raises(error):
        def call():
            raise error
        return asked(call, "lr")

    assert raises(ValueError("lr must be a number > 0, got -1")) == "" == asked(lambda: None, "lr")
    assert "does not name it" in raises(ValueError("clr is no rate"))      # a part of a word is no name
    assert "AttributeError" in raises(AttributeError("lr"))
    assert "no message of one line" in raises(ValueError("lr\nis wrong")) and "no message" in raises(TypeError())
    assert "a message of 402 characters" in raises(ValueError("lr" + 400 * " "))
