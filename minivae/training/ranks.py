"""Training on several machines: every rank of MPI takes a part of each batch.

However many ranks there are, the parameters come out the same, bit for bit:

    blocks   A batch of B rows is cut into blocks, and B alone says into how many.  Each block has
             a forward and a backward of its own.  A rank takes whole blocks.
    noise    A block draws its noise from a counter, Philox, that starts at (block, batch, epoch).
    sums     grad = sum over blocks of (rows of the block / B) * grad of the block.  The order of
             the additions is that of one binary tree over the blocks.  MPI moves numbers and adds
             none, for it promises no order.

Source of the counter: Salmon et al. (2011), "Parallel random numbers: as easy as 1, 2, 3".
"""

import pickle
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from itertools import pairwise

import numpy as np
from tqdm import tqdm

from minivae import pool
from minivae.model import Model
from minivae.saving.checkpoint import SAVE_EVERY, Saver, TrainingState
from minivae.training.batches import draw
from minivae.training.evaluation import NonFiniteError, first_non_finite, non_finite_param

ROWS, MOST = 64, 64             # of a block, at least where there are so many; blocks of a batch


# --- blocks, and the tree over them ---------------------------------------------------------------


def blocks_of(B: int) -> list[tuple[int, int]]:
    """Where each block of a batch of B rows begins and ends."""
    n = min(-(-B // ROWS), MOST)
    return list(pairwise(B * i // n for i in range(n + 1)))


def middle(begin: int, end: int) -> int:
    """Where the node over the leaves begin..end, two or more, is split: its left half is full."""
    return begin + 2 ** ((end - begin - 1).bit_length() - 1)


def largest_nodes(begin: int, end: int, node: tuple[int, int]) -> list[tuple[int, int]]:
    """The largest subtrees of `node` whose leaves all lie in begin..end, from left to right."""
    left, right = node
    if begin <= left and right <= end:
        return [node]
    if right <= begin or end <= left:
        return []
    mid = middle(left, right)
    return (largest_nodes(begin, end, (left, mid)) + largest_nodes(begin, end, (mid, right)))


@cache
def shares(n: int, size: int) -> list[tuple[range, list[tuple[int, int]]]]:
    """For each of `size` ranks: which of n blocks it takes, and the nodes that it adds up."""
    edges = [n * rank // size for rank in range(size + 1)]
    return [(range(a, b), largest_nodes(a, b, (0, n))) for a, b in pairwise(edges)]


def start_counter(rng: np.random.Generator, epoch: int, batch: int, block: int) -> None:
    """Let a Generator over Philox go on from that counter.  Batch 0 is the shuffling."""
    state = rng.bit_generator.state
    state["state"]["counter"] = np.array([0, block, batch, epoch], np.uint64)
    rng.bit_generator.state = state | {"buffer_pos": 4, "has_uint32": 0, "uinteger": 0}


# --- the ranks ------------------------------------------------------------------------------------


class Alone:
    """What `fit` asks of its ranks, where there is one process and no comm."""

    first, one_epoch, must_stay = True, None, {}

    def at_work(self):
        """See Ranks; so are all others."""
        return nullcontext()

    agree = at_work

    def generator(self, rng: np.random.Generator) -> np.random.Generator:
        return rng

    def check(self, vae: Model, given: dict) -> None:
        pass

    def share(self, state: TrainingState) -> None:
        pass

    def from_first(self, value):
        return value


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
        self.all_know = False               # of the error that ends this
        self._arrays = {}

    # --- one for all ---

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Within `with`, a rank works on one thread; an error of this rank alone ends all.

        The bits depend on how products are cut for threads, and there is a rank for each core.
        """
        from threadpoolctl import threadpool_limits

        parts = pool.pool.parts
        pool.set_parts(1)
        try:
            with self.ending_all(), threadpool_limits(1):
                yield
        finally:
            pool.set_parts(parts)

    @contextmanager
    def ending_all(self) -> Iterator[None]:
        """Within `with`, an error that the others do not know of ends them: they would wait."""
        try:
            yield
        except BaseException as error:
            if self.size > 1 and not self.all_know:
                print(f"minivae: rank {self.rank}: {type(error).__name__}: {error}",
                      file=sys.stderr, flush=True)
                self.comm.Abort(1)
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

    def gather(self, do: Callable) -> list:
        """What do() gave on each rank, in their order; where one fails, all raise its error."""
        value = error = None
        try:
            value = do()
        except BaseException as caught:
            error = caught
        return self._tell(value, error)

    def _tell(self, value, error: BaseException | None) -> list:
        """The value of each rank; or raise, on all of them, the error of the first that has one."""
        if error is not None:
            value = None
        answers = self.comm.allgather((value, _ready_to_send(error)))
        for rank, (_, found) in enumerate(answers):
            if found is not None:
                self.all_know = True
                raise (error if rank == self.rank else found) from None
        return [value for value, _ in answers]

    def from_first(self, value):
        """What rank 0 calls this with, on every rank."""
        return self.comm.bcast(value)

    # --- before training ---

    def generator(self, rng: np.random.Generator) -> np.random.Generator:
        """A Generator over Philox, with a new key from rng: rng itself, if it is one."""
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
        shapes = [(name, param.shape) for name, param, _ in vae.named_params()]
        everyones = self.comm.allgather(given | {"model": (repr(vae), shapes)})
        self.all_know = True
        if vae.baseline.state():
            raise ValueError(f"the baseline {vae.baseline.name} learns from whole batches, and "
                             "with comm a rank sees a part of each: take another baseline")
        for name, value in everyones[0].items():
            for rank, others in enumerate(everyones):
                if others[name] != value:
                    long = name in ("X", "X_test", "model")
                    found = f"another {name}" if long else f"{name} {others[name]}"
                    than = "" if long else f", which has {value}"
                    raise ValueError(f"rank {rank} was given {found} than rank 0{than}: give "
                                     "every rank the same data, settings and model")
        self.all_know = False

    def share(self, state: TrainingState) -> None:
        """Bring every rank to where rank 0 stands: parameters, moments, key of the noise."""
        arrays, numbers = self.from_first((state.arrays(), state.numbers()) if self.first
                                          else (None, None))
        if not self.first:
            state.restore(arrays, numbers)

    # --- training ---

    def one_epoch(self, state: TrainingState, images, settings, saver: Saver, stop,
                  show_bar: bool) -> bool:
        """As `loop._one_epoch`, each batch in blocks.  True where `stop` ended it on any rank."""
        vae, adam, rng = state.vae, state.adam, state.rng
        if state.next_row == 0:
            start_counter(rng, state.epoch, 0, 0)
            state.order = rng.permutation(np.sort(state.order))
            state.totals = np.zeros(3)
        n, B = len(state.order), settings.batch_size
        bar = tqdm(range(state.next_row, n, B), f"epoch {state.epoch}", leave=False,
                   unit=" batches", file=sys.stderr, disable=not show_bar)
        for first in bar:
            index = state.order[first : first + B]
            beta, adam.lr = settings.schedule(vae.beta, state.epoch - 1 + first / n)
            blocks, batch = blocks_of(len(index)), first // B + 1
            mine, nodes = shares(len(blocks), self.size)[self.rank]
            sums = self._array("sums", len(nodes), _n_grads(state), vae.dtype)
            totals = {}

            def forward_and_backward(i: int, grad: np.ndarray) -> None:
                """Block i: its part of the batch's gradient into `grad`, its sums into totals."""
                begin, end = blocks[i]
                rows = index[begin:end]
                start_counter(rng, state.epoch, batch, i)
                x = draw(images.X, rows, images.scale, settings.binarize, rng, vae.dtype)
                eps = vae.noise(settings.samples, len(x), rng)
                with vae.at_beta(beta):
                    result = vae.forward(x, eps)
                if not np.isfinite(result.loss):
                    raise NonFiniteError(f"batch {batch}: first in {first_non_finite(vae)}")
                vae.backward()
                weight, at = vae.dtype.type(len(rows) / len(index)), 0
                for _, block_grad, _, _ in adam.slots.values():
                    np.multiply(block_grad, weight, out=grad[at : at + block_grad.size])
                    at += block_grad.size
                totals[i] = [result.loss * len(x), result.recon.sum(dtype=float),
                             result.kl.sum(dtype=float)]

            def my_part() -> tuple[list, bool]:
                if saver.due(SAVE_EVERY) and non_finite_param(vae) is None:
                    saver.save()
                for node, out in zip(nodes, sums):
                    self._add_up(node, out, forward_and_backward)
                return [totals[i] for i in mine], stop is not None and stop()

            answers = self.gather(my_part)
            start_counter(rng, state.epoch, batch, len(blocks))        # on every rank the same
            grad, at = self._sum(sums, len(blocks)), 0
            for _, batch_grad, _, _ in adam.slots.values():
                batch_grad[...] = grad[at : at + batch_grad.size]
                at += batch_grad.size
            adam.step()

            state.totals += np.sum([row for rows, _ in answers for row in rows], axis=0)
            state.next_row = first + len(index)
            if any(stopped for _, stopped in answers):
                return True
        return False

    def _add_up(self, node: tuple[int, int], out: np.ndarray, leaf: Callable) -> None:
        """out = the sum of the leaves under `node`, where leaf(i, out) computes leaf i."""
        begin, end = node
        if end - begin == 1:
            leaf(begin, out)
            return
        mid = middle(begin, end)
        self._add_up((begin, mid), out, leaf)
        (right,) = self._array((end - begin - 1).bit_length(), 1, len(out), out.dtype)
        self._add_up((mid, end), right, leaf)
        out += right

    def _sum(self, sums: np.ndarray, n: int) -> np.ndarray:
        """The batch's gradient as one vector, from the nodes of all ranks; sums holds mine.

        Each rank gets a slice of every node, and finishes the tree for it; then all get all slices.
        """
        if self.size == 1:
            return sums[0]
        size, P, dtype = self.size, sums.shape[1], sums.dtype
        edges = [P * rank // size for rank in range(size + 1)]
        lengths = np.diff(edges)
        mine = lengths[self.rank]
        nodes = [nodes for _, nodes in shares(n, size)]
        counts = np.array([len(of_rank) for of_rank in nodes])

        slices = np.concatenate([sums[:, a:b].ravel() for a, b in pairwise(edges)])
        of_all = self._array("received", counts.sum(), mine, dtype)
        self.comm.Alltoallv([slices, len(sums) * lengths], [of_all, counts * mine])
        found = dict(zip([node for of_rank in nodes for node in of_rank], of_all))
        my_slice = _finished((0, n), found)
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


def _n_grads(state: TrainingState) -> int:
    return sum(grad.size for _, grad, _, _ in state.adam.slots.values())


def _finished(node: tuple[int, int], found: dict) -> np.ndarray:
    """The sum of `node`, from the nodes that are found; it is written over the left one."""
    if node in found:
        return found[node]
    begin, end = node
    mid = middle(begin, end)
    left = _finished((begin, mid), found)
    left += _finished((mid, end), found)
    return left


def _ready_to_send(error: BaseException | None) -> BaseException | None:
    """The error; one that cannot be sent becomes a RuntimeError with the same words."""
    try:
        return pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
