"""The defaults, in one place: whoever leaves an argument out gets other numbers when one of them changes."""

import inspect

import numpy as np
import pytest

from minivae import VAE, DiscreteVAE, VAEEstimator, fit
from minivae.baselines import NVIL, RunningMean
from minivae.discrete import ConcreteLatent
from minivae.estimators import elbo
from minivae.likelihoods import GaussianLikelihood
from minivae.optim import Adam
from minivae.training.evaluation import evaluate
from minivae.training.metrics import active_units, interpolate, log_px, measure

OF_A_MODEL = {"likelihood": "bernoulli", "activation": "relu", "beta": 1.0, "estimator": elbo, "baseline": "others",
              "latent": None, "rng": None, "dtype": np.float32}
OF_A_TRAINING = {"epochs": 20, "batch_size": 128, "lr": 1e-3, "samples": 1}
DEFAULTS = [
    (Adam, {"lr": 1e-3, "beta1": 0.9, "beta2": 0.999, "adam_eps": 1e-8}),                  # Kingma & Ba, algorithm 1
    (VAE.mlp, OF_A_MODEL), (DiscreteVAE.mlp, OF_A_MODEL),
    (VAE.conv, {"channels": (32, 64), "z_dim": 20, "kernel": 4, "stride": 2, "padding": 1, **OF_A_MODEL}),
    (fit, {"X_test": None, **OF_A_TRAINING, "binarize": None, "warmup": 0, "decay": 1.0, "patience": None, "rng": None,
           "callback": None, "checkpoint": None, "resume": None, "stop": None, "note": None, "adam": None,
           "progress": False, "comm": None}),
    (evaluate, {"binarize": None, "scale": None, "n_jobs": None}),
    (VAEEstimator, {"z_dim": 8, "hidden": (200,), "channels": None, "image_shape": None, **OF_A_TRAINING,
                    **{name: OF_A_MODEL[name] for name in ("likelihood", "activation", "beta")},
                    "random_state": None}),
    (GaussianLikelihood, {"logvar": "shared", "dtype": np.float32}),
    (ConcreteLatent, {"temperature": 0.5}),
    (RunningMean, {"decay": 0.9}),
    (NVIL, {"hidden": 100, "decay": 0.8, "lr": 1e-3, "rng": None, "dtype": np.float32}),
    (log_px, {"samples": 5000, "rng": None, "n_jobs": None}),                              # Burda et al., section 5
    (measure, {"samples": 1000, "rng": None, "progress": False, "n_jobs": None}),
    (interpolate, {"steps": 9}),
    (active_units, {"threshold": 0.01}),                                                   # the same, section 5.2
]


@pytest.mark.parametrize("function, wanted", DEFAULTS, ids=lambda part: getattr(part, "__qualname__", ""))
def test_the_defaults_are_these(function, wanted):
    parameters = inspect.signature(function).parameters.values()
    assert {p.name: p.default for p in parameters if p.default is not p.empty} == wanted
