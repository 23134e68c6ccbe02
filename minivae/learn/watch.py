"""The watcher: grades a file when it is saved, and answers keys.

After a pass it stops, says so, and waits for n.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from contextlib import suppress

from minivae.learn import show
from minivae.learn.exercise import Exercise
from minivae.learn.files import Folder
from minivae.learn.grading import Result, grade_file

POLL = 0.2                      # seconds between two looks at the files
END = ""                        # what `Keys.read` gives when the terminal has gone
KEYS = "n next   h hint   l list   c check all   s solution   x reset   q quit"


class Keys:
    """Single keys from the terminal, within `with`; afterwards it is as it was before.

    That holds for an exception, for SIGINT and SIGTERM, and while Ctrl-Z has stopped the process.
    """

    def __enter__(self) -> Keys:
        import termios

        self._fd, self._waiting = sys.stdin.fileno(), ""
        self._before = termios.tcgetattr(self._fd)
        self._handlers = {number: signal.signal(number, handler) for number, handler in
                          ((signal.SIGTERM, _leave), (signal.SIGTSTP, self._pause))}
        self._take_single_keys()
        return self

    def __exit__(self, *exception) -> None:
        self._restore()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def read(self, seconds: float) -> str | None:
        """The next key, None where none came in this time, END where none will come."""
        if not self._waiting:
            if not select.select([self._fd], [], [], seconds)[0]:
                return None
            try:
                text = os.read(self._fd, 64).decode(errors="replace")
            except OSError:                            # the terminal was closed
                return END
            if not text:
                return END
            if text.startswith("\033"):                # an arrow or the like
                return None
            self._waiting = text
        key, self._waiting = self._waiting[0], self._waiting[1:]
        return key

    def _take_single_keys(self) -> None:
        import tty

        tty.setcbreak(self._fd)

    def _restore(self) -> None:
        import termios

        with suppress(termios.error):                  # the terminal was closed
            termios.tcsetattr(self._fd, termios.TCSADRAIN, self._before)

    def _pause(self, number: int, frame) -> None:
        """Ctrl-Z: give the terminal back, stop, and take it again when the process goes on."""
        self._restore()
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, self._pause)
        self._take_single_keys()


class WindowsKeys:
    """Keys, on Windows."""

    def __enter__(self) -> WindowsKeys:
        return self

    def __exit__(self, *exception) -> None:
        pass

    def read(self, seconds: float) -> str | None:
        """As `Keys.read`."""
        import msvcrt

        if not msvcrt.kbhit():
            time.sleep(seconds)
        return msvcrt.getwch() if msvcrt.kbhit() else None


def _leave(number: int, frame) -> None:
    """SIGTERM, as an exception, so that what is to be put back is put back."""
    raise SystemExit(128 + number)


def keys() -> Keys | WindowsKeys:
    """Keys of the system's own kind."""
    return WindowsKeys() if os.name == "nt" else Keys()


