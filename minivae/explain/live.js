// The page runs the model: settings, their controls, and a new pass at every change.

const LIVE = D.live || { live: false, reason: "" };
let model = null, images = null, latent = 0, agreed = null;

/** What may be changed.  eps null: the recorded noise; x null: test image number `image`. */
const recordedSettings = D.error ? {} : { image: D.about.image, x: null, eps: null, beta: D.about.beta, estimator: BASE, K: 1 };
const settings = { ...recordedSettings };
const isGaussian = !D.error && D.graph.latent === "gaussian";

const isRecordedNow = () => Object.entries(recordedSettings).every(([name, value]) => settings[name] === value);
const samplesOf = name => D.estimators.find(e => e.name === name).samples;
const Z = () => LIVE.spec.Z;
const noises = makeRandom(1);
const freshNoise = random => noiseFor(LIVE.spec, random, settings.K * Z(), settings.estimator);

/** The noise of K samples: the recorded one where it fits, else that of a fixed seed, which begins with it. */
function noiseNow() {
  const wanted = settings.K * Z();
  if (settings.eps && settings.eps.length === wanted) return settings.eps;
  if (recordedEps.length === wanted) return recordedEps;
  const fixed = freshNoise(makeRandom(7));
  if (settings.estimator !== "disarm") fixed.set(recordedEps.subarray(0, wanted));
  return fixed;
}

/** Make the pass of the chosen settings and show it: graph, card and panel. */
function recompute() {
  if (!model) return;
  if (isRecordedNow() && recordedPass) shown = recordedPass;
  else {
    const eps = noiseNow(), x = settings.x || imageAt(settings.image);
    shown = { ...makePass(model, { x, eps, beta: settings.beta, estimator: settings.estimator }), vae: model };
  }
  render();
  drawLive();
  writeAddress();
}

const imageAt = i => i === D.about.image ? recordedPass.x : Float64Array.from(images.subarray(i * LIVE.spec.D, (i + 1) * LIVE.spec.D));

function chooseEstimator(name) {
  settings.estimator = name;
  settings.K = name === BASE ? recordedSettings.K : samplesOf(name);
  settings.eps = null;
  recompute();
  if (!model) { shown = { ...recordedPass, wires: D.estimators.find(e => e.name === name).wires }; render(); }
  document.querySelector(`#card [name=estimator][value="${name}"]`)?.focus({ preventScroll: true });
}

// --- the panel ---

