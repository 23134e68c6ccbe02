"use strict";
// The whole VAE in plain JavaScript: forward and backward of every node, as in minivae/vae.py and
// minivae/discrete.py.
//
//   const vae = makeVAE(spec);                              spec: see the function, at the end
//   const pass = vae.forward(x, eps, { beta, estimator });  x: B*D, eps: K*B*Z numbers
//   const back = vae.backward(pass);                        or (pass, wires), to cut some
//   vae.adamStep(back.params, lr);                          moves vae.params
//   const image = vae.decode(z);                            E[x|z]
//
// Arrays are flat Float64Arrays of rows.  Row k*B + n of z belongs to sample k of image n.
// dfoo is d(loss)/d(foo), of foo's size.  Log-probabilities are in nats.
//
// pass.values, by name                                      numbers
//   x                    the images                         B*D
//   h.0, h.1, .., h      what the encoder's layers give     B*H
//   mu, logvar           of q(z|x); a for coins             B*Z
//   kl                   KL(q || p), on paper               B
//   z                    the samples                        K*B*Z
//   g.0, g.1, .., g      what the decoder's layers give     K*B*H
//   logits               or mean, or mean_raw               K*B*D, or K*B*2D for mean_raw
//   log_px, log_qz, log_pz                                  K*B
//   loss                                                    1
// A model without hidden layers has no h and no g.
//
// pass.wires     decoder, latent, path, score (K*B) and kl (B), as minivae/estimators.py has them
// pass.loss, pass.recon, pass.kl, pass.elbo       means over the batch; kl is the one in the loss
// back.grads     whole gradients, by the names of the values: logits, g, z, mu, .. (not x).
//                z: what arrives at the sampling node; log_qz: its weight at fixed z
// back.parts     the parts of those that are sums:
//                dz_px, dz_pz, dz_qz           dz = path * (dz_px + dz_pz + dz_qz)
//                dmu_z, dmu_qz, dmu_kl         dmu is their sum; logvar and a likewise
//                dh_mu, dh_logvar              dh is their sum
// back.params    by the names of Model.named_params: enc.0.W, enc.0.b, .., likelihood.raw_logvar

const LOG_2PI = Math.log(2 * Math.PI);
const LOGVAR_FLOOR = -10;      // of a learned variance, as in minivae/likelihoods.py
/** The row in which a place of a flat array lies. */
const rowOf = (at, width) => Math.floor(at / width);

// --- likelihoods: log p(x|z) from the decoder's output, where the gradient enters -------------

const BERNOULLI = {
  /** log_px = sum_i x_i l_i - log(1 + e^l_i), for each row of logits l. */
  forward(logits, x, D) {
    const log_px = new Float64Array(logits.length / D);
    logits.forEach((l, at) => {
      log_px[rowOf(at, D)] += x[at % x.length] * l - softplus(l);
    });
    return log_px;
  },
  /** dlogits = dlog_px * (x - sigmoid(logits)). */
  backward(logits, x, D, dlog_px) {
    const residual = (l, at) => x[at % x.length] - sigmoid(l);
    return { dout: logits.map((l, at) => dlog_px[rowOf(at, D)] * residual(l, at)) };
  },
  /** E[x|z]. */
  mean: logits => logits.map(sigmoid),
};

/** log_px = -1/2 sum_i (x_i - mean_i)^2 / e^logvar_i + logvar_i + log 2 pi.
 *
 * given: the log-variance: a number, "shared" (one raw number of theta), or "per_pixel" (the
 * decoder gives mean and raw side by side).  logvar = floor + softplus(raw - floor).
 */
