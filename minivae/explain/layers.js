"use strict";
// The layers in plain JavaScript, forward beside backward, as in minivae/layers.py and
// minivae/convolutions.py.  Arrays are flat Float64Arrays of rows, or of images (B, H, W, C).

const sigmoid = a => 1 / (1 + Math.exp(-a));
const softplus = a => Math.max(a, 0) + Math.log1p(Math.exp(-Math.abs(a)));   // log(1 + e^a)

// --- matrix products: W has J columns -------------------------------------------------------

/** x W. */
function times(x, W, J) {
  const I = W.length / J, rows = x.length / I, y = new Float64Array(rows * J);
  for (let n = 0; n < rows; n++) for (let i = 0; i < I; i++) {
    const x_i = x[n * I + i];
    if (x_i === 0) continue;                               // a black pixel adds nothing
    for (let j = 0; j < J; j++) y[n * J + j] += x_i * W[i * J + j];
  }
  return y;
}

/** x.T dy; dy has J columns. */
function transposeTimes(x, dy, J) {
  const rows = dy.length / J, I = x.length / rows, dW = new Float64Array(I * J);
  for (let n = 0; n < rows; n++) for (let i = 0; i < I; i++) {
    const x_i = x[n * I + i];
    if (x_i !== 0) for (let j = 0; j < J; j++) dW[i * J + j] += x_i * dy[n * J + j];
  }
  return dW;
}

/** dy W.T. */
function timesTranspose(dy, W, J) {
  const I = W.length / J, rows = dy.length / J, dx = new Float64Array(rows * I);
  for (let n = 0; n < rows; n++) for (let i = 0; i < I; i++) {
    let total = 0;
    for (let j = 0; j < J; j++) total += dy[n * J + j] * W[i * J + j];
    dx[n * I + i] = total;
  }
  return dx;
}

/** y + b, b added to every row, in place. */
function plusBias(y, b) {
  for (let at = 0; at < y.length; at++) y[at] += b[at % b.length];
  return y;
}

/** The sum of each of J columns. */
function columnSums(dy, J) {
  const sums = new Float64Array(J);
  for (let at = 0; at < dy.length; at++) sums[at % J] += dy[at];
  return sums;
}

// --- patches: P and its adjoint -------------------------------------------------------------

/** For each number that P copies, copy(its place in the patches, its place in the images).
 *
 * image: H, W, C; step: kernel, stride, padding; grid: H', W', how many patches.
 */
function eachCopy({ image: [H, W, C], step: [k, stride, padding], grid: [rows, columns] }, B,
                  copy) {
  for (let n = 0, at = 0; n < B; n++)
    for (let i = 0; i < rows; i++) for (let j = 0; j < columns; j++)
      for (let u = 0; u < k; u++) for (let v = 0; v < k; v++, at += C) {
        const row = i * stride - padding + u, column = j * stride - padding + v;
        if (row < 0 || row >= H || column < 0 || column >= W) continue;      // the padding is 0
        const pixel = ((n * H + row) * W + column) * C;
        for (let c = 0; c < C; c++) copy(at + c, pixel + c);
      }
}

const product = numbers => numbers.reduce((a, b) => a * b, 1);
/** How many numbers the patches of one image have. */
const sizeOfPatches = ({ image, step: [k], grid }) => product(grid) * k * k * image[2];

/** P(x): a row of k*k*C numbers for each patch. */
function patches(x, layer) {
  const B = x.length / product(layer.image), cut = new Float64Array(B * sizeOfPatches(layer));
  eachCopy(layer, B, (at, pixel) => { cut[at] = x[pixel]; });
  return cut;
}

/** P^T(cut): each number of a patch is added to the pixel that it was copied from. */
function addPatches(cut, layer) {
  const B = cut.length / sizeOfPatches(layer), x = new Float64Array(B * product(layer.image));
  eachCopy(layer, B, (at, pixel) => { x[pixel] += cut[at]; });
  return x;
}

/** Images of n planes, pixel by pixel, as rows with one plane after the other; or back. */
function planesApart(x, { image: [H, W, C], planes: n }, back = false) {
  const y = new Float64Array(x.length), size = H * W * C, each = C / n;
  x.forEach((_, at) => {
    const image = Math.floor(at / size), pixel = Math.floor(at % size / C), c = at % C;
    const apart = image * size + (Math.floor(c / each) * H * W + pixel) * each + c % each;
    if (back) y[at] = x[apart]; else y[apart] = x[at];
  });
  return y;
}

// --- the layers -----------------------------------------------------------------------------

/** By kind: forward(x, { W, b }, layer) gives y;
 *  backward(x, y, dy, { W, b }, layer, wantsDx) gives { dx, dW, db }. */
const LAYERS = {
  /** y = x W + b.  Every row used the same W and b, so their gradients are sums. */
  Dense: {
    forward: (x, { W, b }) => plusBias(times(x, W, b.length), b),
    backward: (x, y, dy, { W, b }, layer, wantsDx) => ({
      dx: wantsDx ? timesTranspose(dy, W, b.length) : null,
      dW: transposeTimes(x, dy, b.length),
      db: columnSums(dy, b.length),
    }),
  },
  /** y = P(x) W + b. */
  Conv: {
    forward: (x, { W, b }, layer) => plusBias(times(patches(x, layer), W, b.length), b),
    backward: (x, y, dy, { W, b }, layer, wantsDx) => ({
      dx: wantsDx ? addPatches(timesTranspose(dy, W, b.length), layer) : null,
      dW: transposeTimes(patches(x, layer), dy, b.length),
      db: columnSums(dy, b.length),
    }),
  },
  /** y = P^T(x W.T) + b. */
  ConvTranspose: {
    forward: (x, { W, b }, layer) =>
      plusBias(addPatches(timesTranspose(x, W, columnsOf(W, layer)), layer), b),
    backward(x, y, dy, { W, b }, layer) {
      const cut = patches(dy, layer), C = columnsOf(W, layer);
      return { dx: times(cut, W, C), dW: transposeTimes(cut, x, C), db: columnSums(dy, b.length) };
    },
  },
  Reshape: { forward: x => x.slice(), backward: (x, y, dy) => ({ dx: dy.slice() }) },
  Planes: {
    forward: (x, params, layer) => planesApart(x, layer),
    backward: (x, y, dy, params, layer) => ({ dx: planesApart(dy, layer, true) }),
  },
  ReLU: {
    forward: x => x.map(v => Math.max(v, 0)),
    backward: (x, y, dy) => ({ dx: dy.map((d, i) => d * (x[i] > 0)) }),
  },
  Tanh: {
    forward: x => x.map(v => Math.tanh(v)),
    backward: (x, y, dy) => ({ dx: dy.map((d, i) => d * (1 - y[i] ** 2)) }),
  },
  Sigmoid: {
    forward: x => x.map(sigmoid),
    backward: (x, y, dy) => ({ dx: dy.map((d, i) => d * y[i] * (1 - y[i])) }),
  },
  Softplus: {
    forward: x => x.map(softplus),
    backward: (x, y, dy) => ({ dx: dy.map((d, i) => d * sigmoid(x[i])) }),
  },
};
/** The columns of a convolution's W, whose rows are the numbers of a patch. */
const columnsOf = (W, { image, step: [k] }) => W.length / (k * k * image[2]);
