// What a cell or a bar says when it is pointed at: its index, its value, and the product it came from.

/** The figure of each name; a value has one, whichever card shows it. */
const byName = {};
for (const f of Object.values(figures)) if (["output", "incoming", "outgoing", "local"].includes(f.role)) byName[f.symbol] ??= f;
for (const f of Object.values(figures)) byName[f.symbol] ??= f;
const valueOf = (name, i) => { const a = numbers(byName[name]); return a[i % a.length]; };

const signed = v => v < 0 ? `(${fmt(v)})` : fmt(v);
const multiplied = (...factors) => factors.map(signed).join(" · ");

/** Of a sum of many products the one with the largest size. */
function largestOf(count, factors, name) {
  let best = 0;
  for (let k = 1; k < count; k++) if (Math.abs(factors(k)[0] * factors(k)[1]) > Math.abs(factors(best)[0] * factors(best)[1])) best = k;
  const [a, b] = factors(best);
  return `a sum of ${count} products; the largest, ${name(best)}: ${multiplied(a, b)} = ${fmt(a * b)}`;
}

/** W[i, j] of a Dense node, where the page has the weights. */
const weights = node => model && model.params[`${node}.W`];

function ofValue(node, i) {
  const [a, b, c] = node.inputs.map(f => f.symbol);
  if (node.kind === "Dense") {
    const W = weights(node.name), x = numbers(byName[a]);
    const J = W ? model.params[`${node.name}.b`].length : 0, I = W ? W.length / J : 0;
    return W ? `b[${i % J}] and ${largestOf(I, k => [x[Math.floor(i / J) * I + k], W[k * J + i % J]], k => `${a}[${k}] · W[${k},${i % J}]`)}`
      : `sum over k of ${a}[k] · W[k,${i}], and b[${i}]`;
  }
  if (node.kind === "Conv") return ofConv(node, i);
  if (node.name === "sample" && c) {
    const std = Math.exp(valueOf(b, i) / 2);
    return `${a}[${i}] + std[${i}] · ${c}[${i}] = ${fmt(valueOf(a, i))} + ${multiplied(std, valueOf(c, i))}`;
  }
  if (["ReLU", "Tanh", "Sigmoid", "Softplus"].includes(node.kind)) return `${node.kind}(${a}[${i}]) = ${node.kind}(${fmt(valueOf(a, i))})`;
  return node.formula.forward;
}

/** W and the patches of a convolution, where the page has the weights. */
function ofConv(node, i) {
  const { W, b } = { W: weights(node.name), b: model && model.params[`${node.name}.b`] }, x = node.inputs[0];
  if (!W) return node.formula.forward;
  const J = b.length, I = W.length / J, cut = patches(numbers(x), node.patches), row = Math.floor(i / J);
  return `b[${i % J}] and ${largestOf(I, k => [cut[row * I + k], W[k * J + i % J]], k => `number ${k} of the patch · W[${k},${i % J}]`)}`;
}

/** A gradient: the sum of what came from several nodes, or what one node passed on. */
function ofGradient(name, i) {
  const sumOf = (D.nodes.flatMap(n => n.sums || []).find(s => s.symbol === name) || { parts: [] }).parts.slice(0, -1);
  const parts = sumOf.length ? sumOf.map(f => f.symbol) : Object.keys(byName).filter(s => s.startsWith(`${name}_`) && byName[s].role === "outgoing");
  if (parts.length > 1) return `${parts.map(p => `${p}[${i}]`).join(" + ")} = ${parts.map(p => signed(valueOf(p, i))).join(" + ")}`;
  const node = D.nodes.find(n => n.outgoing.some(f => f.symbol === (parts[0] || name)));
  if (!node || !node.incoming) return "";
  const at = node.outgoing.findIndex(f => f.symbol === (parts[0] || name)), dy = node.incoming.symbol;
  if (node.kind === "Dense") {
    const W = weights(node.name), J = W && model.params[`${node.name}.b`].length, I = W && W.length / J, d = numbers(node.incoming);
    return W ? largestOf(J, k => [d[Math.floor(i / I) * J + k], W[(i % I) * J + k]], k => `${dy}[${k}] · W[${i % I},${k}]`)
      : `sum over k of ${dy}[k] · W[${i},k]`;
  }
  if (node.name === "sample" && at === 0) return `${dy}[${i}] = ${fmt(valueOf(dy, i))}, for z moves with ${node.inputs[0].symbol} one to one`;
  const local = node.local[Math.min(at, node.local.length - 1)];
  if (!local) return node.formula.backward;
  const slope = numbers(local), d = numbers(node.incoming);
  return `${dy} · (${local.symbol}) = ${multiplied(d[i % d.length], slope[i % slope.length])}`;
}