function gaussianLikelihood(given, params) {
  const perPixel = given === "per_pixel", shared = given === "shared";
  const fixed = !perPixel && !shared;
  const meanAt = (D, r, i) => r * (perPixel ? 2 * D : D) + i;
  const raw = (out, D, r, i) =>
    perPixel ? out[r * 2 * D + D + i] : params["likelihood.raw_logvar"][0];
  const logvarOf = (out, D, r, i) =>
    fixed ? given : LOGVAR_FLOOR + softplus(raw(out, D, r, i) - LOGVAR_FLOOR);
  return {
    forward(out, x, D) {
      const log_px = new Float64Array(out.length / (perPixel ? 2 * D : D));
      for (let r = 0; r < log_px.length; r++) for (let i = 0; i < D; i++) {
        const logvar = logvarOf(out, D, r, i);
        const off = x[(r * D + i) % x.length] - out[meanAt(D, r, i)];
        log_px[r] -= 0.5 * (off ** 2 * Math.exp(-logvar) + logvar + LOG_2PI);
      }
      return log_px;
    },
    /** dmean = dlog_px (x - mean) / e^logvar;
     *  d_raw = dlog_px 1/2 ((x - mean)^2 / e^logvar - 1) sigmoid(raw - floor), summed if shared. */
    backward(out, x, D, dlog_px) {
      const dout = new Float64Array(out.length), d_raw_shared = new Float64Array(1);
      for (let r = 0; r < dlog_px.length; r++) for (let i = 0; i < D; i++) {
        const at = meanAt(D, r, i), off = x[(r * D + i) % x.length] - out[at];
        const precision = Math.exp(-logvarOf(out, D, r, i));
        dout[at] = dlog_px[r] * off * precision;
        if (fixed) continue;
        const slope = sigmoid(raw(out, D, r, i) - LOGVAR_FLOOR);
        const d_raw = dlog_px[r] * 0.5 * (off ** 2 * precision - 1) * slope;
        if (perPixel) dout[at + D] = d_raw; else d_raw_shared[0] += d_raw;
      }
      return shared ? { dout, "likelihood.raw_logvar": d_raw_shared } : { dout };
    },
    mean: (out, D) => perPixel ? out.filter((v, at) => at % (2 * D) < D) : out.slice(),
  };
}

// --- latents: the sampling node, the KL, log q and the log prior -------------------------------

/** The sum of several arrays. */
const sumOf = arrays => arrays[0].map((_, at) => arrays.reduce((total, a) => total + a[at], 0));

/** For each row of Z numbers the sum of term(j), j its place in the whole. */
function rowSums(length, Z, term) {
  const total = new Float64Array(length / Z);
  for (let j = 0; j < length; j++) total[rowOf(j, Z)] += term(j);
  return total;
}

/** Over all samples of an image: total[j] = sum_k term(place of z, place j of mu). */
function overSamples(length, size, term) {
  const total = new Float64Array(size);
  for (let at = 0; at < length; at++) total[at % size] += term(at, at % size);
  return total;
}

