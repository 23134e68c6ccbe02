"""`minivae learn`: the folder, the child process that grades, the watcher, the commands, the training at the end."""

import json
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from minivae import first
from minivae.app.cli import main
from minivae.learn import digits, finish, show
from minivae.learn.course import all_exercises
from minivae.learn.files import BEGUN, CHANGED, NEW, PASSED, Folder, Progress
from minivae.learn.grading import PRINTED, grade_file, in_child

ROOT = Path(__file__).parents[1]
ALL = all_exercises()
BIAS = ALL[0]
GAP = "db = ..."                             # in the first file
LINE = BIAS.skeleton().split(GAP)[0].count("\n") + 1


@pytest.fixture
def folder(tmp_path):
    made = Folder(tmp_path / "learn", ALL)
    made.write()
    return made


def solve(folder, *exercises):
    for exercise in exercises:
        folder.file(exercise).write_text(exercise.solution())


def fill(folder, line):
    """Write one line, or more, into the gap of the first file."""
    folder.file(BIAS).write_text(BIAS.skeleton().replace(GAP, line.replace("\n", "\n    ")))


def environment(**more):
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": paths, **more}


def learn(*words, **options):
    """The command without a terminal."""
    return subprocess.run([sys.executable, "-m", "minivae", "learn", *map(str, words)], capture_output=True, text=True,
                          timeout=60, env=environment(), stdin=subprocess.DEVNULL, **options)


# --- the folder ---


def test_every_exercise_gets_a_file_of_its_own(folder):
    names = [path.name for path in sorted(folder.path.iterdir())]
    assert names == [folder.file(exercise).name for exercise in ALL] and names[0] == "01_bias.py"
    assert len({exercise.name for exercise in ALL}) == len(ALL) >= 35
    assert [folder.file(one).read_text() for one in ALL] == [one.skeleton() for one in ALL]


def test_a_file_of_the_readers_is_written_over_by_reset_alone(folder):
    folder.file(BIAS).write_text("mine")
    (folder.path / "notes.txt").write_text("mine, too")
    folder.file(ALL[1]).unlink()
    assert folder.write() == [folder.file(ALL[1])]
    assert folder.file(BIAS).read_text() == "mine" and (folder.path / "notes.txt").read_text() == "mine, too"
    folder.reset(BIAS)
    assert folder.file(BIAS).read_text() == BIAS.skeleton() and folder.state(BIAS) == NEW


def test_a_folder_that_is_not_ours_is_refused_unless_it_is_empty(tmp_path):
    (tmp_path / ".git").mkdir()                              # hidden files do not count
    assert len(Folder(tmp_path, ALL).write()) == len(ALL)
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").write_text("")
    for call in (Folder(other, ALL).write, Folder(other, ALL).check_is_there):
        with pytest.raises(ValueError, match=r"holds other files \(thesis.tex\) and no exercise: name a new"):
            call()
    assert os.listdir(other) == ["thesis.tex"]
    with pytest.raises(ValueError, match="is a file; name a folder"):
        Folder(other / "thesis.tex", ALL).write()


@pytest.mark.parametrize("name", ["2", "02", "dense-dx", "dense_dx", "02_dense_dx.py", "learn/02_dense_dx.py",
                                  "Dense-dX"])
def test_an_exercise_is_found_by_number_name_and_file(folder, name):
    assert folder.find(name) is ALL[1]


@pytest.mark.parametrize("name, said", [("dense-xd", "did you mean 'dense-dx'"), ("0", "1 to"), ("999", "1 to"),
                                        ("quux", "1 to")])
def test_an_unknown_name_gets_the_nearest_one(folder, name, said):
    with pytest.raises(ValueError, match=said):
        folder.find(name)


def test_progress_holds_the_file_that_passed(folder):
    assert folder.state(BIAS) == NEW
    solve(folder, BIAS)
    assert folder.state(BIAS) == BEGUN and folder.ungraded() == [BIAS]
    folder.note(BIAS, passed=folder.digest(BIAS), hints=2)
    assert folder.state(BIAS) == PASSED and folder.ungraded() == []
    fill(folder, "db = dy.mean(axis=0)")
    assert folder.state(BIAS) == CHANGED and folder.ungraded() == [BIAS]
    solve(folder, BIAS)
    assert folder.state(BIAS) == PASSED and folder.progress(BIAS).hints == 2
    folder.file(BIAS).unlink()
    assert folder.state(BIAS) == CHANGED


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"format": 2}', '{"format": 1, "exercises": {"bias": 3}}',
                                  '{"format": 1, "exercises": {"bias": {"hints": "x"}}}', "\0\xff"])
