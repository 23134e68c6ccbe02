"""The faults of the museum, restated on the exercises' own solutions: two tables.

RESTATED says in which exercise a fault can be made, and which text becomes which; the grader must
refuse every one of them.  NO_TWIN says of the others why no exercise can have them.
"""


def after(line: str, code: str) -> tuple[str, str]:
    """old and new of a fault that adds code after a line."""
    return line, f"{line}\n{code}"


DW, DX = "dW = x.T @ dy", "dx = dy @ W.T"
CONV_DW = "dW = rows.T @ d_out"
CONV_DX = "dx = add_patches(dy @ W.T, k, stride, padding, x.shape)"

# fault: (exercise, old, new), and further old, new of the same fault
RESTATED: dict[str, tuple[str, ...]] = {
    # --- Dense
    "dense-columns-reversed": ("dense-dw", DW, "dW = x.T @ dy[:, ::-1]"),
    "dense-bias-mean": ("bias", "dy.sum(axis=0)", "dy.mean(axis=0)"),
    "dense-bias-forgotten": ("bias", "db = dy.sum", "db = 0 * dy.sum"),
    "dense-not-transposed": ("dense-dx", DX,
                             "dx = dy @ (W if W.shape[0] == W.shape[1] else W.T)"),
    "dense-gradient-transposed": (
        "dense-dw", *after(DW, "dW = dW.T if dW.shape[0] == dW.shape[1] else dW")),
    "dense-double-count": ("dense-dw", *after(DW, "dW *= 2")),
    "dense-one-row": ("dense-dw", *after(DW, "dW[1] *= 1.01")),
    "dense-one-sign": ("dense-dw", *after(DW, "dW[1, 2] = -dW[1, 2]")),
    "dense-two-swapped": ("dense-dw", *after(DW, "dW[0, 1], dW[1, 0] = dW[1, 0], dW[0, 1]")),
    "dense-smallest-zeroed": ("dense-dw",
                              *after(DW, "dW.reshape(-1)[np.abs(dW).argmin()] = 0")),
    "dense-a-millionth": ("dense-dw", *after(DW, "dW *= 1 + 1e-6")),
    "dense-block": ("dense-dw", *after(DW, "dW[:2, :2] *= 1 + 1e-4")),
    "dense-bias-shifted": ("bias", "dy.sum(axis=0)", "dy.sum(axis=0) + 1e-5"),
    "dense-one-bias": ("dense-dx", *after(DX, "dx[0, 0] += 2e-6")),
    "dense-rounded": ("dense-dw", *after(DW, "dW = dW.astype(np.float32).astype(float)")),
    "dense-writes-upstream": ("dense-dx", DX, f"dy *= 1.5\n{DX}"),
    "dense-rows-leak": ("dense-dx", DX, "dx = np.roll(dy, 1, 0) @ W.T"),
    # --- activations
    "relu-mask-of-upstream": ("relu", "(x > 0)", "(dy > 0)"),
    "relu-no-mask": ("relu", "dy * (x > 0)", "dy.copy()"),
    "relu-mask-inverted": ("relu", "(x > 0)", "(x <= 0)"),
    "tanh-not-squared": ("tanh", "1 - y**2)", "1 - y)"),
    "tanh-of-the-output": ("tanh", "1 - y**2)", "1 - np.tanh(y) ** 2)"),
    "tanh-plus-1e-5": ("tanh", "1 - y**2)", "1 - y**2 + 1e-5)"),
    "sigmoid-of-the-output": ("sigmoid", "dy * y * (1 - y)",
                              "dy * sigmoid(y) * (1 - sigmoid(y))"),
    "softplus-mirrored": ("softplus", "dy * sigmoid(x)", "dy * sigmoid(-x)"),
    "sequential-skips-activations": (
        "sequential", "dy = backward(x, dy)",
        "dy = backward(x, dy) if backward(x, dy).shape != dy.shape else dy"),
    # --- convolutions
    "conv-dx-left-at-zero": ("conv", CONV_DX, "dx = 0 * x"),
    "conv-kernel-turned": (
        "conv", *after(CONV_DW, "dW = dW.reshape(k * k, -1, dW.shape[1])[::-1].reshape(dW.shape)")),
    "conv-bias-of-one-pixel": ("conv", "db = d_out.sum(axis=0)", "db = dy[:, 0, 0].sum(axis=0)"),
    "conv-overlap-overwritten": ("conv", "+= rows[:, i, j]", "= rows[:, i, j]"),
    "conv-stride-forgotten": ("conv", "top, left = i * stride, j * stride", "top, left = i, j"),
    "conv-padding-forgotten": ("conv", "padding : padding + H, padding : padding + W", ":H, :W"),
    "conv-index-of-the-other-axis": ("conv", "i * stride, j * stride", "i * stride, i * stride"),
    "conv-transpose-of-convs-size": (
        "conv-transpose", *after("dx = rows @ W", "dx[:, 1:], dx[:, :, 1:] = 0, 0")),
    "conv-transpose-first-image": ("conv-transpose", "rows = patches(dy, k",
                                   "rows = patches(dy[:1].repeat(len(dy), axis=0), k"),
    "conv-turned-both-ways": ("conv", "y = patches(x, k, stride, padding) @ W + b",
                              "y = patches(x, k, stride, padding)[..., ::-1] @ W + b"),
    # --- likelihoods
    "bernoulli-through-p": ("bernoulli", "dlog_px[:, None] * residual",
                            "dlog_px[:, None] * residual * (1 - residual**2)"),
    "bernoulli-sign": ("bernoulli", "residual = x - sigmoid", "residual = -x + sigmoid"),
    "bernoulli-mean-over-pixels": ("bernoulli", "dlog_px[:, None] * residual",
                                   "dlog_px[:, None] * residual / residual.shape[1]"),
    "bernoulli-mean-both-ways": (
        "bernoulli", "np.logaddexp(0, logits)).sum(axis=1)",
        "np.logaddexp(0, logits)).mean(axis=1)",
        "residual = x - sigmoid(logits)", "residual = (x - sigmoid(logits)) / x.shape[1]"),
    "bernoulli-weights-ignored": ("bernoulli", "dlog_px[:, None] * residual",
                                  "dlog_px[0] * residual"),
    "bernoulli-clipped": ("bernoulli", "log_px = (x *",
                          "logits = np.clip(logits, -0.5, 0.5)\nlog_px = (x *"),
    "bernoulli-wrong-image": ("bernoulli", "np.tile(x, (len(logits) // len(x), 1))",
                              "np.repeat(x, len(logits) // len(x), axis=0)"),
    "gaussian-half-forgotten": ("gaussian", "dlog_px[:, None] * 0.5 *", "dlog_px[:, None] *"),
    "gaussian-no-precision": ("gaussian", "dlog_px[:, None] * (x - mean) * np.exp(-logvar)",
                              "dlog_px[:, None] * (x - mean)"),
    "gaussian-floor-forgotten": ("shared-logvar", "dlogvar * sigmoid(raw - LOGVAR_FLOOR)",
                                 "dlogvar * 1.0"),
    "gaussian-shared-mean": ("shared-logvar", ".sum(keepdims=True)", ".mean(keepdims=True)"),
    "gaussian-logvar-clipped": ("shared-logvar",
                                "LOGVAR_FLOOR + np.logaddexp(0, raw - LOGVAR_FLOOR)",
                                "np.clip(raw, -8.9, -8.7)"),
    "gaussian-no-constant": ("gaussian", "+ logvar + LOG_2PI", "+ logvar"),
    # --- the latent
    "sample-half-forgotten": ("sample-logvar", "eps * std / 2", "eps * std"),
    "sample-variance-as-std": ("sample-logvar", "np.exp(logvar / 2)", "np.exp(logvar)"),
    "sample-variance-as-std-both-ways": ("sample-logvar", "np.exp(logvar / 2)", "np.exp(logvar)",
                                         "eps * std / 2", "eps * std"),
    "sample-redraws-eps": (
        "sample-logvar", "dlogvar = dz * eps",
        "eps = np.random.default_rng().standard_normal(eps.shape)\ndlogvar = dz * eps"),
    "sample-shared-noise": ("k-samples", "mu + std * eps", "mu + std * eps[:, :1]"),
    "sample-shared-noise-both-ways": (
        "k-samples", "mu + std * eps", "mu + std * eps[:, :1]",
        "dz * eps * std / 2", "dz * eps[:, :1] * std / 2"),
    "sample-first-only": ("k-samples", "dmu = dz.sum(axis=0)", "dmu = dz[0].copy()",
                          "(dz * eps * std / 2).sum(axis=0)", "dz[0] * eps[0] * std / 2"),
    "sample-detached": ("sample-logvar", "dz * eps * std / 2", "0 * dz"),
    "kl-mu-dropped": ("kl", "dkl[:, None] * mu", "0 * mu"),
    "kl-minus-one-forgotten": ("kl", "np.expm1(logvar) / 2", "np.exp(logvar) / 2"),
    "kl-sign": ("kl", "dmu = dkl", "dmu = -dkl", "dlogvar = dkl", "dlogvar = -dkl"),
    "kl-1e-4": ("kl", "np.expm1(logvar) / 2", "np.expm1(logvar) * (0.5 + 0.5e-4)"),
    "kl-mean-both-ways": ("kl", ".sum(axis=1)", ".mean(axis=1)",
                          "dmu = dkl[:, None]", "dmu = dkl[:, None] / mu.shape[1]",
                          "dlogvar = dkl[:, None]", "dlogvar = dkl[:, None] / mu.shape[1]"),
    "kl-of-std": ("kl", "np.expm1(logvar) - logvar", "np.expm1(2 * logvar) - 2 * logvar"),
    "log-q-score-minus-one": ("log-q", "(r * t - 1)", "(r * t)"),
    "log-q-sign-of-z": ("log-q", "(-along_z * t)", "(along_z * t)"),
    "log-q-wires-crossed": (
        "log-q", "along_z = along_z.reshape",
        "along_z, along_phi = along_phi, along_z\nalong_z = along_z.reshape"),
    "log-prior-half": ("log-prior", "-0.5 *", "-1.0 *"),
    "log-prior-sign": ("log-prior", "-dlog_pz[:, None]", "dlog_pz[:, None]"),
    # --- estimators and the whole model
    "elbo-beta-ignored": ("elbo", "-beta / B)", "-1.0 / B)"),
    "elbo-beta-off-by-1e-3": ("elbo", "-beta / B)", "-(beta + 1e-3) / B)"),
    "elbo-kl-summed": ("elbo", "-beta / B)", "-beta)"),
    "elbo-samples-summed": ("elbo", "1 / (K * B)", "1 / B"),
    "elbo-mc-no-score": ("elbo-mc", "-beta / (K * B)", "0.0"),
    "elbo-mc-path-cut": ("elbo-mc", "path = np.ones", "path = np.zeros"),
    "stl-path-cut": ("stl", "path = np.ones", "path = np.zeros"),
    "score-own-sample-in-baseline": ("score-function", "(f.sum(axis=0) - f) / (K - 1)",
                                     "f.mean(axis=0)"),
    "score-sign": ("score-function", "(f - baseline) / (K * B)", "(baseline - f) / (K * B)"),
    "score-both-rewritings": ("score-function", "path = np.zeros", "path = np.ones"),
    "score-analytic-samples-summed": ("score-function", "(f - baseline) / (K * B)",
                                      "(f - baseline) / B"),
    "iwae-softmax-of-the-loss": ("dreg", "log_px + log_pz - log_qz",
                                 "-(log_px + log_pz - log_qz)"),
    "dreg-weight-not-squared": ("dreg", "path = share", "path = np.ones_like(share)"),
    "weights-not-normalised": ("bound", "share = w / w.sum(axis=0)", "share = w"),
    "vimco-weight-dropped": ("vimco", "bound - baseline - share", "bound - baseline"),
    "bound-sum-for-mean": ("bound", ".mean(axis=axis)", ".sum(axis=axis)"),
    "vae-left-over-dz": ("page-0", "dmu, dlogvar = dz, dz * eps * std / 2",
                         "dmu, dlogvar = dz, dz"),
    "vae-head-dropped": ("page-0", "dh = dlogvar", "dh = 0 * dlogvar"),
    "vae-kl-forgotten": ("page-0", "dmu = dmu + dkl[:, None] * mu", "dmu = dmu"),
    "vae-kl-into-decoder": ("page-0", 'dg = dlogits @ p["W_logits"].T',
                            'dg = dlogits @ p["W_logits"].T + 0.01'),
    "vae-loss-summed": ("page-0", "(recon + kl).mean()", "(recon + kl).sum()"),
    "vae-noise-in-backward-only": (
        "page-0", "z = mu + std * eps  ",
        "z = mu + std * np.random.default_rng().standard_normal(eps.shape)  "),
    # --- the optimiser
    "adam-betas-swapped": ("adam", "0.9 * m.get(name, 0) + 0.1", "0.999 * m.get(name, 0) + 0.001",
                           "0.999 * v.get(name, 0) + 0.001", "0.9 * v.get(name, 0) + 0.1"),
    "adam-no-bias-correction": ("adam", "m[name] / (1 - 0.9**t)", "m[name]"),
}

