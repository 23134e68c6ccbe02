"""What each kind of node computes: a table of formulas, and of local derivatives to be drawn.

The formulas are what `minivae walk` and the page print.  The local derivatives are written here a
second time, in NumPy, for the pictures alone; the pass takes nothing from this table.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from minivae.layers import sigmoid


class Rule(NamedTuple):
    """What a kind of node computes, in the symbols of its source."""

    inputs: tuple[str, ...]
    output: str
    forward: str
    backward: str
    local: dict[str, Callable] = {}      # local derivatives: formula -> function(*inputs, output)
    gives: tuple[str, ...] = ()          # the inputs that backward gives a gradient of; () is all


RULES = {
    "Dense": Rule(
        ("x",), "y", "y = x @ W + b",
        "dx = dy @ W.T;  dW = x.T @ dy;  db = sum dy"),
    "ReLU": Rule(
        ("x",), "y", "y = max(x, 0)",
        "dx = dy * (x > 0)",
        {"x > 0": lambda x, y: (x > 0).astype(float)}),
    "Tanh": Rule(
        ("x",), "y", "y = tanh(x)",
        "dx = dy * (1 - y^2)",
        {"1 - y^2": lambda x, y: 1 - y**2}),
    "Sigmoid": Rule(
        ("x",), "y", "y = 1 / (1 + e^-x)",
        "dx = dy * y * (1 - y)",
        {"y * (1 - y)": lambda x, y: y * (1 - y)}),
    "Softplus": Rule(
        ("x",), "y", "y = log(1 + e^x)",
        "dx = dy * sigmoid(x)",
        {"sigmoid(x)": lambda x, y: 1 / (1 + np.exp(-x))}),
    "Conv": Rule(
        ("x",), "y", "y = P(x) @ W + b",
        "dx = P^T(dy @ W.T);  dW = P(x).T @ dy;  db = sum dy"),
    "ConvTranspose": Rule(
        ("x",), "y", "y = P^T(x @ W.T) + b",
        "dx = P(dy) @ W;  dW = P(dy).T @ x;  db = sum dy"),
    "Reshape": Rule(
        ("x",), "y", "y = reshape(x)",
        "dx = reshape(dy)"),
    "Planes": Rule(
        ("x",), "y", "y = planes(x), one after the other",
        "dx = dy, pixel by pixel again"),
    "kl": Rule(
        ("mu", "logvar"), "kl", "kl = 1/2 sum_j (mu_j^2 + e^logvar_j - 1 - logvar_j)",
        "dmu = dkl * mu;  dlogvar = dkl * (e^logvar - 1) / 2",
        {"mu": lambda mu, logvar, kl: mu,
         "(e^logvar - 1) / 2": lambda mu, logvar, kl: np.expm1(logvar) / 2}),
    "sample": Rule(
        ("mu", "logvar", "eps"), "z", "z = mu + std * eps,  std = e^(logvar/2)",
        "dmu = dz;  dlogvar = dz * eps * std / 2",
        {"eps * std / 2":
         lambda mu, logvar, eps, z: (eps * np.exp(logvar / 2) / 2).reshape(z.shape)}),
    "log_q": Rule(
        ("z", "mu", "logvar"), "log_qz", "log_qz = log N(z; mu, e^logvar)",
        "dz = -along_z * t;  dmu = along_phi * t;  dlogvar = along_phi * ((z - mu) t - 1) / 2,  "
        "t = (z - mu) / e^logvar"),
    "log_prior": Rule(
        ("z",), "log_pz", "log_pz = -1/2 sum_j (z_j^2 + log 2 pi)",
        "dz = -dlog_pz * z"),
    "BernoulliLikelihood": Rule(
        ("logits", "x"), "log_px", "log_px = sum_i (x_i l_i - log(1 + e^l_i)),  l = logits",
        "dlogits = dlog_px * (x - sigmoid(logits))",
        {"x - sigmoid(logits)": lambda logits, x, log_px: x - 1 / (1 + np.exp(-logits))}),
    "GaussianLikelihood": Rule(
        ("out", "x"), "log_px", "log_px = sum_i log N(x_i; mean_i, e^logvar_i)",
        "dmean = dlog_px * (x - mean) / e^logvar"),
}
# what the nodes of a latent compute where z is a row of coins; q = sigmoid(a) is each chance of a 1
STEP = "z = 1 where u > sigmoid(-a), else 0"
COINS = {
    "kl": Rule(
        ("a",), "kl", "kl = sum_j (q_j log q_j + (1 - q_j) log(1 - q_j) + log 2),  q = sigmoid(a)",
        "da = dkl * a * q * (1 - q)",
        {"a * q * (1 - q)": lambda a, kl: a * sigmoid(a) * sigmoid(-a)}),
    "sample": Rule(("a", "u"), "z", STEP, ""),
    "log_q": Rule(
        ("z", "a"), "log_qz", "log_qz = sum_j (z_j a_j - log(1 + e^a_j))",
        "da = sum_k along_phi * (z - sigmoid(a))",
        {"z - sigmoid(a)": lambda z, a, log_qz: z - sigmoid(a)}, gives=("a",)),
    "log_prior": Rule(("z",), "log_pz", "log_pz = -Z log 2", ""),
}
# by the latent's name: the rules that differ from those of a Gaussian
OF_LATENT = {
    "bernoulli": COINS,
    "concrete": COINS | {"sample": Rule(
        ("a", "u"), "z", "z = sigmoid((a + log u - log(1 - u)) / temperature)",
        "da = dz * z * (1 - z) / temperature",
        {"z * (1 - z)": lambda a, u, z: z * (1 - z)})},
    "straight-through": COINS | {"sample": Rule(
        ("a", "u"), "z", STEP, "da = dz * q * (1 - q), as if z were q = sigmoid(a)",
        {"q * (1 - q)": lambda a, u, z: sigmoid(a) * sigmoid(-a)})},
}
# for a layer that is not ours
UNKNOWN_LAYER = Rule(("x",), "y", "y = f(x)", "dx = backward(dy)")

# by objective: the loss of one image
LOSSES = {
    "analytic_elbo": "loss = -mean_k log_px + beta * kl",
    "sampled_elbo": "loss = -mean_k log_px + beta * kl_sampled,  "
                    "kl_sampled = mean_k (log_qz - log_pz)",
    "multi_sample_bound": "loss = -L_K = -log mean_k w,  w = e^(log_px + log_pz - log_qz)",
}
# by estimator: what it sends back from the loss of one image, as d(loss); what is not named is 0.
# The table of estimators.py is for the objective, so the signs are turned here.
SENT_BACK = {
    "elbo": "dlog_px = -1/K;  dkl = beta",
    "elbo_mc": "dlog_px = -1/K;  dlog_pz = -beta/K;  along_z = along_phi = beta/K",
    "stl": "dlog_px = -1/K;  dlog_pz = -beta/K;  along_z = beta/K",
    "score": "dlog_px = -1/K;  along_phi = -(f - b)/K,  f = log_px + beta (log_pz - log_qz)",
    "score_analytic_kl": "dlog_px = -1/K;  along_phi = -(f - b)/K,  f = log_px;  dkl = beta",
    "iwae": "dlog_px = dlog_pz = -w~;  along_z = along_phi = w~,  w~ = w / sum_k w",
    "iwae_stl": "dlog_px = dlog_pz = -w~;  along_z = w~,  w~ = w / sum_k w",
    "dreg": "dlog_px = dlog_pz = -w~;  along_z = w~;  path = w~,  w~ = w / sum_k w",
    "rws": "dlog_px = -w~;  along_phi = -w~,  w~ = w / sum_k w",
    "vimco": "dlog_px = -w~;  along_phi = -(L_K - L_-k - w~),  w~ = w / sum_k w",
    "disarm": "dlog_px = -1/K;  along_phi = -s (f - b)/K,  f = log_px,  s = sigmoid(|a|);  "
              "dkl = beta",
}


def for_samples(formula: str, K: int) -> str:
    """The same formula without its K where there is one sample."""
    if K > 1:
        return formula
    alone = formula.replace("mean_k (log_qz - log_pz)", "log_qz - log_pz")
    return alone.replace("mean_k ", "").replace("/K", "")