def test_a_damaged_progress_file_is_put_aside_and_all_is_graded_again(folder, text):
    solve(folder, BIAS)
    (folder.path / "progress.json").write_text(text)
    with pytest.warns(UserWarning, match="was damaged and is now progress.damaged.json"):
        assert folder.progress(BIAS) == Progress()
    assert folder.ungraded() == [BIAS]
    assert (folder.path / "progress.damaged.json").read_text() == text
    assert "[x] bias" in learn("status", "--dir", folder.path).stdout


# --- the child ---


HOSTILE = {
    "open": (GAP, None, "db is still open"),
    "wrong": ("db = dy.mean(axis=0)", None, "all 6 entries"),
    "NaN": ("db = dy.sum(axis=0) * np.nan", None, "NaN"),
    "shape": ("db = dy", None, "shape (5, 6) and should have (6,)"),
    "type": ("db = 'a'", None, "a str and should be an array"),
    "raises": ("db = dy @ dy", LINE, "ValueError: matmul"),
    "needs a gap": ("db = dW.sum(axis=0)", LINE, "this line needs dW, which is still `...`"),
    "divides": ("1 / 0", LINE, "ZeroDivisionError: division by zero"),
    "syntax": ("db = (dy", LINE, "SyntaxError: '(' was never closed"),
    "indent": ("if True:\npass", LINE + 1, "IndentationError"),
    "name": ("db = nope", LINE, "NameError: name 'nope' is not defined"),
    "recursion": ("return dense_backward(x, W, dy)", LINE, "RecursionError"),
    "exit": ("raise SystemExit", LINE, "leaves Python here"),
    "sys.exit": ("import sys\nsys.exit(0)", LINE + 1, "leaves Python here"),
    "os._exit": ("import os\nos._exit(0)", LINE + 1, "leaves Python here"),
    "input": ("db = float(input('db? '))", LINE, "a check runs without a keyboard"),
    "interrupt": ("raise KeyboardInterrupt", LINE, "KeyboardInterrupt"),
    "memory at once": ("db = np.zeros(10**12)", LINE, "MemoryError: a check has 2 GiB"),
    "memory by and by": ("a = []\nwhile True: a.append(bytes(10**7))", LINE + 1, "MemoryError: a check has 2 GiB"),
    "segfault": ("import ctypes\nctypes.string_at(0)", LINE + 1, "stopped by SIGSEGV"),
    "kill": ("import os\nos.kill(os.getpid(), 9)", None, "stopped by SIGKILL"),
    "unreadable message": ("class E(Exception):\n    def __str__(self): 1 / 0\nraise E", LINE + 2, "E: its message"),
    "long message": ("raise ValueError('no ' * 10**6)", LINE, "no no no"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_wrong_file_gets_its_line_and_a_sentence(folder, case):
    text, line, said = HOSTILE[case]
    fill(folder, text)
    found = grade_file(BIAS, folder.file(BIAS))
    assert not found.passed and found.line == line and said in found.sentence, found
    assert "Traceback" not in found.printed + found.sentence and len(found.sentence) < 500
    if line:
        assert found.source == folder.file(BIAS).read_text().splitlines()[line - 1].strip()
    printed = show.result(folder, BIAS, found)
    assert max(map(len, printed.splitlines())) <= 80, printed


ENDLESS = {
    "loop": ("while True:\n    pass", [LINE, LINE + 1]),
    "in C": ("sum(range(10**12))", [LINE]),
    "asleep": ("import time\ntime.sleep(1000)", [LINE + 1]),
    "beside a thread": ("import threading\ndef spin():\n    while True: pass\nthreading.Thread(target=spin).start()\n"
                        "while True: dy", [LINE + 4]),
    "printing": ("while True: print('x' * 10**4)", [LINE]),
    "nothing can stop it": ("import faulthandler, signal\nfaulthandler.cancel_dump_traceback_later()\n"
                            "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nwhile True: pass", [None]),
}


@pytest.mark.parametrize("case", ENDLESS)
def test_an_endless_file_is_stopped_and_its_line_is_named(folder, case):
    text, lines = ENDLESS[case]
    fill(folder, text)
    start = time.monotonic()
    found = grade_file(BIAS, folder.file(BIAS), limit=3)
    assert time.monotonic() - start < 12
    assert not found.passed and found.line in lines and "stopped after 3 s" in found.sentence, found


@pytest.mark.parametrize("content, line, said", [
    (b"", None, "does not define dense_forward"), (b"x = 1\0", None, "null bytes"), (b"x = '\xff'", 1, "utf-8"),
    (b"1 / 0", 1, "ZeroDivisionError"), (b"import nope", 1, "ModuleNotFoundError"), (b"(" * 300, 1, "SyntaxError")])
def test_what_goes_wrong_before_a_function_is_called(folder, content, line, said):
    folder.file(BIAS).write_bytes(content)
    found = grade_file(BIAS, folder.file(BIAS))
    assert not found.passed and found.line == line and said in found.sentence, found


def test_a_file_that_is_not_there_or_is_a_folder_gets_a_sentence(folder):
    folder.file(BIAS).unlink()
    assert grade_file(BIAS, folder.file(BIAS)).sentence == "01_bias.py cannot be read: No such file or directory"
    folder.file(BIAS).mkdir()
    assert "Is a directory" in grade_file(BIAS, folder.file(BIAS)).sentence


@pytest.mark.parametrize("extra", [
    "import threading, time\nthreading.Thread(target=time.sleep, args=(60,)).start()",
    "import os, time\nos.fork() or time.sleep(60)",
    "import os\nos.fork()",
    "import sys\nsys.stdout.close()\nsys.stderr = None",
    "import os\nos.close(1)\nos.close(2)",
    "import os\nos.chdir('/')"], ids=["thread", "fork that sleeps", "fork", "closed", "closed below", "chdir"])
def test_a_right_file_passes_whatever_else_it_does(folder, extra):
    folder.file(BIAS).write_text(extra + "\n" + BIAS.solution())
    start = time.monotonic()
    found = grade_file(BIAS, folder.file(BIAS))
    assert found.passed and time.monotonic() - start < 9, found


def test_children_left_behind_end_with_the_check(folder):
    forks = "import os, time\npid = os.fork()\nif pid == 0:\n    time.sleep(60)\nprint(pid)\n"
    folder.file(BIAS).write_text(forks + BIAS.solution())
    assert is_over(int(grade_file(BIAS, folder.file(BIAS)).printed))


def is_over(pid):
    """Whether a process has ended, within two seconds; one that nobody has waited for has ended."""
    for _ in range(40):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.05)
    return False


def test_what_a_file_prints_is_shown_up_to_a_limit_and_without_control_characters(folder):
    fill(folder, "db = dy.sum(axis=0)\nprint('dy is', dy.shape, '\\033[2J')\nprint('x' * 10**7)")
    found = grade_file(BIAS, folder.file(BIAS))
    assert found.passed and found.printed.startswith("dy is (5, 6) ?[2J\nxxx")
    assert len(found.printed) < PRINTED + 20 and found.printed.endswith("\n.. and more")
    assert max(map(len, show.result(folder, BIAS, found).splitlines())) <= 80


def test_a_warning_is_shown_with_its_line(folder):
    fill(folder, "db = dy / np.zeros(6)")
    assert f"01_bias.py, line {LINE}: RuntimeWarning: divide by zero" in grade_file(BIAS, folder.file(BIAS)).printed


def test_a_file_called_numpy_is_not_taken_for_numpy(folder):
    (folder.path / "numpy.py").write_text("1 / 0")
    solve(folder, BIAS)
    assert grade_file(BIAS, folder.file(BIAS)).passed


def test_a_check_loads_no_numba_and_takes_under_a_second(folder):
    fill(folder, "db = dy.sum(axis=0)\nimport sys\n"
                 "print([m for m in ('numba', 'scipy', 'matplotlib') if m in sys.modules])")
    assert grade_file(BIAS, folder.file(BIAS)).printed.startswith("[]\n[]")
    # of the processor, and not of the clock: other tests may be running; parent and child together
    before = os.times()
    assert learn("check", "bias", "--dir", folder.path).returncode == 0
    after = os.times()
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    assert 0 < spent < 1, spent
    code = "import sys, minivae.app.learn; print([m for m in ('numba', 'matplotlib') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                          env=environment()).stdout == "[]\n"


# --- killed ---


def test_a_write_that_is_killed_leaves_whole_files(tmp_path):
    target, numbers = tmp_path / "learn", []
    for i in range(4):
        child = subprocess.Popen([sys.executable, "-m", "minivae", "learn", "--once", "--dir", str(target)],
                                 env=environment(), stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
        while child.poll() is None and len(list(target.glob("*.py"))) <= 10 * i:
            time.sleep(0.001)
        child.kill()
        child.wait()
        whole = {exercise.skeleton() for exercise in ALL}
        assert all(path.read_text() in whole for path in target.glob("*.py"))
        numbers.append(len(list(target.glob("*.py"))))
    assert numbers == sorted(numbers) and 0 < numbers[0] < len(ALL)
    assert learn("--once", "--dir", target).returncode == 0
    assert len(list(target.glob("*.py"))) == len(ALL) and not list(target.glob(".*"))


def test_a_check_that_is_killed_loses_nothing_and_leaves_no_child(folder):
    solve(folder, ALL[1])
    assert learn("check", "2", "--dir", folder.path).returncode == 0
    fill(folder, "import os\nopen('pid', 'w').write(str(os.getpid()))\nwhile True: pass")
    before = {path: path.read_bytes() for path in folder.path.iterdir()}
    code = ("import sys; from pathlib import Path; from minivae.learn.course import all_exercises; "
            "from minivae.learn.grading import grade_file; grade_file(all_exercises()[0], Path(sys.argv[1]), limit=3)")
    parent = subprocess.Popen([sys.executable, "-c", code, folder.file(BIAS)], env=environment())
    pid = folder.path / "pid"
    while not (pid.exists() and pid.read_text()):
        time.sleep(0.01)
    parent.kill()
    parent.wait()
    assert {path: path.read_bytes() for path in folder.path.iterdir() if path != pid} == before
    assert folder.state(ALL[1]) == PASSED
    time.sleep(3)                                          # its own limit
    assert is_over(int(pid.read_text()))


# --- the commands ---


def test_once_writes_the_folder_grades_one_and_prints(tmp_path):
    done = learn(cwd=tmp_path)                             # without a terminal it is as with --once
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert f"wrote {len(ALL)} exercises into\n   minivae-learn\n" in done.stdout
    assert "NOT YET  01_bias.py" in done.stdout and f"0 of {len(ALL)} passed" in done.stdout
    assert "\033" not in done.stdout and max(map(len, done.stdout.splitlines())) <= 80
    solve(Folder(tmp_path / "minivae-learn", ALL), BIAS)
    again = learn("--once", cwd=tmp_path).stdout           # what was written meanwhile is graded, then the next
    assert "wrote" not in again and "NOT YET  02_dense_dx.py" in again and f"1 of {len(ALL)} passed" in again


def test_check_gives_0_or_1_and_says_what_it_checked(folder, capsys):
    where = ["--dir", str(folder.path)]
    assert main(["learn", "check", *where]) == 1 and "begun: none yet" in capsys.readouterr().out
    assert main(["learn", "check", "bias", *where]) == 1 and "still open" in capsys.readouterr().out
    solve(folder, BIAS)
    assert main(["learn", "check", "1", *where]) == 0 and "PASSED  01_bias.py" in capsys.readouterr().out
    folder.file(ALL[1]).write_text("1 / 0")
    assert main(["learn", "check", *where]) == 1
    out = capsys.readouterr().out
    assert "begun: bias, dense-dx" in out and "NOT YET  02_dense_dx.py, line 1\n    1 / 0\n  ZeroDivisionError" in out


def test_json_can_be_parsed_and_holds_the_rows(folder):
    fill(folder, "db = dy.sum(axis=0) * np.nan")
    folder.file(ALL[1]).write_text(ALL[1].solution().replace("dx = dy @ W.T", "dx = -dy @ W.T"))
    done = learn("check", "--json", "--dir", folder.path)
    assert done.returncode == 1
    nan, negated = json.loads(done.stdout, parse_constant=pytest.fail)     # no NaN: it is not JSON
    assert nan["exercise"] == "bias" and "NaN" in nan["sentence"] and not nan["passed"]
    assert nan["rows"][0]["analytic"] is None
    row = next(row for row in negated["rows"] if row["verdict"] == "FAIL")
    assert row["name"] == "x" and row["analytic"] == pytest.approx(-row["numeric"])
    assert row["index"] and all(isinstance(i, int) for i in row["index"])


def test_status_grades_what_has_changed(folder):
    where = ["--dir", folder.path]
    solve(folder, BIAS, ALL[1])
    out = learn("status", *where).stdout
    assert "grading 01_bias.py" in out and "1 [x] bias" in out and "2 [x] dense-dx" in out and "3 [ ]" in out
    assert "grading" not in learn("status", *where).stdout
    fill(folder, "db = dy.mean(axis=0)")
    out = learn("status", *where).stdout
    assert "grading 01_bias.py" in out and "1 [!] bias" in out
    folder.file(BIAS).write_text(BIAS.solution() + "\n# another right one\n")
    assert "1 [x] bias" in learn("status", *where).stdout
    (folder.path / "progress.json").unlink()
    out = learn("status", *where).stdout
    assert out.count("grading") == 2 and "1 [x] bias" in out and "2 [x] dense-dx" in out


def test_hints_come_one_after_the_other(folder, capsys):
    for number in (1, 2, 3, 3):
        assert main(["learn", "hint", "bias", "--dir", str(folder.path)]) == 0
        out = capsys.readouterr().out
        assert f"hint {number} of 3" in out
        assert " ".join(BIAS.hints[number - 1].split())[:30] in " ".join(out.split())
    assert folder.progress(BIAS).hints == 3


def test_a_solution_seen_before_a_pass_is_marked(folder, capsys):
    where = ["--dir", str(folder.path)]
    fill(folder, "db = dy.mean(axis=0)")
    assert main(["learn", "solution", "bias", *where]) == 0
    out = capsys.readouterr().out
    assert "\n-    db = dy.mean(axis=0)\n" in out and "\n+    db = dy.sum(axis=0)\n" in out and "In the package" in out
    solve(folder, BIAS, ALL[1])
    main(["learn", "check", *where])
    main(["learn", "solution", "dense-dx", *where])
    assert "line for line" in capsys.readouterr().out
    main(["learn", "status", *where])
    out = capsys.readouterr().out
    assert "1 [s] bias" in out and "2 [x] dense-dx" in out


def test_the_dir_may_stand_before_and_after_the_part(folder, capsys):
    for words in (["--dir", str(folder.path), "status"], ["status", "--dir", str(folder.path)]):
        assert main(["learn", *words]) == 0
    for part in ("check", "hint", "solution", "reset", "status", "finish"):
        name = [] if part in ("status", "finish") else ["bias"]
        assert main(["learn", part, *name, "--dir", str(folder.path / "none")]) == 2, part
        err = capsys.readouterr().err
        assert "there are no exercises in" in err and err.count("\n") == 1
    assert main(["learn", "status", "--quiet", "--dir", str(folder.path)]) == 0 and capsys.readouterr().out == ""
    assert main(["learn", "hint", "kll", "--dir", str(folder.path)]) == 2
    assert "unknown exercise 'kll': did you mean 'kl'?" in capsys.readouterr().err


@pytest.mark.parametrize("exercise", ALL, ids=lambda exercise: exercise.name)
def test_everything_shown_fits_80_columns(exercise, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = Folder("minivae-learn", ALL)
    shown = [show.heading(folder, exercise), show.solution(folder, exercise),
             *(show.hint(exercise, number) for number in (1, 2, 3))]
    assert max(len(line) for text in shown for line in text.splitlines()) <= 80
    assert len(exercise.title) <= 50 and len(exercise.hints) == 3
    assert folder.file(exercise).name.isascii() and folder.find(folder.file(exercise).name) is exercise


def test_the_selftest_covers_the_ladder_and_the_hunts(monkeypatch, capsys):
    from minivae.app import learn as commands

    assert main(["learn", "selftest"]) == 0
    assert f"{len(commands.HUNTS)} hunts" in capsys.readouterr().out
    hunt = next(iter(commands.HUNTS.values()))
    monkeypatch.setattr(type(hunt), "solution", type(hunt).skeleton)       # now none is accepted
    assert main(["learn", "selftest"]) == 1
    assert f"WRONG  {hunt.name}: skeleton passed: False, solution passed: False" in capsys.readouterr().out


# --- at a terminal ---


TAKES_THE_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)          # so that Ctrl-C there is a signal here
os.execvp("sh", ["sh", "-c", sys.argv[1]])
"""


class Terminal:
    """`minivae learn` with a terminal of its own, under a shell that can stop and go on."""

    def __init__(self, target, script="exec {}", **more):
        import pty
        import termios

        self.attributes = termios.tcgetattr
        self.screen, inside = pty.openpty()
        command = f"'{sys.executable}' -m minivae learn --dir '{target}'"
        # no pty.fork: libraries with threads that the suite has loaded, such as JAX, warn of it
        shell = [sys.executable, "-c", TAKES_THE_TERMINAL, script.replace("{}", command)]
        self.process = subprocess.Popen(shell, stdin=inside, stdout=inside, stderr=inside, start_new_session=True,
                                        env=environment(**{"TERM": "xterm", "NO_COLOR": "", **more}))
        self.pid = self.process.pid
        os.close(inside)
        self.first, self.seen = self.attributes(self.screen), ""

    def until(self, text, seconds=20):
        """What was printed up to `text`, and after the last call."""
        end = time.monotonic() + seconds
        while text not in self.seen:
            assert time.monotonic() < end, self.seen
            if select.select([self.screen], [], [], 0.1)[0]:
                with suppress(OSError):
                    self.seen += os.read(self.screen, 1 << 16).decode(errors="replace").replace("\r", "")
        before, self.seen = self.seen.split(text, 1)
        return before + text

    def press(self, key, then="q quit"):
        os.write(self.screen, key.encode())
        return self.until(then)

    def echoes(self):
        import termios

        return bool(self.attributes(self.screen)[3] & termios.ECHO)

    def end(self):
        """The exit code."""
        return self.process.wait(20)


@pytest.fixture
def watching(folder):
    terminal = Terminal(folder.path)
    yield terminal
    terminal.process.kill()
    terminal.process.wait()
    os.close(terminal.screen)


def test_a_session_with_every_key(folder, watching):
    shown = watching.until("q quit")
    assert "1. The gradient of a bias" in shown and "\033[31mNOT YET\033[0m  01_bias.py" in shown
    assert "hint 1 of 3" in watching.press("h") and "hint 2 of 3" in watching.press("h")
    assert "3 [ ] dense-dw" in watching.press("l")
    assert "checking all that are begun: 0" in watching.press("c")
    # the solution: a no, then a yes
    assert "has not passed. Open its solution" in watching.press("s", "y / n")
    assert "the solution" not in watching.press("n") and not folder.progress(BIAS).solution_seen
    watching.press("s", "y / n")
    assert "+    db = dy.sum(axis=0)" in watching.press("y") and folder.progress(BIAS).solution_seen
    # a save is seen; after a pass it stays where it is
    solve(folder, BIAS)
    shown = watching.until("q quit")
    assert "\033[32mPASSED\033[0m  01_bias.py" in shown and "n goes on" in shown and "NOT YET" not in shown
    assert "1 [s] bias" in watching.press("l")
    assert "2. A Dense layer" in watching.press("n")
    # another file that is saved becomes the current one
    fill(folder, "db = dy.mean(axis=0)")
    shown = watching.until("q quit")
    assert "1. The gradient of a bias" in shown and "entries" in shown
    # reset asks: a no, then a yes
    watching.press("x", "y / n")
    watching.press("n")
    assert "mean" in folder.file(BIAS).read_text()
    watching.press("x", "y / n")
    assert "is as it was at first" in watching.press("y") and folder.file(BIAS).read_text() == BIAS.skeleton()
    assert not watching.echoes()
    os.write(watching.screen, b"q")
    assert watching.end() == 0 and watching.attributes(watching.screen) == watching.first


@pytest.mark.parametrize("stop, code", [
    (lambda terminal: os.write(terminal.screen, b"\x03"), 130),
    (lambda terminal: os.kill(terminal.pid, signal.SIGTERM), 143),
    (lambda terminal: os.write(terminal.screen, b"\x04q"), 0)], ids=["Ctrl-C", "SIGTERM", "q"])
def test_the_terminal_is_as_it_was_on_every_way_out(watching, stop, code):
    watching.until("q quit")
    assert not watching.echoes()
    stop(watching)
    assert watching.end() == code and watching.echoes() and watching.attributes(watching.screen) == watching.first


def test_ctrl_z_gives_the_terminal_back_and_fg_takes_it_again(folder):
    terminal = Terminal(folder.path, "set -m; {}; echo STOPPED; read line; fg; echo OVER", PS1="")
    terminal.until("q quit")
    os.write(terminal.screen, b"\x1a")
    terminal.until("STOPPED")
    assert terminal.echoes()
    os.write(terminal.screen, b"go on\n")
    while terminal.echoes():
        time.sleep(0.01)
    assert "3 [ ] dense-dw" in terminal.press("l") and not terminal.echoes()
    os.write(terminal.screen, b"q")
    terminal.until("OVER")
    assert terminal.echoes() and terminal.end() == 0
    os.close(terminal.screen)


def test_no_color_is_honoured(folder):
    terminal = Terminal(folder.path, NO_COLOR="1")
    assert "\033" not in terminal.until("q quit")
    os.write(terminal.screen, b"q")
    terminal.end()
    os.close(terminal.screen)


def test_reset_and_solution_ask_at_a_terminal(folder):
    solve(folder, BIAS)
    for answer, kept in (("n", True), ("y", False)):
        terminal = Terminal(folder.path, "exec {} reset bias")
        terminal.until("y / n")
        os.write(terminal.screen, f"{answer}\n".encode())
        assert terminal.end() == kept                      # 1 where nothing was done
        assert (folder.file(BIAS).read_text() == BIAS.solution()) == kept
        os.close(terminal.screen)


# --- the training at the end ---


def page_0_and_adam():
    return [exercise for exercise in ALL if exercise.name in finish.EXERCISES.values()]


def test_finish_trains_with_the_readers_functions_and_agrees(folder, capsys):
    solve(folder, *page_0_and_adam())
    # its own way of writing the same: the sums in another order
    whole = folder.file(page_0_and_adam()[0])
    text = whole.read_text().replace("dmu = dmu + dkl[:, None] * mu", "dmu = dkl[:, None] * mu + 1 * dmu")
    whole.write_text(text + "\nprint('mine')\n")
    assert main(["learn", "finish", "--dir", str(folder.path)]) == 0
    out = capsys.readouterr().out
    assert "backward  yours, 17_page_0.py" in out and "adam      yours, 27_adam.py" in out
    assert "They agree to rounding" in out and "finish.png" in out
    assert (folder.path / "finish.png").read_bytes().startswith(b"\x89PNG")
    losses = [line.split() for line in out.splitlines() if len(line.split()) == 3 and line.split()[0].isdecimal()]
    assert [int(epoch) for epoch, _, _ in losses] == list(range(11))
    assert float(losses[0][1]) > 45 and float(losses[-1][1]) < 25 and all(mine == own for _, mine, own in losses)


def test_finish_takes_page_0s_own_where_one_has_not_passed(folder, capsys):
    solve(folder, page_0_and_adam()[1])
    assert main(["learn", "finish", "--dir", str(folder.path)]) == 0
    out = capsys.readouterr().out
    assert "backward  page 0's own: 17_page_0.py has not passed" in out and "adam      yours" in out


def test_another_gradient_trains_otherwise_and_is_told(capsys):
    """Twice the KL's part of dmu: no check lets it pass, so `train` is asked itself."""

    def backward(p, cache):
        x, h, mu, *_ = cache
        dp = first.backward(p, cache)
        return dp | {"W_mu": dp["W_mu"] + h.T @ mu / len(x)}

    found = digits.train(backward=backward)
    yours, page_0 = found["yours"], found["page_0"]
    assert yours[0] == page_0[0] and yours[-1] != pytest.approx(page_0[-1], rel=1e-4)
    assert not finish._print_losses(yours, page_0, True)
    assert "more than rounding" in capsys.readouterr().out


def test_the_recipe_is_page_0s():
    """Its numbers stand in the last lines of page 0, and the losses come out in its range."""
    page = Path(first.__file__).read_text()
    for words in (f"init(64, {digits.H}, {digits.Z}, rng)", f"range({digits.EPOCHS + 1})", f", {digits.BATCHES}):"):
        assert words in page, words
    found = digits.train()
    assert found["yours"] == found["page_0"] and np.shape(found["new"]) == (digits.SHOWN, 64)
    assert 23.5 < found["yours"][-1] < 25 < 45 < found["yours"][0]


def test_a_training_that_stops_gets_its_line(folder):
    adam = page_0_and_adam()[1]
    first_line = "    for name in p:\n"
    stops = "    if t == 50: raise ValueError('enough')\n"
    folder.file(adam).write_text(adam.solution().replace(first_line, stops + first_line, 1))
    job = {"task": "finish", "files": {"adam": str(folder.file(adam))}}
    found = in_child(job, [folder.file(adam)], 60)
    assert found["sentence"] == "ValueError: enough" and "t == 50" in found["source"]
