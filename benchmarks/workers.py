"""One contestant in a process of its own, so that no two thread pools share one.

python -m benchmarks.workers NAME reads questions, one line of JSON each, and answers each with one
line of JSON.  See the class Worker for the questions.  A step is forward, backward, Adam and the
noise, in float32; everyone takes the same rows in the same order.
"""

import functools
import itertools
import json
import os
import resource
import sys
from time import perf_counter

import numpy as np

D = 784


@functools.cache
def images(n, grey=False):
    """n synthetic pictures, a fifth of the pixels lit and the rim black, as in MNIST."""
    rng = np.random.default_rng(0)
    kinds = (rng.random((10, D)) < 0.25) * (np.arange(D) % 28 > 3)
    lit = kinds[rng.integers(0, 10, n)] & (rng.random((n, D), np.float32) < 0.9)
    return lit * rng.integers(1, 256, (n, D), np.uint8) if grey else lit.astype(np.float32)


def batches_of(B, n=16384):
    """Many batches of B rows.

    Trained on one batch alone, the moments of dead units fall to subnormal numbers, which are slow.
    """
    X = images(n)
    return [X[i : i + B] for i in range(0, len(X) - B + 1, B)]


def widths(net):
    """The widths of the encoder's layers, from the pixels to the latents."""
    return [D, *net["hidden"], net["z"]]


class Ours:
    """minivae: the layers, the kernels and Adam as `fit` uses them.

    plain: as it is without the extra [fast], though that may be installed.
    """

    def __init__(self, net, plain=False):
        from minivae import VAE
        from minivae.optim import Adam

        if plain:
            without_onednn()

        self.vae = VAE.mlp(D, net["hidden"], net["z"], activation=net["activation"], rng=0)
        self.adam = Adam(self.vae.named_params())

    def stepper(self, batches):
        batches = itertools.cycle(batches)

        def step():
            self.vae.forward(next(batches))      # draws its own noise
            self.vae.backward()
            self.adam.step()

        return step

    def epoch(self, X, batch):
        from minivae import fit

        fit(self.vae, X, epochs=1, batch_size=batch, rng=0)

    def log_px(self, x, samples):
        from minivae.training.metrics import log_px

        return log_px(self.vae, x, samples, rng=0)[0]


def without_onednn():
    """Have the pool pass over oneDNN, as if it were not installed."""
    from minivae.pool import Pool

    Pool._find_onednn = lambda self: False


class Floor:
    """The matrix products of a step alone, as our layers call them."""

    def __init__(self, net, plain=False):
        if plain:
            without_onednn()
        enc, z = widths(net)[:-1], net["z"]
        pairs = [*zip(enc[:-1], enc[1:]), (enc[-1], z), (enc[-1], z)]
        dec = [z, *reversed(enc)]
        self.shapes = pairs + list(zip(dec[:-1], dec[1:]))

    def stepper(self, batches):
        from minivae import cores

        B, rng, products = len(batches[0]), np.random.default_rng(0), []
        new = lambda *shape: rng.standard_normal(shape, np.float32)
        for i, (n_in, n_out) in enumerate(self.shapes):
            x, W, dy = new(B, n_in), new(n_in, n_out), new(B, n_out)
            products.append((cores.times, x, W, new(B, n_out)))            # y = x W
            products.append((cores.transpose_times, x, dy, new(n_in, n_out)))      # x.T dy
            if i:                                # nobody needs the first layer's dx
                products.append((cores.times_transpose, dy, W, new(B, n_in)))  # dx = dy W.T

        def step():
            for product, a, b, out in products:
                product(a, b, out)

        return step


