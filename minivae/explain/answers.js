// The three answers: which way backprop runs, where the KL joins, what is held constant.

/** What is said while the front runs, and from which node on. */
function moments() {
  const decoder = D.forward.find(name => name.startsWith("dec.")) || D.graph.out, sentences = toldHTML(), first = [D.graph.out, decoder, "sample", HEADS[0], D.forward.find(name => !isData(name))];
  return sentences.map((words, i) => ({ words, from: first[i] }));
}

const ANSWERS = {
  whole: {
    title: () => "The finished pass",
    html: () => `<p class="prose">Blue ran forward, left to right, and ended in one number: a loss of <b>${fmt(now().loss, 5)}</b> nats. Orange ran back.
      Press <kbd>→</kbd> to walk through it node by node, or choose a node above.</p>${endHTML()}`,
  },
  direction: {
    title: () => used("path") ? "Yes: from the loss through the decoder to the encoder" : "Not with this estimator: between decoder and encoder the path is cut",
    html: () => `<ol class="told moments">${moments().map(m => `<li>${m.words}</li>`).join("")}</ol>
      <div class="buttons"><button type="button" data-ask="direction">Play it again</button></div>`,
  },
  kl: {
    title: () => "The KL joins at the encoder's heads, past the decoder",
    html: () => `<p class="prose">The KL is computed from ${HEADS.map(h => sym(nodes[h].called)).join(" and ")} alone, so its gradient goes straight
      there. What came back through z and what the KL sends are added, number by number.</p>${sumsHTML(nodes.kl)}`,
  },
  constant: {
    title: () => "What is held constant?",
    html: constantHTML,
  },
};

/** Which side is learning, while the other is held: "theta" or "phi". */
let learning = "phi";

function constantHTML() {
  const e = D.estimators.find(item => item.name === settings.estimator) || D.estimators[0];
  const held = learning === "phi" ? "theta" : "phi", side = { phi: "the encoder (phi)", theta: "the decoder (theta)" };
  const radio = item => `<label><input type="radio" name="estimator" value="${item.name}"${item.name === e.name ? " checked" : ""}` +
    `${item.refused ? " disabled" : ""}><span>${item.name}</span></label>`;
  const groups = [...new Set(D.estimators.map(item => item.samples))].map(K => `<fieldset class="chooser"><legend>${K === 1 ? "one draw of z" : `${K} draws of z`}` +
    `</legend>${D.estimators.filter(item => item.samples === K).map(radio).join("")}</fieldset>`);
  const refused = D.estimators.find(item => item.refused);
  const wires = Object.entries(wiresShown(e)).map(([wire, w]) => {
    const cut = !Array.from(w).some(v => v !== 0);
    return { kind: cut ? "cut" : "", cells: [`<code>${wire}</code>`, `<span class="pill">${cut ? "cut" : "open"}</span>`,
      Array.from(w, v => fmt(v, 3)).join("&nbsp;&nbsp; "), esc(D.wires[wire])] };
  });
  return `<p class="prose">The image ${sym("x")} and the noise ${sym(D.graph.noise)} always: they are data. And while ${side[learning]} learns,
    ${side[held]} stands still: a gradient asks what happens when <i>one</i> number moves.</p>
    <div class="buttons" role="group" aria-label="Who learns">${["phi", "theta"].map(s =>
      `<button type="button" data-learning="${s}" aria-pressed="${s === learning}">${side[s]} learns</button>`).join("")}</div>
    <p class="prose more">The rest is a choice. An estimator puts a weight on each wire; a weight of 0 cuts it, and the graph above shows the cut.</p>
    <div class="choosers">${groups.join("")}</div>${refused ? `<p class="note">Struck out: ${esc(refused.refused)}.</p>` : ""}
    <p id="estimator-words" class="prose" role="status"><b><code>${e.name}</code></b> ${words(e.sentence)}</p>
    <div id="spread"></div>
    <details class="fold"><summary>The weights on the five wires</summary>${table("weights", ["wire", "open or cut", `#weight${e.samples > 1 ? ", one per draw" : ""}`, "what runs along it"], wires, { class: "weights" })}</details>
    <details class="fold"><summary>The code, as installed</summary><div class="code backward">${listing(e.code, "the estimator", true, new Set())}</div></details>`;
}

const wiresShown = e => now().isRecorded ? e.wires : now().wires;

/** Locks on what stands still, only in the answer about it. */
function paintLocks(on) {
  for (const lock of inGraphs(".lock")) {
    const what = lock.dataset.lock;
    lock.classList.toggle("closed", on && what !== learning);
  }
}
