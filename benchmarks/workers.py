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
    """The widths of a dense encoder's layers, from the pixels to the latents."""
    return [D, *net["hidden"], net["z"]]


# of a net with "channels": every convolution halves the sides of its images
KERNEL, STRIDE, PADDING = 4, 2, 1


def sides(net):
    """The sides of the square images of a net with "channels": 28, 14, 7 for two."""
    return [28 >> i for i in range(len(net["channels"]) + 1)]


class Ours:
    """minivae: the layers, the kernels and Adam as `fit` uses them.

    plain: as it is without the extra [fast], though that may be installed.
    """

    def __init__(self, net, plain=False):
        from minivae import VAE
        from minivae.optim import Adam

        if plain:
            without_onednn()

        if "channels" in net:
            self.vae = VAE.conv((28, 28), net["channels"], net["z"], kernel=KERNEL, stride=STRIDE,
                                padding=PADDING, activation=net["activation"], rng=0)
        else:
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
    """The matrix products of a step alone, as our layers call them; of images those of patches."""

    def __init__(self, net, plain=False):
        if plain:
            without_onednn()
        if "channels" in net:
            self.shapes = self.conv_shapes(net)
            return
        enc, z = widths(net)[:-1], net["z"]
        pairs = [*zip(enc[:-1], enc[1:]), (enc[-1], z), (enc[-1], z)]
        dec = [z, *reversed(enc)]
        self.shapes = [(1, *pair) for pair in pairs + list(zip(dec[:-1], dec[1:]))]

    @staticmethod
    def conv_shapes(net):
        """(rows for each image, n_in, n_out) of every product x W: patches, heads, patches."""
        channels, side = [1, *net["channels"]], sides(net)
        layers = [(side[i + 1] ** 2, KERNEL**2 * channels[i], channels[i + 1])
                  for i in range(len(channels) - 1)]
        flat = side[-1] ** 2 * channels[-1]
        # a transposed convolution has the products of the convolution that it turns round
        return [*layers, (1, flat, net["z"]), (1, flat, net["z"]), (1, net["z"], flat),
                *reversed(layers)]

    def stepper(self, batches):
        from minivae import cores

        B, rng, products = len(batches[0]), np.random.default_rng(0), []
        new = lambda *shape: rng.standard_normal(shape, np.float32)
        for i, (rows, n_in, n_out) in enumerate(self.shapes):
            x, W, dy = new(B * rows, n_in), new(n_in, n_out), new(B * rows, n_out)
            products.append((cores.times, x, W, new(B * rows, n_out)))     # y = x W
            products.append((cores.transpose_times, x, dy, new(n_in, n_out)))      # x.T dy
            if i:                                # nobody needs the first layer's dx
                products.append((cores.times_transpose, dy, W, new(B * rows, n_in)))   # dy W.T

        def step():
            for product, a, b, out in products:
                product(a, b, out)

        return step


