// Train a new model in a worker: its loss, what it paints, and where it puts the images.

const LAST = 400;            // so many epochs of the curve are kept
let training = null, curve = [], isTraining = false, newest = null;

function openTraining() {
  const train = model && imagesOf(D, "train");
  if (!train) {
    $("training-body").innerHTML = `<p>${model ? "These images are too many to travel with a page." : "This model is too large for the page, or has parts that it cannot compute."}
      <code>minivae train</code> does it in the terminal.</p>`;
    return;
  }
  $("training-body").innerHTML = `<div class="buttons"><button type="button" id="train-start">Start</button><button type="button" id="train-step">One step</button>
    <button type="button" id="train-reset">Reset</button></div><p class="where" id="train-where" role="status">Not started.</p>
    <div class="training"><div id="train-curve"></div><div id="train-samples"></div><div id="train-plane"></div></div>`;
  const begin = () => training ??= startTraining({ spec: specOf(D), train, binarize: LIVE.images.binarize, test: images,
    batch: 50, lr: D.about.lr, beta: settings.beta, estimator: BASE, K: recordedSettings.K, seed: 0, fresh: true }, hear);
  const say = running => { isTraining = running; $("train-start").textContent = running ? "Stop" : "Start"; };
  $("train-start").addEventListener("click", () => { say(!isTraining); begin()[isTraining ? "start" : "stop"](); });
  $("train-step").addEventListener("click", () => { say(false); begin().step(); });
  $("train-reset").addEventListener("click", () => {
    say(false);
    curve = [];
    training?.close();                                     // the next one learns with the beta of now
    training = null;
    begin().reset();
  });
  drawTraining(null);
}

function hear(message) {
  if (message.error) {
    isTraining = false;
    $("train-start").textContent = "Start";
    $("train-where").textContent = `Training stopped: ${message.error}`;
    return;
  }
  if (message.loss !== null) curve.push({ epoch: message.epoch, loss: message.loss });
  if (curve.length > LAST) curve.shift();
  // epochs of few images come faster than a screen can show them: only the last is drawn
  if (!newest) requestAnimationFrame(() => { drawTraining(newest); newest = null; });
  newest = message;
}

function drawTraining(m) {
  if (m) $("train-where").textContent = `epoch ${m.epoch}, step ${m.step}` + (m.loss === null ? "" :
    `: loss ${fmt(m.loss, 5)} = recon ${fmt(m.recon, 5)} + ${settings.beta === 1 ? "" : `${fmt(settings.beta, 2)} · `}kl ${fmt(m.kl, 4)} nats`);
  $("train-curve").innerHTML = lossCurve();
  $("train-samples").innerHTML = m ? sampleSheet(m.samples) : "";
  $("train-plane").innerHTML = m ? planePicture(m.plane) : "";
}

function lossCurve() {
  const W = 340, H = 220, left = 48, values = curve.map(m => m.loss), low = Math.min(...values), high = Math.max(...values, low + 1);
  const X = i => left + i / Math.max(1, values.length - 1) * (W - left - 6), Y = v => 10 + (high - v) / (high - low) * (H - 30);
  const marks = values.length ? [low, (low + high) / 2, high] : [];
  return `<figure class="pic"><figcaption>loss, nats per image</figcaption>` +
    svg(W, H, values.length ? `the loss went from ${fmt(values[0], 4)} to ${fmt(values.at(-1), 4)} nats` : "no loss yet",
      marks.map(v => line(left, Y(v), W, Y(v), { class: "grid-line" }) + text(left - 6, Y(v) + 4, fmt(v, 3), END)).join("") +
      (values.length > 1 ? path(`M${values.map((v, i) => `${fixed(X(i))} ${fixed(Y(v))}`).join("L")}`, { class: "curve" }) : "") +
      line(left, H - 20, W, H - 20) + text(W, H - 4, curve.length ? `epoch ${curve.at(-1).epoch}` : "epoch", END)) + "</figure>";
}

function sampleSheet(samples) {
  const [H, W] = D.imageShape, size = H * W * PLANES, gap = 2;
  const body = Array.from({ length: 16 }, (_, k) => {
    const x = (k % 4) * (W + gap), y = Math.floor(k / 4) * (H + gap);
    return squares(samples.slice(k * size, (k + 1) * size), W, 1, true, x, y);
  }).join("");
  return `<figure class="pic"><figcaption>painted from 16 draws of z</figcaption>` +
    svg(4 * (W + gap) - gap, 4 * (H + gap) - gap, "16 painted images", body, { "shape-rendering": "crispEdges", class: "sheet" }) + "</figure>";
}

/** mu of the test images in the two latents that say most; each image is its label. */
function planePicture({ axes, points }) {
  const W = 300, two = axes.length > 1, n = points.length / axes.length, labels = LIVE.images.labels || [];
  const X = v => W / 2 + v / 4 * (W / 2 - 8), body = Array.from({ length: n }, (_, i) => {
    const x = X(points[i * axes.length]), y = two ? X(-points[i * axes.length + 1]) : W / 2;
    if (!(Math.abs(x - W / 2) < W / 2 && Math.abs(y - W / 2) < W / 2)) return "";
    return labels[i]?.length === 1 ? text(x, y, labels[i], MIDDLE) : `<circle cx="${fixed(x)}" cy="${fixed(y)}" r="2" class="fw"/>`;
  }).join("");
  return `<figure class="pic"><figcaption>mu of the test images, latents ${axes.join(" and ")}, from −4 to 4</figcaption>` +
    svg(W, W, `${n} test images in the plane of latents ${axes.join(" and ")}`, line(0, W / 2, W, W / 2, { class: "grid-line" }) +
      line(W / 2, 0, W / 2, W, { class: "grid-line" }) + body, { class: "plane" }) + "</figure>";
}
