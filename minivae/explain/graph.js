// The graph beside the walk: a dozen nodes from the image down to the loss.

const nodes = Object.fromEntries((D.nodes || []).map(node => [node.name, node]));
const TITLES = { sample: "sampling", likelihood: "log p(x|z)", kl: "KL" };
const HALF = 17;                                           // of a node's height

let graph = null;

/** Where every node stands, and which feeds which. */
function layout() {
  const enc = D.forward.filter(name => name.startsWith("enc.")), dec = D.forward.filter(name => name.startsWith("dec."));
  const out = D.forward[D.forward.indexOf("likelihood") - 1], trunk = 152, gap = 60, place = {};
  let y = 36;
  const put = (name, x, w = 122) => { place[name] = { x, y, w }; };
  put("x", trunk, 46); y += gap + 2;
  for (const name of enc) { put(name, trunk); y += gap; }
  put("to_mu", 98, 92); put("to_logvar", 226, 92); y += gap + 20;
  put("eps", 42, 40); put("sample", trunk, 104); put("kl", 318, 76); y += gap;
  for (const name of [...dec, out, "likelihood"]) { put(name, trunk); y += gap; }
  put("loss", trunk, 86);
  const chain = (...names) => names.slice(1).map((name, i) => [names[i], name]);
  const edges = [
    ...chain("x", ...enc, "to_mu"), [enc.at(-1) || "x", "to_logvar"],
    ["to_mu", "sample"], ["to_logvar", "sample"], ["eps", "sample"], ["to_mu", "kl"], ["to_logvar", "kl"],
    ...chain("sample", ...dec, out, "likelihood", "loss"), ["kl", "loss"],
  ];
  return { place, edges, height: y + 28, out };
}

/** One edge: its line, its head on the way down, its head on the way up. */
function edge(from, to) {
  const a = graph.place[from], b = graph.place[to], below = a.y + (from === "x" ? 26 : HALF + 3);
  let d, ahead, behind = tip(a.x, below, "up");
  if (from === "eps") {
    d = `M${a.x + 20} ${a.y}H${b.x - b.w / 2 - 8}`;
    ahead = behind = tip(b.x - b.w / 2 - 3, a.y, "right");
  } else if (from === "kl") {
    d = `M${a.x} ${a.y + HALF + 6}V${b.y}H${b.x + b.w / 2 + 8}`;
    ahead = tip(b.x + b.w / 2 + 3, b.y, "left");
  } else {
    const apart = { kl: 14, sample: 18 }[to] || 0, x = b.x + (from === "to_mu" ? -apart : from === "to_logvar" ? apart : 0);
    const y1 = below + 4, y2 = b.y - HALF - 8, bend = (y1 + y2) / 2;
    d = a.x === x ? `M${a.x} ${y1}V${y2}` : `M${a.x} ${y1}C${a.x} ${bend} ${x} ${bend} ${x} ${y2}`;
    ahead = tip(x, b.y - HALF - 3, "down");
  }
  const ends = { "data-from": from, "data-to": to };
  return path(d, { class: "edge", ...ends }) + path(ahead, { class: "head", ...ends, "data-ahead": ahead, "data-behind": behind });
}

function nodeShape(name) {
  const p = graph.place[name], node = nodes[name];
  if (name === "eps")
    return `<g class="node" data-name="eps"><circle cx="${p.x}" cy="${p.y}" r="20"/>${text(p.x, p.y + 5, "eps")}</g>`;
  const kind = /^(enc|dec)\./.test(name) ? ` ${node.kind}` : "";
  const body = name === "x" ? rect(p.x - 23, p.y - 23, 46, 46, { rx: 6 }) + thumb(array(node.output.array), p.x - 20, p.y - 20, 40)
    : rect(p.x - p.w / 2, p.y - HALF, p.w, 2 * HALF, { rx: 9 }) + text(p.x, p.y + 5, esc((TITLES[name] || name) + kind));
  return `<g class="node" data-name="${name}" data-node="${name}" role="button" tabindex="-1" aria-label="go to ${esc(node.title)}">${body}</g>`;
}

