// The start of everything, and one place for what is shown: the view, its address, and the keys.

let view = { kind: "whole", step: 0 }, timer = null;

/** Draw the view: the graph, the caption and the card. */
function render() {
  stopFront();
  const { kind, step } = view, isStep = kind === "step", answer = ANSWERS[kind];
  $("card").className = `card needs-script ${isStep ? (steps[step].forward ? "forward" : "backward") : "backward"}`;
  $("card").innerHTML = isStep ? stepHTML(step) : `<h2>${answer.title()}</h2>${answer.html()}`;
  paintWires();
  paintLocks(kind === "constant");
  paintImages();
  if (isStep) paintSteps(steps.slice(0, step + 1), steps[step].name);
  else paintWhole();
  if (kind === "constant") drawSpread();
  for (const button of document.querySelectorAll(".questions [data-ask]")) button.setAttribute("aria-pressed", button.dataset.ask === kind);
  const direction = isStep && steps[step].forward ? "forward" : "backward";
  $("where").innerHTML = isStep ? `<b class="${direction[0]}">${direction}</b>, ${step + 1} of ${steps.length}: ${esc(SHORT[steps[step].name] || steps[step].name)}`
    : `the finished pass, ${steps.length} steps`;
  $("time").value = isStep ? step : steps.length - 1;
  $("time").setAttribute("aria-valuetext", isStep ? `${direction}, ${nodes[steps[step].name].title}` : "the finished pass");
  $("rewind").disabled = isStep && step === 0;
  $("back").disabled = isStep && step === 0;
  $("next").disabled = isStep && step === steps.length - 1;
  $("controls").classList.toggle("backward", direction === "backward");
  lit = null;
}

function show(next, { scroll = true } = {}) {
  view = next;
  render();
  writeAddress();
  if (view.kind === "direction") tellFront();
  if (scroll) bringIntoView();
}

/** Graph and card together where the window is high enough, else the card below the strip. */
function bringIntoView() {
  const graph = $("graph").getBoundingClientRect(), card = $("card").getBoundingClientRect();
  const fits = card.top - graph.top + 320 <= innerHeight, top = fits ? graph.top - 8 : card.top - 8 - stripHeight();
  const visible = fits ? graph.top >= 0 && card.top + 420 <= innerHeight : Math.abs(top) < 40;
  if (!visible) scrollTo({ top: scrollY + top, behavior: still ? "auto" : "smooth" });
}

const stripHeight = () => { const { height } = $("strip").getBoundingClientRect(); return height || (innerWidth < 700 ? 118 : 128); };

/** The strip stands in for the graph while that is out of sight. */
function watchGraph() {
  new IntersectionObserver(([entry]) => { $("strip").hidden = entry.isIntersecting; }, { threshold: 0.25 }).observe($("graph"));
}

/** Play the front, and light each sentence as it comes true. */
function tellFront() {
  const said = moments(), items = [...document.querySelectorAll(".moments li")], at = timetable().at;
  playFront(t => items.forEach((item, i) => {
    const from = i ? at[said[i].from] ?? 1 : 0.02;
    item.classList.toggle("waits", t < Math.min(from, 0.999));
  }));
}

// --- the walk ---

const go = to => { const step = Math.max(0, Math.min(steps.length - 1, to)); if (view.kind !== "step" || step !== view.step) show({ kind: "step", step }); };
/** The step after this one: from the finished pass the walk begins at the image. */
const after = by => view.kind === "step" ? view.step + by : by > 0 ? 0 : steps.length - 1;

function goNode(name) {
  const direction = view.kind === "step" && steps[view.step].forward;
  const find = way => steps.findIndex(step => step.name === name && step.forward === way), wanted = find(direction);
  stop();
  go(wanted >= 0 ? wanted : find(!direction));
}

function stop() {
  clearInterval(timer);
  timer = null;
  $("play").textContent = "Play";
}

function play() {
  if (timer) return stop();
  if (view.kind !== "step" || view.step === steps.length - 1) go(0);
  $("play").textContent = "Pause";
  timer = setInterval(() => view.step === steps.length - 1 ? stop() : go(view.step + 1), 2400);
}

function onKey(event) {
  if (event.altKey || event.ctrlKey || event.metaKey || event.target.closest("input, pre, .scroll, select, canvas")) return;
  const { key } = event, onNode = event.target.closest("[data-node]");
  if (onNode && (key === "Enter" || key === " ")) { event.preventDefault(); return goNode(onNode.dataset.node); }
  const target = { ArrowRight: after(1), ArrowLeft: after(-1), Home: 0, End: steps.length - 1 }[key];
  if (target === undefined) return;
  event.preventDefault();
  stop();
  go(target);
}

// --- the address: #step=19&beta=2 ---

function writeAddress() {
  const parts = view.kind === "step" ? [`step=${view.step + 1}`] : view.kind === "whole" ? [] : [`ask=${view.kind}`];
  const all = [...parts, ...settingsInAddress()].join("&");
  history.replaceState(null, "", all ? `#${all}` : location.pathname + location.search);
}

function readAddress() {
  const given = new URLSearchParams(location.hash.slice(1)), step = parseInt(given.get("step"), 10) - 1, ask = given.get("ask");
  takeSettings(given);
  if (step >= 0 && step < steps.length) show({ kind: "step", step });
  else if (Object.hasOwn(ANSWERS, ask)) show({ kind: ask });
  else if (!location.hash) show({ kind: "whole" }, { scroll: false });
  else render();
}

// --- the rest of the page ---

