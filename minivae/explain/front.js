// The graph: what the pass has reached is coloured, and an orange front runs along its edges.

const EDGES = [...document.querySelectorAll("#graph .wide .edge")].map(g => ({ ...g.dataset }));
const still = matchMedia("(prefers-reduced-motion: reduce)").matches;

const inGraphs = selector => document.querySelectorAll(`.graph-svg ${selector}`);
/** The image and the noise: data, which get no gradient. */
const isData = name => D.graph.data.includes(name);
const hasLogQ = () => used("score") || used("latent");
const isUsed = edge => edge.wire === "log_q" ? hasLogQ() : !["score", "latent"].includes(edge.wire) || hasLogQ();

// --- when the front reaches what ---

/** For every edge the time at which the front enters it and leaves it, from 0 to 1. */
function timetable() {
  const { wires } = now(), open = e => e.wire !== "noise" && (e.from !== "sample" || D.graph.path) && isUsed(e) && (e.wire !== "path" || used("path")) &&
    (e.wire !== "score" || used("score")) && (e.wire !== "latent" || used("latent")) && (e.wire !== "kl" || used("kl"));
  const into = name => EDGES.filter(e => e.to === name && open(e) && !isData(e.from));
  const depth = { loss: 0 }, order = ["loss"];
  for (let i = 0; i < order.length; i++) for (const e of into(order[i])) {
    depth[e.from] = Math.max(depth[e.from] ?? 0, depth[order[i]] + 1);
    order.push(e.from);
  }
  const last = Math.max(...Object.values(depth)), times = [];
  const reached = Math.max(...HEADS.map(head => depth[head] ?? 0));
  const at = name => depth[name] / last;
  for (const name of new Set(order)) for (const e of into(name)) {
    // the KL and log q wait on the way, so that they meet the rest at the heads
    const waits = (name === "kl" || name === "log_q") && HEADS.includes(e.from);
    times.push({ ...e, enters: waits ? (reached - 1) / last : at(name), leaves: waits ? reached / last : at(e.from) });
  }
  return { times, at: Object.fromEntries(Object.keys(depth).map(name => [name, at(name)])), wires };
}

const isWire = (g, e) => g.dataset.from === e.from && g.dataset.to === e.to;

/** The graph while the front is on its way, t from 0 to 1. */
function paintFront(t) {
  const { times, at } = timetable();
  for (const g of inGraphs(".edge")) {
    const e = times.find(e => isWire(g, e)), gone = e ? Math.max(0, Math.min(1, (t - e.enters) / (e.leaves - e.enters))) : 0;
    const front = g.querySelector(".front");
    front.style.strokeDasharray = gone < 1 ? `${gone.toFixed(4)} 2` : "";
    front.style.strokeDashoffset = gone < 1 ? (gone - 1).toFixed(4) : "";
    g.classList.toggle("moving", gone > 0 && gone < 1);
    g.classList.toggle("back", gone === 1);
    g.classList.remove("done", "idle");
  }
  for (const g of inGraphs(".node")) {
    const name = g.dataset.name, reached = at[name] !== undefined && t >= at[name] - 1e-9 && !isData(name);
    g.classList.toggle("back", reached);
    g.classList.toggle("done", !reached);
    g.classList.remove("now");
    writeValue(g, reached);
  }
  for (const g of inGraphs(".dead")) g.classList.toggle("quiet", t < Math.min(1, at.sample ?? 1));
  paintFrames(name => at[name] !== undefined && t >= at[name] - 1e-9);
}

function paintFrames(reached) {
  const theta = D.forward.filter(name => name.startsWith("dec.") || name === D.graph.out).every(reached);
  const phi = D.forward.filter(name => !isData(name) && (name.startsWith("enc.") || HEADS.includes(name))).every(reached);
  for (const g of inGraphs(".frame-of.theta")) g.classList.toggle("filled", theta);
  for (const g of inGraphs(".frame-of.phi")) g.classList.toggle("filled", phi);
}

