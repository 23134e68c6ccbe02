// Bias and spread: the gradient at mu and at logvar over draws of eps made on the spot, for one estimator.

const DRAWS = D.draws;
let spreadOf = {};

/** Mean and spread of every latent's gradient, by estimator; a hundredth of a second each. */
function drawsOf(estimator) {
  const K = settings.K > 1 || samplesOf(estimator) > 1 ? Math.max(settings.K, samplesOf(estimator)) : 1;
  const key = [estimator, K, settings.beta, settings.image, settings.x].join(" ");
  return spreadOf[key] ??= gradientsOverDraws(model, now().x, { estimator, K, beta: settings.beta, n: DRAWS, random: makeRandom(11) });
}

/** A scale that is linear up to 1 and logarithmic beyond, so that 2 and 200 are both seen. */
const symlog = v => Math.sign(v) * Math.log10(1 + Math.abs(v) / 0.3);
const ENDS = 1000;

/** By latent: the mean over the draws, its standard error, one draw's spread; elbo's stays behind as a ghost. */
function spreadPicture(symbol, found, ghost) {
  const shown = found.mean.length <= 16 ? [...found.mean.keys()] : D.shownLatents;
  const W = 460, H = 210, left = 52, Y = v => H / 2 - symlog(Math.max(-ENDS, Math.min(ENDS, v))) / symlog(ENDS) * (H / 2 - 10);
  const step = (W - left) / shown.length, width = Math.min(20, step * 0.6), marks = [-1000, -100, -10, -1, 0, 1, 10, 100, 1000];
  const grid = marks.map(v => line(left, Y(v), W, Y(v), { class: v ? "grid-line" : "axis" }) + text(left - 7, Y(v) + 4, minus(v), END)).join("");
  const body = shown.map((j, i) => {
    const x = left + (i + 0.5) * step, m = found.mean[j], s = found.spread[j], g = ghost.mean[j], gs = ghost.spread[j];
    return rect(x - width / 2 - 3, Y(g + gs), width + 6, Math.max(1, Y(g - gs) - Y(g + gs)), { class: "ghost" }) +
      line(x, Y(m - s), x, Y(m + s), { class: "whisker" }) +
      rect(x - width / 4, Y(m + 2 * found.error[j]), width / 2, Math.max(2, Y(m - 2 * found.error[j]) - Y(m + 2 * found.error[j])), { class: "p" }) +
      line(x - width / 2, Y(g), x + width / 2, Y(g), { class: "ghost-line" }) + text(x, H + 12, j, MIDDLE);
  }).join("");
  return `<figure class="pic tint-b"><figcaption>${sym(symbol)} by latent<span class="meta">spread of one draw: ${fmt(mean(found.spread), 3)} on average; ` +
    `of ${BASE}: ${fmt(mean(ghost.spread), 3)}</span></figcaption>` +
    svg(W, H + 16, `${inWords(`mean of ${symbol} over ${DRAWS} draws`, found.mean)}; typical spread ${fmt(mean(found.spread), 3)}; ` +
      `of ${BASE} ${fmt(mean(ghost.spread), 3)}`, grid + body, { class: "spread" }) + "</figure>";
}

/** How many of elbo's standard errors the means are apart, at most: far beyond 4 is a bias. */
function apartOf(found, ghost) {
  const each = Array.from(found.mean, (m, j) => Math.abs(m - ghost.mean[j]) / (Math.hypot(found.error[j], ghost.error[j]) || 1));
  return Math.max(...each);
}

/** Where the page cannot run the model: the draws that Python made. */
function recordedDraws(name) {
  const e = D.estimators.find(item => item.name === name), called = HEADS.map(head => nodes[head].called);
  return Object.fromEntries(called.map(head => {
    const spread = array(e[`spread_${head}`]);
    return [head, { mean: array(e[`mean_${head}`]), spread, error: spread.map(s => s / Math.sqrt(DRAWS)) }];
  }));
}

function drawSpread() {
  if (!$("spread")) return;
  const draws = model ? drawsOf : recordedDraws, found = draws(settings.estimator), ghost = draws(BASE), heads = Object.keys(found);
  const apart = Math.max(...heads.map(head => apartOf(found[head], ghost[head]))), first = heads[0];
  const ratio = mean(found[first].spread) / mean(ghost[first].spread), same = settings.estimator === BASE;
  $("spread").innerHTML = `<h3>Bias and spread, over ${DRAWS} draws of ${D.graph.noise} ${model ? "made just now" : "recorded"}</h3>` +
    flow(...heads.map(head => spreadPicture(`d${head}`, found[head], ghost[head]))) +
    `<p class="note">Box: the mean, twice its standard error up and down. Line: one draw, plus and minus its standard deviation. Grey: ${BASE}, the same
      draws of ${D.graph.noise}. The scale never changes: linear near 0, logarithmic beyond. ` + (same ? "" :
      `One draw scatters <b>${fmt(ratio, 2)} times</b> as wide as ${BASE}'s at ${first}. The means are at most <b>${fmt(apart, 2)} standard errors</b> apart; ` +
      `among ${heads.length * found[first].mean.length} numbers chance alone makes it about 3.`) + "</p>";
}
