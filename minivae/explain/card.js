// The walk: one card per step, forward through the nodes and backward again.

const steps = D.error ? [] : [...D.forward.map(name => ({ name, forward: true })), ...D.backward.map(name => ({ name, forward: false }))];
let at = 0, lit = null, timer = null;

// --- code and formulas, with the node's symbols marked ---

function marked(source, symbols) {
  let out = "", last = 0;
  for (const found of source.matchAll(/self\.grads\["(\w+)"\]|[A-Za-z_]\w*/g)) {
    const symbol = found[1] ? `d${found[1]}` : found[0];
    if (!symbols.has(symbol)) continue;
    out += esc(source.slice(last, found.index)) + sym(symbol, found[0]);
    last = found.index + found[0].length;
  }
  return (out + esc(source.slice(last))).replace(/-&gt;/g, '<span class="whole">-&gt;</span>');
}

function listing(source, title, now, symbols) {
  const lines = source.lines.map(([number, code]) => {
    const indent = code.length - code.trimStart().length, hash = code.indexOf("# ");
    const plain = (hash < 0 ? code : code.slice(0, hash)).trim();
    const body = (plain && `<span class="hang">${marked(plain, symbols)}</span>`) +
      (hash < 0 ? "" : `<span class="comment">${marked(code.slice(hash), symbols)}</span>`);
    return `<span class="line"><span class="no">${number}</span><span style="padding-left:${indent}ch">${body}</span></span>`;
  }).join("");
  return `<div class="listing${now ? " now" : ""}"><h5>${title}, ${esc(source.file)}:${source.line}</h5>` +
    `<pre tabindex="0" aria-label="${title} code">${lines}</pre></div>`;
}

/** The symbols of a node that may light up: what it takes and gives, its parameters, and their gradients. */
function symbolsOf(node) {
  const own = [...node.inputs.map(f => f.symbol), ...(node.output ? [node.output.symbol] : []), ...node.fills.map(f => f.of)];
  if (node.name === "sample") own.push("std");
  if (node.name === "loss") own.push("log_px", "kl");
  if (node.name === "likelihood") return new Set([...own, "dlog_px", ...(own.includes("logits") ? ["dlogits"] : ["dout", "dmean"])]);
  const still = new Set(["eps", "std", ...(node.outgoing.length ? [] : ["x"])]);
  return new Set([...own, ...own.filter(symbol => !still.has(symbol)).map(symbol => `d${symbol}`)]);
}

function codeHTML(node, direction, symbols) {
  if (!node.code) return "";
  const calls = (node.code.call[direction] || []).map(call =>
    `<p class="call muted">called from ${esc(call.file)}:${call.line} &nbsp; <code>${esc(call.text.replace(/\s{3,}/, "   "))}</code></p>`);
  return `<h4>The code, as installed</h4><div class="code">${listing(node.code.forward, "forward", direction === "forward", symbols)}` +
    `${listing(node.code.backward, "backward", direction === "backward", symbols)}</div>${calls.join("")}`;
}

// --- what a card shows ---

const ARROW = '<span class="arrow turns" aria-hidden="true">→</span>';
const sign = mark => `<span class="arrow" aria-hidden="true">${mark}</span>`;
const flow = (...parts) => `<div class="flow">${parts.join("")}</div>`;
const column = (title, pictures) => `<div class="column">${title && `<h4>${title}</h4>`}${pictures.join("")}</div>`;

function forwardHTML(node) {
  const pixels = array(nodes.x.output.array).length;
  const image = f => f.symbol === "x" && array(f.array).length === pixels && !/^(dec\.|to_(logits|mean))/.test(node.name);
  if (node.name === "x") return flow(column("The value", [pic(node.output, true)]));
  const painted = { symbol: "E[x|z]", meaning: "what the decoder paints", array: D.step.image_before };
  const gives = [pic(node.output), ...(node.name === "likelihood" ? [pic(painted, true)] : [])];
  return flow(column("What comes in", node.inputs.map(f => pic(f, image(f)))), ARROW, column("What goes out", gives));
}

