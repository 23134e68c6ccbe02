"""The museum of planted faults: mistakes people make in a VAE's backprop, and what catches each.

A fault is one line of the package, changed: the function's source is taken, the line replaced, and
the result put in the function's place, in memory, for as long as `planted` lasts.  No file is
touched.  Those marked "public" were found in published code.
"""

import inspect
import textwrap
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from typing import NamedTuple

from minivae.gradcheck.suite import CHECKS
from minivae.gradcheck import FAIL


class Fault(NamedTuple):
    """One planted bug: its name, the kind of mistake, the function, the line and its wrong version, what a user would see."""

    name: str
    mechanism: str
    where: str
    old: str
    new: str
    symptom: str
    also: tuple[tuple[str, str, str], ...] = ()            # further (where, old, new), for faults of forward and backward together


class Catch(NamedTuple):
    """What caught a fault: the check, the array or clause, and its message.  check is "" for a fault that was MISSED."""

    check: str
    row: str
    message: str


FAULTS = [
    # --- Dense
    Fault("dense-columns-reversed", "permuted output", "layers:Dense.backward",
          "np.matmul(x.T, dy, out", "np.matmul(x.T, dy[:, ::-1], out",
          "loss falls slowly and stalls; an upstream gradient of ones would not see it"),
    Fault("dense-bias-mean", "mean where a sum belongs", "kernels:sum_rows",
          "db[j] += dy[n, j]", "db[j] += dy[n, j] / dy.shape[0]",
          "biases learn B times too slowly; images stay grey at first"),
    Fault("dense-bias-forgotten", "gradient never filled", "kernels:sum_rows",
          "db[j] += dy[n, j]", "db[j] += 0 * dy[n, j]",
          "biases never move; the loss ends a few nats too high"),
    Fault("dense-not-transposed", "transposed weights, equal sizes", "layers:Dense.backward",
          "kernels.times_transpose(dy, W, dx)", "kernels.times_transpose(dy, W.T if W.shape[0] == W.shape[1] else W, dx)",
          "square layers send noise down; wide ones train, so it depends on the sizes chosen"),
    Fault("dense-gradient-transposed", "transposed gradient, equal sizes", "layers:Dense.backward",
          'kernels.sum_rows(dy, self.grads["b"])',
          'kernels.sum_rows(dy, self.grads["b"]); dW = self.grads["W"]\n    if dW.shape[0] == dW.shape[1]: dW[:] = dW.T.copy()',
          "square layers do not learn"),
    Fault("dense-accumulates", "gradients not reset", "kernels:sum_rows",
          "db[:] = 0", "db[:] = db",
          "bias steps grow with every batch until the loss blows up"),
    Fault("dense-double-count", "counted twice", "layers:Dense.backward",
          'kernels.sum_rows(dy, self.grads["b"])', 'kernels.sum_rows(dy, self.grads["b"]); dW = self.grads["W"]\n    dW *= 2',
          "weights learn at twice the rate; hidden by Adam, seen with plain SGD"),
    Fault("dense-one-row", "one row scaled", "layers:Dense.backward",
          'kernels.sum_rows(dy, self.grads["b"])',
          'kernels.sum_rows(dy, self.grads["b"]); dW = self.grads["W"]\n    dW[1] *= 1.01',
          "nothing that a loss curve shows"),
    Fault("dense-one-sign", "one entry's sign", "layers:Dense.backward",
          'kernels.sum_rows(dy, self.grads["b"])',
          'kernels.sum_rows(dy, self.grads["b"]); dW = self.grads["W"]\n    dW[1, 2] = -dW[1, 2]',
          "one weight drifts away; nothing that a loss curve shows"),
    Fault("dense-two-swapped", "two entries swapped", "layers:Dense.backward",
          'kernels.sum_rows(dy, self.grads["b"])',
          'kernels.sum_rows(dy, self.grads["b"]); dW = self.grads["W"]\n    dW[0, 1], dW[1, 0] = dW[1, 0], dW[0, 1]',
          "nothing that a loss curve shows"),
    Fault("dense-smallest-zeroed", "smallest entry zeroed", "layers:Dense.backward",
          'kernels.sum_rows(dy, self.grads["b"])',
          'kernels.sum_rows(dy, self.grads["b"]); dW = self.grads["W"]\n    dW.reshape(-1)[np.abs(dW).argmin()] = 0',
          "nothing that a loss curve shows"),
    Fault("dense-a-millionth", "rescaled", "layers:Dense.backward",
          'kernels.sum_rows(dy, self.grads["b"])',
          'kernels.sum_rows(dy, self.grads["b"]); dW = self.grads["W"]\n    dW *= 1 + 1e-6',
          "nothing: it is here to show how fine the check is"),
    Fault("dense-block", "block rescaled", "layers:Dense.backward",
          'kernels.sum_rows(dy, self.grads["b"])',
          'kernels.sum_rows(dy, self.grads["b"]); dW = self.grads["W"]\n    dW[:2, :2] *= 1 + 1e-4',
          "nothing that a loss curve shows"),
    Fault("dense-bias-shifted", "constant added", "kernels:sum_rows",
          "db[j] += dy[n, j]", "db[j] += dy[n, j] + 1e-5 / dy.shape[0]",
          "biases drift slowly upwards"),
    Fault("dense-one-bias", "tiny constant on one entry", "layers:Dense.backward",
          "kernels.times_transpose(dy, W, dx)", "kernels.times_transpose(dy, W, dx)\n    dx[0, 0] += 2e-6",
          "nothing that a loss curve shows"),
    Fault("dense-rounded", "rounded to float32", "layers:Dense.backward",
          'kernels.sum_rows(dy, self.grads["b"])',
          'kernels.sum_rows(dy, self.grads["b"]); dW = self.grads["W"]\n    dW[:] = dW.astype(np.float32)',
          "nothing in float32; in float64 the checker's own precision is lost"),
    Fault("dense-writes-upstream", "writes into its input", "layers:Dense.backward",
          "dx = self._work(", "dy *= 1.5\n        dx = self._work(",
          "the layer behind it gets another gradient, depending on who was called first"),
    Fault("dense-rows-leak", "rows of the batch leak", "layers:Dense.backward",
          "kernels.times_transpose(dy, W, dx)", "kernels.times_transpose(np.roll(dy, 1, 0), W, dx)",
          "each image is taught with its neighbour's gradient; reconstructions turn to the mean image"),
    Fault("relu-float64-leak", "precision lost or gained", "layers:ReLU.forward",
          'self._work("y", x.shape, x.dtype)', 'self._work("y", x.shape, np.float64)',
          "float32 training runs at half its speed"),
    Fault("dense-half-precision", "a step in half precision", "kernels:add_bias",
          "y[n, j] += b[j]", "y[n, j] = np.float16(y[n, j] + b[j]) if y.itemsize == 4 else y[n, j] + b[j]",
          "float64 checks pass; float32 training stalls early"),
    # --- activations
    Fault("relu-mask-of-upstream", "mask from the wrong side", "kernels:relu_backward",
          "d if x[n, j] > 0", "d if d > 0",
          "negative gradients never pass: weights only fall, units die (public)"),
    Fault("relu-no-mask", "derivative left out", "kernels:relu_backward",
          "d if x[n, j] > 0 else zero", "d",
          "dead units are revived by gradients that are not theirs; the loss falls unsteadily"),
    Fault("relu-mask-inverted", "mask inverted", "kernels:relu_backward",
          "x[n, j] > 0", "x[n, j] <= 0",
          "nothing is learned below the first ReLU"),
    Fault("tanh-not-squared", "derivative formula", "kernels:tanh_backward",
          "one - y[n, j] * y[n, j]", "one - y[n, j]",
          "units saturate on one side"),
    Fault("tanh-of-the-output", "derivative taken at the output", "kernels:tanh_backward",
          "one - y[n, j] * y[n, j]", "one - np.tanh(y[n, j]) ** 2",
          "gradients never vanish, so saturated units keep being pushed (public)"),
    Fault("tanh-plus-1e-5", "constant added", "kernels:tanh_backward",
          "one - y[n, j] * y[n, j]", "one - y[n, j] * y[n, j] + 1e-5",
          "nothing that a loss curve shows"),
    Fault("sigmoid-of-the-output", "derivative taken at the output", "kernels:sigmoid_backward",
          "dy[n, j] * y[n, j] * (one - y[n, j])", "dy[n, j] / (2 + np.exp(y[n, j]) + np.exp(-y[n, j]))",
          "sigma'(sigma(x)) in the place of sigma'(x): slow, biased learning (public)"),
    Fault("softplus-mirrored", "sign inside a derivative", "kernels:softplus_backward",
          "(one if x[n, j] >= 0 else e)", "(e if x[n, j] >= 0 else one)",
          "gradients flow where the unit is shut, and stop where it is open"),
    Fault("sequential-skips-activations", "a node left out of backward", "layers:Sequential.backward",
          "dy = layer.backward(dy)", "dy = layer.backward(dy) if layer.params else dy",
          "deep nets learn worse than shallow ones"),
    Fault("sequential-stale-cache", "a cache kept for another pass", "layers:Layer._take",
          "return self._cache.pop(node)", "return self._cache[node]",
          "a second backward uses what the first pass left behind, in silence"),
    # --- likelihoods
    Fault("bernoulli-through-p", "chain rule applied once too often", "likelihoods:BernoulliLikelihood.backward",
          "kernels.scale_rows(dlog_px, residual)", "kernels.scale_rows(dlog_px, residual)\n        residual *= 1 - residual**2",
          "the sigmoid is differentiated twice: sharp pixels stop learning (public)"),
    Fault("bernoulli-sign", "sign", "kernels:bernoulli_forward",
          "residual[row, i] = x[n, i] - ", "residual[row, i] = -x[n, i] + ",
          "the loss rises from the first step"),
    Fault("bernoulli-mean-over-pixels", "mean and sum mixed", "likelihoods:BernoulliLikelihood.backward",
          "kernels.scale_rows(dlog_px,", "kernels.scale_rows(dlog_px / residual.shape[1],",
          "the KL wins 784 to 1: posterior collapse, every reconstruction the mean digit (public)"),
    Fault("bernoulli-mean-both-ways", "mean for sum, forward and backward", "kernels:bernoulli_forward",
          "log_px[row] = total", "log_px[row] = total / logits.shape[1]\n        residual[row] /= logits.shape[1]",
          "posterior collapse; a gradient check sees nothing (public)"),
    Fault("bernoulli-weights-ignored", "upstream gradient ignored", "likelihoods:BernoulliLikelihood.backward",
          "kernels.scale_rows(dlog_px,", "kernels.scale_rows(np.full_like(dlog_px, dlog_px[0]),",
          "right for one sample with equal weights, wrong for every other estimator"),
    Fault("bernoulli-clipped", "clipped forward, not backward", "kernels:bernoulli_forward",
          "v = logits[row, i]", "v = min(max(logits[row, i], -0.5), 0.5)",
          "the loss looks better than it is, and its gradient is another function's (public)"),
    Fault("bernoulli-wrong-image", "samples against the wrong image", "kernels:bernoulli_forward",
          "n = row % x.shape[0]", "n = row // (logits.shape[0] // x.shape[0])",
          "with K > 1 the model learns to reconstruct its neighbours; a gradient check of this node sees nothing"),
    Fault("gaussian-half-forgotten", "a half forgotten", "kernels:gaussian_backward",
          "dlog_px[row] * half *", "dlog_px[row] *",
          "the variance overshoots; samples alternate between blurred and noisy"),
    Fault("gaussian-no-precision", "a factor left out", "kernels:gaussian_backward",
          "dlog_px[row] * r * precision", "dlog_px[row] * r",
          "the mean learns at a rate that ignores the variance"),
    Fault("gaussian-floor-forgotten", "chain rule cut short", "likelihoods:GaussianLikelihood.backward",
          "np.exp(-np.logaddexp(0, LOGVAR_FLOOR - raw))", "1.0",
          "the log-variance falls through its floor: log p grows without bound"),
    Fault("gaussian-shared-mean", "mean where a sum belongs", "likelihoods:GaussianLikelihood.backward",
          "dlogvar.sum()", "dlogvar.mean()",
          "the shared variance hardly learns"),
    Fault("gaussian-logvar-clipped", "clipped forward, not backward", "likelihoods:GaussianLikelihood._split",
          "return mean, LOGVAR_FLOOR + np.logaddexp(0, raw - LOGVAR_FLOOR), raw", "return mean, np.clip(raw, -0.3, 0.3), raw",
          "the optimiser pushes a parameter that no longer does anything (public)"),
    Fault("gaussian-no-constant", "a constant left out", "kernels:gaussian_forward",
          "+ v + LOG_2PI", "+ v",
          "the reported ELBO is 0.92 nats per pixel too good; a gradient check sees nothing (public)"),
    # --- the latent
    Fault("sample-half-forgotten", "a half forgotten", "kernels:sample_backward",
          "* std[n, j] * half", "* std[n, j]",
          "the encoder's spread learns at twice the rate; a KL that jitters (public)"),
    Fault("sample-variance-as-std", "variance used as std", "kernels:sample_forward",
          "exp(half * logvar[n, j])", "exp(logvar[n, j])",
          "blurred samples, and a KL that answers another question (public)"),
    Fault("sample-variance-as-std-both-ways", "variance used as std, forward and backward", "latents:GaussianLatent.sample",
          "kernels.sample_forward(mu, logvar, eps, std, z)", "kernels.sample_forward(mu, 2 * logvar, eps, std, z); std *= 2",
          "forward and backward agree with each other and not with the KL: a gradient check sees nothing (public)"),
    Fault("sample-redraws-eps", "backward redraws the noise", "latents:GaussianLatent.sample_backward",
          "dz = rows(", "eps = np.random.default_rng().standard_normal(eps.shape).astype(eps.dtype)\n        dz = rows(",
          "dlogvar is noise: the encoder's spread wanders (public)"),
    Fault("sample-shared-noise", "noise shared across the batch", "kernels:sample_forward",
          "std[n, j] * eps[k, n, j]", "std[n, j] * eps[k, 0, j]",
          "all images of a batch move together: noisy steps (public)"),
    Fault("sample-shared-noise-both-ways", "noise shared across the batch, forward and backward", "latents:GaussianLatent.sample",
          "std = self._work(", "eps = np.ascontiguousarray(np.broadcast_to(eps[:, :1], eps.shape))\n        std = self._work(",
          "noisier steps, and nothing else: a gradient check sees nothing (public)"),
    Fault("sample-first-only", "only one sample's gradient", "kernels:sample_backward",
          "for k in range(eps.shape[0]):", "for k in range(1):",
          "with K > 1 the encoder hears one sample of K"),
    Fault("sample-detached", "one head's gradient dropped", "kernels:sample_backward",
          "dlogvar[n, j] += dz[k * B + n, j] * eps[k, n, j] * std[n, j] * half", "dlogvar[n, j] += 0 * dz[k * B + n, j]",
          "only the KL trains the spread: it returns to 1 and reconstructions blur (public)"),
    Fault("kl-mu-dropped", "a term dropped", "kernels:kl_backward",
          "dmu[n, j] = dkl[n] * mu[n, j]", "dmu[n, j] = 0 * mu[n, j]",
          "posterior means fly apart: new samples from the prior look like nothing"),
    Fault("kl-minus-one-forgotten", "derivative formula", "kernels:kl_backward",
          "expm1(logvar[n, j])", "exp(logvar[n, j])",
          "the spread shrinks without end: an autoencoder without the V (public)"),
    Fault("kl-sign", "sign", "latents:GaussianLatent.kl_backward",
          "kernels.kl_backward(mu, logvar, dkl,", "kernels.kl_backward(mu, logvar, -dkl,",
          "the KL grows from epoch to epoch until NaN"),
    Fault("kl-1e-4", "rescaled", "kernels:kl_backward",
          "dkl[n] * half *", "dkl[n] * (half + 0.5e-4) *",
          "nothing that a loss curve shows"),
    Fault("kl-mean-both-ways", "mean for sum, forward and backward", "latents:GaussianLatent.kl",
          "return kl", "return kl / mu.shape[1]",
          "a beta-VAE with beta = 1/Z: sharp reconstructions, poor samples; a gradient check sees nothing (public)",
          also=(("latents:GaussianLatent.kl_backward", "dkl, dmu, dlogvar)  ", "dkl / mu.shape[1], dmu, dlogvar)  "),)),
    Fault("kl-of-std", "logvar taken for log std", "kernels:kl_forward",
          "expm1(logvar[n, j]) - logvar[n, j]", "expm1(2 * logvar[n, j]) - 2 * logvar[n, j]",
          "q settles at the wrong spread (public)"),
    Fault("log-q-score-minus-one", "a term dropped", "kernels:log_q_backward",
          "half * (r * t - one)", "half * (r * t)",
          "the sampled KL widens q without end"),
    Fault("log-q-sign-of-z", "sign", "kernels:log_q_backward",
          "dz[row, j] = -along_z[row] * t", "dz[row, j] = along_z[row] * t",
          "samples are drawn towards mu where they should be pushed apart"),
    Fault("log-q-wires-crossed", "two wires crossed", "latents:GaussianLatent.log_q_backward",
          "logvar, along_z, along_phi,", "logvar, along_phi, along_z,",
          "right whenever both weights are equal, wrong for every estimator that cuts one"),
    Fault("log-prior-half", "a half forgotten", "kernels:log_prior_forward",
          "-0.5 * total", "-1.0 * total",
          "samples are drawn to 0 twice as hard"),
    Fault("log-prior-sign", "sign", "latents:GaussianLatent.log_prior_backward",
          "return -dlog_pz", "return dlog_pz",
          "samples fly off to infinity"),
    # --- estimators and the whole model
    Fault("elbo-beta-ignored", "beta ignored", "estimators:elbo",
          "-t.beta / B", "-1.0 / B",
          "--beta 4 gives the same model as --beta 1 (public)"),
    Fault("elbo-beta-off-by-1e-3", "rescaled", "estimators:elbo",
          "-t.beta / B", "-(t.beta + 1e-3) / B",
          "nothing that a loss curve shows"),
    Fault("elbo-kl-summed", "mean and sum mixed", "estimators:elbo",
          "-t.beta / B", "-t.beta",
          "the KL counts B times: posterior collapse, worse with larger batches (public)"),
    Fault("elbo-samples-summed", "sum over samples where a mean belongs", "estimators:elbo",
          "one / (K * B)", "one / B",
          "with K samples the reconstruction counts K times"),
    Fault("elbo-mc-no-score", "score term left out", "estimators:elbo_mc",
          "score=-t.beta * w", "score=0 * w",
          "STL by accident: unbiased, but no longer the derivative of this loss"),
    Fault("elbo-mc-path-cut", "path cut", "estimators:elbo_mc",
          "path=one", "path=0 * one",
          "the encoder learns nothing from the images"),
    Fault("stl-path-cut", "path cut", "estimators:stl",
          "elbo_mc(t)._replace(score=np.zeros_like(t.log_px))", "elbo_mc(t)._replace(score=np.zeros_like(t.log_px), path=np.zeros_like(t.log_px))",
          "the encoder does not move at all"),
    Fault("score-own-sample-in-baseline", "a baseline that depends on its own sample", "estimators:mean_of_others",
          "(f.sum(axis=0) - f) / (K - 1)", "f.mean(axis=0)",
          "the encoder learns at (K - 1)/K of its rate: half, with two samples (public)"),
    Fault("score-sign", "sign", "estimators:score",
          "score=t.baseline(f, t.x)", "score=-t.baseline(f, t.x)",
          "the encoder is taught to find bad codes; the loss rises"),
    Fault("score-both-rewritings", "both rewritings counted", "estimators:score",
          "path=zero", "path=zero + 1",
          "the reconstruction moves the encoder twice: once by the moving samples, once by the moving density"),
    Fault("score-analytic-samples-summed", "sum over samples where a mean belongs", "estimators:score_analytic_kl",
          "t.baseline(f, t.x) / (K * B)", "t.baseline(f, t.x) / B",
          "with K samples the encoder's steps are K times too long"),
    Fault("iwae-softmax-of-the-loss", "softmax over the positive loss", "estimators:log_weights",
          "return t.log_px + t.log_pz - t.log_qz", "return -(t.log_px + t.log_pz - t.log_qz)",
          "the worst sample gets the largest weight: the bound falls as K grows (public)"),
    Fault("dreg-weight-not-squared", "a factor left out", "estimators:dreg",
          "path=w)", "path=np.ones_like(w))",
          "IWAE-STL by accident: biased, and it looks better than it is (public)"),
    Fault("weights-not-normalised", "weights not normalised", "estimators:normalised",
          "return w / w.sum(axis=0)", "return w",
          "steps are up to K times too long, by an amount that changes with every image"),
    Fault("vimco-weight-dropped", "a term dropped", "estimators:vimco",
          "- baseline - w)", "- baseline)",
          "the encoder drifts to a posterior that is too wide"),
    Fault("bound-sum-for-mean", "mean and sum mixed", "estimators:log_mean_exp",
          "np.log(np.exp(a - top).mean(axis=0))", "np.log(np.exp(a - top).sum(axis=0))",
          "the reported bound is log K too good, and passes log p(x): a gradient check sees nothing"),
    Fault("vae-left-over-dz", "encoder fed the decoder's left-over dz", "vae:VAE.backward",
          "self.latent.sample_backward(dz)", "(dz[: len(dkl)].copy(), dz[: len(dkl)].copy())",
          "the logvar head is taught what the mu head should learn (public)"),
    Fault("vae-head-dropped", "one head's gradient dropped", "vae:VAE.backward",
          "self.to_logvar.backward(dlogvar) + self.to_mu.backward(dmu)",
          "0 * self.to_logvar.backward(dlogvar) + self.to_mu.backward(dmu)",
          "the shared encoder never learns how sure to be (public)"),
    Fault("vae-kl-forgotten", "a term dropped", "vae:VAE.backward",
          "dmu = dmu_z + dmu_qz + dmu_kl", "dmu = dmu_z + dmu_qz",
          "posterior means fly apart (public)"),
    Fault("vae-kl-into-decoder", "gradient sent to the wrong place", "vae:VAE.backward",
          "dz_px = self.dec.backward(dg)", "dz_px = self.dec.backward(dg + 0.01 * self.beta)",
          "the decoder is pulled by a KL that is none of its business"),
    Fault("vae-loss-summed", "mean and sum mixed", "vae:VAE.forward",
          "objective.mean(dtype=np.float64)", "objective.sum(dtype=np.float64)",
          "the loss grows with the batch; the same lr works for one batch size only (public)"),
    Fault("vae-noise-in-backward-only", "noise not taken from the argument", "vae:VAE.forward",
          "x, eps = self.inputs(x, eps)", "x, eps = self.inputs(x, None if self.rng.random() < 2 else eps)",
          "every evaluation is another function: no gradient of it can be checked (public)"),
    Fault("vae-cache-overwritten", "a cache overwritten by a second forward", "model:Model.undisturbed",
          "layer._cache, layer._buffers = {}, {}", "pass",
          "looking at reconstructions while training changes what is learned (public)"),
    # --- discrete latents
    Fault("coin-upside-down", "sign inside a function", "discrete:BernoulliLatent.sample",
          "return (u > sigmoid(-a))", "return (u > sigmoid(a))",
          "the decoder is shown the wrong faces: what q calls likely is rare; a gradient check sees nothing"),
    Fault("coin-score-sign", "sign", "discrete:BernoulliLatent.log_q_backward",
          "weight * (z - sigmoid(a))", "weight * (sigmoid(a) - z)",
          "good codes are made rarer: the loss rises"),
    Fault("coin-score-of-the-logit", "logit taken for a probability", "discrete:BernoulliLatent.log_q_backward",
          "weight * (z - sigmoid(a))", "weight * (z - a)",
          "hidden by a leave-one-out baseline, whose mean is that of f; with any other the logits drift"),
    Fault("coin-score-samples-averaged", "mean where a sum belongs", "discrete:BernoulliLatent.log_q_backward",
          ".sum(axis=0)", ".mean(axis=0)",
          "with K samples the encoder's steps are K times too short beside the KL's"),
    Fault("coin-kl-derivative", "chain rule cut short", "discrete:BernoulliLatent.kl_backward",
          "* a * sigmoid(a) * sigmoid(-a)", "* a",
          "confident coins are pulled back far too hard: no latent dares to say anything"),
    Fault("coin-kl-wrong-prior", "another prior, forward and backward", "discrete:BernoulliLatent.kl_each",
          "- size * e / (1 + e)", "- size * e / (1 + e) - 0.5 * sigmoid(a) + float(np.logaddexp(0, 0.5) - np.log(2))",
          "q is held to coins that fall on 1 in 62 % of throws, new images come from fair ones; a gradient check sees nothing",
          also=(("discrete:BernoulliLatent.kl_backward", "* a *", "* (a - 0.5) *"),)),
    Fault("discrete-kl-forgotten", "a term dropped", "discrete:DiscreteVAE.backward",
          "da += self.latent.kl_backward(dkl)", "self.latent.kl_backward(dkl)",
          "coins become certain: an autoencoder, whose new images from fair coins look like nothing"),
    Fault("concrete-no-temperature", "a factor left out", "discrete:ConcreteLatent.sample_backward",
          "/ self.temperature", "/ 1.0",
          "the reconstruction moves the encoder at temperature times its rate, so the KL weighs too much"),
    Fault("straight-through-no-slope", "derivative left out", "discrete:StraightThroughLatent.sample_backward",
          " * sigmoid(a) * sigmoid(-a)", "",
          "another biased gradient than the one that was chosen: coins that are certain are still pushed"),
    Fault("disarm-no-weight", "a factor left out", "estimators:disarm",
          "sigmoid(np.abs(a))", "np.ones_like(a)",
          "leave-one-out on dependent samples: the encoder's steps are too long, twice for fair coins"),
    Fault("disarm-independent-noise", "noise that is not antithetic", "discrete:BernoulliLatent.noise",
          "np.concatenate([u, 1 - u])", "np.concatenate([u, rng.random(u.shape, dtype)])",
          "biased, by a factor sigmoid(|a|); here the model refuses such a pair"),
    # --- baselines with a memory
    Fault("baseline-holds-the-present", "a baseline that depends on its own sample", "baselines:RunningMean.__call__",
          "self.seen = (f,)", "self.seen = (f,); self.update(); self.seen = (f,)",
          "at batch one the encoder learns at the decay's rate, 0.9 of its own (public)"),
    Fault("nvil-not-divided", "a factor left out", "baselines:NVIL.__call__",
          "/ max(1.0, float(np.sqrt(self.v)))", "/ 1.0",
          "one wild batch throws the encoder; a lower lr seems to be needed"),
    Fault("nvil-variance-as-std", "variance used as std", "baselines:NVIL.__call__",
          "float(np.sqrt(self.v))", "self.v",
          "the encoder hardly moves while f is wild"),
    Fault("nvil-fits-away", "sign", "baselines:NVIL.backward",
          "return -residual", "return residual",
          "C(x) runs off to infinity; the noise grows and the encoder learns less and less"),
    # --- the optimiser
    Fault("adam-betas-swapped", "two settings swapped", "optim:Adam.step",
          "step_size, self.beta1, self.beta2, self.adam_eps", "step_size, self.beta2, self.beta1, self.adam_eps",
          "the gradient is averaged over 1,000 steps and its size over 10: slow, then wild"),
    Fault("adam-no-bias-correction", "bias correction missing", "optim:Adam.step",
          "self.lr / (1 - self.beta1**self.t)", "self.lr",
          "the first steps are far too long or too short; warm-up seems to be needed (public)"),
]
AN_ERROR = "an error"
BY_NAME = {fault.name: fault for fault in FAULTS}


