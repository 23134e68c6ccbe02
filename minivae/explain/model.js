"use strict";
// The whole VAE in plain JavaScript: forward and backward of every node, as in minivae/vae.py.
//
//   const vae = makeVAE(spec);                              spec: see the function, at the end
//   const pass = vae.forward(x, eps, { beta, estimator });  x: B*D, eps: K*B*Z numbers
//   const back = vae.backward(pass);                        or (pass, wires), to cut some
//   vae.adamStep(back.params, lr);
//
// Arrays are flat Float64Arrays of rows.  Row k*B + n of z belongs to sample k of image n.
// dfoo is d(loss)/d(foo), of foo's size.  Log-probabilities are in nats.
//
// pass.values, by name                                      numbers
//   x                    the images                         B*D
//   h.0, h.1, ..         what each encoder layer gives ..   B*H
//   h                    .. but the last: it gives h
//   mu, logvar           of q(z|x); a for coins             B*Z
//   kl                   KL(q || p), on paper               B
//   z                    the samples                        K*B*Z
//   g.0, g.1, ..         what each decoder layer gives ..   K*B*H
//   g                    .. but the last: it gives g
//   logits               or mean, or mean_raw               K*B*D, or K*B*2D for mean_raw
//   log_px, log_qz, log_pz                                  K*B
//   loss                                                    1
// A model without hidden layers has no h and no g.
//
// pass.wires     decoder, latent, path, score (K*B) and kl (B), as minivae/estimators.py has them
// pass.recon, pass.kl, pass.elbo     means over the batch, nats;  pass.loss the same as in values
// back.grads     by the names of the values but x; z: what arrives at the sampling node
// back.parts     mu, logvar (or a): {sample, kl, log_q};  z: {dec, log_prior, log_q}, before the
//                gain path;  h: {to_mu, to_logvar};  log_qz: {along_z, along_phi}.  Parts add up
// back.params    by the names of Model.named_params: enc.0.W, enc.0.b, .., likelihood.raw_logvar

const LOG_2PI = Math.log(2 * Math.PI);
const LOGVAR_FLOOR = -10;
const sigmoid = a => 1 / (1 + Math.exp(-a));
const softplus = a => Math.max(a, 0) + Math.log1p(Math.exp(-Math.abs(a)));

// --- layers ---------------------------------------------------------------------------------

/** y = x W + b.  W: I rows of J numbers, b: J. */
function denseForward(x, W, b) {
  const J = b.length, I = W.length / J, rows = x.length / I, y = new Float64Array(rows * J);
  for (let n = 0; n < rows; n++) {
    for (let j = 0; j < J; j++) y[n * J + j] = b[j];
    for (let i = 0; i < I; i++) {
      const x_i = x[n * I + i];
      if (x_i === 0) continue;                             // a black pixel adds nothing
      for (let j = 0; j < J; j++) y[n * J + j] += x_i * W[i * J + j];
    }
  }
  return y;
}

/** dW = x.T dy, db = sum dy, dx = dy W.T; every row used the same W and b, so theirs are sums. */
function denseBackward(x, W, b, dy, wantsDx) {
  const J = b.length, I = W.length / J, rows = x.length / I;
  const dW = new Float64Array(I * J), db = new Float64Array(J);
  const dx = wantsDx ? new Float64Array(rows * I) : null;
  for (let n = 0; n < rows; n++) {
    for (let j = 0; j < J; j++) db[j] += dy[n * J + j];
    for (let i = 0; i < I; i++) {
      const x_i = x[n * I + i];
      if (x_i !== 0) for (let j = 0; j < J; j++) dW[i * J + j] += x_i * dy[n * J + j];
      if (!wantsDx) continue;
      let total = 0;
      for (let j = 0; j < J; j++) total += dy[n * J + j] * W[i * J + j];
      dx[n * I + i] = total;
    }
  }
  return { dx, dW, db };
}

const ACTIVATIONS = {
  ReLU: {
    forward: x => x.map(v => Math.max(v, 0)),
    backward: (x, y, dy) => dy.map((d, i) => d * (x[i] > 0)),
  },
  Tanh: {
    forward: x => x.map(v => Math.tanh(v)),
    backward: (x, y, dy) => dy.map((d, i) => d * (1 - y[i] ** 2)),
  },
  Sigmoid: {
    forward: x => x.map(sigmoid),
    backward: (x, y, dy) => dy.map((d, i) => d * y[i] * (1 - y[i])),
  },
  Softplus: {
    forward: x => x.map(softplus),
    backward: (x, y, dy) => dy.map((d, i) => d * sigmoid(x[i])),
  },
};

// --- likelihoods: log p(x|z) from the decoder's output, where the gradient enters -------------

