"""Ctrl-C and SIGTERM as a polite request.  Only the command line catches them: `fit` does not."""

import os
import signal
from contextlib import suppress


class StopAsked:
    """Within `with`, the first SIGINT or SIGTERM makes calls return True.

    The second one acts as it always does.  A signal that the process ignores (nohup, `&` in a
    script) stays ignored.  number is the signal that a call has answered True to, else None.
    """

    def __init__(self):
        self.caught = self.number = None

    def __call__(self) -> bool:
        """Whether a signal has come."""
        self.number = self.caught
        return self.number is not None

    def __enter__(self) -> "StopAsked":
        watched = [number for number in (signal.SIGINT, signal.SIGTERM)
                  if signal.getsignal(number) is not signal.SIG_IGN]
        self._before = {number: signal.signal(number, self._catch) for number in watched}
        return self

    def __exit__(self, *exception) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _catch(self, number: int, frame) -> None:
        self.caught = number
        self.__exit__()
        # not print: it may be at work itself when the signal comes
        with suppress(OSError):
            os.write(2, b"\nminivae: finishing the batch and saving; "
                        b"Ctrl-C once more leaves at once\n")
