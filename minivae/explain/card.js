// The walk: one card per step, forward through the nodes and backward again.

const steps = D.error ? [] : [...D.forward.map(name => ({ name, forward: true })), ...D.backward.map(name => ({ name, forward: false }))];
const SHORT = { sample: "sampling", likelihood: "log p(x|z)", kl: "KL", log_q: "log q" };
let lit = null;

// --- code and formulas, with the node's symbols marked ---

/** `names` turns a word of the code into its name in the pass: in a layer's code dy may be dmu. */
function marked(source, symbols, names = {}) {
  let out = "", last = 0;
  for (const found of source.matchAll(/self\.grads\["(\w+)"\]|[A-Za-z_]\w*(?:\.\d+)?/g)) {
    const word = found[1] ? `d${found[1]}` : found[0], symbol = names[word] || word;
    if (!symbols.has(symbol)) continue;
    out += esc(source.slice(last, found.index)) + sym(symbol, found[0]);
    last = found.index + found[0].length;
  }
  return (out + esc(source.slice(last))).replace(/-&gt;/g, '<span class="whole">-&gt;</span>');
}

function listing(source, title, isNow, symbols, names) {
  const lines = source.lines.map(([number, code]) => {
    const indent = code.length - code.trimStart().length, hash = code.indexOf("# ");
    const plain = (hash < 0 ? code : code.slice(0, hash)).trim();
    const body = (plain && `<span class="hang">${marked(plain, symbols, names)}</span>`) +
      (hash < 0 ? "" : `<span class="comment">${marked(code.slice(hash), symbols, names)}</span>`);
    return `<span class="line"><span class="no">${number}</span><span style="padding-left:${indent}ch">${body}</span></span>`;
  }).join("");
  return `<div class="listing${isNow ? " now" : ""}"><p class="file">${title}, ${esc(source.file)}:${source.line}</p>` +
    `<pre tabindex="0" role="region" aria-label="${title}: ${esc(source.file)}:${source.line}">${lines}</pre></div>`;
}

/** The symbols of a node that may light up: what it takes and gives, its parameters, and their gradients. */
function symbolsOf(node) {
  const figures = [...node.inputs, ...[node.output, node.incoming].filter(Boolean), ...node.outgoing, ...node.fills];
  const own = [...figures.map(f => f.symbol), ...node.fills.map(f => f.of)];
  if (node.name === "sample") own.push("std");
  if (node.name === "loss") own.push("log_px", "kl", "dlog_px", "dkl");
  return new Set(own);
}

function codeHTML(node, direction, symbols) {
  if (!node.code) return "";
  const names = node.inCode || {}, renamed = Object.entries(names).filter(([word, name]) => word !== name);
  const calls = (node.code.call[direction] || []).map(call =>
    `<p class="call muted">called from ${esc(call.file)}:${call.line} &nbsp; <code>${esc(call.text.replace(/\s{3,}/, "   "))}</code></p>`);
  const said = renamed.length ? `<p class="call muted">Here ${renamed.map(([word, name]) => `<code>${esc(word)}</code> is ${sym(name)}`).join(", ")}.</p>` : "";
  const listings = ["forward", "backward"].filter(way => node.code[way])
    .map(way => listing(node.code[way], way, way === direction, symbols, names));
  return `<details class="fold"><summary>The code, as installed</summary>${said}<div class="code">${listings.join("")}</div>${calls.join("")}</details>`;
}

// --- what a card shows ---

const ARROW = '<span class="arrow turns" aria-hidden="true">→</span>';
const sign = mark => `<span class="arrow" aria-hidden="true">${mark}</span>`;
const flow = (...parts) => `<div class="flow">${parts.join("")}</div>`;
const column = (title, pictures) => `<div class="column" style="--n:${pictures.length}">${title && `<h3>${title}</h3>`}` +
  `<div class="pictures">${pictures.join("")}</div></div>`;
/** The image, and what a Reshape made of it: these are drawn as an image looks. */
const isImage = f => f.symbol === "x" || (D.nodes || []).some(n => n.kind === "Reshape" && n.called === f.symbol && n.inputs[0].symbol === "x");