const GAUSSIAN = {
  heads: ["mu", "logvar"],
  hasPath: true,
  /** z = mu + std * eps,  std = e^(logvar / 2). */
  sample: (mu, logvar, eps) => eps.map((e, at) => {
    const j = at % mu.length;
    return mu[j] + Math.exp(logvar[j] / 2) * e;
  }),
  /** dmu = dz;  dlogvar = dz * eps * std / 2; summed over k.  eps is a dead end. */
  sampleBackward: (mu, logvar, eps, dz) => [
    overSamples(dz.length, mu.length, at => dz[at]),
    overSamples(dz.length, mu.length, (at, j) => dz[at] * eps[at] * Math.exp(logvar[j] / 2) / 2),
  ],
  /** kl = 1/2 sum_j (mu_j^2 + e^logvar_j - 1 - logvar_j). */
  kl: (Z, mu, logvar) =>
    rowSums(mu.length, Z, j => (mu[j] ** 2 + Math.expm1(logvar[j]) - logvar[j]) / 2),
  /** dmu = dkl * mu;  dlogvar = dkl * (e^logvar - 1) / 2. */
  klBackward: (Z, mu, logvar, dkl) => [
    mu.map((m, j) => dkl[rowOf(j, Z)] * m),
    logvar.map((v, j) => dkl[rowOf(j, Z)] * Math.expm1(v) / 2),
  ],
  /** log_qz = -1/2 sum_j (z_j - mu_j)^2 / e^logvar_j + logvar_j + log 2 pi. */
  logQ: (Z, z, mu, logvar) => rowSums(z.length, Z, at => {
    const j = at % mu.length;
    return -((z[at] - mu[j]) ** 2 * Math.exp(-logvar[j]) + logvar[j] + LOG_2PI) / 2;
  }),
  /** With t = (z - mu) / e^logvar:  dz = -along_z * t;  dmu = along_phi * t;
   *  dlogvar = along_phi * ((z - mu) t - 1) / 2; the last two summed over k. */
  logQBackward(Z, z, mu, logvar, along_z, along_phi) {
    const off = (at, j) => z[at] - mu[j], t = (at, j) => off(at, j) * Math.exp(-logvar[j]);
    const phi = at => along_phi[rowOf(at, Z)];
    return {
      dz: z.map((_, at) => -along_z[rowOf(at, Z)] * t(at, at % mu.length)),
      dq: [overSamples(z.length, mu.length, (at, j) => phi(at) * t(at, j)),
           overSamples(z.length, mu.length, (at, j) => phi(at) * (off(at, j) * t(at, j) - 1) / 2)],
    };
  },
  /** log_pz = -1/2 sum_j z_j^2 + log 2 pi. */
  logPrior: (Z, z) => rowSums(z.length, Z, at => -(z[at] ** 2 + LOG_2PI) / 2),
  /** dz = -dlog_pz * z. */
  logPriorBackward: (Z, z, dlog_pz) => z.map((v, at) => -dlog_pz[rowOf(at, Z)] * v),
};

/** A row of coins: q(z_j = 1) = sigmoid(a_j), against fair ones.  z is a step, and has no path. */
const COINS = {
  heads: ["a"],
  hasPath: false,
  /** z = 1 where u > sigmoid(-a), else 0. */
  sample: (a, u) => u.map((v, at) => +(v > sigmoid(-a[at % a.length]))),
  /** kl = sum_j log 2 - log(1 + e) - |a_j| e / (1 + e),  e = e^-|a_j|. */
  kl: (Z, a) => rowSums(a.length, Z, j => {
    const e = Math.exp(-Math.abs(a[j]));
    return Math.LN2 - Math.log1p(e) - Math.abs(a[j]) * e / (1 + e);
  }),
  /** da = dkl * a sigmoid(a) sigmoid(-a). */
  klBackward: (Z, a, dkl) =>
    [a.map((v, j) => dkl[rowOf(j, Z)] * v * sigmoid(v) * sigmoid(-v))],
  /** log_qz = sum_j z_j a_j - log(1 + e^a_j). */
  logQ: (Z, z, a) => rowSums(z.length, Z, at => {
    const a_j = a[at % a.length];
    return z[at] * a_j - softplus(a_j);
  }),
  /** da = along_phi * (z - sigmoid(a)), summed over k; along_phi for each row, or for each z_j. */
  logQBackward(Z, z, a, along_z, along_phi) {
    const forEach = along_phi.length === z.length;
    const weight = at => along_phi[forEach ? at : rowOf(at, Z)];
    const score = (at, j) => z[at] - sigmoid(a[j]);
    return { dq: [overSamples(z.length, a.length, (at, j) => weight(at) * score(at, j))] };
  },
  /** log_pz = -Z log 2. */
  logPrior: (Z, z) => new Float64Array(z.length / Z).fill(-Z * Math.LN2),
};

// --- the model ------------------------------------------------------------------------------

