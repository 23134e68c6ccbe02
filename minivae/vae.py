"""The VAE: forward, and backward read from the bottom up.  Page 5, the heart of the lesson.

    forward
                  ┌─► to_mu ─────► mu ─────┬─► z = mu + std*eps ─► dec ─► to_out ─► log p(x|z) ─► loss
    x ──► enc ──► h                        │         ▲               theta                        ▲
          phi     └─► to_logvar ─► logvar ─┤         eps ~ N(0, I), a dead end                    │
                                           └─► KL(q || p) ────────────────────────────────────────┘
    backward
                  ┌── to_mu ◄───── dmu ◄───(+)◄── dz ◄── dec ◄── to_out ◄── dout ◄── 1. it enters here
    enc ◄──────── dh               3. it splits     2. theta is filled on the way
    5. phi is     └── to_logvar ◄─ dlogvar ◄(+)
       filled                                ▲
                                             └── 4. the KL joins here; theta never hears of it

loss = mean over the batch of (recon + beta * kl),  recon = -log p(x|z),  elbo = -(recon + kl).
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from minivae.estimators import Terms, elbo, others
from minivae.latents import GaussianLatent
from minivae.layers import Layer
from minivae.model import Model


class Result(NamedTuple):
    """What forward found, in nats: loss, the batch mean; recon, kl, elbo (B,), means over k; logw (K, B)."""

    loss: float
    recon: np.ndarray
    kl: np.ndarray
    elbo: np.ndarray
    logw: np.ndarray


class VAE(Model):
    """Variational autoencoder with hand-written gradients.  Kingma & Welling (2014), arXiv:1312.6114.

    Build one with `VAE.mlp`, or hand in any layers of your own.  Building, encoding, sampling and
    saving are in model.py; here is only what learns.

    Parameters
    ----------
    enc, to_mu, to_logvar : Sequential that begins with a Dense, and two Dense
        phi: x (B, D) -> h (B, H), and the two heads h -> mu, logvar (B, Z).
    dec, to_out : Sequential, and a Dense
        theta: z (K*B, Z) -> g (K*B, H) -> the likelihood's input, e.g. logits (K*B, D).
    likelihood, latent : the nodes of likelihoods.py and latents.py.
    estimator : a function of estimators.py, the weights on the wires.
    baseline : what a score-function estimator takes off f; see baselines.py.
    beta : float, the KL's weight; 1 gives the ELBO.
    rng : seed or numpy.random.Generator, for the noise that forward draws when left without.
    """

    def __init__(self, enc, to_mu, to_logvar, dec, to_out, *, likelihood, latent=None, estimator=elbo, baseline=others, beta=1.0, rng=None):
        self.enc, self.to_mu, self.to_logvar = enc, to_mu, to_logvar
        self.dec, self.to_out, self.likelihood = dec, to_out, likelihood
        self.latent = latent or GaussianLatent()
        self.estimator, self.baseline, self.beta, self.rng = estimator, baseline, float(beta), np.random.default_rng(rng)
        self._wires = None

    def forward(self, x: np.ndarray, eps: np.ndarray | None = None) -> Result:
        """x : (B, D); eps : (B, Z) or (K, B, Z), drawn from the model's rng when left out.  Returns a Result."""
        x, eps = self.inputs(x, eps)
        K, B, _ = eps.shape
        # encoder, phi: x -> q(z|x)
        h = self.enc.forward(x)                            # (B, H)
        mu = self.to_mu.forward(h)                         # (B, Z)
        logvar = self.to_logvar.forward(h)                 # (B, Z)
        # the KL leaves here, analytic
        kl = self.latent.kl(mu, logvar)                    # (B,)
        # sampling node
        z = self.latent.sample(mu, logvar, eps)            # (K*B, Z)
        # log q and log prior of the sample, for estimators that want the KL from samples
        log_qz = self.latent.log_q(z, mu, logvar)          # (K*B,)
        log_pz = self.latent.log_prior(z)                  # (K*B,)
        # decoder, theta: z -> log p(x|z)
        g = self.dec.forward(z)                            # (K*B, H)
        out = self.to_out.forward(g)                       # (K*B, D)   logits, for a Bernoulli
        log_px = self.likelihood.forward(out, x)           # (K*B,)

        t = Terms(log_px.reshape(K, B), log_pz.reshape(K, B), log_qz.reshape(K, B), kl, self.beta, x, self.baseline)
        self._wires = self.estimator(t)                    # the weights that backward puts on each wire
        objective, kl_found = self.estimator.objective(t)  # (B,) each
        loss, recon = -float(objective.mean(dtype=np.float64)), -t.log_px.mean(axis=0)
        return Result(loss, recon, kl_found, -(recon + kl_found), logw=t.log_px + t.log_pz - t.log_qz)

    def backward(self) -> None:
        """Fill every layer's grads with d(loss).  Read `forward` from the bottom up beside this.

        A value used twice gets the SUM of the gradients that come back: mu and logvar feed z, the
        KL and log q; h feeds both heads.  Returns nothing: x is also the target, so what leaves the
        encoder is not d(loss)/dx.
        """
        if self._wires is None:
            raise RuntimeError("VAE.backward called without a forward before it")
        wires, self._wires = self._wires, None
        # loss = -objective: the sign turns here, once.  path is a gain, so it does not turn.
        decoder, latent, score, dkl = -wires.decoder.ravel(), -wires.latent.ravel(), -wires.score.ravel(), -wires.kl
        path = wires.path.reshape(-1, 1)

        # decoder, theta
        dout = self.likelihood.backward(decoder)                       # (K*B, D)
        dg = self.to_out.backward(dout)                                # (K*B, H)
        dz_px = self.dec.backward(dg)                                  # (K*B, Z)   theta's gradients are final here
        # log prior and log q of the sample: weights 0 where the KL is analytic
        dz_pz = self.latent.log_prior_backward(latent)                 # (K*B, Z)
        dz_qz, dmu_qz, dlogvar_qz = self.latent.log_q_backward(-latent, score)
        # sampling node: what reached z goes on to mu and logvar
        dz = path * (dz_px + dz_pz + dz_qz)                            # (K*B, Z)
        dmu_z, dlogvar_z = self.latent.sample_backward(dz)             # (B, Z)   dmu = dz, dlogvar = dz * eps * std / 2, summed over k
        # the KL joins here
        dmu_kl, dlogvar_kl = self.latent.kl_backward(dkl)              # (B, Z)   beta/B * mu, beta/B * (e^logvar - 1) / 2
        dmu = dmu_z + dmu_qz + dmu_kl                                  # (B, Z)
        dlogvar = dlogvar_z + dlogvar_qz + dlogvar_kl                  # (B, Z)
        # encoder, phi: both heads read h
        dh = self.to_logvar.backward(dlogvar) + self.to_mu.backward(dmu)   # (B, H)
        self.enc.backward(dh, input_grad=False)                        # and the walk ends: nobody needs dx

    def named_layers(self) -> Iterator[tuple[str, Layer]]:
        """Yield (name, layer) in the order encoder, heads, decoder, likelihood."""
        yield from ((f"enc.{i}", layer) for i, layer in enumerate(self.enc.layers))
        yield from (("to_mu", self.to_mu), ("to_logvar", self.to_logvar), ("latent", self.latent))
        yield from ((f"dec.{i}", layer) for i, layer in enumerate(self.dec.layers))
        yield from ((self.likelihood.head, self.to_out), ("likelihood", self.likelihood))