function forwardHTML(node) {
  if (node.name === "x") return flow(column("The value", [pic(node.output, { grey: true })]));
  const painted = `<figure class="pic tint-f"><figcaption>E[x|z] what the decoder paints</figcaption>` +
    `${cells("E[x|z]", now().painted, D.imageShape[1], { grey: true, kind: "image" })}</figure>`;
  const gives = [pic(node.output, { grey: isImage(node.output) }), ...(node.name === "likelihood" ? [painted] : [])];
  const taken = node.inputs.map(f => pic(f, { grey: isImage(f) }));
  if (node.kind === "Conv") taken.push(patchesOf(node, node.inputs[0]));
  return flow(column("What comes in", taken), ARROW, column("What goes out", gives));
}

/** The patches of what a convolution takes, or of what comes back to a transposed one. */
const patchesOf = (node, f) => patchesPicture(f.symbol, numbers(f), node.patches);

function backwardHTML(node) {
  if (node.name === "x") return endHTML();
  const local = node.local.length ? [ARROW, column("Its own slope", node.local.map(f => pic(f)))] : [];
  const passed = node.outgoing.length ? [ARROW, column("What it passes on", node.outgoing.map(f => pic(f)))] : [];
  const fills = node.fills.length ? [ARROW, column("What it leaves behind", fillsOf(node))] : [];
  if (node.sums && node.sums.length && node.name === "kl") return sumsHTML(node);
  const arrived = node.incoming ? [pic(node.incoming)] : [];
  if (node.kind === "ConvTranspose") arrived.push(patchesOf(node, node.incoming));
  return flow(column("What arrives", arrived), ...local, ...passed, ...fills);
}

function fillsOf(node) {
  const from = { decoder: "from the reconstruction", kl: "from the KL", score: "from log q", latent: "from log p(z) - log q" };
  return node.fills.map(f => {
    const whole = now().back ? norm(now().back.params[`${node.name}.${f.of}`]) : f.norm;
    const parts = now().back ? partsOf(now().vae, now(), `${node.name}.${f.of}`) : f.parts;
    const said = Object.entries(parts).map(([wire, size]) => `${from[wire]} ${fmt(size)}`).join(", ");
    return pic(f, { size: `whole gradient ${f.shape.join("×")}, norm ${fmt(whole)}: ${said}` });
  });
}

/** Where two gradients meet: through z + from the KL = their sum, all on one scale. */
function sumsHTML(node) {
  return node.sums.map(({ symbol, parts }) => {
    const reach = reachOf(...parts.map(numbers)), all = parts.filter(f => f.symbol === symbol || norm(numbers(f)) > 0 || f.symbol.endsWith("_kl"));
    const pictures = all.flatMap((f, i) => [...(i ? [sign(f.symbol === symbol ? "=" : "+")] : []), column("", [pic(f, { reach })])]);
    return `<div class="sum" data-sum="${symbol}"><h3>${sym(symbol)}: the gradients meet, on one scale</h3>${flow(...pictures)}</div>`;
  }).join("");
}

/** The whole walk in a few sentences, with this pass's numbers. */
function toldHTML() {
  const bold = a => `<b>${sized(a)}</b>`, heads = HEADS.map(head => [head, nodes[head].called]), g = now().gradients;
  const both = (role, i) => heads.map(([, called], j) => `${sym(nodes[role].outgoing[j].symbol)} ${bold(numbers(nodes[role].outgoing[j]))}`).join(", ");
  const entered = `The gradient enters at the likelihood: ${sym(`d${nodes[D.graph.out].called}`)} ${bold(g[D.graph.out])}, what was painted less the image.`;
  const theta = `It crosses the decoder and fills theta on its way${g.sample ? `, and comes out as ${sym("dz")} ${bold(g.sample)}` : ""}.`;
  const split = used("path") && nodes.sample.outgoing.length ? `At the sampling node it splits: ${both("sample")}; ${D.graph.noise} gets none.`
    : `At the sampling node it stops: the path is cut${used("score") ? ", and the encoder hears only how likely each draw was, log q" : ""}.`;
  const kl = used("kl") ? `The KL joins, at the heads: ${both("kl")}. The sums are ` : "What the heads receive is ";
  const sums = heads.map(([head, called]) => `${sym(`d${called}`)} ${bold(g[head])}`).join(", ");
  return [entered, theta, split, `${kl}${sums}. The decoder never hears of the KL.`,
    "It fills phi, the encoder, down to the first matrix, and stops before x: data get no gradient."];
}