/** The model.
 *
 * spec: D, Z, beta; parts: the layers of enc, of the heads, of dec, and of the decoder's last part;
 * out: the name of that part, e.g. "to_logits"; likelihood: "bernoulli" or "gaussian"; logvar: of
 * the latter; latent: "gaussian" or "bernoulli"; params: arrays by name, copied as float64.
 * A layer: name, kind, takes and gives, the names of its values; see minivae/explain/live.py.
 */
function makeVAE(spec) {
  const { D, Z, out } = spec, latent = { gaussian: GAUSSIAN, bernoulli: COINS }[spec.latent];
  const params = {};
  for (const name in spec.params) params[name] = Float64Array.from(spec.params[name]);
  const likelihood = spec.likelihood === "bernoulli" ? BERNOULLI
    : gaussianLikelihood(spec.logvar, params);
  const { parts: stacks } = spec;
  const own = layer => ({ W: params[`${layer.name}.W`], b: params[`${layer.name}.b`] });
  const hasHidden = stacks.enc.length > 0;
  const decoded = stacks[out].at(-1).gives;                // logits, mean, mean_raw

  /** Through the layers of one part: enc, a head, dec, or the last part of the decoder. */
  function stackForward(part, values) {
    for (const layer of stacks[part])
      values[layer.gives] = LAYERS[layer.kind].forward(values[layer.takes], own(layer), layer);
  }

  /** From the gradient of what a part gives down to its first layer, and what leaves that.
   *
   * Where nobody wants that, the walk ends at the first layer that has parameters.
   */
  function stackBackward(part, values, back, dy, wantsDx) {
    const layers = stacks[part], end = wantsDx ? 0 : Math.max(0, layers.findIndex(l => own(l).W));
    for (let i = layers.length - 1; i >= end; i--) {
      const layer = layers[i], x = values[layer.takes], y = values[layer.gives];
      back.grads[layer.gives] = dy;
      const found = LAYERS[layer.kind].backward(x, y, dy, own(layer), layer, i > end || wantsDx);
      if (found.dW) back.params[`${layer.name}.W`] = found.dW;
      if (found.db) back.params[`${layer.name}.b`] = found.db;
      dy = found.dx;
    }
    return dy;
  }

  function forward(x, eps, { beta = spec.beta, estimator = "elbo" } = {}) {
    const B = x.length / D, K = eps.length / (B * Z);
    if (!Number.isInteger(B) || !Number.isInteger(K) || B * K === 0)
      throw new Error(`x must hold B*${D} numbers and eps K*B*${Z}, got ${x.length} and ` +
                      `${eps.length}`);
    const values = { x: Float64Array.from(x) };
    eps = Float64Array.from(eps);
    // encoder, phi: x -> q(z|x)
    stackForward("enc", values);
    for (const head of latent.heads) stackForward(`to_${head}`, values);
    const q = latent.heads.map(head => values[head]);
    // the KL leaves here: it needs no sample
    values.kl = latent.kl(Z, ...q);
    // sampling node
    values.z = latent.sample(...q, eps);
    // decoder, theta: z -> log p(x|z)
    stackForward("dec", values);
    stackForward(out, values);
    values.log_px = likelihood.forward(values[decoded], values.x, D);
    values.log_qz = latent.logQ(Z, values.z, ...q);
    values.log_pz = latent.logPrior(Z, values.z);
    // the estimator sees the terms, and chooses the weights for backward
    const { log_px, log_qz, log_pz, kl } = values;
    const t = { log_px, log_qz, log_pz, kl, beta, K, B, q };
    const { objective, weights } = ESTIMATORS[estimator], found = objective(t);
    const loss = -meanOf(found.objective), recon = -meanOf(log_px), klFound = meanOf(found.kl);
    values.loss = Float64Array.of(loss);
    return { values, eps, B, K, beta, estimator, wires: wiresOf(t, weights(t)),
             loss, recon, kl: klFound, elbo: -(recon + klFound) };
  }

  /** Read forward from the bottom up beside this.  A value used twice gets the sum of two. */
  function backward({ values, eps, wires: chosen }, wires = chosen) {
    const { x, z } = values, q = latent.heads.map(head => values[head]);
    // what the loss sends along each wire; the sign turns here, once: the loss is -objective
    const dlog_px = scaled(wires.decoder, -1), dlog_pz = scaled(wires.latent, -1);
    const dlog_qz = scaled(wires.score, -1), dkl = scaled(wires.kl, -1);
    const back = { params: {}, parts: {}, grads: {
      loss: Float64Array.of(1), log_px: dlog_px, log_pz: dlog_pz, log_qz: dlog_qz, kl: dkl } };
    const { grads, parts } = back;
    // decoder, theta
    const { dout, ...shared } = likelihood.backward(values[decoded], x, D, dlog_px);
    Object.assign(back.params, shared);
    const dg = stackBackward(out, values, back, dout, stacks.dec.length > 0 || latent.hasPath);
    const dz_px = stackBackward("dec", values, back, dg, latent.hasPath);
    // log q and the KL go straight to mu and logvar; one wire carries log p(z) - log q(z|x) to z
    const log_q = latent.logQBackward(Z, z, ...q, scaled(dlog_pz, -1), dlog_qz);
    const reached = { qz: log_q.dq, kl: latent.klBackward(Z, ...q, dkl) };
    // sampling node: where z is a step, nothing passes it
    if (latent.hasPath) {
      const dz_pz = latent.logPriorBackward(Z, z, dlog_pz), dz_qz = log_q.dz;
      Object.assign(parts, { dz_px, dz_pz, dz_qz });
      grads.z = sumOf([dz_px, dz_pz, dz_qz]).map((v, at) => wires.path[rowOf(at, Z)] * v);
      reached.z = latent.sampleBackward(...q, eps, grads.z);
    } else if (wires.path.some(gain => gain !== 0)) {
      throw new Error("z is a step, so no gradient passes through it: this estimator wants one to");
    }
    // here they meet: dmu = dmu_z + dmu_qz + dmu_kl
    const dh = latent.heads.map((head, i) => {
      for (const from in reached) parts[`d${head}_${from}`] = reached[from][i];
      grads[head] = sumOf(Object.values(reached).map(dq => dq[i]));
      return stackBackward(`to_${head}`, values, back, grads[head], hasHidden);
    });
    // encoder, phi: both heads read h; without hidden layers they read x, and nobody needs dx
    if (hasHidden) {
      if (dh.length > 1) latent.heads.forEach((head, i) => { parts[`dh_${head}`] = dh[i]; });
      stackBackward("enc", values, back, sumOf(dh), false);
    }
    return back;
  }

  /** Step t = 1, 2, .. of Adam.  Kingma & Ba (2015), algorithm 1. */
  const moments = {};
  let t = 0;
  function adamStep(dparams, lr, beta1 = 0.9, beta2 = 0.999) {
    t += 1;
    for (const [name, p] of Object.entries(params)) {
      const d = dparams[name], zeros = () => new Float64Array(p.length);
      const { m, v } = moments[name] ??= { m: zeros(), v: zeros() };
      for (let i = 0; i < p.length; i++) {
        m[i] = beta1 * m[i] + (1 - beta1) * d[i];
        v[i] = beta2 * v[i] + (1 - beta2) * d[i] ** 2;
        p[i] -= lr * m[i] / (1 - beta1 ** t) / (Math.sqrt(v[i] / (1 - beta2 ** t)) + 1e-8);
      }
    }
  }

  /** z -> E[x|z], the painted image. */
  function decode(z) {
    const values = { z: Float64Array.from(z) };
    stackForward("dec", values);
    stackForward(out, values);
    return likelihood.mean(values[decoded], D);
  }

  return { spec, params, heads: latent.heads, forward, backward, adamStep, decode };
}