class Torch:
    """PyTorch: variant "eager", "fused" (eager, fused Adam) or "compile" (compiled, fused Adam)."""

    def __init__(self, net, variant):
        import torch
        from torch import nn

        self.torch = torch
        torch.set_num_threads(len(os.sched_getaffinity(0)))
        torch.manual_seed(0)
        act = {"relu": nn.ReLU, "tanh": nn.Tanh}[net["activation"]]

        def stack(sizes):
            pairs = zip(sizes[:-1], sizes[1:])
            return [part for a, b in pairs for part in (nn.Linear(a, b), act())]

        enc, z_dim = widths(net)[:-1], net["z"]
        self.model = model = nn.Module()
        model.enc = nn.Sequential(*stack(enc))
        model.to_mu = nn.Linear(enc[-1], z_dim)
        model.to_logvar = nn.Linear(enc[-1], z_dim)
        model.dec = nn.Sequential(*stack([z_dim, *reversed(enc[1:])]), nn.Linear(enc[1], D))

        cross_entropy = self.cross_entropy = nn.functional.binary_cross_entropy_with_logits

        def loss(x):
            h = model.enc(x)
            mu, logvar = model.to_mu(h), model.to_logvar(h)
            z = mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)
            recon = cross_entropy(model.dec(z), x, reduction="sum")
            return (recon + 0.5 * (mu.square() + logvar.exp() - 1 - logvar).sum()) / len(x)

        self.loss = torch.compile(loss, dynamic=False) if variant == "compile" else loss
        self.adam = torch.optim.Adam(model.parameters(), lr=1e-3, fused=variant != "eager")

    def stepper(self, batches):
        batches = itertools.cycle([self.torch.from_numpy(x) for x in batches])

        def step():
            self.adam.zero_grad(set_to_none=True)
            self.loss(next(batches)).backward()
            self.adam.step()

        return step

    def epoch(self, X, batch):
        X = self.torch.from_numpy(X)
        for rows in self.torch.randperm(len(X)).split(batch):
            self.stepper([self.torch.bernoulli(X[rows].float() / 255).numpy()])()

    def log_px(self, x, samples):
        torch, model, found = self.torch, self.model, []
        with torch.inference_mode():
            for row in torch.from_numpy(x):
                h = model.enc(row[None])
                mu, logvar = model.to_mu(h), model.to_logvar(h)
                eps = torch.randn(samples, mu.shape[1])
                z = mu + torch.exp(0.5 * logvar) * eps
                target = row.expand(samples, -1)
                log_px_z = -self.cross_entropy(model.dec(z), target, reduction="none").sum(1)
                logw = log_px_z + 0.5 * (eps.square() - z.square() + logvar).sum(1)
                found.append(torch.logsumexp(logw, 0).item() - np.log(samples))
        return np.array(found)


class Jax:
    """JAX: the loss, its gradient and Adam compiled as one function by jax.jit."""

    def __init__(self, net):
        import jax
        import jax.numpy as jnp

        act = {"relu": jax.nn.relu, "tanh": jnp.tanh}[net["activation"]]
        enc, z_dim, rng = widths(net)[:-1], net["z"], np.random.default_rng(0)

        def dense(n_in, n_out):
            W = rng.uniform(-1, 1, (n_in, n_out)) * np.sqrt(6 / (n_in + n_out))
            return jnp.asarray(W, jnp.float32), jnp.zeros(n_out)

        def stack(sizes):
            return [dense(n_in, n_out) for n_in, n_out in zip(sizes[:-1], sizes[1:])]

        params = {"enc": stack(enc), "mu": dense(enc[-1], z_dim), "logvar": dense(enc[-1], z_dim),
                  "dec": stack([z_dim, *reversed(enc)])}
        tree = jax.tree_util.tree_map

        def loss(params, key, x):
            affine = lambda h, layer: h @ layer[0] + layer[1]
            h = x
            for layer in params["enc"]:
                h = act(affine(h, layer))
            mu, logvar = affine(h, params["mu"]), affine(h, params["logvar"])
            g = mu + jnp.exp(0.5 * logvar) * jax.random.normal(key, mu.shape)
            for layer in params["dec"][:-1]:
                g = act(affine(g, layer))
            logits = affine(g, params["dec"][-1])
            recon = (jax.nn.softplus(logits) - x * logits).sum()
            return (recon + 0.5 * (mu**2 + jnp.exp(logvar) - 1 - logvar).sum()) / len(x)

        def update(state, x):
            params, m, v, t, key = state
            key, sub = jax.random.split(key)
            value, grads = jax.value_and_grad(loss)(params, sub, x)
            t = t + 1
            m = tree(lambda m, g: 0.9 * m + 0.1 * g, m, grads)
            v = tree(lambda v, g: 0.999 * v + 0.001 * g * g, v, grads)
            rate, unbias = 1e-3 / (1 - 0.9**t), 1 / jnp.sqrt(1 - 0.999**t)
            moved = lambda p, m, v: p - rate * m / (jnp.sqrt(v) * unbias + 1e-8)
            params = tree(moved, params, m, v)
            return (params, m, v, t, key), value

        self.jnp, self.update = jnp, jax.jit(update, donate_argnums=0)
        m, v = tree(jnp.zeros_like, params), tree(jnp.zeros_like, params)
        self.state = params, m, v, jnp.float32(0), jax.random.key(0)

    def stepper(self, batches):
        batches = itertools.cycle([self.jnp.asarray(x) for x in batches])

        def step():
            self.state, value = self.update(self.state, next(batches))
            value.block_until_ready()
            self.state[0]["enc"][0][0].block_until_ready()

        return step


