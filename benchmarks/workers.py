"""One contestant in a process of its own, so that no two thread pools share one.

python -m benchmarks.workers NAME reads JSON lines {"task", ...} and answers each with one line of JSON.
A step is forward, backward, Adam and the noise; float32; the same rows in the same order for everyone.
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
    """Many batches: trained on one alone, dead units' moments fall to subnormal numbers, which are slow."""
    X = images(n)
    return [X[i : i + B] for i in range(0, len(X) - B + 1, B)]


def widths(net):
    return [D, *net["hidden"], net["z"]]


class Ours:
    def __init__(self, net):
        from minivae import VAE
        from minivae.optim import Adam

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


class Floor:
    """The matrix products of a step alone, in NumPy's BLAS as our layers call it."""

    def __init__(self, net):
        enc, z = widths(net)[:-1], net["z"]
        pairs = [*zip(enc[:-1], enc[1:]), (enc[-1], z), (enc[-1], z)]
        dec = [z, *reversed(enc)]
        self.shapes = pairs + list(zip(dec[:-1], dec[1:]))

    def stepper(self, batches):
        from minivae.kernels import times_transpose

        B, rng, products = len(batches[0]), np.random.default_rng(0), []
        new = lambda *shape: rng.standard_normal(shape, np.float32)
        for i, (a, b) in enumerate(self.shapes):
            x, W, dy = new(B, a), new(a, b), new(B, b)
            products += [(np.matmul, x, W, new(B, b)), (np.matmul, x.T, dy, new(a, b))] + ([(times_transpose, dy, W, new(B, a))] if i else [])
        def step():
            for product, a, b, out in products:
                product(a, b, out)
        return step


class Torch:
    """PyTorch: variant "eager", "fused" (eager with fused Adam) or "compile" (compiled, fused Adam)."""

    def __init__(self, net, variant):
        import torch
        from torch import nn

        self.torch, self.F = torch, nn.functional
        torch.set_num_threads(len(os.sched_getaffinity(0)))
        torch.manual_seed(0)
        act = {"relu": nn.ReLU, "tanh": nn.Tanh}[net["activation"]]
        stack = lambda w: [part for a, b in zip(w[:-1], w[1:]) for part in (nn.Linear(a, b), act())]
        enc = widths(net)[:-1]
        model = nn.Module()
        model.enc, model.to_mu, model.to_logvar = nn.Sequential(*stack(enc)), nn.Linear(enc[-1], net["z"]), nn.Linear(enc[-1], net["z"])
        model.dec = nn.Sequential(*stack([net["z"], *reversed(enc[1:])]), nn.Linear(enc[1], D))
        self.model = model

        def loss(x):
            h = model.enc(x)
            mu, logvar = model.to_mu(h), model.to_logvar(h)
            z = mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)
            recon = self.F.binary_cross_entropy_with_logits(model.dec(z), x, reduction="sum")
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
        torch, m, found = self.torch, self.model, []
        with torch.inference_mode():
            for row in torch.from_numpy(x):
                h = m.enc(row[None])
                mu, logvar = m.to_mu(h), m.to_logvar(h)
                eps = torch.randn(samples, mu.shape[1])
                z = mu + torch.exp(0.5 * logvar) * eps
                log_px_z = -self.F.binary_cross_entropy_with_logits(m.dec(z), row.expand(samples, -1), reduction="none").sum(1)
                logw = log_px_z + 0.5 * (eps.square() - z.square() + logvar).sum(1)
                found.append(torch.logsumexp(logw, 0).item() - np.log(samples))
        return np.array(found)


class Jax:
    def __init__(self, net):
        import jax
        import jax.numpy as jnp

        act = {"relu": jax.nn.relu, "tanh": jnp.tanh}[net["activation"]]
        enc, z_dim, rng = widths(net)[:-1], net["z"], np.random.default_rng(0)
        dense = lambda a, b: (jnp.asarray(rng.uniform(-1, 1, (a, b)) * np.sqrt(6 / (a + b)), jnp.float32), jnp.zeros(b))
        stack = lambda w: [dense(a, b) for a, b in zip(w[:-1], w[1:])]
        params = {"enc": stack(enc), "mu": dense(enc[-1], z_dim), "logvar": dense(enc[-1], z_dim), "dec": stack([z_dim, *reversed(enc)])}
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
            params = tree(lambda p, m, v: p - rate * m / (jnp.sqrt(v) * unbias + 1e-8), params, m, v)
            return (params, m, v, t, key), value

        self.jnp, self.update = jnp, jax.jit(update, donate_argnums=0)
        self.state = (params, tree(jnp.zeros_like, params), tree(jnp.zeros_like, params), jnp.float32(0), jax.random.key(0))

    def stepper(self, batches):
        batches = itertools.cycle([self.jnp.asarray(x) for x in batches])
        def step():
            self.state, value = self.update(self.state, next(batches))
            value.block_until_ready()
            self.state[0]["enc"][0][0].block_until_ready()
        return step


CONTESTANTS = {
    "minivae": Ours, "products": Floor, "PyTorch eager": lambda net: Torch(net, "eager"), "PyTorch fused Adam": lambda net: Torch(net, "fused"),
    "PyTorch compiled": lambda net: Torch(net, "compile"), "JAX jit": Jax}


def main(name):
    built = {}
    out, sys.stdout = sys.stdout, sys.stderr     # nobody else may write into the answers
    for line in sys.stdin:
        ask = json.loads(line)
        try:
            key = json.dumps(ask["net"])
            one = built[key] = built.get(key) or CONTESTANTS[name](ask["net"])
            answer = {}
            if ask["task"] == "steps":
                step = built.setdefault((key, ask["batch"]), None) or one.stepper(batches_of(ask["batch"], ask.get("rows", 16384)))
                for _ in range(0 if built[key, ask["batch"]] else ask.get("warm", 20)):
                    step()
                built[key, ask["batch"]] = step
                times = []
                for _ in range(ask["n"] + 3):    # the first ones wake the cores and the caches
                    start = perf_counter()
                    step()
                    times.append(1e3 * (perf_counter() - start))
                answer["ms"] = times[3:]
            elif ask["task"] == "epoch":
                X = images(ask["rows"], grey=True)
                start = perf_counter()
                one.epoch(X, ask["batch"])
                answer["ms"] = [1e3 * (perf_counter() - start)]
            elif ask["task"] == "log_px":
                x = images(4096)[: ask["rows"]]
                one.log_px(x[:2], 200)
                start = perf_counter()
                one.log_px(x, ask["samples"])
                answer["ms"] = [1e3 * (perf_counter() - start)]
            answer["rss"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        except ImportError as error:
            answer = {"missing": str(error)}
        print(json.dumps(answer), file=out, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
