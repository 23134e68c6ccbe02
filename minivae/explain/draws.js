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
  const many = draw => n => Float64Array.from({ length: n }, draw);
  return { uniform, normal, uniforms: many(uniform), normals: many(normal) };
}

/** The noise of n numbers z: normal for a Gaussian, uniform for coins.
 *
 * The estimator disarm takes two samples, from u and 1 - u.
 */
function noiseFor(spec, random, n, estimator) {
  if (spec.latent === "gaussian") return random.normals(n);
  if (estimator !== "disarm") return random.uniforms(n);
  const u = random.uniforms(n / 2);
  return Float64Array.of(...u, ...u.map(v => 1 - v));
}

/** Mean and spread over n draws of the noise of one image's gradient at mu and logvar.
 *
 * Returns {mu, logvar}, or {a} for coins, each {mean, spread, error}, arrays of Z: the mean over
 * the draws, the standard deviation of one draw, and the standard error of the mean.
 *
 * All draws go through as one batch of n equal images.  The batch's loss is a mean over them, so
 * their gradients are multiplied by n.
 */
function gradientsOverDraws(vae, x, { estimator, K = 1, beta = vae.spec.beta, n = 300, random }) {
  const { spec, heads } = vae, { D, Z } = spec, images = new Float64Array(n * D);
  for (let i = 0; i < n; i++) images.set(x, i * D);
  const noise = noiseFor(spec, random, K * n * Z, estimator);
  const { grads } = vae.backward(vae.forward(images, noise, { beta, estimator }));
  return Object.fromEntries(heads.map(head => [head, overDraws(grads[head], n, Z)]));
}

/** The mean of n * grad over the n rows, its spread and its standard error, by column. */
function overDraws(grad, n, Z) {
  const mean = new Float64Array(Z), spread = new Float64Array(Z);
  grad.forEach((v, at) => { mean[at % Z] += v; });
  grad.forEach((v, at) => { spread[at % Z] += (n * v - mean[at % Z]) ** 2 / (n - 1); });
  const std = spread.map(Math.sqrt);
  return { mean, spread: std, error: std.map(s => s / Math.sqrt(n)) };
}
