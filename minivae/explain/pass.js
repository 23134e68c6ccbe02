// The pass that the page shows: the recorded one, or one that the page made itself.

const ROLES = ["inputs", "output", "incoming", "local", "outgoing", "fills"];
const nodes = Object.fromEntries((D.nodes || []).map(node => [node.name, node]));
const HEADS = D.graph ? D.graph.heads : [];
/** The estimator of the recorded pass. */
const BASE = D.about.estimator;

/** Every figure of every node by a key of its own, under which a pass made here gives its numbers. */
const figures = {};
function keep(f, key, role, node) {
  figures[key] = Object.assign(f, { key, role, node });
}
for (const node of D.nodes || []) {
  for (const role of ROLES)
    [node[role]].flat().filter(Boolean).forEach((f, i) => keep(f, `${node.name}/${role}/${i}`, role, node.name));
  for (const { symbol, parts } of node.sums || [])
    parts.forEach((f, i) => keep(f, `sums/${symbol}/${i}`, "sums", node.name));
}

const recordedPass = D.error ? null : {
  isRecorded: true, arrays: {}, wires: (D.estimators.find(e => e.name === BASE) || D.estimators[0]).wires, x: array(nodes.x.output.array), painted: array(D.step.image_before),
  gradients: Object.fromEntries(D.nodes.filter(node => node.incoming).map(node => [node.name, array(node.incoming.array)])),
  loss: D.about.loss, recon: D.about.recon, kl: D.about.kl, beta: D.about.beta,
};
let shown = recordedPass;

const now = () => shown;
const used = wire => Array.from(now().wires[wire] || []).some(w => w !== 0);
/** The numbers of a figure, in the pass that is shown. */
const numbers = f => now().arrays[f.key] || array(f.array);

// --- a pass made here -------------------------------------------------------------------------------

const sigma = v => 1 / (1 + Math.exp(-v));
/** The local derivatives that a card draws, in the order in which it draws them. */
const LOCAL = {
  ReLU: (x, y) => [x.map(v => +(v > 0))],
  Tanh: (x, y) => [y.map(v => 1 - v * v)],
  Sigmoid: (x, y) => [y.map(v => v * (1 - v))],
  Softplus: x => [x.map(sigma)],
  kl: (mu, kl, logvar) => logvar ? [mu, logvar.map(v => Math.expm1(v) / 2)] : [mu.map(a => a * sigma(a) * sigma(-a))],
  log_q: (z, log_qz, a) => [z.map((v, i) => v - sigma(a[i % a.length]))],
  sample: (mu, z, logvar, eps) => [eps.map((e, i) => e * Math.exp(logvar[i % logvar.length] / 2) / 2)],
  BernoulliLikelihood: (logits, log_px, x) => [logits.map((l, i) => x[i % x.length] - sigma(l))],
};
/** The numbers behind every figure, from what the model's forward and backward gave. */
function arraysOf(pass, { grads, parts, params }) {
  const found = {};
  const named = symbol => {
    if (symbol === D.graph.noise) return pass.eps;
    if (pass.values[symbol]) return pass.values[symbol];
    return parts[symbol] || grads[symbol.slice(1)];
  };
  for (const f of Object.values(figures)) {
    if (f.role === "fills") found[f.key] = lineOf(f, params[`${f.node}.${f.of}`]);
    else if (f.role !== "local") found[f.key] = named(f.symbol);
  }
  for (const node of D.nodes) if (node.local.length && LOCAL[node.kind]) {
    const [first, ...rest] = node.inputs.map(f => found[f.key]);
    LOCAL[node.kind](first, found[node.output.key], ...rest).forEach((a, i) => { found[node.local[i].key] = a; });
  }
  return found;
}

/** The row or column of a parameter's gradient that its card draws. */
function lineOf(f, gradient) {
  const [, which, i] = f.meaning.match(/^(row|column) (\d+)/) || [], columns = f.shape[1];
  if (!gradient || !which) return gradient;
  return which === "row" ? gradient.slice(i * columns, (+i + 1) * columns) : gradient.filter((_, at) => at % columns === +i);
}

/** Run the model once, forward and backward.  eps holds K noises, one after the other. */
function makePass(vae, { x, eps, beta, estimator }) {
  const pass = vae.forward(x, eps, { beta, estimator }), back = vae.backward(pass), arrays = arraysOf(pass, back);
  const gradients = Object.fromEntries(D.nodes.filter(node => node.incoming).map(node => [node.name, arrays[node.incoming.key]]));
  gradients.log_q = back.grads.log_qz;
  const all = vae.decode(pass.values.z), size = x.length;
  const painted = Float64Array.from(x, (_, i) => mean(Array.from({ length: pass.K }, (_, k) => all[k * size + i])));
  return { isRecorded: false, arrays, gradients, painted, pass, back, wires: pass.wires, x: Float64Array.from(x),
    loss: pass.loss, recon: pass.recon, kl: pass.kl, beta, estimator };
}

/** The norms of what each wire in use gives to one parameter.  backward is linear in the weights. */
function partsOf(vae, { pass }, name) {
  const wires = Object.keys(pass.wires).filter(wire => wire !== "path" && Array.from(pass.wires[wire]).some(w => w !== 0));
  return Object.fromEntries(wires.map(only => {
    const weights = Object.entries(pass.wires).map(([wire, w]) => [wire, wire === only || wire === "path" ? w : w.map(() => 0)]);
    return [only, norm(vae.backward(pass, Object.fromEntries(weights)).params[name])];
  }));
}
