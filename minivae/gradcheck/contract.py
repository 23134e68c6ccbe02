"""What a backward promises besides the right numbers; each clause is a row.

A clause is a question to the passes: objects with the attributes

    inputs, dy      what forward and backward are called with
    params          of a layer; empty for a plain pair of functions
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


def is_linear(passes) -> Answer:
    """forward(x + 2v) - forward(x) = 2 (forward(x + v) - forward(x))."""
    v, y = _some_direction(passes), passes.y()
    once, twice = passes.y(_moved(passes, v, 1)), passes.y(_moved(passes, v, 2))
    size = np.abs(once).max() + np.abs(twice).max() + np.abs(y).max()
    return (float(np.abs(twice - 2 * once + y).max()), ROUNDINGS * float(size),
            "the layer says linear = True, but twice as large a step does not move y twice as far")


def adjoint(passes) -> Answer:
    """<J v, w> = <v, J' w>  with  J v = forward(x + v) - forward(x)  and  J' w = backward(w)."""
    v, w, y = _some_direction(passes), passes.dy, passes.y()
    moved = passes.y(_moved(passes, v, 1))
    found = passes(w)
    through_forward = float((w * (moved - y)).sum())
    through_backward = sum(float((d * found[name]).sum()) for name, d in v.items())
    size = np.abs(w * moved).sum() + np.abs(w * y).sum()
    size += sum(np.abs(d * found[name]).sum() for name, d in v.items())
    return (abs(through_forward - through_backward), ROUNDINGS * float(size),
            f"<J v, w> is {through_forward:.7g} through forward and {through_backward:.7g} "
            "through backward: backward is not the transpose of forward")


def _some_direction(passes) -> dict[str, np.ndarray]:
    """A random v for each input that has a gradient, by name."""
    return {name: passes.rng.standard_normal(passes.inputs[i].shape)
            for i, name in passes.names.items()}


def _moved(passes, v: dict[str, np.ndarray], by: float) -> list[np.ndarray]:
    """The inputs plus `by` times v."""
    return [a + by * v[passes.names[i]] if i in passes.names else a
            for i, a in enumerate(passes.inputs)]


def writes_into_its_own_grads(passes) -> Answer:
    """What lies in params and grads before a pass lies there after it, and can be moved in place.

    An optimiser takes the arrays once, each as one row of numbers.
    """
    passes(passes.dy)
    now = {name: (p, passes.grads.get(name)) for name, p in passes.params.items()}
    why = why_never_moved(passes.held, now)
    return float(len(why)), 0.0, "; ".join(why)


def why_never_moved(before: dict[str, tuple], after: dict[str, tuple]) -> list[str]:
    """What keeps an optimiser from moving a parameter; {name: (param, grad)} around a pass."""
    why = []
    for name, arrays in before.items():
        now = after.get(name, (None, None))
        for what, array, array_now in zip(("params", "grads"), arrays, now):
            if array_now is not array:
                why.append(f"another array was put in the place of {what}[{name!r}], and an "
                           f"optimiser goes on with the old one: write {what}[{name!r}][...] =")
            elif array.size and not np.shares_memory(array, array.reshape(-1)):
                why.append(f"{what}[{name!r}] is not C-contiguous, and an optimiser would take a "
                           "copy: np.ascontiguousarray makes one that is")
    return why


def adds_over_the_batch(passes) -> Answer:
    """A parameter's gradient is the sum over the rows, an input's is that of its row alone."""
    alone = [passes(passes.dy[n : n + 1], [a[n : n + 1] for a in passes.inputs])
             for n in range(len(passes.dy))]
    together = {}
    for name in passes.base:
        by_row = [one[name] for one in alone]
        together[name] = sum(by_row) if name in passes.params else np.concatenate(by_row)
    return (*_apart(passes.base, together),
            "the batch's gradients are not those of its rows: divided by B inside, or do "
            "rows leak into each other? Where they are meant to meet, as in batch "
            "normalisation, say mixes_rows=True (--mixes-rows)")


def needs_a_forward_each_time(passes) -> Answer:
    """A second backward is refused, with any exception; only a minivae Layer has promised it."""
    passes(passes.dy)
    try:
        passes.layer.backward(passes.dy)
    except Exception:                                      # however the layer refuses
        return 0.0, 0.0, ""
    return (float(hasattr(passes.layer, "_take")), 0.0,
            "backward ran twice on one forward: it may use what another call left behind")


OF_A_FUNCTION = {"keeps float64": keeps_float64, "repeats itself": repeats_itself,
                 "leaves its inputs alone": leaves_its_inputs_alone,
                 "takes any memory layout": takes_any_memory_layout}
OF_A_PAIR = {"keeps float64": keeps_float64, "repeats itself": repeats_itself,
             "linear in dy": linear_in_dy, "zero in, zero out": zero_in_zero_out,
             "leaves its inputs alone": leaves_its_inputs_alone,
             "takes any memory layout": takes_any_memory_layout}
OF_LINEAR = {"linear, as it says": is_linear, "adjoint": adjoint}
OF_PARAMS = {"writes into its own grads": writes_into_its_own_grads}
OF_ROWS = {"adds over the batch": adds_over_the_batch}
ONCE = {"needs a forward each time": needs_a_forward_each_time}