function startLive() {
  if (!LIVE.live) {
    $("live-body").innerHTML = `<p>This page shows the recorded pass only: ${esc(LIVE.reason || "it carries no weights")}.</p>`;
    return;
  }
  const spec = specOf(D), recorded = recordedOf(D);
  model = makeVAE(spec);
  images = imagesOf(D, "test");
  recordedEps = recorded.eps;
  settings.K = recordedSettings.K = recordedEps.length / Z();
  sayAgreement(agreement(model, recorded));
  latent = D.shownLatents[0];
  const count = LIVE.images.test.count, labels = LIVE.images.labels || [];
  const multi = D.estimators.filter(e => !e.refused);
  $("live-body").innerHTML = `<div class="bench">
    <div class="bench-in"><h3>The image</h3><div id="live-x"></div>
      <label>test image <input id="image" type="number" min="0" max="${count - 1}" value="${settings.image}"></label>
      <p class="scale" id="image-label"></p>
      ${PLANES > 1 ? "" : `<details class="fold"><summary>Draw one by hand</summary><canvas id="pad" width="${D.imageShape[1]}" height="${D.imageShape[0]}" tabindex="0"
        aria-label="Draw with mouse or finger. With the keys: arrows move, space paints."></canvas>
        <div class="buttons"><button type="button" id="wipe">Wipe</button></div></details>`}</div>
    <div class="bench-mid"><h3>The noise</h3>
      <label>latent <select id="latent">${Array.from({ length: Z() }, (_, j) => `<option value="${j}">${j}</option>`).join("")}</select></label>
      <div id="density"></div>
      <label for="eps">${isGaussian ? "eps, how many std from the mean" : "u, the coin&#39;s number between 0 and 1"}: <output id="eps-out" class="num"></output></label>
      <input id="eps" type="range" ${isGaussian ? 'min="-3" max="3"' : 'min="0.01" max="0.99"'} step="0.01">
      <div class="buttons"><button type="button" id="new-draw">New draw</button><button type="button" id="as-recorded">As recorded</button></div>
      <label for="beta">beta, the weight of the KL: <output id="beta-out" class="num"></output></label>
      <input id="beta" type="range" min="0" max="8" step="0.1">
      <div class="pair"><label>estimator <select id="estimator-of">${multi.map(e => `<option>${e.name}</option>`).join("")}</select></label>
      <label>samples K <select id="K">${[1, 2, 4, 8, 16].map(K => `<option>${K}</option>`).join("")}</select></label></div>
      <p class="note" id="live-note" role="status"></p></div>
    <div class="bench-out"><h3>What comes of it</h3><div id="outcome" class="outcome"></div></div></div>`;
  $("latent").value = latent;
  const on = (id, event, act) => $(id).addEventListener(event, act);
  on("image", "input", () => { const i = Math.floor(+$("image").value); if (i >= 0 && i < count) change({ image: i, x: null }); });
  on("latent", "change", () => { latent = +$("latent").value; drawLive(); });
  on("eps", "input", () => { const eps = noiseNow().slice(); eps[latent] = +$("eps").value; change({ eps }); });
  on("new-draw", "click", () => change({ eps: freshNoise(noises) }));
  on("as-recorded", "click", () => { Object.assign(settings, recordedSettings); recompute(); });
  on("beta", "input", () => change({ beta: +$("beta").value }));
  on("estimator-of", "change", () => chooseEstimator($("estimator-of").value));
  on("K", "change", () => change({ K: +$("K").value, eps: null }));
  if (PLANES === 1) startPad();
  drawLive();
  addEventListener("resize", drawLive);
}

let recordedEps = null;

/** Change some settings, or say why the model refuses them. */
function change(what) {
  const before = { ...settings };
  Object.assign(settings, what);
  $("live-note").textContent = "";
  try {
    recompute();
  } catch (error) {
    Object.assign(settings, before);
    recompute();
    $("live-note").textContent = error.message;
  }
}

function sayAgreement(found) {
  agreed = found;
  $("badge").className = `badge-agrees ${found.ok ? "good" : "bad"}`;
  $("badge").textContent = found.ok ? "✓ agrees with minivae to 1e-5"
    : `✗ does not agree with minivae: ${found.where} is off by ${fmt(found.worst, 2)} of its largest entry`;
  $("badge").title = `${found.arrays} arrays, ${found.numbers.toLocaleString("en")} numbers compared; the largest difference is ` +
    `${found.worst.toExponential(1)} of its array's largest entry, at ${found.where}`;
}

/** The panel's pictures and the state of its controls. */
function drawLive() {
  if (!model) return;
  const eps = noiseNow(), f = (name, role = "output") => [nodes[name][role]].flat()[0];
  const q = HEADS.map(head => numbers(f(head))), z = numbers(f("sample")), dz = nodes.sample.incoming ? numbers(f("sample", "incoming")) : [];
  $("image").value = settings.image;
  $("image-label").textContent = settings.x ? "drawn by hand" : LIVE.images.labels ? `labelled ${LIVE.images.labels[settings.image] ?? "?"}` : "";
  $("live-x").innerHTML = pic(f("x"), { grey: true });
  $("eps").value = eps[latent];
  $("eps-out").textContent = fmt(eps[latent], 3);
  $("beta").value = settings.beta;
  $("beta-out").textContent = fmt(settings.beta, 3);
  $("estimator-of").value = settings.estimator;
  $("K").value = settings.K;
  $("density").innerHTML = isGaussian ? density(q[0][latent], { std: Math.exp(q[1][latent] / 2), z: z[latent] }, dz[latent] || 0)
    : coin(sigma(q[0][latent]), eps[latent]);
  const painted = `<figure class="pic tint-f"><figcaption>painted from z${settings.K > 1 ? `, the mean of ${settings.K}` : ""}` +
    `<span class="meta">loss ${fmt(now().loss, 5)} = recon ${fmt(now().recon, 5)} + ${fmt(settings.beta, 2)} · kl ${fmt(now().kl, 4)}</span></figcaption>` +
    `${cells("E[x|z]", now().painted, D.imageShape[1], { grey: true, kind: "image" })}</figure>`;
  $("outcome").innerHTML = painted + pic(f("sample")) + HEADS.map(head => pic(f(head, "incoming"))).join("");
}

