// The head of the page, who hears what, what a training step moves; and the start of everything.

function about() {
  const a = D.about, entry = (name, value) => `<div><dt>${name}</dt><dd>${esc(value)}</dd></div>`;
  const label = a.label === null ? "" : `, labelled ${a.label}`, beta = a.beta === 1 ? "" : `${a.beta} · `;
  $("about").innerHTML = entry("run", a.run) + entry("image", `test image ${a.image}${label}; pixels ${a.pixels}`) + entry("data", a.note) +
    entry("model", `${a.model}, ${a.likelihood} likelihood, beta ${a.beta}: ${a.parameters.toLocaleString("en")} parameters`) +
    entry("gradient", `elbo, one draw of eps${a.trained === "elbo" ? "" : ` (the run was trained with ${a.trained})`}; ` +
      (a.dtype === "float64" ? "float64" : "the float32 model in float64")) +
    (D.error ? "" : entry("loss of this image", `${fmt(a.loss, 6)} nats = recon ${fmt(a.recon, 6)} + ${beta}KL ${fmt(a.kl, 6)}`));
}

function sayError() {
  document.title = "minivae: this pass cannot be drawn";
  $("lead").outerHTML = `<div class="error" role="alert"><h2>This pass cannot be drawn</h2><p>${esc(D.error)}.</p><p>A NaN or an infinity spreads to
    everything computed from it, so no gradient of this model means anything. Train it again, with a smaller <code>--lr</code>;
    <code>minivae train</code> keeps the parameters of the last epoch that was whole.</p></div>`;
  $("main").remove();
  $("skip").remove();
}

function heard() {
  const most = Math.max(...D.params.flatMap(p => [p.recon, p.kl]));
  const rows = D.params.map(p => ({ cells: [
    `<code>${esc(p.name)}</code>`, p.phi ? "encoder (phi)" : "decoder (theta)", fmt(p.norm), fmt(p.recon), strip(p.recon / most, "b"),
    fmt(p.kl), p.kl ? strip(p.kl / most, "negative") : '<span class="muted">exactly 0</span>'] }));
  const total = (phi, part) => fmt(norm(D.params.filter(p => p.phi === phi).map(p => p[part])));
  $("heard-body").innerHTML = table("gradients taken apart",
    ["parameter", "belongs to the", "#gradient's norm", "#by the reconstruction", "", "#by the KL", ""], rows) +
    `<p class="note">The decoder gets <b>${total(false, "recon")}</b> from the reconstruction and <b>${total(false, "kl")}</b> from the KL.
    The encoder hears both: <b>${total(true, "recon")}</b>, which came all the way through the decoder and z, and <b>${total(true, "kl")}</b> from the
    KL. (The arrays add up; their norms need not.)</p>`;
}

function afterStep() {
  const s = D.step, most = Math.max(...s.moved.map(m => m.change));
  const image = (symbol, meaning, name, grey = true) => pic({ symbol, meaning, array: name }, grey);
  const term = (name, label) => ({ cells: [label, fmt(s.before[name], 6), fmt(s.after[name], 6), fmt(s.after[name] - s.before[name], 3)] });
  const moved = s.moved.map(m => ({
    cells: [`<code>${esc(m.name)}</code>`, m.size.toLocaleString("en"), fmt(m.norm), fmt(m.change), strip(m.change / most, "b")],
  }));
  $("step-body").innerHTML = `<div class="images">${image("x", "the image", s.x)}${image("before", "painted from z", s.image_before)}` +
    `${image("after", "painted then", s.image_after)}${image("change", "after less before", s.difference, false)}</div>` +
    table("loss before and after", ["nats, for this image and this eps", "#before", "#after", "#change"],
      [term("recon", "recon = −log p(x|z)"), term("kl", "KL(q || p)"), term("loss", "loss = recon + beta · KL")], { class: "narrow" }) +
    "<h4>How far each parameter moved</h4>" +
    table("how far each parameter moved", ["parameter", "#numbers in it", "#its norm", "#norm of its change", ""], moved) +
    `<p class="note">One step of Adam at its start, on this image alone, with the run's step size ${fmt(D.about.lr)}: its first step moves
    every number that has a gradient by about that much, whatever the gradient's size, so a change's norm tells how many numbers moved.</p>`;
}

about();
if (D.error) {
  sayError();
} else {
  startWalk();
  heard();
  startSampling();
  startConstant();
  afterStep();
}
