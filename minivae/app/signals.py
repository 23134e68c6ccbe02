"""Ctrl-C and SIGTERM as a polite request, for the command line alone: a library leaves signals to its user."""

import os
import signal
from contextlib import suppress


class StopAsked:
    """Within `with`, the first SIGINT or SIGTERM makes calls return True; the second one acts as it always does.

    number is the signal that a call has answered True to, else None.
    """

    def __init__(self):
        self.caught = self.number = None

    def __call__(self) -> bool:
        self.number = self.caught
        return self.number is not None

    def __enter__(self) -> "StopAsked":
        heeded = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) is not signal.SIG_IGN]    # nohup, `&` in a script
        self._before = {number: signal.signal(number, self._catch) for number in heeded}
        return self

    def __exit__(self, *exception) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _catch(self, number: int, frame) -> None:
        self.caught = number
        self.__exit__()
        with suppress(OSError):                            # not print: it may be at work itself when the signal comes
            os.write(2, b"\nminivae: finishing the batch and saving; Ctrl-C once more leaves at once\n")
