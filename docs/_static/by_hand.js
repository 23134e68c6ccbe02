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

function rows(values) {
  return values.map(([name, value]) => `<tr><td>${name}</td><td>${shown(value)}</td></tr>`).join("");
}

const forward_rows = (f) => rows([
  ["mu", mu],
  ["logvar", logvar],
  ["z = mu + std * eps", f.z],
  ["logits = z * (2, -2) + (0, 1)", f.logits],
  ["recon = -log p(x|z)", f.recon],
  ["kl = (mu^2 + e^logvar - 1 - logvar) / 2", f.kl],
  ["loss = recon + kl, nats", f.loss]]);

const backward_rows = (d) => rows([
  ["dlogits = sigmoid(logits) - x", d.dlogits],
  ["dW of the logits = z * dlogits", d.dW],
  ["dz = 2 * dlogits[0] - 2 * dlogits[1]", d.dz],
  ["through z: dmu = dz", d.through_z.mu],
  ["through z: dlogvar = dz * eps * std / 2", d.through_z.logvar],
  ["the KL joins: dmu + mu", d.both.mu],
  ["the KL joins: dlogvar + (e^logvar - 1) / 2", d.both.logvar]]);

/** Bars on one scale, from -5 to 12 nats, so that through z + from the KL = both is seen. */
function bars(d) {
  const percent = (value) => 100 * (value + 5) / 17;
  const words = { through_z: "through z", from_kl: "from the KL", both: "together" };
  return ["mu", "logvar"].map((name) => Object.keys(words).map((part) => {
    const value = d[part][name];
    const from = percent(Math.min(0, value)), width = percent(Math.abs(value)) - percent(0);
    return `<div class="row"><span>d${name} ${words[part]}</span><span>${value.toFixed(3)}</span>` +
      `<span class="track"><i class="${part}" style="left: ${from}%; width: ${width}%"></i></span></div>`;
  }).join("")).join("<hr>");
}

const slider = document.getElementById("eps");

function show() {
  const f = forward(Number(slider.value)), d = backward(f);
  document.getElementById("eps-shown").value = f.eps.toFixed(2);
  document.getElementById("bars").innerHTML = bars(d);
  document.getElementById("forward").innerHTML = forward_rows(f);
  document.getElementById("backward").innerHTML = backward_rows(d);
}

slider.addEventListener("input", show);
show();