const BERNOULLI = {
  /** log_px = sum_i x_i l_i - log(1 + e^l_i), for each row of logits l. */
  forward(logits, x, D) {
    const log_px = new Float64Array(logits.length / D);
    logits.forEach((l, at) => {
      log_px[Math.floor(at / D)] += x[at % x.length] * l - softplus(l);
    });
    return log_px;
  },
  /** dlogits = dlog_px * (x - sigmoid(logits)). */
  backward(logits, x, D, dlog_px) {
    const residual = (l, at) => x[at % x.length] - sigmoid(l);
    return { dout: logits.map((l, at) => dlog_px[Math.floor(at / D)] * residual(l, at)) };
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
     *  draw = dlog_px 1/2 ((x - mean)^2 / e^logvar - 1) sigmoid(raw - floor), summed if shared. */
    backward(out, x, D, dlog_px) {
      const dout = new Float64Array(out.length), draw_shared = new Float64Array(1);
      for (let r = 0; r < dlog_px.length; r++) for (let i = 0; i < D; i++) {
        const at = meanAt(D, r, i), off = x[(r * D + i) % x.length] - out[at];
        const precision = Math.exp(-logvarOf(out, D, r, i));
        dout[at] = dlog_px[r] * off * precision;
        if (fixed) continue;
        const slope = sigmoid(raw(out, D, r, i) - LOGVAR_FLOOR);
        const draw = dlog_px[r] * 0.5 * (off ** 2 * precision - 1) * slope;
        if (perPixel) dout[at + D] = draw; else draw_shared[0] += draw;
      }
      return { dout, params: shared ? { "likelihood.raw_logvar": draw_shared } : {} };
    },
    mean: (out, D) => perPixel ? out.filter((v, at) => at % (2 * D) < D) : out.slice(),
  };
}

// --- latents: the sampling node, the KL, log q and the log prior -------------------------------

/** For each row of Z numbers the sum of term(j), j its place in the whole. */
function rowSums(length, Z, term) {
  const total = new Float64Array(length / Z);
  for (let j = 0; j < length; j++) total[Math.floor(j / Z)] += term(j);
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
    mu.map((m, j) => dkl[Math.floor(j / Z)] * m),
    logvar.map((v, j) => dkl[Math.floor(j / Z)] * Math.expm1(v) / 2),
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
    const phi = at => along_phi[Math.floor(at / Z)];
    return {
      dz: z.map((_, at) => -along_z[Math.floor(at / Z)] * t(at, at % mu.length)),
      dq: [overSamples(z.length, mu.length, (at, j) => phi(at) * t(at, j)),
           overSamples(z.length, mu.length, (at, j) => phi(at) * (off(at, j) * t(at, j) - 1) / 2)],
    };
  },
  /** log_pz = -1/2 sum_j z_j^2 + log 2 pi. */
  logPrior: (Z, z) => rowSums(z.length, Z, at => -(z[at] ** 2 + LOG_2PI) / 2),
  /** dz = -dlog_pz * z. */
  logPriorBackward: (Z, z, dlog_pz) => z.map((v, at) => -dlog_pz[Math.floor(at / Z)] * v),
};

// --- the model ------------------------------------------------------------------------------

/** The model.
 *
 * spec: D, Z; enc, dec: the kinds of their layers, e.g. ["Dense", "Tanh"]; out: the name of the
 * decoder's last layer, e.g. "to_logits"; likelihood: "bernoulli" or "gaussian"; logvar: of the
 * latter; latent: "gaussian"; params: arrays by name.  The parameters are copied, as float64.
 */
