"""What a backward promises besides the right numbers; each clause is a row.

A clause is a question to the passes: objects with the attributes

    inputs, dy      what forward and backward are called with
    params, grads   of a layer; empty for a plain pair of functions
    base            all gradients at inputs and dy, by name
    other           a second dy

and passes(dy, inputs) gives all gradients of one more forward and backward.  The answer is the
difference found, the difference allowed, and what a broken clause means.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from minivae.gradcheck.differences import U
from minivae.gradcheck.report import FAIL, Row, clause, unmeasured

ROUNDINGS = 1000 * U    # sums in another order may differ by this part of their size, no more

Answer = tuple[float, float, str]


def clauses(questions: dict[str, Callable], passes) -> list[Row]:
    """A row per clause.  A pass that raises breaks the clause for which it was made."""
    rows = []
    for name, ask in questions.items():
        try:
            rows.append(clause(name, *ask(passes)))
        except Exception as error:                         # whatever a stranger's code raises
            raised = f"{type(error).__name__} was raised: {error}"
            rows.append(unmeasured(name, (), FAIL, raised))
    return rows


def _apart(a: dict, b: dict) -> tuple[float, float]:
    """The largest difference between two sets of gradients, and how large it may be."""
    difference = max(float(np.abs(a[name] - b[name]).max()) for name in a)
    scale = max(1e-300, max(float(np.abs(g).max()) for g in b.values()))
    return difference, ROUNDINGS * scale


# --- of any backward ------------------------------------------------------------------------------


def keeps_float64(passes) -> Answer:
    """float64 in, float64 out."""
    narrow = [f"{name} is {g.dtype}" for name, g in passes.base.items() if g.dtype != np.float64]
    return (float(len(narrow)), 0.0,
            f"float64 went in, and the gradient of {', '.join(narrow)}")


def repeats_itself(passes) -> Answer:
    """The same inputs and dy give the same gradients."""
    return (*_apart(passes(passes.dy), passes.base),
            "a second forward and backward gave other gradients: does it accumulate, or draw "
            "its own noise?")


def leaves_its_inputs_alone(passes) -> Answer:
    """Neither forward nor backward writes into inputs, dy or parameters."""
    arrays = {f"input {i}": a for i, a in enumerate(passes.inputs)} | {"dy": passes.dy}
    kept = {name: a.copy() for name, a in arrays.items()}
    kept_params = {name: p.copy() for name, p in passes.params.items()}
    passes(passes.dy)
    touched = [name for name, a in arrays.items() if not np.array_equal(a, kept[name])]
    touched += [name for name, p in passes.params.items()
                if not np.array_equal(p, kept_params[name])]
    for name, a in arrays.items():
        a[...] = kept[name]
    return (float(len(touched)), 0.0,
            f"forward and backward wrote into {', '.join(touched)}")


def takes_any_memory_layout(passes) -> Answer:
    """Fortran-ordered inputs and a strided dy are the same numbers."""
    fortran = [np.asfortranarray(a) if a.ndim else a for a in passes.inputs]
    strided = passes.dy
    if strided.ndim:
        strided = np.repeat(strided, 2, axis=-1)[..., ::2]  # every other number in memory
    return (*_apart(passes(strided, fortran), passes.base),
            "Fortran-ordered or strided arrays gave other gradients")


# --- of a backward that takes an upstream gradient ------------------------------------------------


def linear_in_dy(passes) -> Answer:
    """backward(2a - 3b) = 2 backward(a) - 3 backward(b)."""
    of_other = passes(passes.other)
    wanted = {name: 2 * g - 3 * of_other[name] for name, g in passes.base.items()}
    return (*_apart(passes(2 * passes.dy - 3 * passes.other), wanted),
            "backward(2a - 3b) is not 2 backward(a) - 3 backward(b): does it use dy twice, "
            "or not at all?")


def zero_in_zero_out(passes) -> Answer:
    """backward(0) = 0."""
    largest = max(float(np.abs(g).max()) for g in passes(0 * passes.dy).values())
    return largest, ROUNDINGS, "an upstream gradient of zeros gave something else"


# --- of a layer -----------------------------------------------------------------------------------


def adds_over_the_batch(passes) -> Answer:
    """A parameter's gradient is the sum over the rows, an input's is that of its row alone."""
    alone = [passes(passes.dy[n : n + 1], [a[n : n + 1] for a in passes.inputs])
             for n in range(len(passes.dy))]
    together = {}
    for name in passes.base:
        by_row = [one[name] for one in alone]
        together[name] = sum(by_row) if name in passes.grads else np.concatenate(by_row)
    return (*_apart(passes.base, together),
            "the batch's gradients are not those of its rows: divided by B inside, or do "
            "rows leak into each other?")


def needs_a_forward_each_time(passes) -> Answer:
    """A second backward is refused, with any exception; only a minivae Layer has promised it."""
    passes(passes.dy)
    try:
        passes.layer.backward(passes.dy)
    except Exception:                                      # however the layer refuses
        return 0.0, 0.0, ""
    return (float(hasattr(passes.layer, "_take")), 0.0,
            "backward ran twice on one forward: it may use what another call left behind")


UPSTREAM = {"linear in dy": linear_in_dy, "zero in, zero out": zero_in_zero_out}
OF_A_FUNCTION = {"keeps float64": keeps_float64, "repeats itself": repeats_itself,
                 "leaves its inputs alone": leaves_its_inputs_alone,
                 "takes any memory layout": takes_any_memory_layout}
OF_A_PAIR = {"keeps float64": keeps_float64, "repeats itself": repeats_itself, **UPSTREAM,
             "leaves its inputs alone": leaves_its_inputs_alone,
             "takes any memory layout": takes_any_memory_layout}
