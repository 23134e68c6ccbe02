"""The exercise of page 0: the whole backward pass of a VAE, every line of it open."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from minivae.gradcheck.of_function import check_function
from minivae.gradcheck.report import Report
from minivae.learn.rung import Rung, point_of, run, run_untouched, signature
from minivae.learn.verdict import Refused, look_over


# As backward fills them: the first wrong row is then the first wrong line.
IN_ORDER = [kind + name for name in ("logits", "dec", "logvar", "mu", "enc")
            for kind in ("W_", "b_")]


@dataclass
class Whole(Rung):
    """backward(p, cache) -> dp, a dict with the gradient of every parameter of the dict p."""

    def check(self, names: dict, sizes: dict, rng: np.random.Generator) -> Report:
        """The forward beside ours, then dp against differences of our loss."""
        point, ours = point_of(self.arrays, self.page, sizes, rng), vars(self.page)
        p = {name: point["p"][name] for name in IN_ORDER}
        y = run(self.forward, ours, point)
        self.look_at_forward(run_untouched(self.forward, names, point), y, sizes)
        dp = run_untouched(self.backward, names, point | y)["dp"]
        if not isinstance(dp, dict):
            raise Refused(f"backward returns {'nothing' if dp is None else type(dp).__name__} and "
                          "should return the dict dp.")
        for name, param in p.items():
            if name not in dp:
                raise Refused(f'dp["{name}"] is missing: every parameter of p has a gradient.')
            look_over(f'dp["{name}"]', dp[name], param)

        def loss(*params):
            return run(self.forward, ours, point | {"p": dict(zip(p, params))})["loss"]

        def gradient(*params):
            here = point | {"p": dict(zip(p, params))}
            here |= run(self.forward, ours, here)
            found = run(self.backward, names, here)["dp"]
            return tuple(found[name] for name in p)

        loss.__signature__ = signature(list(p))
        return check_function(loss, gradient, *p.values(), rng=rng, title=self.name)

    def answers(self, functions: dict, sizes: dict, rng: np.random.Generator) -> dict:
        """The loss, and the gradient of every parameter."""
        point = point_of(self.arrays, self.page, sizes, rng)
        cache = run(self.forward, vars(self.page), point)["cache"]
        loss = run(self.forward, functions, point)["loss"]
        return {"loss": loss} | run(self.backward, functions, point | {"cache": cache})["dp"]

    def called(self) -> dict[str, str]:
        """The row W_mu is what the reader calls dp["W_mu"]."""
        return {name: f'dp["{name}"]' for name in IN_ORDER}

    def shown(self) -> str:
        """The loss and every gradient."""
        return '{"loss": loss} | dp'
