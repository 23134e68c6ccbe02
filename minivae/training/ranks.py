"""Training on several machines: every rank of MPI takes a part of each batch.

On machines of one kind, with the same versions, any number of ranks gives the same bits:

    blocks   A batch of B rows is cut into blocks, and B alone says into how many.  Each block has
             a forward and a backward of its own.  A rank takes whole blocks.
    noise    A block draws its noise from a counter, Philox, that starts at (block, batch, epoch).
    sums     grad = sum over blocks of (rows of the block / B) * grad of the block.  The order of
             the additions is that of one binary tree over the blocks.  MPI only moves the numbers:
             it does not promise an order of additions.

Source of the counter: Salmon et al. (2011), "Parallel random numbers: as easy as 1, 2, 3".
"""

import os
import pickle
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import pairwise
from time import sleep
from typing import NamedTuple

import numpy as np

from minivae import pool
from minivae.model import Model
from minivae.saving.checkpoint import SAVE_EVERY, Saver, TrainingState
from minivae.saving.model_file import inventory
from minivae.training.batches import draw, each_batch
from minivae.training.blocks import blocks_of, finished, middle, shares
from minivae.training.evaluation import NonFiniteError, first_non_finite, non_finite_param


class Batch(NamedTuple):
    """A batch that all ranks share."""

    number: int                     # in its epoch, from 1
    index: np.ndarray               # (B,) its rows of the data
    beta: float
    blocks: list[tuple[int, int]]   # where each begins and ends in index


def start_counter(rng: np.random.Generator, epoch: int, batch: int, block: int) -> None:
    """Let a Generator over Philox go on from that counter.  Batch 0 is the shuffling."""
    state = rng.bit_generator.state
    state["state"]["counter"] = np.array([0, block, batch, epoch], np.uint64)
    rng.bit_generator.state = state | {"buffer_pos": 4, "has_uint32": 0, "uinteger": 0}


# --- the ranks ------------------------------------------------------------------------------------


class Alone:
    """What `fit` asks of its ranks where there is one process, without comm: nothing is to be done.

    The methods are those of Ranks.
    """

    first, size, one_epoch, must_stay = True, 1, None, {}

    def at_work(self) -> nullcontext:
        """Nobody waits for this process."""
        return nullcontext()

    agree = at_work

    def gather(self, do: Callable) -> list:
        """What do() gave."""
        return [do()]

    def from_first(self, value):
        """The value."""
        return value

    def generator(self, rng: np.random.Generator) -> np.random.Generator:
        """The Generator as it is."""
        return rng

    def check(self, vae: Model, given: dict) -> None:
        """There is nobody to differ from."""

    def share(self, state: TrainingState) -> None:
        """There is nobody to share with."""