FLOAT32 = "only float32 shows it; exercises are in float64"
MEMORY = "the functions of an exercise keep nothing from one call to the next"
COINS = "no exercise has binary latents"
BASELINES = "no exercise has a baseline with a memory"
ONE_SIZE = "the exercises cut patches of one size, with one stride and one padding"
TILES = "an exercise cuts all images at once"
RESHAPES = "no exercise reshapes"

NO_TWIN: dict[str, str] = {
    "dense-accumulates": MEMORY,
    "relu-float64-leak": FLOAT32,
    "dense-half-precision": FLOAT32,
    "sequential-stale-cache": MEMORY,
    "vae-cache-overwritten": MEMORY,
    "conv-nothing-between-padding": ONE_SIZE,
    "conv-stride-at-most-two": ONE_SIZE,
    "conv-odd-kernels-only": ONE_SIZE,
    "conv-tile-overwritten": TILES,
    "reshape-columns-first": RESHAPES,
    "coin-upside-down": COINS,
    "coin-score-sign": COINS,
    "coin-score-of-the-logit": COINS,
    "coin-score-samples-averaged": COINS,
    "coin-kl-derivative": COINS,
    "coin-kl-wrong-prior": COINS,
    "discrete-kl-forgotten": COINS,
    "concrete-no-temperature": COINS,
    "straight-through-no-slope": COINS,
    "disarm-no-weight": COINS,
    "disarm-independent-noise": COINS,
    "baseline-holds-the-present": BASELINES,
    "nvil-not-divided": BASELINES,
    "nvil-variance-as-std": BASELINES,
    "nvil-fits-away": BASELINES,
}


def faulty(solution: str, *changes: str) -> str:
    """A solution with a fault in it: old, new, old, new, ..

    Further lines of a new text take the indent of the line that they follow.
    Raises ValueError unless each old text is there exactly once.
    """
    for old, new in zip(changes[::2], changes[1::2]):
        if solution.count(old) != 1:
            raise ValueError(f"the solution has {solution.count(old)} times {old!r}, wanted once")
        line = next(line for line in solution.splitlines() if old in line)
        indent = line[: len(line) - len(line.lstrip())]
        solution = solution.replace(old, new.replace("\n", f"\n{indent}"))
    return solution
