# %% [markdown]
# # Catch the bug: write a layer, get its backward wrong, read the report, mend it
#
# The layer is Swish, y = x * sigmoid(x).  Its author remembers that the derivative of a product
# has two terms, and forgets one of them.

# %%
from pathlib import Path

import numpy as np
import pictures

from minivae import check_layer
from minivae.layers import sigmoid
from minivae.layers import Layer

# after the script's name: a folder for the picture
(out,) = pictures.arguments(Path("runs/demo-03"))


class Swish(Layer):
    """y = x s(x), s the sigmoid."""

    def forward(self, x):
        s = sigmoid(x)
        self._cache["forward"] = (x, s)
        return x * s

    def backward(self, dy):
        x, s = self._take()
        return dy * s                                      # forgot: x is also inside the sigmoid


x = np.random.default_rng(0).standard_normal((4, 3))
report = check_layer(Swish(), x)
print(report)
assert not report.ok

# %% [markdown]
# The first row says FAIL: at the worst entry the analytic and the numeric value differ by far more
# than the error bar.  Every other check passes (linear in dy, adds over the batch, ..).  So the
# plumbing is right and the formula is wrong.

# %% Look at what is missing
row = report.rows[0]
at = row.index
missing = row.numeric - row.analytic
s = sigmoid(x[at])
dy = row.analytic / s                                      # the upstream gradient at that entry
second_term = dy * x[at] * s * (1 - s)
print(f"\nat {at}")
print(f"   the numeric gradient has {missing:+.6f} more than ours")
print(f"   dy * x * s * (1 - s) is  {second_term:+.6f}")

# %% [markdown]
# That is the second term of the product rule, to six digits.  Mended:


# %%
class MendedSwish(Swish):
    """dy/dx = s + x s (1 - s)."""

    def backward(self, dy):
        x, s = self._take()
        return dy * (s + x * s * (1 - s))


mended = check_layer(MendedSwish(), x)
print()
print(mended)
mended.raise_if_wrong()

# %% [markdown]
# The picture says the same.  Go a step h along some u, forward and back, and take off what the
# gradient g foretells, 2h<g,u>.  What remains falls as h^3 if g is right, and as h if it is wrong.
# At a tiny h the rounding of f is all that is left: the rounding floor.

# %%
with pictures.panels(out / "catch_the_bug.png", 1, 2, size=(11, 4.8), sharey=True) as axes:
    report.draw(axes[0])
    mended.draw(axes[1])
    axes[0].set_ylim(1e-18, 1e2)                           # of both
    axes[1].set_ylabel("")

# %% [markdown]
# A second kind of mistake: the formula is right, and a division is added that does not belong.


# %%
class Averaging(MendedSwish):
    """Divides by the batch size, because somebody had a mean in mind."""

    def backward(self, dy):
        return super().backward(dy) / len(dy)


print()
print(check_layer(Averaging(), x))

# %% [markdown]
# ## The answer

# %%
print(f"\nThe wrong layer was off by {abs(missing):.4f} at {at},")
print(f"which is {abs(missing) / row.bar:.0e} error bars.")
print(f"The mended one is within its bar of {mended.rows[0].bar:.0e}.")