function about() {
  const a = D.about, entry = (name, value) => `<div><dt>${name}</dt><dd>${esc(value)}</dd></div>`;
  const label = a.label === null ? "" : `, labelled ${a.label}`, beta = a.beta === 1 ? "" : `${a.beta} · `;
  $("about").innerHTML = entry("run", a.run) + entry("image", `test image ${a.image}${label}; pixels ${a.pixels}`) + entry("data", a.note) +
    entry("model", `${a.model}, ${a.likelihood} likelihood, beta ${a.beta}: ${a.parameters.toLocaleString("en")} parameters`) +
    entry("gradient", `recorded: elbo, one draw of eps${a.trained === "elbo" ? "" : ` (the run was trained with ${a.trained})`}; ` +
      (a.dtype === "float64" ? "float64" : "the float32 model in float64")) +
    (D.error ? "" : entry("loss of this image", `${fmt(a.loss, 6)} nats = recon ${fmt(a.recon, 6)} + ${beta}KL ${fmt(a.kl, 6)}`));
}

function sayError() {
  document.title = "minivae: this pass cannot be drawn";
  $("lead").outerHTML = `<div class="error" role="alert"><h2>This pass cannot be drawn</h2><p>${esc(D.error)}.</p><p>A NaN or an infinity spreads to
    everything computed from it, so no gradient of this model means anything. Train it again, with a smaller <code>--lr</code>;
    <code>minivae train</code> keeps the parameters of the last epoch that was whole.</p></div>`;
  for (const e of document.querySelectorAll("#main, #skip, .questions")) e.remove();
}

function heard() {
  const most = Math.max(...D.params.flatMap(p => [p.recon, p.kl]));
  const rows = D.params.map(p => ({ cells: [
    `<code>${esc(p.name)}</code>`, p.phi ? "encoder (phi)" : "decoder (theta)", fmt(p.norm), fmt(p.recon), strip(p.recon / most, "b"),
    fmt(p.kl), p.kl ? strip(p.kl / most, "negative") : '<span class="muted">exactly 0</span>'] }));
  const total = (phi, part) => fmt(norm(D.params.filter(p => p.phi === phi).map(p => p[part])));
  $("heard-body").innerHTML = table("gradients taken apart",
    ["parameter", "belongs to the", "#gradient's norm", "#by the reconstruction", "", "#by the KL", ""], rows) +
    `<p class="note">In the recorded pass the decoder gets <b>${total(false, "recon")}</b> from the reconstruction and <b>${total(false, "kl")}</b> from the KL.
    The encoder hears both: <b>${total(true, "recon")}</b>${D.graph.path ? ", which came all the way through the decoder and z" : ""}, and <b>${total(true, "kl")}</b> from the
    KL. (The arrays add up; their norms need not.)</p>`;
}

function afterStep() {
  const s = D.step, most = Math.max(...s.moved.map(m => m.change));
  const image = (title, name, grey = true) => `<figure class="pic tint-f"><figcaption>${title}</figcaption>` +
    `${picture(title, array(name), { grey })}</figure>`;
  const term = (name, label) => ({ cells: [label, fmt(s.before[name], 6), fmt(s.after[name], 6), fmt(s.after[name] - s.before[name], 3)] });
  const moved = s.moved.map(m => ({
    cells: [`<code>${esc(m.name)}</code>`, m.size.toLocaleString("en"), fmt(m.norm), fmt(m.change), strip(m.change / most, "b")],
  }));
  $("step-body").innerHTML = `<div class="images">${image("the image", s.x)}${image("painted from z", s.image_before)}` +
    `${image("painted then", s.image_after)}${image("after less before", s.difference, false)}</div>` +
    table("loss before and after", ["nats, for this image and this noise", "#before", "#after", "#change"],
      [term("recon", "recon = −log p(x|z)"), term("kl", "KL(q || p)"), term("loss", "loss = recon + beta · KL")], { class: "narrow" }) +
    `<details class="fold"><summary>How far each parameter moved</summary>` +
    table("how far each parameter moved", ["parameter", "#numbers in it", "#its norm", "#norm of its change", ""], moved) +
    `<p class="note">One step of Adam at its start, on this image alone, with the run's step size ${fmt(D.about.lr)}: its first step moves
    every number that has a gradient by about that much, whatever the gradient's size, so a change's norm tells how many numbers moved.</p></details>`;
}

function listen() {
  const on = (id, event, act) => $(id).addEventListener(event, act);
  on("time", "input", () => { stop(); go(+$("time").value); });
  on("rewind", "click", () => { stop(); go(0); });
  on("back", "click", () => { stop(); go(after(-1)); });
  on("next", "click", () => { stop(); go(after(1)); });
  on("play", "click", play);
  document.addEventListener("click", event => {
    const ask = event.target.closest("[data-ask]"), node = event.target.closest(".graph-svg [data-node]");
    const chip = event.target.closest("[data-chip]"), who = event.target.closest("[data-learning]");
    if (ask) { stop(); show({ kind: ask.dataset.ask }); }
    if (node) goNode(node.dataset.node);
    if (chip) light(lit === chip.dataset.chip ? null : chip.dataset.chip);
    if (who) { learning = who.dataset.learning; show(view, { scroll: false }); $("card").querySelector(`[data-learning=${learning}]`).focus(); }
  });
  document.addEventListener("change", event => { if (event.target.name === "estimator") chooseEstimator(event.target.value); });
  for (const [event, over] of [["mouseover", true], ["mouseout", false]])
    on("card", event, e => { const symbol = e.target.closest(".sym"); if (symbol) light(over ? symbol.dataset.s : null); });
  document.addEventListener("keydown", onKey);
  addEventListener("hashchange", readAddress);
}

about();
if (D.error) {
  sayError();
} else {
  D.graph.out = D.forward[D.forward.indexOf("likelihood") - 1];
  $("time").max = steps.length - 1;
  startLive();
  openTraining();
  heard();
  afterStep();
  startTips();
  listen();
  watchGraph();
  readAddress();
}