/** One entry of a parameter's gradient: what came in times the gradient of what went out. */
function ofParameter(f, i) {
  const node = nodes[f.node], dy = node.incoming.symbol, [, which, line] = f.meaning.match(/^(row|column) (\d+)/) || [];
  if (f.of !== "W" || !which) return { index: i, words: node.kind === "Dense" ? `${dy}[${i}]: a bias counts once` : node.formula.backward };
  const [row, col] = which === "row" ? [+line, i] : [i, +line], x = node.inputs[0].symbol;
  if (node.kind !== "Dense") return { index: `${row},${col}`, words: node.formula.backward.split(/;\s+/).find(rule => rule.startsWith("dW")) };
  return { index: `${row},${col}`, words: `${x}[${row}] · ${dy}[${col}] = ${multiplied(valueOf(x, row), valueOf(dy, col))}` };
}

/** The index of entry i: of images [n, row, column, channel], of all else its place in the whole. */
function placeOf(f, i) {
  const dims = D.arrays[f.array].shape;
  if (dims.length < 4) return i;
  const [H, W, C] = dims.slice(-3);
  return [Math.floor(i / (H * W * C)), Math.floor(i / (W * C)) % H, Math.floor(i / C) % W, i % C].join();
}

/** The text for entry i of a figure. */
function tipText(f, i) {
  const value = numbers(f)[i];
  if (value === undefined) return "";
  const producer = D.nodes.find(n => n.called === f.symbol && n.output);
  const { index, words } = f.role === "fills" ? ofParameter(f, i)
    : { index: i, words: f.role === "local" ? `the local derivative ${f.symbol}`
      : isGradient(f.symbol) ? ofGradient(f.symbol, i) : f.symbol === "x" ? "a pixel of the image: data"
        : producer ? ofValue(producer, i) : f.symbol === D.graph.noise ? "noise: data" : "" };
  return `${f.symbol}[${f.role === "fills" ? index : placeOf(f, i)}] = ${fmt(value, 6)}` + (words ? `\n= ${words}` : "");
}

// --- where the pointer is ---

/** Which entry of a picture lies at this place of the window. */
function entryAt(picture, clientX, clientY) {
  const box = picture.getBoundingClientRect(), [, , width, height] = picture.getAttribute("viewBox").split(" ").map(Number);
  const x = (clientX - box.left) / box.width * width, y = (clientY - box.top) / box.height * height;
  if (picture.dataset.count) {
    const left = +picture.dataset.left, i = Math.floor((x - left) / (width - left) * picture.dataset.count);
    return x < left ? -1 : i;
  }
  if (picture.dataset.maps) {
    const [H, W, C, per] = picture.dataset.maps.split(",").map(Number), channels = picture.dataset.channels.split(",");
    const wide = W * 10 + 6, high = H * 10 + 6, column = Math.floor((x - 1) % wide / 10), row = Math.floor((y - 1) % high / 10);
    const c = channels[Math.floor((y - 1) / high) * per + Math.floor((x - 1) / wide)];
    return x < 1 || y < 1 || column >= W || row >= H || c === undefined ? -1 : (row * W + column) * C + +c;
  }
  const columns = +picture.dataset.columns, column = Math.floor((x - 1) / 10);
  if (picture.dataset.each === "3") return -1;             // a colour is three numbers
  return column < 0 || column >= columns || y < 1 ? -1 : Math.floor((y - 1) / 10) * columns + column;
}

function pointAt(event) {
  const picture = event.target.closest("figure[data-key] svg"), f = picture && figures[picture.closest("figure").dataset.key];
  const i = f ? entryAt(picture, event.clientX, event.clientY) : -1, said = i >= 0 ? tipText(f, i) : "";
  $("tip").hidden = !said;
  if (!said) return;
  const [first, ...more] = said.split("\n");
  $("tip").innerHTML = `<b>${esc(first)}</b>${more.map(line => `<span>${esc(line)}</span>`).join("")}`;
  const { width, height } = $("tip").getBoundingClientRect();
  const above = event.clientY - height - 14;
  $("tip").style.left = `${Math.max(6, Math.min(innerWidth - width - 6, event.clientX - width / 2))}px`;
  $("tip").style.top = `${above > 4 ? above : event.clientY + 18}px`;
}

function startTips() {
  document.addEventListener("pointermove", pointAt);
  document.addEventListener("pointerdown", pointAt);
  document.addEventListener("scroll", () => { $("tip").hidden = true; }, { passive: true });
  document.addEventListener("keydown", event => { if (event.key === "Escape") $("tip").hidden = true; });
}
