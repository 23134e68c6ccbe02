"""Ctrl-C, SIGTERM and SIGHUP.  Only the command line catches them: `fit` does not.

A signal that the process ignores (nohup, `&` in a script) stays ignored.
"""

import os
import signal
import sys
from contextlib import suppress

# SIGHUP comes when the terminal is closed; Windows has none
WATCHED = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP")
           if hasattr(signal, name)]


def say(line: str) -> None:
    """Write a line to stderr from a handler: not print, which may be at work itself just then."""
    with suppress(OSError):
        above = "\n" if os.isatty(2) else ""               # there, ^C or a bar stands in the line
        os.write(2, f"{above}minivae: {line}\n".encode())


def leave(number: int, frame) -> None:
    """A handler: end the process at once and in silence, with exit code 128 + number."""
    os._exit(128 + number)


def say_and_leave(number: int, frame) -> None:
    """A handler: the same with a line, for where nothing has to be put back."""
    say("interrupted")
    leave(number, frame)


def on_signals(handler) -> dict:
    """Set the handler of each watched signal; returns {signal: handler before}.

    In another thread than the main one nothing can be set, and nothing is.
    """
    with suppress(ValueError):
        return {number: signal.signal(number, handler) for number in WATCHED
                if signal.getsignal(number) is not signal.SIG_IGN}
    return {}


class Watch:
    """Within `with`, the watched signals call `_catch`; afterwards all is as before."""

    def __enter__(self):
        self._before = on_signals(self._catch)
        return self

    def __exit__(self, *exception) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


class Interrupts(Watch):
    """Within `with`, the first signal says so and raises KeyboardInterrupt; a second one leaves.

    number is the signal that came, else None.  A library may swallow the exception or raise
    another in its place, so the caller asks `number` too.
    """

    def __init__(self):
        self.number = None

    def __enter__(self) -> "Interrupts":
        self._hook_before, sys.unraisablehook = sys.unraisablehook, self._unraisable
        return super().__enter__()

    def __exit__(self, *exception) -> None:
        super().__exit__(*exception)
        sys.unraisablehook = self._hook_before

    def _catch(self, number: int, frame) -> None:
        if self.number is not None:
            leave(number, frame)
        self.number = number
        say("interrupted")
        raise KeyboardInterrupt

    def _unraisable(self, lost) -> None:
        """Leave where KeyboardInterrupt was raised in a place that no exception gets out of."""
        if self.number is not None and issubclass(lost.exc_type, KeyboardInterrupt):
            leave(self.number, None)
        self._hook_before(lost)


class StopAsked(Watch):
    """Within `with`, the first signal makes calls return True; a second one leaves at once.

    number is the signal that a call has answered True to, else None.
    says : whether the first signal says so; of several ranks one does
    """

    def __init__(self, says: bool = True):
        self.caught = self.number = None
        self.says = says

    def __call__(self) -> bool:
        """Whether a signal has come."""
        self.number = self.caught
        return self.number is not None

    def _catch(self, number: int, frame) -> None:
        if self.caught is not None:
            leave(number, frame)
        self.caught = number
        if self.says:
            say("finishing the batch and saving; Ctrl-C once more leaves at once")