def _find(where: str) -> tuple[object, str, Callable]:
    """The holder (module or class), the attribute, and the plain Python function behind `where`."""
    module_name, _, path = where.partition(":")
    holder = import_module(f"minivae.{module_name}")
    *parents, attribute = path.split(".")
    for name in parents:
        holder = getattr(holder, name)
    function = vars(holder)[attribute]
    return holder, attribute, inspect.unwrap(getattr(function, "py_func", function))


def edited_source(where: str, old: str, new: str) -> str:
    """The function's source with `new` in the place of `old`.  Raises ValueError unless `old` is there exactly once."""
    source = textwrap.dedent(inspect.getsource(_find(where)[2]))
    if source.count(old) != 1:
        raise ValueError(f"{where} has {source.count(old)} times {old!r}, wanted once")
    line = next(line for line in source.splitlines() if old in line)
    indent = line[: len(line) - len(line.lstrip())]
    return source.replace(old, f"\n{indent}".join(part.strip() for part in new.splitlines()))


@contextmanager
def planted(fault: Fault) -> Iterator[None]:
    """The package with the fault in it, in memory, until the block ends.

    A function's code is exchanged, so that whoever holds the function has the fault; a compiled
    kernel gives way to the faulty one in plain Python.
    """
    with ExitStack() as undo:
        for where, old, new in ((fault.where, fault.old, fault.new), *fault.also):
            holder, attribute, function = _find(where)
            names = {**function.__globals__, "kernel": lambda f: f}
            exec(compile(edited_source(where, old, new), f"<planted: {fault.name}>", "exec"), names)
            faulty = inspect.unwrap(names[function.__name__])
            if hasattr(vars(holder)[attribute], "py_func"):
                undo.callback(setattr, holder, attribute, vars(holder)[attribute])
                setattr(holder, attribute, faulty)
            else:
                undo.callback(setattr, function, "__code__", function.__code__)
                function.__code__ = faulty.__code__
        yield


def catch(fault: Fault, seed: int = 0) -> Catch:
    """Plant the fault and run the checks, in their order, until one fails."""
    with planted(fault):
        for name, check in CHECKS.items():
            if name == "VAE.784-400-20":                   # a planted kernel runs as Python: too slow for a big model
                continue
            try:
                report = check(seed)
            except (ValueError, RuntimeError, FloatingPointError, OverflowError) as error:
                return Catch(name, AN_ERROR, f"{type(error).__name__}: {error}")
            for row in report.rows:
                if row.verdict == FAIL:
                    return Catch(name, row.name, row.note)
    return Catch("", "", "")


def record(fault: Fault, caught: Catch) -> dict:
    """One row of the museum, for --json."""
    return {"fault": fault.name, "mechanism": fault.mechanism, "where": fault.where, "symptom": fault.symptom, **caught._asdict()}
