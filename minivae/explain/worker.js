"use strict";
// Training, in a worker, so that the page answers while the model learns.
//
// const training = startTraining(settings, message => ..);
// training.start(), training.stop(), training.step(), training.reset(), training.close()
//
// settings: spec; train: the training images, N*D pixels; binarize; test: images for the latent
// plane; batch, lr, beta, estimator, K, seed; fresh: whether to begin with new weights.
//
// Messages, one after each epoch, one after a single step, and one after a reset:
//   epoch, step          epochs done, steps done
//   loss, recon, kl      means over what was trained on since the last message, nats; null at first
//   samples              images that the decoder paints from the same 16 z of the prior: 16*D
//   plane                {axes, points}: mu of the test images (a for coins) in the two latents
//                        where it varies most: which two, and 2 numbers for each image
//   params               the parameters by name, for the page's own model
//   running              whether more will come
// When something is wrong there is one message {error}, in words, and training has stopped.

/** Start the worker from the text of this page's script with the id "engine". */
function startTraining(settings, listen) {
  const text = document.getElementById("engine").textContent;
  const blob = new Blob([text, "\nrunWorker();"], { type: "text/javascript" });
  const address = URL.createObjectURL(blob), worker = new Worker(address);
  const command = name => () => worker.postMessage({ command: name });
  worker.onmessage = event => listen(event.data);
  worker.onerror = event => {
    event.preventDefault();                                // it is told here, not in the console
    listen({ error: event.message.replace("Uncaught Error: ", ""), running: false });
  };
  worker.postMessage({ command: "begin", settings });
  return {
    start: command("start"), stop: command("stop"), step: command("step"),
    reset: command("reset"),
    close() {
      worker.terminate();
      URL.revokeObjectURL(address);
    },
  };
}

/** The worker's side: one batch after another, and an ear for commands in between. */
function runWorker() {
  let trainer = null, running = false;
  const tell = () => postMessage({ ...trainer.report(), running });
  const step = () => {
    try {
      return trainer.step();
    } catch (error) {
      running = false;
      throw error;
    }
  };
  const work = () => {
    const until = Date.now() + 30;
    while (running && Date.now() < until) if (step()) tell();
    if (running) setTimeout(work);
  };
  const commands = {
    begin({ settings }) { trainer = makeTrainer(settings); },
    start() {
      if (running) return;
      running = true;
      work();
    },
    stop() {
      running = false;
      tell();
    },
    step() {
      running = false;
      step();
      tell();
    },
    reset() {
      running = false;
      trainer.reset();
      tell();
    },
  };
  onmessage = event => commands[event.data.command](event.data);
}

/** The training itself: step() trains on one batch and says whether an epoch has ended. */
function makeTrainer({ spec, train, binarize, test, batch = 50, lr = 3e-3, beta = spec.beta,
                       estimator = "elbo", K = 1, seed = 0, fresh = true }) {
  const { D, Z } = spec, N = train.length / D;
  let random, vae, fixed, order, next, epoch, step, totals;

  function reset() {
    random = makeRandom(seed);
    vae = makeVAE(fresh ? { ...spec, params: freshParams(spec, random) } : spec);
    fixed = noiseFor(spec, random, 16 * Z);
    if (spec.latent !== "gaussian") fixed = fixed.map(u => +(u > 0.5));
    order = Int32Array.from({ length: N }, (_, n) => n);
    [next, epoch, step, totals] = [0, 0, 0, null];
  }

  /** Rows of the training images as the model sees them. */
  function drawn(rows) {
    const x = new Float64Array(rows.length * D);
    rows.forEach((row, n) => { x.set(train.subarray(row * D, row * D + D), n * D); });
    if (binarize === "dynamic") return x.map(grey => +(random.uniform() < grey));
    return binarize === "threshold" ? x.map(grey => +(grey >= 0.5)) : x;
  }

  function oneStep() {
    if (next === 0) shuffle(order, random);
    const x = drawn(order.subarray(next, next + batch)), B = x.length / D;
    const pass = vae.forward(x, noiseFor(spec, random, K * B * Z, estimator), { beta, estimator });
    if (!Number.isFinite(pass.loss))
      throw new Error("the loss is no longer finite: reset, and take a smaller step size");
    vae.adamStep(vae.backward(pass).params, lr);
    totals ??= { images: 0, loss: 0, recon: 0, kl: 0 };
    totals.images += B;
    for (const term of ["loss", "recon", "kl"]) totals[term] += B * pass[term];
    step += 1;
    next = next + B < N ? next + B : 0;
    if (next === 0) epoch += 1;
    return next === 0;
  }

  function report() {
    const mean = term => totals && totals[term] / totals.images;
    const terms = { loss: mean("loss"), recon: mean("recon"), kl: mean("kl") };
    totals = null;
    return { epoch, step, ...terms, samples: vae.decode(fixed), plane: latentPlane(vae, test),
             params: vae.params };
  }

  reset();
  return { step: oneStep, report, reset };
}

/** mu of images x in the two latents where it varies most over them. */
function latentPlane(vae, x) {
  const { D, Z } = vae.spec, n = x.length / D;
  const mu = vae.forward(x, new Float64Array(n * Z)).values[vae.heads[0]];
  const varies = overDraws(mu, n, Z).spread;
  const axes = [...varies.keys()].sort((i, j) => varies[j] - varies[i]).slice(0, 2);
  const points = Float64Array.from({ length: n * axes.length }, (_, at) =>
    mu[Math.floor(at / axes.length) * Z + axes[at % axes.length]]);
  return { axes, points };
}

/** New weights as the layers have them, all else 0: U(-a, a), a = sqrt(6 / (n_in + n_out)).
 *
 * A convolution counts k*k times the channels of both sides.
 */
function freshParams(spec, random) {
  const fresh = mapped(spec.params, old => new Float64Array(old.length));
  for (const layer of Object.values(spec.parts).flat()) {
    const W = fresh[`${layer.name}.W`], k = layer.step ? layer.step[0] : 1;
    if (!W) continue;
    const rows = layer.step ? k * k * layer.image[2] : W.length / fresh[`${layer.name}.b`].length;
    const bound = Math.sqrt(6 / (rows + k * k * W.length / rows));
    W.forEach((_, at) => { W[at] = bound * (2 * random.uniform() - 1); });
  }
  return fresh;
}

/** Fisher & Yates, in place. */
function shuffle(order, random) {
  for (let i = order.length - 1; i > 0; i--) {
    const j = Math.floor(random.uniform() * (i + 1));
    [order[i], order[j]] = [order[j], order[i]];
  }
}
