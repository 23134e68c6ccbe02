"""Baselines: what a score-function estimator subtracts from f before it weighs grad log q with it.

E_q[b grad log q] = 0 for every b that does not depend on z, so b changes the variance of the
gradient and not its mean.  A model calls its baseline in two places:

    baseline(f, x)      gives f less b; b comes from PAST steps, or from the other samples
    baseline.update()   learns from the last call; the training loop calls it after each step

They are apart because a baseline that has already learned from f depends on the z behind f.  With
batches of one image, RunningMean would then make the gradient of step t too small by the factor
(decay - decay^t) / (1 - decay^t), which tends to decay, e.g. 0.9.

Shapes: f (K, B) in nats, x (B, D), b (B,) or (K, B).
"""

import numpy as np

from minivae.choices import choose
from minivae.estimators import ESTIMATORS, others
from minivae.layers import Dense, Sequential, Tanh
from minivae.optim import Adam


class Baseline:
    """What a model asks of a baseline.  This one takes nothing off and remembers nothing."""

    name = "none"
    settings: dict = {}         # what its class is called with, for a file

    def __call__(self, f: np.ndarray, x: np.ndarray) -> np.ndarray:
        """f : (K, B), x : (B, D)  ->  f less the baseline : (K, B)."""
        return f

    def update(self) -> None:
        """Learn from the last call, once."""

    def state(self) -> dict[str, np.ndarray]:
        """The memory, as arrays: a model that is saved and loaded goes on where it stood."""
        return {}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Take up a memory that `state` gave."""


class Others(Baseline):
    """b = the mean of f over the image's other samples, 0 at K = 1.  The default.

    Source: Kool et al. (2019), "Buy 4 REINFORCE samples, get a baseline for free", section 3.
    """

    name = "others"

    def __call__(self, f: np.ndarray, x: np.ndarray) -> np.ndarray:
        """f : (K, B), x : (B, D)  ->  f - mean of the others : (K, B)."""
        return others(f, x)


class RunningMean(Baseline):
    """b = mean / (1 - decay^t): an average of the batch means of f over the t past steps.

    mean = decay * mean + (1 - decay) * mean(f), and b = 0 before the first step.  The division
    removes the bias that comes from the start at 0.
    Source: Williams (1992), who calls it reinforcement comparison; for the division Kingma & Ba
    (2015), section 3.

    Parameters
    ----------
    decay : float, 0 <= decay < 1; ValueError otherwise
    """

    name = "running-mean"

    def __init__(self, decay: float = 0.9):
        self.decay = _checked_decay(decay)
        self.settings = {"decay": self.decay}
        self.mean, self.steps, self.last_f = 0.0, 0, None

    def value(self, x: np.ndarray) -> np.ndarray:
        """x : (B, D)  ->  b : (B,), nats, from past steps only."""
        b = self.mean / (1 - self.decay**self.steps) if self.steps else 0.0
        return np.full(len(x), b)

    def __call__(self, f: np.ndarray, x: np.ndarray) -> np.ndarray:
        """f : (K, B), x : (B, D)  ->  f - b : (K, B)."""
        self.last_f = f
        return f - self.value(x).astype(f.dtype)

    def update(self) -> None:
        """Learn from the last call, once."""
        _check_called(self.last_f, "RunningMean")
        f = self.last_f
        self.last_f = None
        self.mean = self.decay * self.mean + (1 - self.decay) * float(f.mean(dtype=np.float64))
        self.steps += 1

    def state(self) -> dict[str, np.ndarray]:
        """The memory, as arrays."""
        return {"mean": np.array([self.mean]), "steps": np.array([self.steps])}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Take up a memory that `state` gave."""
        self.mean, self.steps = state["mean"].item(), state["steps"].item()