function makeVAE(spec) {
  const { D, Z, out } = spec, latent = GAUSSIAN;
  const params = Object.fromEntries(
    Object.entries(spec.params).map(([name, array]) => [name, Float64Array.from(array)]));
  const likelihood = spec.likelihood === "bernoulli" ? BERNOULLI
    : gaussianLikelihood(spec.logvar, params);
  const [W, b] = [name => params[`${name}.W`], name => params[`${name}.b`]];
  const outValue = out.replace("to_", "");
  /** What the layers of a side give, by name: h.0, h.1, .., and the last h, or g. */
  const given = (side, i) => i < 0 ? { enc: "x", dec: "z" }[side]
    : { enc: "h", dec: "g" }[side] + (i === spec[side].length - 1 ? "" : `.${i}`);
  const h = given("enc", spec.enc.length - 1), g = given("dec", spec.dec.length - 1);

  function stackForward(side, values) {
    spec[side].forEach((kind, i) => {
      const x = values[given(side, i - 1)], name = `${side}.${i}`;
      values[given(side, i)] = kind === "Dense" ? denseForward(x, W(name), b(name))
        : ACTIVATIONS[kind].forward(x);
    });
  }

  /** From d(h) or d(g) down to the side's first layer; gives d(z) for the decoder. */
  function stackBackward(side, values, grads, dparams, dy) {
    for (let i = spec[side].length - 1; i >= 0; i--) {
      const kind = spec[side][i], name = `${side}.${i}`, x = values[given(side, i - 1)];
      grads[given(side, i)] = dy;
      dy = kind === "Dense" ? layerBackward(name, x, dparams, dy, side === "dec" || i > 0)
        : ACTIVATIONS[kind].backward(x, values[given(side, i)], dy);
    }
    return dy;
  }

  /** Fill dW and db of a Dense layer, and give dx. */
  function layerBackward(name, x, dparams, dy, wantsDx = true) {
    const { dx, dW, db } = denseBackward(x, W(name), b(name), dy, wantsDx);
    dparams[`${name}.W`] = dW;
    dparams[`${name}.b`] = db;
    return dx;
  }

  function forward(x, eps, { beta = 1, estimator = "elbo" } = {}) {
    const B = x.length / D, K = eps.length / (B * Z);
    if (!Number.isInteger(B) || !Number.isInteger(K) || B * K === 0)
      throw new Error(`x must hold B*${D} numbers and eps K*B*${Z}, got ${x.length} and ` +
                      `${eps.length}`);
    const values = { x: Float64Array.from(x) };
    eps = Float64Array.from(eps);
    // encoder, phi: x -> q(z|x)
    stackForward("enc", values);
    for (const head of latent.heads)
      values[head] = denseForward(values[h], W(`to_${head}`), b(`to_${head}`));
    const q = latent.heads.map(head => values[head]);
    // the KL leaves here: it needs no sample
    values.kl = latent.kl(Z, ...q);
    // sampling node
    values.z = latent.sample(...q, eps);
    // decoder, theta: z -> log p(x|z)
    stackForward("dec", values);
    values[outValue] = denseForward(values[g], W(out), b(out));
    values.log_px = likelihood.forward(values[outValue], values.x, D);
    values.log_qz = latent.logQ(Z, values.z, ...q);
    values.log_pz = latent.logPrior(Z, values.z);
    // the estimator sees the terms, and chooses the weights for backward
    const { log_px, log_qz, log_pz, kl } = values, t = { log_px, log_qz, log_pz, kl, beta, K, B };
    const { objective, weights } = ESTIMATORS[estimator], found = objective(t);
    const loss = -meanOf(found.objective), recon = -meanOf(log_px), klFound = meanOf(found.kl);
    values.loss = Float64Array.of(loss);
    return { values, eps, B, K, beta, estimator, wires: wiresOf(t, weights(t)), loss, recon,
             kl: klFound, elbo: -(recon + klFound) };
  }

  /** Read forward from the bottom up beside this.  A value used twice gets the sum of two. */
  function backward({ values, eps, wires: chosen }, wires = chosen) {
    const grads = {}, parts = {}, dparams = {}, q = latent.heads.map(head => values[head]);
    const rowOf = at => Math.floor(at / Z), sum = (...arrays) =>
      arrays[0].map((_, at) => arrays.reduce((total, a) => total + a[at], 0));
    // what the loss sends along each wire; the sign turns here, once: the loss is -objective
    const dlog_px = scaled(wires.decoder, -1), dlog_pz = scaled(wires.latent, -1);
    const along_z = wires.latent, along_phi = scaled(wires.score, -1), dkl = scaled(wires.kl, -1);
    Object.assign(grads, { loss: Float64Array.of(1), log_px: dlog_px, log_pz: dlog_pz, kl: dkl });
    grads.log_qz = along_z;
    parts.log_qz = { along_z, along_phi };
    // decoder, theta
    const entered = likelihood.backward(values[outValue], values.x, D, dlog_px);
    Object.assign(dparams, entered.params);
    grads[outValue] = entered.dout;
    const dg = layerBackward(out, values[g], dparams, entered.dout);
    const dz_px = stackBackward("dec", values, grads, dparams, dg);
    // these are 0 for the plain ELBO
    const dz_pz = latent.logPriorBackward(Z, values.z, dlog_pz);
    const log_q = latent.logQBackward(Z, values.z, ...q, along_z, along_phi);
    // sampling node
    parts.z = { dec: dz_px, log_prior: dz_pz, log_q: log_q.dz };
    grads.z = sum(dz_px, dz_pz, log_q.dz).map((v, at) => wires.path[rowOf(at)] * v);
    const dq_z = latent.sampleBackward(...q, eps, grads.z);
    // the KL joins here
    const dq_kl = latent.klBackward(Z, ...q, dkl);
    // encoder, phi: both heads read h; without hidden layers they read x, and nobody needs dx
    const dh = {};
    latent.heads.forEach((head, i) => {
      parts[head] = { sample: dq_z[i], kl: dq_kl[i], log_q: log_q.dq[i] };
      grads[head] = sum(dq_z[i], dq_kl[i], log_q.dq[i]);
      dh[`to_${head}`] = layerBackward(`to_${head}`, values[h], dparams, grads[head], h !== "x");
    });
    if (h !== "x") {
      parts.h = dh;
      stackBackward("enc", values, grads, dparams, sum(...Object.values(dh)));
    }
    return { grads, parts, params: dparams };
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
    return likelihood.mean(denseForward(values[g], W(out), b(out)), D);
  }

  return { spec, params, forward, backward, adamStep, decode };
}