/** A coin: z is 1 where u lies in the last part, as wide as its chance. */
function coin(chance, u) {
  const W = 340, X = v => 16 + v * (W - 32);
  return svg(W, 84, `latent ${latent}: the chance of 1 is ${fmt(chance)}; u is ${fmt(u)}, so z is ${+(u > 1 - chance)}`,
    rect(X(1 - chance), 30, X(1) - X(1 - chance), 20, { class: "area" }) + rect(X(0), 30, X(1) - X(0), 20, { class: "frame" }) +
    text(X(1 - chance / 2), 20, `z = 1, chance ${fmt(chance, 2)}`, { class: "fw", ...MIDDLE }) +
    `<circle cx="${fixed(X(u))}" cy="40" r="6" class="fw"/>` + text(X(u), 70, `u = ${fmt(u, 2)}`, { class: "strong", ...MIDDLE }));
}

/** q(z|x) and the prior over z, the step std * eps from mu to z, and which way the loss falls. */
function density(mu, n, dz) {
  const W = 340, base = 150, peak = Math.max(0.4, 0.4 / n.std);
  const low = Math.min(-3.2, mu - 3.4 * n.std, n.z - 0.5), high = Math.max(3.2, mu + 3.4 * n.std, n.z + 0.5);
  const X = z => 16 + (z - low) / (high - low) * (W - 32), Y = v => base - v / peak * 118;
  const normal = (z, m, s) => Math.exp(-((z - m) ** 2) / (2 * s * s)) / (s * Math.sqrt(2 * Math.PI));
  // every curve is drawn over four of its own standard deviations, so a narrow one is as smooth as a wide one
  const curve = (m, s) => Array.from({ length: 121 }, (_, i) => m + s * (i / 15 - 4)).filter(z => z >= low && z <= high)
    .map(z => `${fixed(X(z))} ${fixed(Y(normal(z, m, s)))}`).join("L");
  const whole = Array.from({ length: Math.floor(high) - Math.ceil(low) + 1 }, (_, i) => Math.ceil(low) + i);
  const right = n.z > mu, side = mu > 0 ? -1 : 1, ends = curve(mu, n.std).split("L");
  const q = path(`M${ends[0].split(" ")[0]} ${base}L${ends.join("L")}L${ends.at(-1).split(" ")[0]} ${base}Z`, { class: "area" }) +
    path(`M${ends.join("L")}`, { class: "curve" }) + text(Math.max(20, Math.min(X(mu) - 14, W - 60)), 22, "q(z|x)", { class: "fw" });
  const prior = path(`M${curve(0, 1)}`, { class: "prior" }) + text(X(1.6 * side), Y(normal(1.6, 0, 1)) - 8, "prior", side < 0 ? END : {});
  const axis = line(16, base, W - 16, base) + whole.map(z => line(X(z), base, X(z), base + 4) + text(X(z), base + 18, minus(z), MIDDLE)).join("");
  const moves = line(X(mu), base, X(mu), base - 26, { class: "fl" }) + line(X(mu), base - 14, X(n.z), base - 14, { class: "fl" }) +
    (Math.abs(X(n.z) - X(mu)) > 12 ? path(tip(X(n.z), base - 14, right ? "right" : "left"), { class: "fw" }) : "") +
    `<circle cx="${fixed(X(n.z))}" cy="${base}" r="6" class="fw"/>`;
  const push = Math.max(-110, Math.min(110, -dz * 14)), end = Math.max(14, Math.min(W - 14, X(n.z) + push)), y = base + 36;
  const wish = dz ? line(X(n.z), y, end, y, { class: "bl" }) + path(tip(end, y, push < 0 ? "left" : "right"), { class: "bw" }) +
    text(Math.max(100, Math.min(W - 100, X(n.z) + push / 2)), y + 18, "−dz: where the loss would have z", { class: "bw", ...MIDDLE }) : "";
  return svg(W, base + 60, `q of latent ${latent}: mean ${fmt(mu)}, std ${fmt(n.std)}; z is at ${fmt(n.z)}` +
    (dz ? `; the loss falls if z moves ${dz > 0 ? "left" : "right"}` : ""), q + prior + axis + moves + wish);
}


