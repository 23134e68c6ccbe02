"use strict";
// One pass through the smallest VAE: two pixels, one latent.  forward, then backward from its last line.

const x = [1, 0], mu = 1, logvar = 2 * Math.log(2), W = [2, -2], b = [0, 1];
const sum = (values) => values.reduce((a, value) => a + value, 0);
const sigmoid = (a) => 1 / (1 + Math.exp(-a));

function forward(eps) {
  const std = Math.exp(logvar / 2);
  const z = mu + std * eps;
  const logits = W.map((w, j) => z * w + b[j]);
  const recon = sum(logits.map((logit, j) => Math.log1p(Math.exp(logit)) - x[j] * logit));
  const kl = (mu ** 2 + Math.exp(logvar) - 1 - logvar) / 2;
  return { eps, std, z, logits, recon, kl, loss: recon + kl };
}

function backward({ eps, std, z, logits }) {
  const dlogits = logits.map((logit, j) => sigmoid(logit) - x[j]);      // it enters here
  const dW = dlogits.map((d) => z * d);                                 // theta is filled
  const dz = sum(dlogits.map((d, j) => d * W[j]));
  const through_z = { mu: dz, logvar: dz * eps * std / 2 };             // the sampling node: it splits
  const from_kl = { mu: mu, logvar: (Math.exp(logvar) - 1) / 2 };       // the KL joins
  const both = { mu: through_z.mu + from_kl.mu, logvar: through_z.logvar + from_kl.logvar };
  return { dlogits, dW, dz, through_z, from_kl, both };
}

// --- what is shown ---

const round = (value) => (Math.abs(value) < 5e-8 ? 0 : value).toFixed(7);
const shown = (value) => Array.isArray(value) ? `(${value.map(round).join(", ")})` : round(value);

function rows(f, d) {
  return [
    ["mu", mu, "dlogits = sigmoid(logits) - x", d.dlogits],
    ["logvar", logvar, "dW of the logits = z * dlogits", d.dW],
    ["z = mu + std * eps", f.z, "dz = 2 * dlogits[0] - 2 * dlogits[1]", d.dz],
    ["logits = z * (2, -2) + (0, 1)", f.logits, "through z: dmu = dz", d.through_z.mu],
    ["recon = -log p(x|z)", f.recon, "through z: dlogvar = dz * eps * std / 2", d.through_z.logvar],
    ["kl = (mu^2 + e^logvar - 1 - logvar) / 2", f.kl, "the KL joins: dmu + mu", d.both.mu],
    ["loss = recon + kl, nats", f.loss, "the KL joins: dlogvar + (e^logvar - 1) / 2", d.both.logvar],
  ];
}

/** Bars on one scale, so that through z + from the KL = both is seen. */
function bars(d) {
  const middle = 400, unit = 34;                                        // pixels for one nat
  const lines = [];
  ["mu", "logvar"].forEach((name, k) => {
    [["through z", "through_z"], ["from the KL", "from_kl"], ["both: d" + name, "both"]].forEach(([words, part], i) => {
      const y = 12 + 100 * k + 30 * i, value = d[part][name];
      const end = middle + unit * value, from = Math.min(middle, end);
      lines.push(`<text x="10" y="${y + 15}">${i === 0 ? "d" + name : ""}</text>`,
        `<text x="90" y="${y + 15}">${words}</text>`,
        `<text x="255" y="${y + 15}" text-anchor="end">${value.toFixed(3)}</text>`,
        `<rect class="${part}" x="${from}" y="${y}" width="${Math.abs(end - middle)}" height="20"></rect>`);
    });
  });
  return lines.join("") + `<line x1="${middle}" x2="${middle}" y1="4" y2="206"></line>`;
}

const slider = document.getElementById("eps");

function show() {
  const f = forward(Number(slider.value)), d = backward(f);
  document.getElementById("eps-shown").value = f.eps.toFixed(2);
  document.getElementById("bars").innerHTML = bars(d);
  document.getElementById("rows").innerHTML = rows(f, d).map(([left, a, right, c]) =>
    `<tr><td>${left}</td><td>${shown(a)}</td><td>${right}</td><td>${shown(c)}</td></tr>`).join("");
}

slider.addEventListener("input", show);
show();