class Ranks:
    """The processes of an MPI communicator, which train one model together.

    comm : mpi4py's, e.g. MPI.COMM_WORLD

    Attributes
    ----------
    rank, size : int, which of how many this is
    first : bool
        Whether this is rank 0, which alone writes, prints and judges.
    sent : int
        The bytes of gradients that this rank has sent to others.
    must_stay : dict
        What only such a training can be resumed with.
    """

    must_stay = {"rng": "Philox by blocks (of fit with comm, and of mpiexec)"}

    def __init__(self, comm):
        self.comm, self.rank, self.size = comm, comm.Get_rank(), comm.Get_size()
        self.first, self.sent = self.rank == 0, 0
        self.all_know = False               # whether every rank raises the same error
        self._arrays = {}

    # --- one for all ---

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Within `with`, this rank uses one thread, and an error of this rank alone ends all.

        One thread, because there is a rank for each core, and because the bits of a product depend
        on how it is cut for threads.
        """
        from threadpoolctl import threadpool_limits

        parts, self.all_know = pool.pool.parts, False
        pool.set_parts(1)
        try:
            with self.ending_all(), threadpool_limits(1):
                yield
        finally:
            pool.set_parts(parts)

    @contextmanager
    def ending_all(self) -> Iterator[None]:
        """Within `with`, an error of this rank ends the others, unless they raise it too.

        Else they would wait for this rank for ever.
        """
        try:
            yield
        except BaseException as error:
            if self.size > 1 and not self.all_know:
                sys.stderr.write(f"minivae: rank {self.rank}: {type(error).__name__}: {error}\n")
                sys.stderr.flush()
                sleep(0.5)              # mpiexec may drop what it has not passed on by then
                self.comm.Abort(1)
                os._exit(1)             # MPICH may return from Abort, and end us a little later
            raise

    @contextmanager
    def agree(self) -> Iterator[None]:
        """Every rank runs the block; where one fails, all raise its error."""
        error = None
        try:
            yield
        except BaseException as caught:
            error = caught
        self._tell(None, error)

    def gather(self, do: Callable, *arguments) -> list:
        """What do(..) gave on each rank, in their order; where one fails, all raise its error."""
        value = error = None
        try:
            value = do(*arguments)
        except BaseException as caught:
            error = caught
        return self._tell(value, error)

    def _tell(self, value, error: BaseException | None) -> list:
        """The value of each rank; or raise, on all of them, the error of the first that has one."""
        answers = self.comm.allgather((value, _ready_to_send(error)))
        for rank, (_, found) in enumerate(answers):
            if found is not None:
                self.all_know = True
                raise (error if rank == self.rank else found) from None
        return [value for value, _ in answers]

    def from_first(self, value):
        """What rank 0 calls this with, on every rank."""
        return self.comm.bcast(value)

    def on_first(self, do: Callable):
        """What do() gave on rank 0, which alone calls it; all raise its error."""
        return self.gather(do if self.first else lambda: None)[0]

    # --- before training ---

    def generator(self, rng: np.random.Generator) -> np.random.Generator:
        """A Generator over Philox, with a new key from rng; in `share` that of rank 0 counts.

        It is rng itself where that is one, because layers of one's own may draw from it.
        """
        key = rng.integers(0, 2**64, 2, np.uint64)
        if not isinstance(rng.bit_generator, np.random.Philox):
            return np.random.Generator(np.random.Philox(key=key))
        state = rng.bit_generator.state
        state["state"]["key"] = key
        rng.bit_generator.state = state
        return rng

    def check(self, vae: Model, given: dict) -> None:
        """Raise ValueError, on every rank, where they would not train one model on the same data.

        given : settings by name, and the digests of X and X_test.
        """
        parts = [part.settings for part in (vae.likelihood, vae.latent, vae.baseline)]
        shapes = [(name, param.shape) for name, param, _ in vae.named_params()]
        model = vae.config, inventory(vae), parts, shapes
        everyones = self.comm.allgather(given | {"model": model})
        self.all_know = True
        for name, value in everyones[0].items():
            for rank, others in enumerate(everyones):
                if others.get(name) != value:
                    found = f"{name} {others.get(name)} and rank 0 {value}"
                    if name in ("X", "X_test", "model"):
                        found = f"another {name} than rank 0"
                    raise ValueError(f"rank {rank} was given {found}: all ranks want the same "
                                     "data, settings and model")
        if vae.baseline.state():
            raise ValueError(f"the baseline {vae.baseline.name} learns from whole batches, and "
                             "with comm a rank sees a part of each: take another baseline")
        self.all_know = False

    def share(self, state: TrainingState) -> None:
        """Bring every rank to where rank 0 stands: parameters, moments, key of the noise."""
        arrays, numbers = self.from_first((state.arrays(), state.numbers()) if self.first
                                          else (None, None))
        if not self.first:
            state.restore(arrays, numbers)

    # --- training ---

    @np.errstate(over="ignore", invalid="ignore")          # whatever is not finite is told of below
    def one_epoch(self, state: TrainingState, images, settings, saver: Saver, stop,
                  show_bar: bool) -> bool:
        """As `loop._one_epoch`, each batch in blocks.  True where `stop` ended it on any rank."""
        adam, rng = state.adam, state.rng
        if state.next_row == 0:
            start_counter(rng, state.epoch, 0, 0)
        for number, index, beta in each_batch(state, settings, show_bar):
            batch = Batch(number, index, beta, blocks_of(len(index)))

            answers = self.gather(self._my_part, state, images, settings, saver, stop, batch)
            self._add_up_all(state, len(batch.blocks))      # every layer's grads
            adam.step()

            start_counter(rng, state.epoch, batch.number + 1, 0)       # whichever blocks a rank had
            state.totals += np.sum([row for totals, _ in answers for row in totals], axis=0)
            state.next_row += len(index)
            if any(stopped for _, stopped in answers):
                return True
        return False

    def _my_part(self, state: TrainingState, images, settings, saver: Saver, stop, batch: Batch
                 ) -> tuple[list, bool]:
        """Forward and backward of this rank's blocks.

        A checkpoint that is due is saved first: here, so that all ranks learn of an error.
        Returns the sums of loss, recon and kl of each block, and whether `stop` says True.
        """
        if saver.due(SAVE_EVERY) and non_finite_param(state.vae) is None:
            saver.save()
        totals = []

        def leaf(block: int, grad: np.ndarray) -> None:
            totals.append(_forward_and_backward(state, images, settings, batch, block, grad))

        nodes = shares(len(batch.blocks), self.size)[self.rank]
        for node, grad in zip(nodes, self._sums(state, len(nodes))):
            self._add_up(node, grad, leaf)
        return totals, stop is not None and bool(stop())

    def _sums(self, state: TrainingState, n: int) -> np.ndarray:
        """(n, P), a row for each node that this rank adds up, P the size of all gradients."""
        P = sum(grad.size for _, grad, _, _ in state.adam.slots.values())
        return self._array("sums", n, P, state.vae.dtype)

    def _add_up(self, node: tuple[int, int], out: np.ndarray, leaf: Callable) -> None:
        """out = the sum of the leaves under `node`, where leaf(i, out) computes leaf i."""
        begin, end = node
        if end - begin == 1:
            leaf(begin, out)
            return
        mid = middle(begin, end)
        self._add_up((begin, mid), out, leaf)
        height = (end - begin - 1).bit_length()     # smaller in both halves: each has an array
        (right,) = self._array(f"right half at {height}", 1, len(out), out.dtype)
        self._add_up((mid, end), right, leaf)
        out += right

    def _add_up_all(self, state: TrainingState, n: int) -> None:
        """From the nodes of all ranks, over n blocks, the batch's gradient: into the layers' grads.

        Each rank gets a slice of every node, and finishes the tree for it; then all get all slices.
        """
        everyones = shares(n, self.size)
        sums = self._sums(state, len(everyones[self.rank]))
        whole = sums[0] if self.size == 1 else self._exchanged(sums, everyones, n)
        at = 0
        for _, grad, _, _ in state.adam.slots.values():
            grad[...] = whole[at : at + grad.size]
            at += grad.size

    def _exchanged(self, sums: np.ndarray, everyones: list, n: int) -> np.ndarray:
        """The sum over all n blocks : (P,)."""
        size, P, dtype = self.size, sums.shape[1], sums.dtype
        edges = [P * rank // size for rank in range(size + 1)]
        lengths = np.diff(edges)
        mine = lengths[self.rank]
        counts = np.array([len(nodes) for nodes in everyones])

        slices = sums                       # of one node they lie side by side already
        if len(sums) > 1:
            slices = np.concatenate([sums[:, a:b].ravel() for a, b in pairwise(edges)])
        received = self._array("received", counts.sum(), mine, dtype)
        self.comm.Alltoallv([slices, len(sums) * lengths], [received, counts * mine])
        found = dict(zip([node for nodes in everyones for node in nodes], received))
        my_slice = finished((0, n), found)
        (whole,) = self._array("whole", 1, P, dtype)
        self.comm.Allgatherv(my_slice, [whole, lengths])
        self.sent += dtype.itemsize * int(len(sums) * (P - mine) + (size - 1) * mine)
        return whole

    def _array(self, name, rows: int, columns: int, dtype: np.dtype) -> np.ndarray:
        """An array to write into, (rows, columns): the same memory at every step."""
        array = self._arrays.get(name)
        if array is None or array.shape != (rows, columns) or array.dtype != dtype:
            array = self._arrays[name] = np.empty((rows, columns), dtype)
        return array


def ranks_of(comm) -> Alone | Ranks:
    """The ranks of a communicator of mpi4py.

    Raises TypeError for what is none.
    """
    if comm is None:
        return Alone()
    if isinstance(comm, Ranks):
        return comm
    if not all(hasattr(comm, name) for name in ("allgather", "Alltoallv", "Allgatherv")):
        raise TypeError("comm must be a communicator of mpi4py, e.g. MPI.COMM_WORLD, got "
                        f"{type(comm).__name__}")
    return Ranks(comm)


def _forward_and_backward(state: TrainingState, images, settings, batch: Batch, block: int,
                          grad: np.ndarray) -> list[float]:
    """One block: its part of the batch's gradient goes into grad : (P,).

    Returns the sums of loss, recon and kl over its images.
    """
    vae, rng, (begin, end) = state.vae, state.rng, batch.blocks[block]
    start_counter(rng, state.epoch, batch.number, block)
    x = draw(images.X, batch.index[begin:end], images.scale, settings.binarize, rng, vae.dtype)
    eps = vae.noise(settings.samples, len(x), rng)
    with vae.at_beta(batch.beta):
        result = vae.forward(x, eps)
    if not np.isfinite(result.loss):
        raise NonFiniteError(f"batch {batch.number}: first in {first_non_finite(vae)}")
    vae.backward()
    weight, at = vae.dtype.type(len(x) / len(batch.index)), 0
    for _, of_block, _, _ in state.adam.slots.values():
        np.multiply(of_block, weight, out=grad[at : at + of_block.size])
        at += of_block.size
    return [result.loss * len(x), result.recon.sum(dtype=float), result.kl.sum(dtype=float)]


def _ready_to_send(error: BaseException | None) -> BaseException | None:
    """The error; one that cannot be sent becomes a RuntimeError with the same words."""
    try:
        return pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
