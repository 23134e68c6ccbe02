"use strict";
// The gradient estimators: what the objective sends along five wires, as in minivae/estimators.py.
//
// An estimator is an objective, whose value forward reports, and the weights of the wires:
// decoder, latent, path, score, each for sample k of image n (row k*B + n), and kl for image n.
// Weights are for the objective, which is maximised.  One number stands for all rows, and a wire
// that is not named is cut.
//
// t holds log_px, log_pz, log_qz (K*B), kl (B), beta, K, B, and q, what the heads gave.

const meanOf = list => list.reduce((total, v) => total + v, 0) / list.length;
const scaled = (array, by) => array.map(v => v * by);

/** log mean_k e^v_k; the largest goes out first, so nothing overflows. */
function logMeanExp(list) {
  const top = Math.max(...list);
  return top + Math.log(meanOf(list.map(v => Math.exp(v - top))));
}

/** result[n] = f(the K values of image n). */
const perImage = (t, values, f) => Float64Array.from({ length: t.B }, (_, n) =>
  f(Array.from({ length: t.K }, (_, k) => values[k * t.B + n])));

// --- the objectives -------------------------------------------------------------------------

/** mean_k log p(x|z_k) - beta KL, and the KL, on paper. */
function analyticElbo(t) {
  const log_px = perImage(t, t.log_px, meanOf);
  return { objective: log_px.map((v, n) => v - t.beta * t.kl[n]), kl: t.kl };
}

/** The same with the KL from the samples: mean_k log q(z_k|x) - log p(z_k). */
function sampledElbo(t) {
  const log_px = perImage(t, t.log_px, meanOf);
  const kl = perImage(t, t.log_qz.map((v, r) => v - t.log_pz[r]), meanOf);
  return { objective: log_px.map((v, n) => v - t.beta * kl[n]), kl };
}

/** L_K = log mean_k w_k. */
function multiSampleBound(t) {
  return { objective: perImage(t, logWeights(t), logMeanExp), kl: sampledElbo(t).kl };
}

/** log w_k = log p(x|z_k) + log p(z_k) - log q(z_k|x). */
function logWeights(t) {
  if (t.beta !== 1)
    throw new Error(`a multi-sample bound is one on log p(x): it wants beta = 1, got ${t.beta}`);
  return t.log_px.map((v, r) => v + t.log_pz[r] - t.log_qz[r]);
}

/** w~_k = w_k / sum_k w_k. */
function normalisedWeights(t) {
  const logw = logWeights(t), bound = perImage(t, logw, logMeanExp);
  return logw.map((v, r) => Math.exp(v - bound[r % t.B]) / t.K);
}

/** For each sample the mean of f over the other K - 1; 0 where there is no other. */
function meanOfOthers(t, f) {
  const mean = perImage(t, f, meanOf);
  return f.map((v, r) => t.K === 1 ? 0 : (t.K * mean[r % t.B] - v) / (t.K - 1));
}

/** f less its baseline, over the rows. */
function lessOthers(t, f) {
  const baseline = meanOfOthers(t, f);
  return f.map((v, r) => (v - baseline[r]) / (t.K * t.B));
}

// --- the estimators -------------------------------------------------------------------------

const ESTIMATORS = {
  elbo: {
    objective: analyticElbo,
    weights: t => ({ decoder: 1 / (t.K * t.B), path: 1, kl: -t.beta / t.B }),
  },
  elbo_mc: {
    objective: sampledElbo,
    weights(t) {
      const w = 1 / (t.K * t.B);
      return { decoder: w, latent: t.beta * w, path: 1, score: -t.beta * w };
    },
  },
  stl: {
    objective: sampledElbo,
    weights: t => ({ ...ESTIMATORS.elbo_mc.weights(t), score: 0 }),
  },
  score: {
    objective: sampledElbo,
    weights(t) {
      const f = t.log_px.map((v, r) => v + t.beta * (t.log_pz[r] - t.log_qz[r]));
      return { decoder: 1 / (t.K * t.B), score: lessOthers(t, f) };
    },
  },
  score_analytic_kl: {
    objective: analyticElbo,
    weights: t =>
      ({ decoder: 1 / (t.K * t.B), score: lessOthers(t, t.log_px), kl: -t.beta / t.B }),
  },
  iwae: {
    objective: multiSampleBound,
    weights(t) {
      const w = scaled(normalisedWeights(t), 1 / t.B);
      return { decoder: w, latent: w, path: 1, score: scaled(w, -1) };
    },
  },
  iwae_stl: {
    objective: multiSampleBound,
    weights: t => ({ ...ESTIMATORS.iwae.weights(t), score: 0 }),
  },
  dreg: {
    objective: multiSampleBound,
    weights: t => ({ ...ESTIMATORS.iwae_stl.weights(t), path: normalisedWeights(t) }),
  },
  rws: {
    objective: multiSampleBound,
    weights(t) {
      const w = scaled(normalisedWeights(t), 1 / t.B);
      return { decoder: w, score: w };
    },
  },
  vimco: {
    objective: multiSampleBound,
    /** score = (L_K - L_-k - w~_k) / B; in L_-k the mean of the others stands for log w_k. */
    weights(t) {
      if (t.K < 2)
        throw new Error("vimco takes its baseline from the other samples: it wants K >= 2, " +
                        "got K = 1");
      const logw = logWeights(t), w = normalisedWeights(t), others = meanOfOthers(t, logw);
      const bound = perImage(t, logw, logMeanExp);
      const without = logw.map((_, r) => {
        const n = r % t.B, list = Array.from({ length: t.K }, (_, k) => logw[k * t.B + n]);
        list[Math.floor(r / t.B)] = others[r];
        return logMeanExp(list);
      });
      const score = w.map((v, r) => (bound[r % t.B] - without[r] - v) / t.B);
      return { decoder: scaled(w, 1 / t.B), score };
    },
  },
  disarm: {
    objective: analyticElbo,
    /** For coins, from the pair u and 1 - u: a score for each z_j, times sigmoid(|a_j|). */
    weights(t) {
      const [a, ...more] = t.q, Z = a.length / t.B;
      if (more.length) throw new Error("disarm wants binary latents");
      if (t.K !== 2) throw new Error(`disarm wants K = 2 exactly, got K = ${t.K}`);
      const pair = ESTIMATORS.score_analytic_kl.weights(t);
      const score = Float64Array.from({ length: t.K * a.length }, (_, at) =>
        pair.score[Math.floor(at / Z)] * sigmoid(Math.abs(a[at % a.length])));
      return { ...pair, score };
    },
  },
};

/** The wires with all weights but one cut: what came along it is backward(pass, onlyWire(..)). */
function onlyWire(wires, name) {
  const alone = { path: wires.path, [name]: wires[name] };
  for (const other in wires) alone[other] ??= scaled(wires[other], 0);
  return alone;
}

/** The five wires as arrays, from an estimator's weights. */
function wiresOf(t, weights) {
  const wire = (name, size) => typeof weights[name] === "object" ? weights[name]
    : new Float64Array(size).fill(weights[name] || 0);
  const rows = t.K * t.B;
  return { decoder: wire("decoder", rows), latent: wire("latent", rows), path: wire("path", rows),
           score: wire("score", rows), kl: wire("kl", t.B) };
}
