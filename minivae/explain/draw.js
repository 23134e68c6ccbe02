"use strict";
// The data, how numbers are written, and the pictures: inline SVG, each with the same in words.

const D = JSON.parse(document.getElementById("data").textContent);
const $ = id => document.getElementById(id);

const ESCAPES = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };
const esc = text => String(text).replace(/[&<>"']/g, c => ESCAPES[c]);
const words = text => esc(text).replace(/`([^`]+)`/g, "<code>$1</code>");

// --- arrays, stored as base64 of float64 ---

const decoded = {};
function array(name) {
  if (!decoded[name]) {
    const bytes = Uint8Array.from(atob(D.arrays[name].base64), c => c.charCodeAt(0));
    decoded[name] = new Float64Array(bytes.buffer);
  }
  return decoded[name];
}

const sum = list => list.reduce((total, v) => total + v, 0);
const mean = list => sum(list) / list.length;
const norm = a => Math.sqrt(sum(Array.from(a, v => v * v)));
const shape = name => D.arrays[name].shape.join("×") || "1";

// --- numbers ---

const minus = text => String(text).replace(/-/g, "−");
function fmt(v, digits = 4) {
  if (v === 0) return "0";
  const far = Math.abs(v) >= 1e5 || Math.abs(v) < 1e-3;
  return minus(far ? v.toExponential(digits - 2) : Number(v.toPrecision(digits)));
}
const short = v => fmt(v, v < 0.1 ? 2 : 3);
const full = v => minus(Number(v.toPrecision(9)));

// --- the pieces of a picture ---

const fixed = v => Number(v.toFixed(2));
const attributes = given => Object.entries(given).map(([name, value]) => ` ${name}="${value}"`).join("");
const text = (x, y, label, given = {}) => `<text x="${fixed(x)}" y="${fixed(y)}"${attributes(given)}>${label}</text>`;
const path = (d, given = {}) => `<path d="${d}"${attributes(given)}/>`;
const line = (x1, y1, x2, y2, given = { class: "axis" }) =>
  `<line x1="${fixed(x1)}" y1="${fixed(y1)}" x2="${fixed(x2)}" y2="${fixed(y2)}"${attributes(given)}/>`;
const rect = (x, y, width, height, given = {}) =>
  `<rect x="${fixed(x)}" y="${fixed(y)}" width="${fixed(width)}" height="${fixed(height)}"${attributes(given)}/>`;
const svg = (width, height, label, body, given = {}) =>
  `<svg viewBox="0 0 ${width} ${height}" role="img" aria-label="${esc(label)}"${attributes(given)}>${body}</svg>`;

const END = { "text-anchor": "end" }, MIDDLE = { "text-anchor": "middle" };

/** A head whose tip is at (x, y), pointing "up", "down", "left" or "right". */
function tip(x, y, direction) {
  const back = { up: "l-5.5 9h11z", down: "l-5.5 -9h11z", left: "l9 -5.5v11z", right: "l-9 -5.5v11z" };
  return `M${fixed(x)} ${fixed(y)}${back[direction]}`;
}

/** Two columns of labels on a vertical axis: 0, and whichever ends stand clear of it. */
function ticks(left, Y, low, high) {
  const ends = [high, low].filter(v => Math.abs(Y(v) - Y(0)) > 11);
  return [0, ...ends].map(v => text(left - 7, Y(v) + 4, fmt(v, 2), END)).join("");
}

// --- arrays as pictures ---

function inWords(symbol, a) {
  const list = a.length <= 16 ? ": " + Array.from(a, v => fmt(v, 3)).join(", ") : "";
  const count = a.length > 1 ? `${a.length} numbers` : "1 number";
  return `${symbol}: ${count} from ${fmt(Math.min(...a), 3)} to ${fmt(Math.max(...a), 3)}${list}`;
}

/** How many numbers a pixel of the images has: 3 in colour. */
const PLANES = (D.imageShape || [])[2] || 1;

/** Squares: an image as it looks, and signed ones for everything else.  `reach` makes one fully coloured. */
function squares(a, columns, unit, grey, left = 0, top = 0, reach = 0) {
  if (grey && PLANES === 3) return tinted(a, columns, unit, left, top);
  const low = Math.min(0, ...a), high = Math.max(1, ...a), size = reach || Math.max(...a.map(Math.abs)) || 1;
  return Array.from(a, (v, i) => {
    const strength = grey ? (v - low) / (high - low) : Math.abs(v) / size;
    if (strength < 0.012) return "";
    const x = left + (i % columns) * unit, y = top + Math.floor(i / columns) * unit;
    return rect(x, y, unit, unit, { class: grey ? "w" : v < 0 ? "n" : "p", "fill-opacity": strength.toFixed(3) });
  }).join("");
}

/** The squares of an image in colour. */
function tinted(a, columns, unit, left, top) {
  const low = Math.min(0, ...a), high = Math.max(1, ...a), byte = v => Math.round((v - low) / (high - low) * 255);
  return Array.from({ length: a.length / 3 }, (_, i) =>
    rect(left + (i % columns) * unit, top + Math.floor(i / columns) * unit, unit, unit,
      { fill: `rgb(${Array.from(a.slice(3 * i, 3 * i + 3), byte).join(",")})` })).join("");
}

function cells(symbol, a, columns, { grey = false, kind = "grid", reach = 0 } = {}) {
  const count = grey ? a.length / PLANES : a.length;
  const unit = 10, width = columns * unit, height = Math.ceil(count / columns) * unit;
  const body = squares(a, columns, unit, grey, 1, 1, reach) + rect(1, 1, width, height, { class: "frame" });
  const size = reach || Math.max(...a.map(Math.abs));
  const legend = grey ? "" : `<p class="scale">coloured: positive, grey: negative, full at ${fmt(size, 3)}</p>`;
  return svg(width + 2, height + 2, inWords(symbol, a), body,
    { class: kind, "shape-rendering": "crispEdges", "data-columns": columns, "data-each": count < a.length ? 3 : 1 }) + legend;
}

const MOST = 16;               // so many channels are drawn, those with the largest norms
const LEVELS = 20;             // of colour: one path each, because maps have many squares

/** Signed squares of one map at (left, top) as a few paths; at(i) is number i of the map. */
function signedMap(at, H, W, unit, left, top, size) {
  const paths = {};
  for (let i = 0; i < H * W; i++) {
    const v = at(i), level = Math.round(Math.abs(v) / (size || 1) * LEVELS) * (v < 0 ? -1 : 1);
    if (level) (paths[level] ??= []).push(`M${left + (i % W) * unit} ${top + Math.floor(i / W) * unit}h${unit}v${unit}h-${unit}z`);
  }
  return Object.entries(paths).map(([level, d]) =>
    path(d.join(""), { class: level < 0 ? "n" : "p", "fill-opacity": Math.abs(level) / LEVELS })).join("");
}

/** An array (.., H, W, C) as small pictures, one for each channel of its first image, on one scale. */
function maps(symbol, a, [H, W, C], { reach = 0 } = {}) {
  const unit = 10, gap = 6, size = reach || Math.max(...a.slice(0, H * W * C).map(Math.abs));
  const sizes = Array.from({ length: C }, (_, c) => norm(Array.from({ length: H * W }, (_, i) => a[i * C + c])));
  const largest = [...sizes.keys()].sort((c, d) => sizes[d] - sizes[c]).slice(0, MOST).sort((c, d) => c - d);
  const per = Math.ceil(Math.sqrt(largest.length * H / W)), rows = Math.ceil(largest.length / per);
  const body = largest.map((c, n) => {
    const left = 1 + (n % per) * (W * unit + gap), top = 1 + Math.floor(n / per) * (H * unit + gap);
    return signedMap(i => a[i * C + c], H, W, unit, left, top, size) + rect(left, top, W * unit, H * unit, { class: "frame" });
  }).join("");
  const images = a.length / (H * W * C), colours = PLANES === 3 && C === 3 && H === D.imageShape[0];
  const said = [images > 1 ? `draw 1 of ${images}` : "", colours ? "red, green, blue"
    : C > MOST ? `the ${MOST} channels of ${C} with the largest norms` : C > 1 ? `${C} channels` : ""].filter(Boolean).join(", ");
  return svg(per * (W * unit + gap) - gap + 2, rows * (H * unit + gap) - gap + 2, inWords(symbol, a), body,
    { class: per > 1 ? "maps" : "image", "shape-rendering": "crispEdges", "data-maps": [H, W, C, per].join(), "data-channels": largest.join() }) +
    `<p class="scale">${said}${said && "; "}coloured: positive, grey: negative, full at ${fmt(size, 3)}</p>`;
}

/** One channel of P(x), the patches of images x, each where it was cut: the one with the largest norm. */
function patchesPicture(symbol, x, layer) {
  const [H, W, C] = layer.image, [k] = layer.step, [rows, columns] = layer.grid, unit = 10, gap = 8, side = k * unit + gap;
  const first = x.slice(0, H * W * C), cut = patches(first, layer), size = Math.max(...first.map(Math.abs));
  const sizes = Array.from({ length: C }, (_, c) => norm(first.filter((_, i) => i % C === c))), c = sizes.indexOf(Math.max(...sizes));
  const body = Array.from({ length: rows * columns }, (_, n) => {
    const left = 1 + (n % columns) * side, top = 1 + Math.floor(n / columns) * side;
    return signedMap(i => cut[(n * k * k + i) * C + c], k, k, unit, left, top, size) + rect(left, top, k * unit, k * unit, { class: "frame" });
  }).join("");
  return `<figure class="pic ${isGradient(symbol) ? "tint-b" : "tint-f"}"><figcaption>${sym(symbol, `P(${symbol})`)} a patch for each ` +
    `of ${rows}×${columns} pixels<span class="meta">${rows * columns}×${k * k * C}: ${k}×${k} pixels${C > 1 ? `, here channel ${c} of ${C}` : ""}</span></figcaption>` +
    svg(columns * side - gap + 2, rows * side - gap + 2, `the ${rows * columns} patches of ${symbol}`, body, { class: "maps", "shape-rendering": "crispEdges" }) + "</figure>";
}

/** Bars about 0; `reach` gives the ends of the scale, so that several pictures may share one. */
function bars(symbol, a, { reach = null } = {}) {
  const W = 300, H = 82, left = 52, [low, high] = reach || [Math.min(0, ...a), Math.max(0, ...a)];
  const Y = v => 8 + (high - v) / (high - low || 1) * (H - 16);
  const step = (W - left) / a.length, width = Math.min(26, step * 0.72), every = a.length <= 16 ? 1 : 5;
  const body = Array.from(a, (v, i) => {
    const x = left + (i + 0.5) * step, top = Math.min(Y(v), Y(0)), height = Math.max(1, Math.abs(Y(v) - Y(0)));
    return rect(x - width / 2, top, width, height, { class: v < 0 ? "n" : "p" }) + (i % every ? "" : text(x, H + 12, i, MIDDLE));
  }).join("");
  return svg(W, H + 16, inWords(symbol, a), line(left, Y(0), W, Y(0)) + ticks(left, Y, low, high) + body,
    { class: "bars", "data-left": left, "data-count": a.length });
}

/** `dims`: the shape of the array, as it was recorded. */
function picture(symbol, a, given = {}, dims = []) {
  const [H, W] = D.imageShape, apart = dims.length > 2 ? dims.slice(-3).join() : "";
  const isImage = a.length === H * W * PLANES && H > 1 && ["", [H, W, PLANES].join()].includes(apart);
  if (a.length === 1) return `<p class="big">${fmt(a[0], 7)}</p>`;
  if (isImage && (given.grey || PLANES === 1)) return cells(symbol, a, W, { ...given, kind: "image" });
  if (isImage) return maps(symbol, a, D.imageShape, given);
  if (apart) return maps(symbol, a, dims.slice(-3), given);
  if (a.length <= 40) return bars(symbol, a, given);
  return cells(symbol, a, Math.ceil(Math.sqrt(2 * a.length)), given);
}

/** The ends of one scale for several arrays. */
const reachOf = (...arrays) => [Math.min(0, ...arrays.flatMap(a => [...a])), Math.max(0, ...arrays.flatMap(a => [...a]))];

// --- symbols and figures ---

const isGradient = symbol => /^d(?!ec\.)/.test(symbol) || symbol.startsWith("along_");
const sym = (symbol, shown = symbol) =>
  `<span class="sym ${isGradient(symbol) ? "b" : "f"}" data-s="${esc(symbol)}">${esc(shown)}</span>`;

/** What a gradient is by hand and by differences, behind a click: the entries that were checked. */
function checksList(symbol, checks) {
  if (!checks || !checks.length) return "";
  if (!now().isRecorded) return '<p class="checked">checked in the recorded pass</p>';
  const pair = (value, label) => `<b>${value}</b><span>${label}</span>`;
  const items = checks.map(c => {
    const bar = c.numeric === null ? "" : `±${minus(c.bar.toExponential(0))}`;
    const rows = c.numeric === null ? pair(full(c.analytic), "by hand; a ReLU stands at 0: no slope to compare")
      : pair(full(c.analytic), "by hand") + pair(full(c.numeric), "by differences") +
        pair(bar, `error bar ${c.verdict === "PASS" ? "✓" : esc(c.verdict)}`);
    return `<li><span class="entry">${esc(symbol)}[${c.index.join(",")}]</span><span class="pair">${rows}</span></li>`;
  });
  const good = checks.every(c => ["PASS", "KINK"].includes(c.verdict));
  return `<details class="checked"><summary>${checks.length} checked ${good ? "✓" : "✗"}</summary>` +
    `<ul class="checks">${items.join("")}</ul></details>`;
}

/** One array with its name, its meaning, its picture and its checks.  `given`: grey, reach, size. */
function pic(f, given = {}) {
  const a = numbers(f), known = isGradient(f.symbol) || /^[a-z_.0-9]+$/i.test(f.symbol);
  const size = a.length === array(f.array).length ? shape(f.array) : a.length;
  const meta = given.size || (a.length > 1 ? `${size}, norm ${fmt(norm(a))}` : "one number");
  return `<figure class="pic ${isGradient(f.symbol) ? "tint-b" : "tint-f"}" data-s="${esc(f.symbol)}" data-key="${esc(f.key || "")}">` +
    `<figcaption>${known ? sym(f.symbol) : `<code>${esc(f.symbol)}</code>`} ${esc(f.meaning)}<span class="meta">${meta}</span></figcaption>` +
    `${picture(f.symbol, a, given, D.arrays[f.array].shape)}${checksList(f.symbol, f.checks)}</figure>`;
}

/** A table that scrolls sideways where there is no room.  Columns whose title starts with # hold numbers. */
function table(label, titles, rows, given = {}) {
  const number = titles.map(title => title.startsWith("#"));
  const head = titles.map((title, i) => title === "" ? "<td></td>"
    : number[i] ? `<th scope="col" class="num">${title.slice(1)}</th>` : `<th scope="col">${title}</th>`).join("");
  const body = rows.map(({ kind = "", cells }) => `<tr class="${kind}">` +
    cells.map((cell, i) => `<td${number[i] ? ' class="num"' : ""}>${cell}</td>`).join("") + "</tr>").join("");
  return `<div class="scroll" tabindex="0" role="region" aria-label="${esc(label)}"><table${attributes(given)}>` +
    `<thead><tr>${head}</tr></thead><tbody>${body}</tbody></table></div>`;
}

const strip = (part, colour) =>
  `<div class="stack" aria-hidden="true"><i style="width:${100 * part}%;background:var(--${colour})"></i></div>`;