class Watch:
    """Grade what is saved and answer keys until q.

    Parameters
    ----------
    folder : Folder, already written
    keys : an open Keys
    """

    def __init__(self, folder: Folder, keys: Keys | WindowsKeys):
        self.folder, self.keys = folder, keys
        self.current = first_open(folder)
        self.actions = {"n": self.next, "h": self.hint, "l": self.list, "c": self.check_all,
                        "s": self.solution, "x": self.reset}

    def run(self) -> None:
        """Return when q is typed, or the terminal has gone."""
        self.seen = self._look()
        self.grade()
        while True:
            key = self.keys.read(POLL)
            if key in ("q", END):
                return
            if key in self.actions:
                self.actions[key]()
                print(f"\n{KEYS}", flush=True)
            self._grade_what_was_saved()

    # --- the keys ---

    def next(self) -> None:
        """Go on to the next exercise that has not been passed."""
        self.current = first_open(self.folder, after=self.current)
        self.grade(with_keys=False)

    def hint(self) -> None:
        """Show the next of the three hints."""
        print("\n" + next_hint(self.folder, self.current))

    def list(self) -> None:
        """Show all exercises."""
        print("\n" + show.listing(self.folder))

    def check_all(self) -> None:
        """Grade every file that is begun."""
        begun = self.folder.begun()
        print(f"\nchecking all that are begun: {len(begun)}")
        for exercise in begun:
            print(show.result(self.folder, exercise, grade(self.folder, exercise)), flush=True)
        print("\n" + show.progress_bar(self.folder))

    def solution(self) -> None:
        """Show the solution; before a pass, only after a question."""
        if may_open(self.folder, self.current, self._yes):
            print("\n" + show.solution(self.folder, self.current))

    def reset(self) -> None:
        """Write the file as it was at first, after a question."""
        name = self.folder.file(self.current).name
        if self._yes(f"Write {name} as it was at first? What you wrote in it is lost."):
            self.folder.reset(self.current)
            self.seen = self._look()
            print(f"{name} is as it was at first.")

    def _yes(self, question: str) -> bool:
        """Whether y is typed; any other key is a no."""
        print(f"\n{show.wrapped(question + ' y / n')}", flush=True)
        key = None
        while key is None:
            key = self.keys.read(POLL)
        return key == "y"

    # --- the files ---

    def grade(self, with_keys: bool = True) -> None:
        """Grade the current file, and say how to go on."""
        print("\n" + show.heading(self.folder, self.current))
        found = grade(self.folder, self.current)
        print(show.result(self.folder, self.current, found))
        print("\n" + show.progress_bar(self.folder))
        print(how_to_go_on(self.folder, found))
        if with_keys:
            print(KEYS, flush=True)

    def _look(self) -> dict:
        """When each file was written and how long it is; a file that is not there is left out."""
        seen = {}
        for exercise in self.folder.exercises:
            with suppress(OSError):
                status = os.stat(self.folder.file(exercise))
                seen[exercise.name] = status.st_mtime_ns, status.st_size
        return seen

    def _grade_what_was_saved(self) -> None:
        """Grade a file that has changed; another one than the current becomes the current."""
        now = self._look()
        saved = [exercise for exercise in self.folder.exercises if exercise.name in now
                 and now[exercise.name] != self.seen.get(exercise.name)]
        self.seen |= now
        if saved:
            self.current = self.current if self.current in saved else saved[0]
            self.grade()


# --- what the keys and the commands share ---


def first_open(folder: Folder, after: Exercise | None = None) -> Exercise:
    """The first exercise not passed, from the one after `after`, then from the start.

    Where all are passed: the one that follows.
    """
    start = 0 if after is None else folder.number(after)
    order = [*folder.exercises[start:], *folder.exercises[:start]]
    return next((one for one in order if not folder.has_passed(one)), order[0])


def grade(folder: Folder, exercise: Exercise) -> Result:
    """Grade a file and keep the outcome, with the sha256 of what was graded."""
    before = folder.digest(exercise)
    found = grade_file(exercise, folder.file(exercise))
    if before and folder.digest(exercise) == before:   # else it was saved again meanwhile
        folder.note(exercise, **{"passed" if found.passed else "refused": before})
    return found


def next_hint(folder: Folder, exercise: Exercise) -> str:
    """The next hint, which counts as taken; after the last, the last again."""
    number = min(folder.progress(exercise).hints + 1, len(exercise.hints))
    folder.note(exercise, hints=number)
    return show.hint(exercise, number)


def may_open(folder: Folder, exercise: Exercise, ask) -> bool:
    """Whether the solution may be shown: after a pass, or if `ask(question)` is True.

    Before a pass it is noted that it was seen.
    """
    if folder.has_passed(exercise):
        return True
    if not ask(f"{exercise.name} has not passed. Open its solution all the same? "
               "It will be marked as seen."):
        return False
    folder.note(exercise, solution_seen=True)
    return True


def how_to_go_on(folder: Folder, found: Result) -> str:
    """What to do after a grade."""
    if not found.passed:
        return "Edit the file and save it: it is graded at once."
    if all(map(folder.has_passed, folder.exercises)):
        return "All are passed. `minivae learn finish` trains the digits with your backward."
    return "Well done. n goes on, s shows how the package does it."
