"use strict";
// The gradient at mu and at logvar over many draws of eps, made on the spot, by estimator.

/** Numbers from a seed: uniform in [0, 1), and normal.  The same seed gives the same numbers. */
function makeRandom(seed) {
  let state = seed >>> 0;
  // Mulberry32, a public-domain generator of 32 bits
  const uniform = () => {
    state = (state + 0x6D2B79F5) >>> 0;
    let v = Math.imul(state ^ (state >>> 15), state | 1);
    v ^= v + Math.imul(v ^ (v >>> 7), v | 61);
    return ((v ^ (v >>> 14)) >>> 0) / 2 ** 32;
  };
  // Box & Muller (1958); 1 - uniform() is never 0
  const normal = () =>
    Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());
  return { uniform, normal, normals: n => Float64Array.from({ length: n }, normal) };
}

/** Mean and spread over n draws of eps of one image's gradient at mu and logvar.
 *
 * Returns {mu, logvar: {mean, spread, error}}, arrays of Z: the mean over the draws, the standard
 * deviation of one draw, and the standard error of the mean.
 *
 * All draws go through as one batch of n equal images.  The batch's loss is a mean over them, so
 * their gradients are multiplied by n.
 */
function gradientsOverDraws(vae, x, { estimator, K = 1, beta = 1, n = 300, random }) {
  const { D, Z } = vae.spec, images = new Float64Array(n * D);
  for (let i = 0; i < n; i++) images.set(x, i * D);
  const pass = vae.forward(images, random.normals(K * n * Z), { beta, estimator });
  const { grads } = vae.backward(pass);
  return { mu: overDraws(grads.mu, n, Z), logvar: overDraws(grads.logvar, n, Z) };
}

/** The mean of n * grad over the n rows, its spread and its standard error, by column. */
function overDraws(grad, n, Z) {
  const mean = new Float64Array(Z), spread = new Float64Array(Z);
  grad.forEach((v, at) => { mean[at % Z] += v; });
  grad.forEach((v, at) => { spread[at % Z] += (n * v - mean[at % Z]) ** 2 / (n - 1); });
  const std = spread.map(Math.sqrt);
  return { mean, spread: std, error: std.map(s => s / Math.sqrt(n)) };
}
