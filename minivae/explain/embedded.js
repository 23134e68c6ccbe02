"use strict";
// From the page's data to arrays: the model's spec, the recorded pass, and the images.

function bytesOf(base64) {
  return Uint8Array.from(atob(base64), c => c.charCodeAt(0));
}

const float32Of = stored => new Float32Array(bytesOf(stored.base64).buffer);
const mapped = (object, f) =>
  Object.fromEntries(Object.entries(object).map(([name, value]) => [name, f(value)]));

/** What makeVAE takes. */
function specOf(data) {
  const { spec } = data.live;
  return { ...spec, params: mapped(spec.params, float32Of) };
}

/** What agreement takes. */
function recordedOf(data) {
  const { recorded } = data.live;
  const get = name => new Float64Array(bytesOf(data.arrays[name].base64).buffer);
  return {
    ...recorded, x: get(recorded.x), eps: get(recorded.eps),
    values: mapped(recorded.values, get), grads: mapped(recorded.grads, get),
    parts: mapped(recorded.parts, get),
    params: mapped(recorded.params, float32Of),
    sums: mapped(recorded.sums, ({ columns, sums }) => ({ columns, sums: get(sums) })),
  };
}

/** The images of "test" or "train" as rows of pixels, in one Float32Array; null without any. */
function imagesOf(data, which) {
  const stored = data.live.images[which];
  return stored && Float32Array.from(bytesOf(stored.base64), place => stored.levels[place]);
}