/** The graph after some steps of the walk. */
function paintSteps(done, current) {
  const forward = new Set(done.filter(step => step.forward).map(step => step.name));
  const backward = new Set(done.filter(step => !step.forward).map(step => step.name));
  if (forward.has("sample")) for (const name of [D.graph.noise, "log_q"]) forward.add(name);
  if (used("score") && backward.has("likelihood")) backward.add("log_q");
  const { times } = timetable();
  for (const g of inGraphs(".edge")) {
    const { from, to } = g.dataset, back = backward.has(to) && times.some(e => isWire(g, e));
    g.classList.remove("moving");
    g.classList.toggle("back", back);
    g.classList.toggle("done", !back && forward.has(from));
    g.classList.toggle("idle", !back && !forward.has(from));
    g.querySelector(".front").removeAttribute("style");
  }
  for (const g of inGraphs(".node")) {
    const name = g.dataset.name, noGradient = isData(name);
    g.classList.toggle("done", forward.has(name));
    g.classList.toggle("back", backward.has(name) && !noGradient);
    g.classList.toggle("now", name === current);
    g.querySelector("[data-node]")?.setAttribute("tabindex", name === (current || "x") ? "0" : "-1");
    writeValue(g, backward.size > 0 && isWhole(name, backward, times));
  }
  for (const g of inGraphs(".dead")) g.classList.toggle("quiet", !backward.has("sample"));
  for (const g of inGraphs(".painted")) g.classList.toggle("quiet", !forward.has(D.graph.out));
  paintFrames(name => backward.has(name));
}

/** Whether all of a node's gradient has come back: along every edge on which one comes. */
function isWhole(name, backward, times) {
  const edges = times.filter(e => e.from === name);
  return name === "loss" || (edges.length > 0 && edges.every(e => backward.has(e.to)));
}

/** Below a node: what it gives; on the way back its gradient, a number or a norm. */
function writeValue(g, back) {
  const [symbol, number] = g.querySelectorAll(".value .symbol, .value .number"), node = nodes[g.dataset.name];
  if (!symbol) return;
  const called = g.dataset.name === "log_q" ? "log_qz" : node.called, gradient = now().gradients[g.dataset.name];
  symbol.textContent = back && gradient ? `d${called}` : called;
  number.textContent = back && gradient ? sized(gradient) : "";
  symbol.parentNode.classList.toggle("gradient", Boolean(back && gradient));
  symbol.parentNode.classList.toggle("given", !back && g.classList.contains("done"));
}

/** A number with its sign; of an array the norm. */
const sized = a => a.length === 1 ? fmt(a[0], 3) : short(norm(a));

/** The finished pass, as the page opens. */
function paintWhole() {
  paintWires();
  paintFront(1);
  for (const g of inGraphs(".painted")) g.classList.remove("quiet");
}

/** Cut wires, and those that this estimator has no use for. */
function paintWires() {
  for (const g of inGraphs(".edge")) {
    const { wire } = g.dataset, cut = ["path", "score", "latent", "kl"].includes(wire) && !used(wire);
    g.classList.toggle("cut", cut && isUsed(g.dataset));
    g.classList.toggle("unused", !isUsed(g.dataset));
  }
  for (const g of inGraphs("[data-name=log_q]")) g.classList.toggle("unused", !hasLogQ());
}

// --- the front on its way ---

const SECONDS = 8;
let running = null;

function stopFront() {
  cancelAnimationFrame(running);
  running = null;
}

/** Play the front in eight seconds; tell(t) hears of every frame.  Without motion it is over at once. */
function playFront(tell) {
  stopFront();
  if (still) { paintFront(1); return tell(1); }
  const start = performance.now();
  const frame = time => {
    const t = Math.max(0, Math.min(1, (time - start) / (1000 * SECONDS)));
    paintFront(t);
    tell(t);
    running = t < 1 ? requestAnimationFrame(frame) : null;
  };
  running = requestAnimationFrame(frame);
}

/** The image and the painted one in the graphs, drawn again. */
function paintImages() {
  const put = (selector, a) => {
    for (const g of inGraphs(selector)) {
      g.innerHTML = squares(a, D.imageShape[1], 1, true);
    }
  };
  put(".pixels.image", now().x);
  put(".pixels.paint", now().painted);
}
