"""Groups of images judged here, or by several workers at once: the same numbers everywhere.

Every group is judged for itself, by a model without memory of the groups before it, and has noise
of its own.  So it does not matter who judges it, nor in which order.  What else the bits depend on
is made equal, too: a worker cuts float32 products into as many parts as this process, and NumPy's
BLAS, which multiplies the rest, has one thread everywhere.
"""

import copy
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from functools import cache

from minivae import pool
from minivae.choices import whole_number
from minivae.model import Model


def judge_each(judge: Callable, vae: Model, groups: Iterable[tuple], n_jobs: int | None
               ) -> Iterator:
    """Yield judge(vae, *group) of each group, in their order.

    Parameters
    ----------
    judge : a function at the top level of a module: a worker finds it by its name.
    vae : VAE or DiscreteVAE; a pending backward stays whole.
    groups : tuples; they are made one by one, here, as they are asked for.
    n_jobs : int or None
        None: in this process.  Else so many workers, or -1 for one on each core.  They come from
        joblib's backend: processes of this machine, or what `joblib.parallel_config` has set.

    Raises
    ------
    TypeError, ValueError
        For an n_jobs that is no whole number, or 0.
    ChildProcessError
        When a worker was killed.
    """
    if n_jobs is not None and whole_number(n_jobs, "n_jobs", at_least=-1) == 0:
        raise ValueError("n_jobs must be at least 1, or -1 for all cores, got 0")
    with _blas().limit(limits=1):
        if n_jobs is None:
            for group in groups:
                with vae.undisturbed():
                    yield judge(vae, *group)
        else:
            yield from _by_workers(judge, vae, groups, n_jobs)


def _by_workers(judge: Callable, vae: Model, groups: Iterable[tuple], n_jobs: int) -> Iterator:
    """The same with joblib, which is loaded here: it takes its time."""
    from joblib import Parallel, delayed

    parts = pool.identity()["parts"]
    with vae.undisturbed():
        lent = copy.deepcopy(vae)                          # without the buffers of a pass
    # max_nbytes: else parameters above 1 MB would come as files that cannot be written to
    workers = Parallel(n_jobs, return_as="generator", max_nbytes=None)
    try:
        yield from workers(delayed(_in_worker)(judge, lent, parts, group) for group in groups)
    except BrokenProcessPool:
        raise ChildProcessError("a worker process was killed before it had finished, perhaps for "
                                "want of memory: take fewer workers (n_jobs, --jobs)") from None


def _in_worker(judge: Callable, vae: Model, parts: int, group: tuple):
    """judge(vae, *group) with a copy of the model, because threads are handed the same one."""
    pool.set_parts(parts)
    _blas().limit(limits=1)             # for good: tasks in other threads of this process want it
    return judge(copy.deepcopy(vae), *group)


@cache
def _blas():
    """The BLAS libraries of this process, to be told how many threads to take."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas")