/** What a node gives, beside it; on the way back the norm of that gradient. */
function nodeValue(name) {
  const p = graph.place[name];
  if (name === "eps" || name === "loss") return "";
  const given = { class: "value", "data-value": name };
  if (name === "to_mu") return text(p.x - 9, p.y - HALF - 6, "", { ...given, ...END });
  if (name === "kl") return text(p.x - 8, p.y + 34, "", { ...given, ...END });
  if (name === "x") return text(p.x + 32, p.y - 5, "", given);
  return text(p.x + p.w / 2 + 8, p.y + 5, "", given);
}

function drawGraph() {
  graph = layout();
  const { x, eps, sample, likelihood, [graph.out]: out } = graph.place, names = Object.keys(graph.place);
  const stop = sample.x - sample.w / 2 - 16, bars = `M${stop} ${sample.y - 9}v18M${stop - 6} ${sample.y - 9}v18`;
  const body = graph.edges.map(([from, to]) => edge(from, to)).join("") +
    path(`M${x.x - 23} ${x.y}H14V${likelihood.y}H${likelihood.x - likelihood.w / 2 - 4}`,
      { class: "edge target", "data-from": "x", "data-to": "likelihood" }) +
    text(20, likelihood.y + 18, "the target", { class: "aside" }) + text(x.x + 32, x.y + 12, "the image", { class: "aside" }) +
    names.map(nodeShape).join("") + names.map(nodeValue).join("") +
    `<g id="painted">${thumb(array(D.step.image_before), 32, out.y - 22, 40)}${text(52, out.y + 31, "painted", { class: "small" })}</g>` +
    `<g id="dead">${path(bars, { class: "dead" })}${text(eps.x - 20, eps.y + 36, "no gradient", { class: "aside" })}</g>`;
  $("graph").innerHTML = "<figcaption>Beside each node what it gives; on the way back, the norm of that gradient.</figcaption>" +
    `<svg viewBox="4 4 368 ${graph.height - 4}" role="group" aria-label="The graph of the model: image, encoder, mu and logvar, the ` +
    `sampling node with its noise eps, decoder, likelihood, loss; and the KL, which goes from mu and logvar straight to the loss.">${body}</svg>`;
  for (const g of document.querySelectorAll("[data-node]")) g.addEventListener("click", () => goNode(g.dataset.node));
}

// the gradient of mu and of logvar is whole only once the KL has joined
const completes = (name, reached) => ["to_mu", "to_logvar"].includes(name) ? reached === "kl"
  : graph.edges.some(([from, to]) => from === name && to === reached);

/** Colour what the pass has reached by now. */
function paintGraph(done, now) {
  const forward = new Set(done.filter(step => step.forward).map(step => step.name));
  const backward = new Set(done.filter(step => !step.forward).map(step => step.name));
  if (forward.has("sample")) forward.add("eps");
  for (const g of document.querySelectorAll(".node")) {
    const name = g.dataset.name;
    g.classList.toggle("done", forward.has(name));
    g.classList.toggle("back", backward.has(name));
    g.classList.toggle("now", name === now);
    if (g.dataset.node) g.setAttribute("tabindex", name === now ? "0" : "-1");
  }
  for (const part of document.querySelectorAll(".edge, .head")) {
    const { from, to, ahead, behind } = part.dataset, silent = from === "eps" || part.classList.contains("target");
    const back = backward.has(to) && !silent;
    part.classList.toggle("done", forward.has(from));
    part.classList.toggle("back", back);
    if (ahead) part.setAttribute("d", back ? behind : ahead);
  }
  for (const value of document.querySelectorAll(".graph .value")) {
    const node = nodes[value.dataset.value], back = node.incoming && [...backward].some(name => completes(node.name, name));
    value.textContent = back ? `d${node.called} ${short(norm(array(node.incoming.array)))}` : node.called;
    value.classList.toggle("done", forward.has(node.name));
    value.classList.toggle("back", Boolean(back));
  }
  $("painted").setAttribute("visibility", forward.has(graph.out) ? "visible" : "hidden");
  $("dead").setAttribute("visibility", backward.has("sample") ? "visible" : "hidden");
}