function backwardHTML(node) {
  if (node.name === "x") return endHTML();
  const local = node.local.length ? [ARROW, column("Its own slope", node.local.map(f => pic(f)))] : [];
  const passed = node.outgoing.length ? [ARROW, column("What it passes on", node.outgoing.map(f => pic(f)))] : [];
  return flow(column("What arrives", [pic(node.incoming)]), ...local, ...passed) + sumsHTML(node) + fillsHTML(node);
}

/** The end of the walk: the whole of it in five sentences with this pass's numbers. */
function endHTML() {
  const size = (name, part = "incoming") => `<b>${fmt(norm(array(part === "incoming" ? nodes[name].incoming.array : part.array)))}</b>`;
  const [dmu, dlogvar] = nodes.sample.outgoing, [klMu, klLogvar] = nodes.kl.outgoing, all = D.estimators[0].norms;
  const told = [
    `The gradient entered at the likelihood: ${sym(`d${nodes[graph.out].called}`)}, the difference between what was painted and the image, ${size(graph.out)}.`,
    `It crossed the decoder and filled theta on its way (<b>${fmt(all.theta)}</b>), and came out as ${sym("dz")}, ${size("sample")}.`,
    `At the sampling node it split: ${sym("dmu")} ${size("", dmu)} and ${sym("dlogvar")} ${size("", dlogvar)}; eps got none.`,
    `The KL joined with ${size("", klMu)} and ${size("", klLogvar)}: together ${size("to_mu")} and ${size("to_logvar")}. The decoder never heard of it.`,
    `Both heads sent it on to h, and it filled phi (<b>${fmt(all.phi)}</b>) down to the first matrix.`,
  ];
  return `<h4>The walk in five sentences</h4><ol class="told">${told.map(words => `<li>${words}</li>`).join("")}</ol>
    <p class="scale">Bold: norms, in nats of loss per unit of the number that the gradient belongs to.</p>`;
}

/** Where two gradients meet: through z + from the KL = their sum. */
function sumsHTML(node) {
  return (node.sums || []).map(({ symbol, parts: [z, kl, total] }) => `<h4>${sym(symbol)}: two gradients meet</h4>` +
    flow(column("", [pic(z)]), sign("+"), column("", [pic(kl)]), sign("="), column("", [pic(total)]))).join("");
}

function fillsHTML(node) {
  if (!node.fills.length) return "";
  const from = { decoder: "from the reconstruction", kl: "from the KL" };
  const columns = node.fills.map(f => {
    const parts = Object.entries(f.parts).map(([wire, size]) => `${from[wire]} ${fmt(size)}`).join(", ");
    return column("", [pic(f, false, `whole gradient ${f.shape.join("×")}, norm ${fmt(f.norm)}: ${parts}`)]);
  });
  return `<h4>What it leaves behind: the gradients of its parameters</h4>${flow(...columns)}`;
}

function lossHTML(forward) {
  const a = D.about, recon = Math.abs(a.recon), beta = a.beta * a.kl, share = 100 * recon / (recon + beta);
  const big = (symbol, value, unit) => `<p class="big">${sym(symbol)} = ${value}</p><p class="scale">${unit}</p>`;
  if (!forward)
    return flow(column("To the likelihood", [big("dlog_px", "−1", "nats of loss per nat of log p(x|z)")]),
      column("To the KL", [big("dkl", fmt(a.beta), "nats of loss per nat of KL: beta")]));
  return `<p class="big">${fmt(a.loss, 7)} nats</p><div class="stack tall" role="img" aria-label="reconstruction ${fmt(a.recon)} nats, ` +
    `beta times KL ${fmt(beta)} nats"><i style="width:${share}%;background:var(--f)"></i>` +
    `<i style="width:${100 - share}%;background:var(--negative)"></i></div><p class="scale"><span class="f">recon = −log p(x|z): ` +
    `${fmt(a.recon, 6)}</span> &nbsp; beta · KL: ${fmt(beta, 6)} &nbsp; (nats, for this one image)</p>`;
}

