"""Is this gradient right?  Finite differences that know their own error, and say what is wrong.

    report = check_layer(layer, x)          # or check_model(vae, x, eps)
    print(report)                           # one row per array
    report.raise_if_wrong()

The reference is Romberg's, in float64, through the very kernels that training runs.  It carries an
error bar, and the verdict comes from that bar and not from a tolerance that somebody chose.

To be read in this order:

    report        verdicts, rows, the table, the picture of the remainder
    differences   Romberg's differences and their error bar; kinks; rounding
    suspects      a sentence on the pattern of wrong entries
    problem       one function, its arrays, a row for each
    of_layer      check_layer, and the contract of backward
    of_model      check_model, and what an estimator that is no derivative is held to
    precision     float32 against float64
    exact_means   the mean of a gradient over all noise, in one pass
    cases         layers and models at a point where no fault can hide
    forward       checks of the forward pass, which finite differences cannot see
    unbiased      checks of the mean of every estimator
    suite         every check of `minivae gradcheck`, by name
    faults        planted mistakes, a table
    museum        planting them, and seeing which check catches each
"""

from minivae.gradcheck.differences import (Kink, Line, entry, random_direction, romberg,
                                           rounding_noise)
from minivae.gradcheck.of_layer import Node, check_layer
from minivae.gradcheck.of_model import Surrogate, check_model, float64_twin, kinks_of
from minivae.gradcheck.precision import check_precision
from minivae.gradcheck.problem import Problem
from minivae.gradcheck.report import (FAIL, INCONCLUSIVE, KINK, PASS, GradientError, Report, Row)

__all__ = ["FAIL", "INCONCLUSIVE", "KINK", "PASS", "GradientError", "Kink", "Line", "Node",
           "Problem", "Report", "Row", "Surrogate", "check_layer", "check_model",
           "check_precision", "entry", "float64_twin", "kinks_of", "random_direction", "romberg",
           "rounding_noise"]
