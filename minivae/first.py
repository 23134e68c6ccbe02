"""A whole VAE on one page: forward, backward, a check, Adam, training.  Page 0 of the lesson.

    x --> h --+--> mu ------+--> z = mu + std * eps --> g --> logits --> recon --+--> loss
              |             |                                                    |
              +--> logvar --+--> kl ---------------------------------------------+

The encoder (parameters phi) turns an image x into a Gaussian, N(mu, std^2).  We draw z from it.
The decoder (theta) turns z into one logit per pixel: sigmoid(logit) is the probability of a 1.
recon is -log p(x|z), kl is KL(N(mu, std^2) || N(0, I)).  Kingma & Welling (2014), arXiv:1312.6114.
B images in a batch, D pixels, H hidden units, Z latents.  dfoo is d(loss)/d(foo), same shape.

Run it: python -m minivae.first.  Read next: 1 layers.py (these layers as classes), 2 likelihoods.py
(recon), 3 latents.py (z, kl), 4 vae.py (again), 5 estimators.py, 6 discrete.py, 7 convolutions.py.
"""

import numpy as np


def init(D, H, Z, rng):
    """p, all parameters by name.  No bias is 0: a zero could hide a wrong gradient."""
    sizes = {"enc": (D, H), "mu": (H, Z), "logvar": (H, Z), "dec": (Z, H), "logits": (H, D)}
    W = {"W_" + name: rng.standard_normal(size) / np.sqrt(size[0]) for name, size in sizes.items()}
    b = {"b_" + name: rng.standard_normal(size[1]) / 10 for name, size in sizes.items()}
    return W | b


def forward(p, x, eps):
    """x (B, D), eps (B, Z) from N(0, I)  ->  loss in nats per image, and what backward needs."""
    h = np.tanh(x @ p["W_enc"] + p["b_enc"])                              # (B, H)
    mu = h @ p["W_mu"] + p["b_mu"]                                        # (B, Z)
    logvar = h @ p["W_logvar"] + p["b_logvar"]                            # (B, Z)  log of std^2
    kl = 0.5 * (mu**2 + np.exp(logvar) - 1 - logvar).sum(axis=1)          # (B,)
    std = np.exp(logvar / 2)                                              # (B, Z)
    z = mu + std * eps                                                    # (B, Z)
    g = np.tanh(z @ p["W_dec"] + p["b_dec"])                              # (B, H)
    logits = g @ p["W_logits"] + p["b_logits"]                            # (B, D)
    recon = (np.logaddexp(0, logits) - x * logits).sum(axis=1)            # (B,)  -log p(x|z)
    loss = (recon + kl).mean()
    return loss, (x, h, mu, logvar, std, eps, z, g, logits)


def backward(p, cache):
    """Return dp, the gradient of every parameter: forward, undone line by line from the bottom."""
    x, h, mu, logvar, std, eps, z, g, logits = cache
    dp = {}
    drecon = dkl = np.full(len(x), 1 / len(x))                            # (B,)  loss is a mean
    # 1. The gradient enters at the logits.  prob is their sigmoid: this form cannot overflow.
    prob = (1 + np.tanh(logits / 2)) / 2                                  # (B, D)
    dlogits = drecon[:, None] * (prob - x)                                # (B, D)
    # 2. It fills theta, the decoder's parameters, on its way to z.
    dp["W_logits"], dp["b_logits"] = g.T @ dlogits, dlogits.sum(axis=0)   # (H, D), (D,)
    dg = dlogits @ p["W_logits"].T                                        # (B, H)
    da = dg * (1 - g**2)                                      # (B, H)  g = tanh(a), a = z W + b
    dp["W_dec"], dp["b_dec"] = z.T @ da, da.sum(axis=0)                   # (Z, H), (H,)
    dz = da @ p["W_dec"].T                                                # (B, Z)
    # 3. It splits at the sampling node: z = mu + std * eps, and std = exp(logvar / 2).
    dmu, dlogvar = dz, dz * eps * std / 2                                 # (B, Z), (B, Z)
    # 4. The KL joins.  mu and logvar were used twice, for z and for kl: the two gradients add.
    dmu = dmu + dkl[:, None] * mu                                         # (B, Z)
    dlogvar = dlogvar + dkl[:, None] * (np.exp(logvar) - 1) / 2           # (B, Z)
    # 5. It fills phi, the encoder's parameters.  h was used twice too, so dh is a sum.
    dp["W_logvar"], dp["b_logvar"] = h.T @ dlogvar, dlogvar.sum(axis=0)   # (H, Z), (Z,)
    dp["W_mu"], dp["b_mu"] = h.T @ dmu, dmu.sum(axis=0)                   # (H, Z), (Z,)
    dh = dlogvar @ p["W_logvar"].T + dmu @ p["W_mu"].T                    # (B, H)
    da = dh * (1 - h**2)                                      # (B, H)  h = tanh(a), a = x W + b
    dp["W_enc"], dp["b_enc"] = x.T @ da, da.sum(axis=0)                   # (D, H), (H,)
    return dp


def check(p, x, eps, step=6e-6):
    """Nudge each number in p up and down: the loss must change at the rate that backward says."""
    _, cache = forward(p, x, eps)
    dp = backward(p, cache)
    for name, a in p.items():
        numeric = np.zeros_like(a)
        for i in np.ndindex(a.shape):
            nudge = np.zeros_like(a)
            nudge[i] = step       # larger would see curvature, smaller would see rounding
            up, _ = forward(p | {name: a + nudge}, x, eps)
            down, _ = forward(p | {name: a - nudge}, x, eps)
            numeric[i] = (up - down) / (2 * step)
        gap = np.abs(dp[name] - numeric).max() / np.abs(numeric).max()
        print(f"    {name:10}{gap:.1e}")


def adam(p, dp, m, v, t, lr=0.005):
    """Step t = 1, 2, ... of Adam.  Kingma & Ba (2015), arXiv:1412.6980, algorithm 1."""
    for name in p:
        m[name] = 0.9 * m.get(name, 0) + 0.1 * dp[name]            # running mean of the gradient
        v[name] = 0.999 * v.get(name, 0) + 0.001 * dp[name]**2     # running mean of its square
        m_hat, v_hat = m[name] / (1 - 0.9**t), v[name] / (1 - 0.999**t)  # undoes the start at 0
        p[name] -= lr * m_hat / (np.sqrt(v_hat) + 1e-8)


if __name__ == "__main__":
    from sklearn.datasets import load_digits
    rng, images = np.random.default_rng(0), load_digits().data / 16    # (1797, 64), grey in [0, 1]
    print("Largest gap between backward and finite differences / largest gradient:")
    check(init(7, 4, 3, rng), rng.random((5, 7)), rng.standard_normal((5, 3)))   # all sizes differ

    p, m, v, t = init(64, 64, 8, rng), {}, {}, 0
    print(f"Loss as each epoch begins, nats an image; a uniform guess: {64 * np.log(2):.2f}")
    for epoch in range(11):
        x = (rng.random(images.shape) < images).astype(float)      # 1 with probability grey
        eps = rng.standard_normal((len(x), 8))
        print(f"    epoch {epoch:2}  {forward(p, x, eps)[0]:.2f}")
        for rows in np.array_split(rng.permutation(len(x)), 36):   # batches of 50
            t += 1
            _, cache = forward(p, x[rows], eps[rows])
            adam(p, backward(p, cache), m, v, t)
