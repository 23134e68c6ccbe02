"use strict";
// Does this page compute what Python computed?  The recorded pass, made once more and compared.

const AGREE_TO = 1e-5;         // of each array's largest entry; float32 gradients round at 6e-8

/** The largest difference of two arrays, over the largest entry of the second. */
function difference(found, recorded) {
  if (!found || found.length !== recorded.length) return Infinity;
  let largest = 0, apart = 0;
  recorded.forEach((v, i) => {
    largest = Math.max(largest, Math.abs(v));
    const d = Math.abs(found[i] - v);
    apart = d <= apart ? apart : d;                        // a NaN is larger than any number
  });
  return apart / (largest || 1);
}

/** The sum of each row and of each column of W, a matrix with so many columns. */
function sumsOf(W, columns) {
  const byRow = new Float64Array(W.length / columns), byColumn = new Float64Array(columns);
  W.forEach((v, at) => {
    byRow[Math.floor(at / columns)] += v;
    byColumn[at % columns] += v;
  });
  return [...byRow, ...byColumn];
}

/** Repeat the recorded pass, and compare every value, gradient, part and parameter gradient.
 *
 * recorded: x, eps, beta, estimator; values, grads, parts and params, which are arrays by name; and
 * sums, in the place of params in a large model: {columns, sums} by name.
 * Returns {worst, where, arrays, numbers, ok}: the largest difference over its array's largest
 * entry, the array where it is, and how many arrays and numbers were compared.
 */
function agreement(vae, recorded) {
  const { beta, estimator } = recorded;
  const pass = vae.forward(recorded.x, recorded.eps, { beta, estimator });
  const back = vae.backward(pass);
  const result = { worst: 0, where: "", arrays: 0, numbers: 0 };
  const compare = (where, found, wanted) => {
    const apart = difference(found, wanted);
    result.arrays += 1;
    result.numbers += wanted.length;
    if (!(apart <= result.worst)) Object.assign(result, { worst: apart, where });
  };
  const { values, grads, parts, params, sums } = recorded;
  for (const name in values) compare(name, pass.values[name], values[name]);
  for (const name in grads) compare(`d${name}`, back.grads[name], grads[name]);
  for (const name in parts) compare(name, back.parts[name], parts[name]);
  for (const name in params) compare(`d(${name})`, back.params[name], params[name]);
  for (const name in sums)
    compare(`sums of d(${name})`, sumsOf(back.params[name], sums[name].columns), sums[name].sums);
  return { ...result, ok: result.worst <= AGREE_TO };
}
