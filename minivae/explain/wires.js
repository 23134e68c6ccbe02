// What is held constant: each estimator as five weights on five wires, and the gradient that reaches the encoder.

function startConstant() {
  const many = Math.max(...D.estimators.map(e => e.samples));
  const titles = { 1: "one draw of z: gradients of the ELBO", [many]: `${many} draws of z: gradients of the tighter bound L_${many}` };
  const radio = e => `<label><input type="radio" name="estimator" value="${e.name}"${e.name === "elbo" ? " checked" : ""}` +
    `${e.refused ? " disabled" : ""}><span>${e.name}</span></label>`;
  const group = K => `<fieldset class="chooser"><legend>${titles[K]}</legend>` +
    `${D.estimators.filter(e => e.samples === K).map(radio).join("")}</fieldset>`;
  const refused = D.estimators.find(e => e.refused);
  $("estimators").innerHTML = group(1) + group(many) + (refused ? `<p class="note">Struck out: ${esc(refused.refused)}.</p>` : "");
  $("estimators").addEventListener("change", event => showEstimator(event.target.value));
  showEstimator("elbo");
}

const isCut = weights => weights.every(w => w === 0);

/** A wire's weights in a few words: one number, or their range over the draws. */
function weightWords(weights) {
  const low = Math.min(...weights), high = Math.max(...weights);
  return high - low < 1e-12 ? fmt(high, 3) : `${fmt(low, 2)} to ${fmt(high, 2)}`;
}

function wiresPicture(wires) {
  const cut = name => isCut(wires[name]) ? " cut" : "";
  const wire = (name, d, head, x, y) => path(d, { class: "wire" + cut(name) }) + path(head, { class: "wire-head" + cut(name) }) +
    text(x, y, name + (cut(name) ? ": cut" : ` ${weightWords(wires[name])}`), { class: "wire-word" + cut(name), ...MIDDLE });
  const box = (x, y, width, title, second = "") => rect(x - width / 2, y - 24, width, 48, { rx: 9 }) +
    text(x, y + (second ? -2 : 5), title, { class: "box" }) + (second && text(x, y + 15, second, MIDDLE));
  const body = box(84, 114, 132, "mu, logvar", "and on to phi") + box(334, 114, 78, "z") + box(478, 48, 104, "decoder", "theta") +
    box(772, 48, 160, "log p(x|z)") + box(772, 140, 160, "log p(z)", "− log q(z|x)") + box(772, 222, 160, "log q(z|x)", "z held fixed") +
    box(772, 292, 160, "KL", "on paper") +
    wire("decoder", "M692 48H543", tip(534, 48, "left"), 613, 36) +
    path("M425 48C396 48 408 100 386 106", { class: "wire" + cut("decoder") }) +
    path("M376 108l11 -8l2 12z", { class: "wire-head" + cut("decoder") }) +
    wire("latent", "M692 140C560 140 480 130 388 124", tip(377, 123, "left"), 560, 156) +
    wire("path", "M294 114H164", tip(154, 114, "left"), 224, 100) +
    wire("score", "M692 222C420 222 180 220 118 152", "M112 142l13 5l-9 8z", 470, 212) +
    wire("kl", "M692 292C340 292 90 290 77 152", "M76 142l7 12h-13z", 470, 280);
  const said = Object.entries(wires).map(([name, w]) => `${name}: ${isCut(w) ? "cut" : `open, ${weightWords(w)}`}`);
  return svg(860, 326, said.join("; "), body);
}

/** By latent: the mean over many passes as a bar, one pass's spread as a line, this pass as a circle. */
function compare(e, which) {
  const one = array(e[`d${which}`]), average = array(e[`mean_${which}`]), spread = array(e[`spread_${which}`]);
  const shown = one.length <= 16 ? [...one.keys()] : D.sampling.kept;
  const reach = shown.flatMap(j => [average[j] + spread[j], average[j] - spread[j], one[j]]);
  const W = 340, H = 150, left = 46, high = Math.max(0, ...reach), low = Math.min(0, ...reach), step = (W - left) / shown.length;
  const Y = v => 10 + (high - v) / (high - low || 1) * (H - 20), width = Math.min(18, step * 0.55);
  const body = shown.map((j, i) => {
    const x = left + (i + 0.5) * step, m = average[j];
    return rect(x - width / 2, Math.min(Y(0), Y(m)), width, Math.max(1, Math.abs(Y(m) - Y(0))), { class: "p" }) +
      line(x, Y(m - spread[j]), x, Y(m + spread[j]), { class: "whisker" }) +
      `<circle class="dot" cx="${fixed(x)}" cy="${fixed(Y(one[j]))}" r="3.4"/>` + text(x, H + 12, j, MIDDLE);
  }).join("");
  const standard = e.samples === 1 ? ` (of elbo: ${fmt(norm(array(D.estimators[0][`mean_${which}`])))})` : "";
  return `<figure class="pic tint-b"><figcaption>${sym(`d${which}`)} by latent, what reaches the encoder<span class="meta">` +
    `this pass: norm ${fmt(norm(one))}; mean: norm ${fmt(norm(average))}${standard}</span></figcaption>` +
    svg(W, H + 16, `${inWords(`mean of d${which}`, average)}; typical spread ${fmt(mean(spread), 3)}`,
      line(left, Y(0), W, Y(0)) + ticks(left, Y, low, high) + body) + "</figure>";
}

function showEstimator(name) {
  const e = D.estimators.find(item => item.name === name), some = D.about.latents > 16;
  const rows = Object.entries(e.wires).map(([wire, weights]) => ({
    kind: isCut(weights) ? "cut" : "",
    cells: [`<code>${wire}</code>`, `<span class="pill">${isCut(weights) ? "cut" : "open"}</span>`,
      weights.map(w => fmt(w, 3)).join("&nbsp;&nbsp; "), esc(D.wires[wire])],
  }));
  $("estimator-name").innerHTML = `<code>${esc(name)}</code>`;
  $("estimator-words").innerHTML = words(e.sentence);
  $("estimator").innerHTML = `<div class="wires" tabindex="0" role="region" aria-label="the five wires">${wiresPicture(e.wires)}</div>` +
    table("weights", ["wire", "", `#weight in this pass${e.samples > 1 ? ", one per draw" : ""}`, "what runs along it"], rows, { class: "weights" }) +
    `<p class="note">Weights are for the objective to be maximised (nats; the sign turns once, where backward begins). <code>path</code> is a gain
    on whatever reached z.</p>` + flow(compare(e, "mu"), compare(e, "logvar")) +
    `<p class="note">Bar: mean over ${D.sampling.draws} passes with other noise; line: spread of one pass (± one standard deviation);
    circle: this pass. Nats of loss per unit of mu or logvar${some ? `, for the ${D.sampling.kept.length} latents with the largest KL` : ""}.
    In this pass all of phi gets a gradient of norm <b>${fmt(e.norms.phi)}</b>, all of theta <b>${fmt(e.norms.theta)}</b>.</p>` +
    `<div class="code backward">${listing(e.code, "the estimator", true, new Set())}</div>`;
}