PLAIN = ", plain install"        # without the extra [fast]
CONTESTANTS = {
    "minivae": Ours,
    "products": Floor,
    "minivae" + PLAIN: lambda net: Ours(net, plain=True),
    "products" + PLAIN: lambda net: Floor(net, plain=True),
    "PyTorch eager": lambda net: Torch(net, "eager"),
    "PyTorch fused Adam": lambda net: Torch(net, "fused"),
    "PyTorch compiled": lambda net: Torch(net, "compile"),
    "JAX jit": Jax,
}


class Worker:
    """Answers questions for one contestant; what it has built for a net or a batch size it keeps.

    A question names a task and a net.  The answer holds the milliseconds, and the process's peak
    memory in MB; or {"missing": why} where the contestant's library is not installed.

        {"task": "steps", "net", "batch", "n", "rows": 16384, "warm": 20}   n training steps
        {"task": "epoch", "net", "batch", "rows"}                           one epoch
        {"task": "log_px", "net", "rows", "samples"}                        log p(x) of some images
    """

    def __init__(self, name):
        self.make = CONTESTANTS[name]
        self.contestants, self.steps = {}, {}

    def answer(self, question):
        tasks = {"steps": self.time_steps, "epoch": self.time_epoch, "log_px": self.time_log_px}
        net = json.dumps(question["net"])
        try:
            if net not in self.contestants:
                self.contestants[net] = self.make(question["net"])
            ms = tasks[question["task"]](net, question)
        except ImportError as error:
            return {"missing": str(error)}
        return {"ms": ms, "rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}

    def time_steps(self, net, question):
        """The milliseconds of each of n steps."""
        batch = question["batch"]
        if (net, batch) not in self.steps:
            batches = batches_of(batch, question.get("rows", 16384))
            step = self.contestants[net].stepper(batches)
            for _ in range(question.get("warm", 20)):
                step()
            self.steps[net, batch] = step
        step, times = self.steps[net, batch], []
        for _ in range(question["n"] + 3):
            start = perf_counter()
            step()
            times.append(1e3 * (perf_counter() - start))
        return times[3:]                         # the first ones wake the cores and the caches

    def time_epoch(self, net, question):
        X = images(question["rows"], grey=True)
        start = perf_counter()
        self.contestants[net].epoch(X, question["batch"])
        return [1e3 * (perf_counter() - start)]

    def time_log_px(self, net, question):
        x = images(4096)[: question["rows"]]
        self.contestants[net].log_px(x[:2], 200)             # compiles what is to be compiled
        start = perf_counter()
        self.contestants[net].log_px(x, question["samples"])
        return [1e3 * (perf_counter() - start)]


def main(name):
    answers, sys.stdout = sys.stdout, sys.stderr     # nobody else may write into the answers
    worker = Worker(name)
    for line in sys.stdin:
        print(json.dumps(worker.answer(json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