function render() {
  const { name, forward } = steps[at], node = nodes[name], direction = forward ? "forward" : "backward", symbols = symbolsOf(node);
  const chips = name === "x" ? [] : [...symbols].filter(symbol => !forward || !isGradient(symbol));
  const formula = name === "x" ? "" : node.formula[direction].split(/;\s+/).map(part => `<span>${marked(part, symbols)}</span>`).join("<br>");
  const chip = symbol => `<button type="button" class="${isGradient(symbol) ? "b" : "f"}" data-chip="${esc(symbol)}" aria-pressed="false">` +
    `${esc(symbol)}</button>`;
  $("card").className = `card ${direction}`;
  $("controls").className = `controls ${direction}`;
  $("card").innerHTML =
    `<span class="badge">${forward ? "Forward ↓" : "Backward ↑"} &nbsp; <span class="muted">step ${at + 1} of ${steps.length}</span></span>` +
    `<h3>${esc(node.title)}</h3><p>${words(node.words[direction])}</p>` +
    (formula && `<code class="formula">${formula}</code>`) +
    (chips.length > 1 ? `<div class="chips"><span>light up</span>${chips.map(chip).join("")}</div>` : "") +
    (name === "loss" ? lossHTML(forward) : forward ? forwardHTML(node) : backwardHTML(node)) + codeHTML(node, direction, symbols);
  $("where").innerHTML = `<b class="${forward ? "f" : "b"}">${direction}</b>, ${at + 1} of ${steps.length}: ${esc(TITLES[name] || name)}`;
  $("time").value = at;
  $("time").setAttribute("aria-valuetext", `${direction}, ${node.title}`);
  $("back").disabled = at === 0;
  $("next").disabled = at === steps.length - 1;
  lit = null;
  paintGraph(steps.slice(0, at + 1), name);
}

/** Light one symbol wherever the card has it: formula, code, caption and picture. */
function light(symbol) {
  lit = symbol;
  for (const e of $("card").querySelectorAll("[data-s]")) e.classList.toggle("lit", e.dataset.s === symbol);
  for (const chip of $("card").querySelectorAll("[data-chip]")) chip.setAttribute("aria-pressed", chip.dataset.chip === symbol);
}

// --- stepping ---

function go(to) {
  const next = Math.max(0, Math.min(steps.length - 1, to));
  if (next === at) return;
  at = next;
  render();
  const top = $("card").getBoundingClientRect().top, below = innerWidth <= 960 && top > innerHeight * 0.6;
  if (top < -40 || below) $("card").scrollIntoView({ block: "start" });
}

function goNode(name) {
  const wanted = steps.findIndex(step => step.name === name && step.forward === steps[at].forward);
  stop();
  if (wanted >= 0) go(wanted);
}

function stop() {
  clearInterval(timer);
  timer = null;
  $("play").textContent = "Play";
}

function play() {
  if (timer) return stop();
  if (at === steps.length - 1) go(0);
  $("play").textContent = "Pause";
  timer = setInterval(() => at === steps.length - 1 ? stop() : go(at + 1), 2400);
}

function onKey(event) {
  if (event.altKey || event.ctrlKey || event.metaKey || event.target.closest("input, pre, .scroll")) return;     // they have keys of their own
  const { key } = event, target = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: steps.length - 1 }[key];
  const onNode = event.target.closest("[data-node]") && (key === "Enter" || key === " ");
  if (target === undefined && !onNode) return;
  event.preventDefault();
  stop();
  go(onNode ? at + 1 : target);
}

function startWalk() {
  drawGraph();
  $("time").max = steps.length - 1;
  const on = (id, event, act) => $(id).addEventListener(event, act);
  on("time", "input", () => { stop(); go(+$("time").value); });
  on("rewind", "click", () => { stop(); go(0); });
  on("back", "click", () => { stop(); go(at - 1); });
  on("next", "click", () => { stop(); go(at + 1); });
  on("play", "click", play);
  on("card", "click", event => {
    const chip = event.target.closest("[data-chip]");
    if (chip) light(lit === chip.dataset.chip ? null : chip.dataset.chip);
  });
  for (const [event, over] of [["mouseover", true], ["mouseout", false]])
    on("card", event, e => { const symbol = e.target.closest(".sym"); if (symbol) light(over ? symbol.dataset.s : null); });
  document.addEventListener("keydown", onKey);
  render();
}
