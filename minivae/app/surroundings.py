"""What surrounds the command: its streams and environment variables, as they come.

A stream may be closed, full, or of an encoding that lacks a letter.
"""

import os
import sys
from contextlib import suppress

from minivae.app.folders import shown

# set by Open MPI, by MPICH and its like, and by all that start processes with PMIx, as Slurm can
BY_MPIEXEC = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_RANK")
LONGEST = 600                   # characters of a line on stderr: its middle is left out


def open_streams() -> None:
    """Replace closed streams, as daemons have them, and let no letter end the command.

    A closed stream is None in Python; its number would go to the next file that is opened.
    """
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w"))
    for stream in (sys.stdout, sys.stderr):
        # a letter that the encoding lacks is shown as \xfc
        stream.reconfigure(errors="backslashreplace")


def say(message: str) -> None:
    """Print one line to stderr; where that is full or gone, nobody can be told."""
    line = shown(" ".join(message.split()))
    if len(line) > LONGEST:
        line = f"{line[: LONGEST // 2]} .. {line[-LONGEST // 2 :]}"
    with suppress(OSError):
        print(f"minivae: {line}", file=sys.stderr, flush=True)


def flush(stream) -> OSError | None:
    """Write out what waits in a stream; returns the error where that fails.

    The rest then goes nowhere: Python would try once more at its end, and complain.
    """
    try:
        stream.flush()
    except OSError as error:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
        return error
    return None


def check_variables() -> None:
    """Raise ValueError, with its name, for a variable that a library would stumble over."""
    threads = os.environ.get("NUMBA_NUM_THREADS", "1")
    if not (threads.isdecimal() and 1 <= int(threads) <= 1024):
        raise ValueError(f"the environment variable NUMBA_NUM_THREADS is {threads!r}: wanted a "
                         "whole number from 1 to 1024; unset it")
    for_tqdm = [f"{name}={value}" for name, value in os.environ.items()
                if name.startswith("TQDM_")]
    if for_tqdm:
        try:
            import tqdm  # noqa: F401  (it reads its variables here)
        except ValueError as error:
            raise ValueError(f"tqdm cannot read its environment variables {', '.join(for_tqdm)} "
                             f"({error}): unset what is wrong") from None


def is_rank() -> bool:
    """Whether mpiexec started this process, or a launcher like it."""
    return any(name in os.environ for name in BY_MPIEXEC)


def all_ranks():
    """The Ranks that mpiexec started.  Raises ValueError where mpi4py cannot be used."""
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:           # the second: there is no MPI library
        reason = str(error).splitlines()[0]
        raise ValueError(f"mpiexec started this, and mpi4py cannot be used ({reason}): "
                         "pip install mpi4py, beside the MPI of the mpiexec") from None
    from minivae.training.ranks import Ranks

    return Ranks(MPI.COMM_WORLD)