// --- an image drawn by hand ---

function startPad() {
  const pad = $("pad"), pen = pad.getContext("2d"), [H, W] = D.imageShape, drawn = new Float64Array(H * W);
  const at = { row: H >> 1, column: W >> 1 };
  const wipe = () => { drawn.fill(0); paint(); };
  const paint = () => {
    pen.fillStyle = "#fff";
    pen.fillRect(0, 0, W, H);
    drawn.forEach((v, i) => { pen.fillStyle = `rgba(20,20,20,${v})`; pen.fillRect(i % W, Math.floor(i / W), 1, 1); });
  };
  const dot = (row, column) => {
    if (row < 0 || row >= H || column < 0 || column >= W) return;
    drawn[row * W + column] = 1;
    paint();
    change({ x: Float64Array.from(drawn) });
  };
  const from = event => {
    const box = pad.getBoundingClientRect();
    dot(Math.floor((event.clientY - box.top) / box.height * H), Math.floor((event.clientX - box.left) / box.width * W));
  };
  pad.addEventListener("pointerdown", event => { pad.setPointerCapture(event.pointerId); from(event); });
  pad.addEventListener("pointermove", event => { if (event.buttons) from(event); });
  pad.addEventListener("keydown", event => {
    const by = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1], " ": [0, 0] }[event.key];
    if (!by) return;
    event.preventDefault();
    at.row = Math.max(0, Math.min(H - 1, at.row + by[0]));
    at.column = Math.max(0, Math.min(W - 1, at.column + by[1]));
    if (event.key === " ") return dot(at.row, at.column);
    paint();
    pen.strokeStyle = "#b54d18";
    pen.lineWidth = 0.3;
    pen.strokeRect(at.column + 0.15, at.row + 0.15, 0.7, 0.7);
  });
  $("wipe").addEventListener("click", () => { wipe(); change({ x: null }); });
  wipe();
}

// --- settings in the address ---

function settingsInAddress() {
  const parts = [];
  for (const name of ["image", "beta", "estimator", "K"]) if (settings[name] !== recordedSettings[name]) parts.push(`${name}=${settings[name]}`);
  if (settings.eps && settings.K === recordedSettings.K) parts.push(`eps=${Array.from(settings.eps, v => +v.toFixed(2)).join(",")}`);
  return parts;
}

function takeSettings(given) {
  if (!model) return;
  const wanted = { ...recordedSettings }, number = name => given.has(name) && Number.isFinite(+given.get(name)) ? +given.get(name) : wanted[name];
  wanted.image = Math.max(0, Math.min(LIVE.images.test.count - 1, Math.floor(number("image"))));
  wanted.beta = Math.max(0, Math.min(8, number("beta")));
  wanted.K = Math.max(1, Math.min(16, Math.floor(number("K"))));
  if (D.estimators.some(e => e.name === given.get("estimator") && !e.refused)) wanted.estimator = given.get("estimator");
  const eps = (given.get("eps") || "").split(",").map(Number);
  if (given.has("eps") && eps.length === Z() * recordedSettings.K && eps.every(Number.isFinite)) wanted.eps = Float64Array.from(eps);
  if (!Object.keys(wanted).every(name => wanted[name] === settings[name])) change(wanted);
}
