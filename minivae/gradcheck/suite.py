"""Every check that `minivae gradcheck` runs on the package itself, by name.

Three kinds.  Gradient checks hold each backward to its forward by finite differences.  forward.*,
VAE.by hand and VAE.objective check what differences cannot see.  float32.* hold float32 to float64.
Each takes a seed and returns a Report.
"""

from minivae.building import Planes
from minivae.convolutions import Conv, ConvTranspose, Reshape
from minivae.discrete import ConcreteLatent, StraightThroughLatent
from minivae.estimators import ESTIMATORS, elbo_mc
from minivae.gradcheck import cases, forward, unbiased
from minivae.gradcheck.cases import B, D, F8, H, K, Z
from minivae.cores import FEW_ROWS
from minivae.layers import Dense, ReLU, Sequential, Sigmoid, Softplus, Tanh
from minivae.likelihoods import BernoulliLikelihood, GaussianLikelihood

ROWS, SAMPLES, NOISE = (B, Z), (K * B, Z), (K, B, Z)       # shapes of mu, z and eps

LAYERS = {
    "Dense": cases.layer(lambda rng: Dense(D, H, rng, F8)),
    "Dense.square": cases.layer(lambda rng: Dense(H, H, rng, F8), width=H),
    # square: a transpose that is left out shows in the numbers, and raises nothing
    "Dense.many_rows": cases.layer(lambda rng: Dense(2, 2, rng, F8), width=2, rows=FEW_ROWS + 1),
    "ReLU": cases.layer(lambda rng: ReLU()),
    "Tanh": cases.layer(lambda rng: Tanh()),
    "Sigmoid": cases.layer(lambda rng: Sigmoid(), spread=2),
    "Softplus": cases.layer(lambda rng: Softplus(), spread=2),
    "Sequential": cases.layer(lambda rng: Sequential(Dense(D, H, rng, F8), Tanh(),
                                                     Dense(H, H, rng, F8), Softplus())),
    # patches that overlap; the stride of most networks; gaps between patches, and sizes that do
    # not divide; one image whose patches are more than a tile
    "Conv": cases.images(lambda rng: Conv(2, 3, 3, 1, 1, rng, F8), 4, 5, 2),
    "Conv.stride_2": cases.images(lambda rng: Conv(1, 3, 4, 2, 1, rng, F8), 7, 6, 1),
    "Conv.stride_3": cases.images(lambda rng: Conv(3, 2, 2, 3, 0, rng, F8), 7, 5, 3),
    "Conv.tiles": cases.images(lambda rng: Conv(1, 1, 22, 1, 15, rng, F8), 2, 2, 1, rows=2),
    "ConvTranspose":
        cases.images(lambda rng: ConvTranspose(3, 2, 3, 1, 1, (4, 5), rng, F8), 4, 5, 3),
    "ConvTranspose.stride_2":
        cases.images(lambda rng: ConvTranspose(3, 1, 4, 2, 1, (7, 6), rng, F8), 3, 3, 3),
    "ConvTranspose.stride_3":
        cases.images(lambda rng: ConvTranspose(2, 3, 2, 3, 0, (7, 5), rng, F8), 2, 2, 2),
    "Reshape": cases.layer(lambda rng: Reshape(2, 3, 2), width=12),
    "Planes": cases.images(lambda rng: Planes(2), 4, 3, 6),
    "BernoulliLikelihood": cases.likelihood(BernoulliLikelihood, binary=True),
    "GaussianLikelihood.per_pixel":
        cases.likelihood(lambda: GaussianLikelihood("per_pixel", F8), binary=False),
    "GaussianLikelihood.shared":
        cases.likelihood(lambda: GaussianLikelihood("shared", F8), binary=False),
    "GaussianLikelihood.fixed":
        cases.likelihood(lambda: GaussianLikelihood(-1.3, F8), binary=False),
    "GaussianLatent.sample": cases.gaussian("sample", ROWS, ROWS, NOISE),
    "GaussianLatent.kl": cases.gaussian("kl", ROWS, ROWS),
    "GaussianLatent.log_q": cases.gaussian("log_q", SAMPLES, ROWS, ROWS),
    "GaussianLatent.log_q, wires": cases.log_q_wires,
    "GaussianLatent.log_prior": cases.gaussian("log_prior", SAMPLES),
    "BernoulliLatent.kl": cases.coin("kl"),
    "BernoulliLatent.log_q": cases.coin("log_q"),
    "ConcreteLatent.sample": cases.coin("sample"),
    "NVIL": cases.nvil,
}
FORWARD = {
    "forward.activations": forward.activations,
    "forward.convolutions": forward.convolutions,
    "forward.sample": forward.sample,
    "forward.densities": forward.densities,
    "forward.likelihoods": forward.likelihoods,
    "forward.Adam": forward.adam,
    "forward.coins": forward.coins,
    "forward.baselines": forward.baselines,
}
FLOAT32 = {
    "float32.Dense": cases.precision(lambda rng, dtype: Dense(D, H, rng, dtype), (B, D)),
    "float32.Dense.many_rows":
        cases.precision(lambda rng, dtype: Dense(H, H, rng, dtype), (FEW_ROWS + 1, H)),
    "float32.ReLU": cases.precision(lambda rng, dtype: ReLU(), (B, D)),
    "float32.Tanh": cases.precision(lambda rng, dtype: Tanh(), (B, D)),
    "float32.Sigmoid": cases.precision(lambda rng, dtype: Sigmoid(), (B, D)),
    "float32.Softplus": cases.precision(lambda rng, dtype: Softplus(), (B, D)),
    "float32.Conv":
        cases.precision(lambda rng, dtype: Conv(2, 3, 3, 2, 1, rng, dtype), (B, 6, 5, 2)),
    "float32.ConvTranspose":
        cases.precision(lambda rng, dtype: ConvTranspose(3, 2, 3, 2, 1, (6, 5), rng, dtype),
                        (B, 3, 3, 3)),
    "float32.BernoulliLikelihood":
        cases.precision(lambda rng, dtype: BernoulliLikelihood(), (B, D), (B, D)),
    "float32.GaussianLikelihood":
        cases.precision(lambda rng, dtype: GaussianLikelihood("per_pixel", dtype),
                        (B, 2 * D), (B, D)),
    "float32.GaussianLatent.sample": cases.gaussian_precision("sample", ROWS, ROWS, NOISE),
    "float32.GaussianLatent.kl": cases.gaussian_precision("kl", ROWS, ROWS),
    "float32.GaussianLatent.log_q": cases.gaussian_precision("log_q", SAMPLES, ROWS, ROWS),
    "float32.GaussianLatent.log_prior": cases.gaussian_precision("log_prior", SAMPLES),
    "float32.BernoulliLatent.kl": cases.coin_precision("kl"),
    "float32.BernoulliLatent.log_q": cases.coin_precision("log_q"),
    "float32.ConcreteLatent.sample": cases.coin_precision("sample"),
}
OF_GAUSSIANS = [name for name in ESTIMATORS if name not in ("elbo", "elbo_mc", "disarm")]
VAES = {
    "VAE.elbo": cases.vae(1, hidden=(6, H)),
    "VAE.elbo, K=3": cases.vae(K),
    # wide enough that no seed finds every unit off: there would be nothing to compare
    "VAE.elbo, relu": cases.vae(K, hidden=(11, 9), activation="relu"),
    "VAE.elbo, gaussian": cases.vae(K, likelihood="gaussian", activation="softplus"),
    "VAE.recon alone": cases.vae(K, beta=0.0),
    "VAE.kl alone": cases.vae(K, estimator=cases.kl_alone),
    "VAE.elbo_mc": cases.vae(1, estimator=elbo_mc),
    "VAE.elbo_mc, K=3": cases.vae(K, estimator=elbo_mc),
    **{f"VAE.{name}, K=3": cases.vae(K, hidden=(), estimator=ESTIMATORS[name], beta=1.0)
       for name in OF_GAUSSIANS},
    "VAE.by hand": forward.by_hand,
    "VAE.objective": forward.objective,
    "forward.bound": forward.bound,
    "forward.estimators": unbiased.gaussian_estimators,
}
BETA_OF_COINS = {"score": 1.7, "score_analytic_kl": 1.7, "disarm": 1.7, "rws": 1.0, "vimco": 1.0}
DISCRETE_VAES = {
    "DiscreteVAE.elbo, concrete": cases.discrete(K, hidden=(H,), latent=ConcreteLatent(0.7)),
    "DiscreteVAE.elbo, straight-through": cases.discrete(K, latent=StraightThroughLatent()),
    **{f"DiscreteVAE.{name}": cases.discrete(2, estimator=ESTIMATORS[name], beta=beta)
       for name, beta in BETA_OF_COINS.items()},
    "forward.discrete estimators": unbiased.discrete_estimators,
}

CHECKS: dict[str, cases.Check] = {**LAYERS, **FORWARD, **FLOAT32, **VAES, **DISCRETE_VAES,
                                  "VAE.784-400-20": cases.big_vae}
