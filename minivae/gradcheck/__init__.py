"""Is this gradient right?  Finite differences that know their own error, and say what is wrong.

    report = check_layer(layer, x)          # or check_model(vae, x, eps),
                                            # check_function(f, grad, x),
                                            # check_vjp(forward, backward, x)
    print(report)                           # one row per array
    report.raise_if_wrong()

The reference is Romberg's, in float64, through the very kernels that training runs.  It carries an
error bar, and the verdict comes from that bar and not from a tolerance that somebody chose.

To be read in this order:

    report        verdicts, rows, the table, the picture of the remainder
    differences   Romberg's differences and their error bar; kinks; rounding
    complex_step  a second reference, where the function takes complex numbers
    wrong         one wrong gradient, and what is at hand to find out why
    patterns      suspects that look at the numbers alone
    formulas      suspects that look for arrays at hand
    suspects      a sentence on the pattern of wrong entries
    problem       one function, its arrays, a row for each
    strangers     what functions take and give, made ready to be compared
    contract      what a backward promises besides the right numbers
    of_function   check_function and check_vjp, for functions without a layer
    of_layer      check_layer
    parts         a model's loss as a sum of parts
    of_model      check_model, and what an estimator that is no derivative is held to
    precision     float32 against float64
    exact_means   the mean of a gradient over all noise, in one pass
    cases         layers and models at a point where no fault can hide
    forward       checks of the forward pass, which finite differences cannot see
    unbiased      checks of the mean of every estimator
    suite         every check of `minivae gradcheck`, by name
    yours         module:name of the user's
    faults        planted mistakes, a table
    museum        planting them, and seeing which check catches each
"""

from importlib import import_module

# Loaded at first use: a plain pair of functions is checked without Numba.
_HOMES = {
    "report": ["FAIL", "INCONCLUSIVE", "KINK", "PASS", "GradientError", "Report", "Row"],
    "differences": ["Kink", "Line", "entry", "random_direction", "romberg", "rounding_noise"],
    "problem": ["Problem"],
    "of_function": ["check_function", "check_vjp"],
    "of_layer": ["Node", "check_layer"],
    "of_model": ["Surrogate", "check_model", "float64_twin", "kinks_of"],
    "precision": ["check_precision"],
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}
__all__ = sorted(_HOME)


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module 'minivae.gradcheck' has no attribute {name!r}")
    return getattr(import_module(f"minivae.gradcheck.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