function endHTML() {
  return `<h3>The walk in five sentences</h3><ol class="told">${toldHTML().map(words => `<li>${words}</li>`).join("")}</ol>
    <p class="scale">Bold: norms, in nats of loss per unit of the number that the gradient belongs to. Arrays add up; their norms need not.</p>`;
}

function lossHTML(forward) {
  const a = now(), recon = Math.abs(a.recon), beta = a.beta * a.kl, share = 100 * recon / (recon + Math.abs(beta));
  const big = (symbol, value, unit) => `<p class="big">${sym(symbol)} = ${value}</p><p class="scale">${unit}</p>`;
  if (!forward)
    return flow(column("To the likelihood", [big("dlog_px", numbersSaid("likelihood", "−1"), "nats of loss per nat of log p(x|z)")]),
      column("To the KL", [big("dkl", numbersSaid("kl", fmt(a.beta)), "nats of loss per nat of KL: beta")]));
  return `<p class="big">${fmt(a.loss, 7)} nats</p><div class="stack tall" role="img" aria-label="reconstruction ${fmt(a.recon)} nats, ` +
    `beta times KL ${fmt(beta)} nats"><i style="width:${share}%;background:var(--f)"></i>` +
    `<i style="width:${100 - share}%;background:var(--negative)"></i></div><p class="scale"><span class="f">recon = −log p(x|z): ` +
    `${fmt(a.recon, 6)}</span> &nbsp; beta · KL: ${fmt(beta, 6)} &nbsp; (nats, for this one image)</p>`;
}

const numbersSaid = (name, without) => now().gradients[name] ? Array.from(now().gradients[name], v => fmt(v)).join(", ") : without;

function stepHTML(at) {
  const { name, forward } = steps[at], node = nodes[name], direction = forward ? "forward" : "backward", symbols = symbolsOf(node);
  const rule = node.formula[direction] || "";
  const formula = rule.split(/;\s+/).map(part => `<span>${marked(part, symbols)}</span>`).join("<br>");
  const chips = name === "x" ? [] : [...symbols].filter(symbol => (!forward || !isGradient(symbol)));
  const chip = symbol => `<button type="button" class="${isGradient(symbol) ? "b" : "f"}" data-chip="${esc(symbol)}" aria-pressed="false">` +
    `${esc(symbol)}</button>`;
  const lamps = `<div class="chips"><span>light up</span>${chips.map(chip).join("")}</div>`;
  return `<div class="head-line"><h2>${esc(node.title)}</h2><p class="badge">${forward ? "Forward →" : "Backward ←"} &nbsp; ` +
    `<span class="muted">step ${at + 1} of ${steps.length}</span></p></div><div class="top"><p>${words(node.words[direction])}</p>` +
    `${rule && `<div><code class="formula">${formula}</code>${chips.length > 1 ? lamps : ""}</div>`}</div>` +
    (name === "loss" ? lossHTML(forward) : forward ? forwardHTML(node) : backwardHTML(node)) +
    codeHTML(node, direction, symbols);
}

/** Light one symbol wherever the card has it: formula, code, caption and picture. */
function light(symbol) {
  lit = symbol;
  for (const e of $("card").querySelectorAll("[data-s]")) e.classList.toggle("lit", e.dataset.s === symbol);
  for (const chip of $("card").querySelectorAll("[data-chip]")) chip.setAttribute("aria-pressed", chip.dataset.chip === symbol);
}
