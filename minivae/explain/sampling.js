// Inside the sampling node: one latent, its eps, and the same gradient by two estimators.

/** The only thing that this page computes: the node itself, forward and backward. */
function sampleNode(mu, logvar, eps, dz) {
  const std = Math.exp(logvar / 2);
  return { std, z: mu + std * eps, dmu: dz, dlogvar: dz * eps * std / 2 };
}

let latent = 0, draw = 0, epsNow = 0, moved = false, wrt = "mu";

const fromDraws = (name, i) => array(D.sampling[name])[i * D.sampling.kept.length + D.sampling.kept.indexOf(latent)];
const narrow = () => innerWidth < 700;

function startSampling() {
  const S = D.sampling, kl = array(S.kl), some = S.kept.length < kl.length;
  latent = S.kept.reduce((best, j) => kl[j] > kl[best] ? j : best, S.kept[0]);
  $("latents").innerHTML = `<legend>latent${some ? ` (the ${S.kept.length} of ${kl.length} with the largest KL)` : ""}</legend>` +
    S.kept.map(j => `<label><input type="radio" name="latent" value="${j}"${j === latent ? " checked" : ""}><span>${j}</span></label>`).join("");
  $("draws").textContent = S.draws;
  $("latents").addEventListener("change", event => { latent = +event.target.value; toDraw(draw); });
  $("eps-slider").addEventListener("input", () => { epsNow = +$("eps-slider").value; moved = true; drawSampling(); });
  $("same-eps").addEventListener("click", () => toDraw(0));
  $("new-eps").addEventListener("click", () => toDraw((draw + 1) % S.draws));
  for (const button of document.querySelectorAll("[data-wrt]")) button.addEventListener("click", () => {
    wrt = button.dataset.wrt;
    for (const other of document.querySelectorAll("[data-wrt]")) other.setAttribute("aria-pressed", other === button);
    drawSpread();
  });
  addEventListener("resize", () => { drawSampling(); drawSpread(); });
  toDraw(0);
}

/** Show recorded draw i, as it was. */
function toDraw(i) {
  draw = i;
  moved = false;
  epsNow = fromDraws("draws_eps", i);
  $("eps-slider").value = epsNow;
  drawSampling();
  drawSpread();
}

function drawSampling() {
  const mu = array(D.sampling.mu)[latent], logvar = array(D.sampling.logvar)[latent], dz = fromDraws("draws_dz", draw);
  const n = sampleNode(mu, logvar, epsNow, dz), eps = epsNow < 0 ? `(${fmt(epsNow)})` : fmt(epsNow);
  const row = (name, rule, value, why) => `<div>${sym(name)} = ${rule} = ` +
    `<output id="out-${name}" data-value="${value}"><b>${fmt(value, 6)}</b></output><span class="why">${why}</span></div>`;
  $("eps-out").textContent = fmt(epsNow);
  $("equations").innerHTML =
    row("std", `e^(${sym("logvar")} / 2) = e^(${fmt(logvar)} / 2)`, n.std, "how wide q(z|x) is in this latent") +
    row("z", `${sym("mu")} + ${sym("std")} · ${sym("eps")} = ${fmt(mu)} + ${fmt(n.std)} · ${eps}`, n.z, "the sample that the decoder sees") +
    row("dmu", sym("dz"), n.dmu, `nats per unit of z; it came back from the decoder${moved ? " for the recorded eps, and is held here" : ""}`) +
    row("dlogvar", `${sym("dz")} · ${sym("eps")} · ${sym("std")} / 2`, n.dlogvar,
      `nats per unit of logvar; ${n.dlogvar > 0 ? "positive: a narrower" : "negative: a wider"} q would lower the loss at this draw`);
  $("draw-note").innerHTML = moved
    ? "You moved eps by hand: <code>z</code> and the gradients are recomputed with <code>dz</code> held. The decoder has not seen this z."
    : draw === 0 ? "This is the draw of the walk above."
      : `Draw ${draw + 1} of ${D.sampling.draws}: the decoder saw this z, and this <code>dz</code> came back.`;
  $("density").innerHTML = density(mu, n, dz);
}