class NVIL(Baseline):
    """(f - C(x) - c) / max(1, sqrt(v)): a baseline that depends on the image, and a scale.

    C is a network with one hidden layer, fitted by squared error:
    cost = mean_kn (f - C(x) - c)^2 / 2.
    c and v are running averages, over past batches, of the mean and the variance of f - C(x); both
    start at 0.  The division shortens steps while f is wild.  It is the same for all of a batch, so
    it changes the length of phi's gradient and not its direction, where all of that gradient comes
    from f.  An analytic KL would stay undivided and weigh sqrt(v) times too much, so this baseline
    goes with the estimator `score` alone.
    Source: Mnih & Gregor (2014), arXiv:1402.0030, section 2.

    Parameters
    ----------
    x_dim, hidden : int
        D pixels, and the width of C's hidden layer of tanh units.
    decay : float, of the running averages
    lr : float, Adam's step size for C
    rng : seed or numpy.random.Generator, for C's first weights
    dtype : float32 or float64, as the model
    """

    name = "nvil"

    def __init__(self, x_dim: int, hidden: int = 100, decay: float = 0.8, lr: float = 1e-3,
                 rng=None, dtype=np.float32):
        rng = np.random.default_rng(rng)
        self.decay = _checked_decay(decay)
        self.settings = {"hidden": int(hidden), "decay": self.decay, "lr": float(lr)}
        self.net = Sequential(Dense(x_dim, hidden, rng, dtype), Tanh(),
                              Dense(hidden, 1, rng, dtype))
        named = [(name, p, self.net.grads[name]) for name, p in self.net.params.items()]
        self.adam = Adam(named, lr)
        self.c, self.v, self.last_call = 0.0, 0.0, None

    def value(self, x: np.ndarray) -> np.ndarray:
        """x : (B, D)  ->  b = C(x) + c : (B,), nats, from past steps only."""
        return self.net.forward(x)[:, 0] + self.c

    def __call__(self, f: np.ndarray, x: np.ndarray) -> np.ndarray:
        """f : (K, B), x : (B, D)  ->  (f - C(x) - c) / max(1, sqrt(v)) : (K, B)."""
        self.last_call = f, x
        return (f - self.value(x)) / max(1.0, float(np.sqrt(self.v)))

    def update(self) -> None:
        """Learn from the last call, once: one step of Adam for C, then c and v."""
        _check_called(self.last_call, "NVIL")
        f, x = self.last_call
        self.last_call = None
        residual = f - self.value(x)                       # (K, B)
        self.net.backward(self.backward(residual), input_grad=False)
        self.adam.step()
        beyond_C = residual.astype(np.float64) + self.c    # f - C(x), C as it was before its step
        self.c = self.decay * self.c + (1 - self.decay) * float(beyond_C.mean())
        self.v = self.decay * self.v + (1 - self.decay) * float(beyond_C.var())

    def backward(self, residual: np.ndarray) -> np.ndarray:
        """residual = f - C(x) - c : (K, B)  ->  dC : (B, 1), the gradient of the cost.

        cost = mean_kn residual^2 / 2 and d residual/dC = -1.  All K samples of an image share its
        C, so their residuals sum over k.
        """
        return -residual.sum(axis=0)[:, None] / residual.size

    def state(self) -> dict[str, np.ndarray]:
        """The memory, as arrays: C's weights, Adam's moments, c and v."""
        net = {f"C.{name}": p.copy() for name, p in self.net.params.items()}
        adam = {f"adam.{name}": a for name, a in self.adam.state().items()}
        return {"c": np.array([self.c]), "v": np.array([self.v]), **net, **adam}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Take up a memory that `state` gave."""
        self.c, self.v = state["c"].item(), state["v"].item()
        for name, param in self.net.params.items():
            param[...] = state[f"C.{name}"]
        self.adam.restore({name.removeprefix("adam."): a for name, a in state.items()
                           if name.startswith("adam.")})


BASELINES = {kind.name: kind for kind in (Baseline, Others, RunningMean, NVIL)}


def make(name: str, x_dim: int, rng=None, dtype=np.float32, **settings) -> Baseline:
    """The baseline called `name`, for a model of D pixels; settings are those of its class.

    Raises ValueError for an unknown name.
    """
    kind = choose(name, BASELINES, "baseline")
    if kind is NVIL:
        return NVIL(x_dim, rng=rng, dtype=dtype, **settings)
    return kind(**settings)


def check(baseline: Baseline, estimator) -> None:
    """Raise ValueError where the estimator does not take this baseline."""
    if not isinstance(baseline, Baseline):
        raise ValueError(f"a baseline is one of {', '.join(BASELINES)}, or an object of "
                         f"minivae.baselines; got {type(baseline).__name__}")
    if not isinstance(baseline, Others) and not estimator.takes_baseline:
        takers = " and ".join(name for name, known in ESTIMATORS.items() if known.takes_baseline)
        raise ValueError(f"the estimator {estimator.__name__} takes no baseline of yours; "
                         f"{takers} do")
    if isinstance(baseline, NVIL) and estimator is ESTIMATORS["score_analytic_kl"]:
        raise ValueError("the baseline nvil divides f by its spread, and the analytic KL of "
                         "score_analytic_kl would stay undivided and weigh too much: take the "
                         "estimator score")


def _checked_decay(decay: float) -> float:
    """decay as a float.  Raises ValueError unless 0 <= decay < 1."""
    if not 0 <= decay < 1:
        raise ValueError(f"a baseline's decay must be a number from 0 to below 1, got {decay}")
    return float(decay)


def _check_called(last, name: str) -> None:
    """Raise RuntimeError where there was no call for `update` to learn from."""
    if last is None:
        raise RuntimeError(f"{name}.update called without a forward of a score-function estimator "
                           "before it")