class Torch:
    """PyTorch: variant "eager", "fused" (eager, fused Adam), "compile" (compiled, fused Adam) or
    "channels last" (eager, fused Adam, images in that layout)."""

    def __init__(self, net, variant):
        import torch
        from torch import nn

        self.torch = torch
        torch.set_num_threads(len(os.sched_getaffinity(0)))
        torch.manual_seed(0)
        act = {"relu": nn.ReLU, "tanh": nn.Tanh}[net["activation"]]

        self.model = model = nn.Module()
        enc, h, dec = self.conv_parts(net, act) if "channels" in net else self.parts(net, act)
        model.enc, model.dec = nn.Sequential(*enc), nn.Sequential(*dec)
        model.to_mu, model.to_logvar = nn.Linear(h, net["z"]), nn.Linear(h, net["z"])
        if variant == "channels last":
            model.to(memory_format=torch.channels_last)

        cross_entropy = self.cross_entropy = nn.functional.binary_cross_entropy_with_logits

        def loss(x):
            h = model.enc(x)
            mu, logvar = model.to_mu(h), model.to_logvar(h)
            z = mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)
            recon = cross_entropy(model.dec(z), x, reduction="sum")
            return (recon + 0.5 * (mu.square() + logvar.exp() - 1 - logvar).sum()) / len(x)

        self.loss = torch.compile(loss, dynamic=False) if variant == "compile" else loss
        self.adam = torch.optim.Adam(model.parameters(), lr=1e-3, fused=variant != "eager")

    @staticmethod
    def parts(net, act):
        """The encoder's layers, how many numbers leave it, and the decoder's layers."""
        from torch import nn

        def stack(sizes):
            pairs = zip(sizes[:-1], sizes[1:])
            return [part for a, b in pairs for part in (nn.Linear(a, b), act())]

        enc = widths(net)[:-1]
        dec = [*stack([net["z"], *reversed(enc[1:])]), nn.Linear(enc[1], D)]
        return stack(enc), enc[-1], dec

    @staticmethod
    def conv_parts(net, act):
        """The same of a net of convolutions, on images (B, C, H, W)."""
        from torch import nn

        channels, last = [1, *net["channels"]], sides(net)[-1]
        pairs, step = list(zip(channels[:-1], channels[1:])), (KERNEL, STRIDE, PADDING)
        flat = channels[-1] * last**2
        enc = [nn.Unflatten(1, (1, 28, 28)),
               *(part for a, b in pairs for part in (nn.Conv2d(a, b, *step), act())), nn.Flatten()]
        dec = [nn.Linear(net["z"], flat), act(), nn.Unflatten(1, (channels[-1], last, last)),
               *(part for a, b in reversed(pairs)
                 for part in (nn.ConvTranspose2d(b, a, *step), act()))]
        return enc, flat, [*dec[:-1], nn.Flatten()]

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
        rng = np.random.default_rng(0)

        def weights(*shape, fans):
            W = rng.uniform(-1, 1, shape) * np.sqrt(6 / fans)
            return jnp.asarray(W, jnp.float32), jnp.zeros(shape[-1])

        def dense(n_in, n_out):
            return weights(n_in, n_out, fans=n_in + n_out)

        affine = lambda h, layer: h @ layer[0] + layer[1]
        if "channels" in net:
            params, encode, decode = self.conv_net(net, act, weights, dense, affine)
        else:
            params, encode, decode = self.dense_net(net, act, dense, affine)
        tree = jax.tree_util.tree_map

        def loss(params, key, x):
            h = encode(params["enc"], x)
            mu, logvar = affine(h, params["mu"]), affine(h, params["logvar"])
            z = mu + jnp.exp(0.5 * logvar) * jax.random.normal(key, mu.shape)
            logits = decode(params["dec"], z)
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

    @staticmethod
    def dense_net(net, act, dense, affine):
        """The parameters, and the functions of the encoder up to h and of the decoder."""
        enc, z_dim = widths(net)[:-1], net["z"]

        def stack(sizes):
            return [dense(n_in, n_out) for n_in, n_out in zip(sizes[:-1], sizes[1:])]

        params = {"enc": stack(enc), "mu": dense(enc[-1], z_dim), "logvar": dense(enc[-1], z_dim),
                  "dec": stack([z_dim, *reversed(enc)])}

        def encode(layers, h):
            for layer in layers:
                h = act(affine(h, layer))
            return h

        def decode(layers, g):
            return affine(encode(layers[:-1], g), layers[-1])

        return params, encode, decode

    @staticmethod
    def conv_net(net, act, weights, dense, affine):
        """The same of a net of convolutions, on images (B, H, W, C), JAX's fastest on a CPU."""
        from jax import lax

        channels, side = [1, *net["channels"]], sides(net)
        pairs, flat = list(zip(channels[:-1], channels[1:])), channels[-1] * side[-1] ** 2
        conv = lambda a, b: weights(KERNEL, KERNEL, a, b, fans=KERNEL**2 * (a + b))
        params = {"enc": [conv(a, b) for a, b in pairs], "mu": dense(flat, net["z"]),
                  "logvar": dense(flat, net["z"]),
                  "dec": [dense(net["z"], flat), *(conv(b, a) for a, b in reversed(pairs))]}
        layout, stride = ("NHWC", "HWIO", "NHWC"), (STRIDE, STRIDE)

        def encode(layers, x):
            h = x.reshape(-1, 28, 28, 1)
            for W, b in layers:
                around = ((PADDING, PADDING), (PADDING, PADDING))
                y = lax.conv_general_dilated(h, W, stride, around, dimension_numbers=layout)
                h = act(y + b)
            return h.reshape(len(x), -1)

        def decode(layers, z):
            g = act(affine(z, layers[0])).reshape(-1, side[-1], side[-1], channels[-1])
            rest = KERNEL - 1 - PADDING
            for i, (W, b) in enumerate(layers[1:]):
                g = (act(g) if i else g)
                g = lax.conv_transpose(g, W, stride, ((rest, rest), (rest, rest)),
                                       dimension_numbers=layout) + b
            return g.reshape(len(z), -1)

        return params, encode, decode

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
# these take part where images are convolved, and only there
CONV_CONTESTANTS = {**CONTESTANTS,
                    "PyTorch channels last": lambda net: Torch(net, "channels last")}


class Worker:
    """Answers questions for one contestant; what it has built for a net or a batch size it keeps.

    A question names a task and a net.  The answer holds the milliseconds, and the process's peak
    memory in MB; or {"missing": why} where the contestant's library is not installed.

        {"task": "steps", "net", "batch", "n", "rows": 16384, "warm": 20}   n training steps
        {"task": "epoch", "net", "batch", "rows"}                           one epoch
        {"task": "log_px", "net", "rows", "samples"}                        log p(x) of some images
    """

    def __init__(self, name):
        self.make = CONV_CONTESTANTS[name]
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