/** q(z|x) and the prior over z, the step std * eps from mu to z, and which way the loss falls. */
function density(mu, n, dz) {
  const W = narrow() ? 340 : 620, base = 190, peak = Math.max(0.4, 0.4 / n.std);
  const low = Math.min(-3.2, mu - 3.4 * n.std, n.z - 0.5), high = Math.max(3.2, mu + 3.4 * n.std, n.z + 0.5);
  const X = z => 16 + (z - low) / (high - low) * (W - 32), Y = v => base - v / peak * 140;
  const normal = (z, m, s) => Math.exp(-((z - m) ** 2) / (2 * s * s)) / (s * Math.sqrt(2 * Math.PI));
  const curve = (m, s) => Array.from({ length: 161 }, (_, i) => low + (high - low) * i / 160)
    .map(z => `${fixed(X(z))} ${fixed(Y(normal(z, m, s)))}`).join("L");
  const whole = Array.from({ length: Math.floor(high) - Math.ceil(low) + 1 }, (_, i) => Math.ceil(low) + i);
  const right = n.z > mu, side = mu > 0 ? -1 : 1;
  const q = path(`M${X(low)} ${base}L${curve(mu, n.std)}L${X(high)} ${base}Z`, { class: "area" }) + path(`M${curve(mu, n.std)}`, { class: "curve" }) +
    text(Math.min(X(mu) + 16, W - 44), Y(normal(0, 0, n.std)) + 4, "q(z|x)", { class: "fw" });
  const prior = path(`M${curve(0, 1)}`, { class: "prior" }) +
    text(X(1.2 * side) + 6 * side, Y(normal(1.2, 0, 1)) - 6, "prior N(0, 1)", side < 0 ? END : {});
  const axis = line(16, base, W - 16, base) + whole.map(z => line(X(z), base, X(z), base + 4) + text(X(z), base + 18, minus(z), MIDDLE)).join("");
  const label = narrow() ? "z" : "z = mu + std · eps", fits = right ? X(n.z) < W - 140 : X(n.z) > 140;
  const moves = line(X(mu), base, X(mu), base - 40, { class: "fl" }) +
    text(X(mu), base - 46, "mu", { class: "fw", "text-anchor": right ? "end" : "start" }) +
    line(X(mu), base - 20, X(n.z), base - 20, { class: "fl" }) +
    (Math.abs(X(n.z) - X(mu)) > 12 ? path(tip(X(n.z), base - 20, right ? "right" : "left"), { class: "fw" }) : "") +
    `<circle cx="${fixed(X(n.z))}" cy="${base}" r="7" class="fw"/>` +
    text(X(n.z), base - 28, label, { class: "strong", "text-anchor": right === (fits || narrow()) ? "start" : "end" });
  const push = Math.max(-120, Math.min(120, -dz * 14)), end = Math.max(14, Math.min(W - 14, X(n.z) + push)), y = base + 44;
  const wish = line(X(n.z), y, end, y, { class: "bl" }) + path(tip(end, y, push < 0 ? "left" : "right"), { class: "bw" }) +
    text(Math.max(110, Math.min(W - 110, X(n.z) + push / 2)), y + 20, "−dz: where the loss would have z", { class: "bw", ...MIDDLE });
  return svg(W, base + 72, `q of latent ${latent}: mean ${fmt(mu)}, std ${fmt(n.std)}; z is at ${fmt(n.z)}; ` +
    `the loss falls if z moves ${dz > 0 ? "left" : "right"}`, q + prior + axis + moves + wish);
}

/** Both estimates of d(mu) or d(logvar) over all draws: two histograms on one axis, and what they say. */
function drawSpread() {
  const draws = D.sampling.draws;
  const estimate = (name, from, colour) => {
    const values = Array.from({ length: draws }, (_, i) => fromDraws(`${from}_${wrt}`, i)), m = mean(values);
    const spread = Math.sqrt(sum(values.map(v => (v - m) ** 2)) / (draws - 1));
    return { name, values, colour, mean: m, spread, error: spread / Math.sqrt(draws) };
  };
  const pathwise = estimate("pathwise", "path", "b"), score = estimate("score function", "score", "negative"), both = [pathwise, score];
  const reach = Math.max(...both.map(e => Math.abs(e.mean) + 2.6 * e.spread)) || 1;
  const W = narrow() ? 360 : 720, left = 118, right = W - 18, bins = narrow() ? 36 : 72;
  const X = v => left + (v + reach) / (2 * reach) * (right - left);
  const histogram = (e, base) => {
    const counts = new Array(bins).fill(0), width = (right - left) / bins;
    for (const v of e.values) counts[Math.max(0, Math.min(bins - 1, Math.floor((v + reach) / (2 * reach) * bins)))]++;
    const most = Math.max(...counts);
    return counts.map((c, i) => c ? rect(left + i * width + 0.5, base - c / most * 70, width - 1, c / most * 70,
      { style: `fill:var(--${e.colour})` }) : "").join("") + line(left, base, right, base) +
      text(left - 12, base - 26, e.name, { class: "strong", ...END }) + text(left - 12, base - 10, `${draws} draws`, END) +
      path(tip(X(e.mean), base + 3, "up"), { class: "w" });
  };
  const body = histogram(pathwise, 92) + histogram(score, 198) + [-reach, 0, reach].map(v => text(X(v), 226, fmt(v, 2), MIDDLE)).join("");
  const said = e => `${e.name}: mean ${fmt(e.mean, 3)}, spread ${fmt(e.spread, 3)}`;
  const apart = Math.abs(pathwise.mean - score.mean) / Math.hypot(pathwise.error, score.error), ratio = score.spread / pathwise.spread;
  $("spread").innerHTML =
    svg(W, 232, `Histograms of ${draws} draws of d${wrt} of latent ${latent}. ${both.map(said).join("; ")}`, body, { class: "wide" }) +
    table("the two estimates", [`estimate of d${wrt}, latent ${latent}`, "#mean ▲", "#its standard error", "#spread of one draw"],
      both.map(e => ({ cells: [e.name, fmt(e.mean, 3), `±${fmt(e.error, 2)}`, fmt(e.spread, 3)] }))) +
    `<p class="note">All in nats per unit of ${wrt}. The two means are ${apart.toFixed(1)} standard errors apart; chance alone makes it
    about 1, for it is one gradient. The score function's draws scatter <b>${fmt(ratio, 2)} times</b> as widely, so it takes about
    <b>${fmt(ratio ** 2, 2)} times</b> as many to be as sure. Draws beyond the picture stand in its last bar.</p>`;
}
