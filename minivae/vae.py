"""The VAE: forward, and backward read from the bottom up.  Page 4, the heart of the lesson.

    forward
                 +-> to_mu -----> mu -----+-> z = mu + std*eps -> dec -> to_out -> log p(x|z) -+
    x -> enc --> h                        |         ^             theta                        |
         phi     +-> to_logvar -> logvar -+         eps ~ N(0, I), a dead end                  |
                                          +-> KL(q || p) ----------------------------> loss <--+
    backward
                 +-- to_mu <----- dmu <----(+)<-- dz <-- dec <-- to_out <-- dout <-- 1. it enters
    enc <------- dh             3. it splits     2. theta is filled on the way
    5. phi is    +-- to_logvar <- dlogvar <(+)
       filled                               ^
                                            +-- 4. the KL joins; theta never hears of it

For the plain ELBO: loss = mean over the batch of (recon + beta * kl),  recon = -log p(x|z).

This is page 0's forward and backward for any layers, for K samples of z for each image, and with a
weight on every part.  The estimator (page 5) chooses the weights; `Model.weigh` makes the loss.
"""

import numpy as np

from minivae.estimators import elbo
from minivae.latents import GaussianLatent
from minivae.model import Model, Result


class VAE(Model):
    """Variational autoencoder with hand-written gradients.

    Build one with `VAE.mlp`, or hand in any layers of your own.  Building, encoding and sampling
    are in model.py; here is only what learns.  Source: Kingma & Welling (2014), arXiv:1312.6114.

    Parameters
    ----------
    enc, to_mu, to_logvar : Sequential of any layers, and two layers
        phi: x (B, D) -> h (B, ..), and the two heads h -> mu, logvar (B, Z).
    dec, to_out : Sequential of any layers, and a layer
        theta: z (K*B, Z) -> g (K*B, ..) -> the likelihood's input, e.g. logits (K*B, D).
        A layer is any object with forward and backward, and params and grads if it has any; a
        Sequential is one, too.  One that draws, such as a dropout, must draw from the rng that
        `fit` is given: then a training that was stopped goes on bit for bit.
    likelihood, latent : the nodes of likelihoods.py and latents.py.
    estimator : a function of estimators.py, the weights on the wires.
    baseline : what a score-function estimator subtracts from f; see baselines.py.
    beta : float, the KL's weight; 1 gives the ELBO.
    rng : seed or numpy.random.Generator, for the noise that forward draws when left without.
    x_dim, z_dim : int, D and Z.  Wanted where no Dense stands at that place to read them off.
    dtype : of a model without parameters; else it is read off them.

    Raises
    ------
    TypeError
        For a part of the wrong kind.
    ValueError
        For sizes or dtypes that are not known or do not fit each other.
    """

    heads, latent_class = ("to_mu", "to_logvar"), GaussianLatent

    def __init__(self, enc, to_mu, to_logvar, dec, to_out, *, likelihood, latent=None,
                 estimator=elbo, baseline=None, beta=1.0, rng=None, x_dim=None, z_dim=None,
                 dtype=None):
        self.enc, self.to_mu, self.to_logvar = enc, to_mu, to_logvar
        self.dec, self.to_out, self.likelihood, self.latent = dec, to_out, likelihood, latent
        self.estimator, self.baseline, self.beta, self.rng = estimator, baseline, beta, rng
        self._settle(x_dim, z_dim, dtype)

    def forward(self, x: np.ndarray, eps: np.ndarray | None = None) -> Result:
        """x : (B, D); eps : (B, Z) or (K, B, Z), drawn from the model's rng when left out.

        Returns a Result, in nats.  Raises ValueError for an x or eps that does not fit the model.
        """
        x, eps = self.checked_inputs(x, eps)
        # encoder, phi: x -> q(z|x)
        h = self.enc.forward(x)                            # (B, H)
        mu = self.to_mu.forward(h)                         # (B, Z)
        logvar = self.to_logvar.forward(h)                 # (B, Z)
        # the KL leaves here: it needs no sample
        kl = self.latent.kl(mu, logvar)                    # (B,)
        # sampling node
        z = self.latent.sample(mu, logvar, eps)            # (K*B, Z)
        # decoder, theta: z -> log p(x|z)
        g = self.dec.forward(z)                            # (K*B, H)
        out = self.to_out.forward(g)                       # (K*B, D)   logits, for a Bernoulli
        log_px = self.likelihood.forward(out, x)           # (K*B,)
        # computed always, but the plain ELBO gives these weight 0: others take the KL from them
        log_qz = self.latent.log_q(z, mu, logvar)          # (K*B,)
        log_pz = self.latent.log_prior(z)                  # (K*B,)
        return self.weigh(log_px, log_pz, log_qz, kl, x, q=(mu, logvar))

    def backward(self) -> None:
        """Fill every layer's grads with d(loss).  Read `forward` from the bottom up beside this.

        A value used twice gets the SUM of the gradients that come back: mu and logvar feed z, the
        KL and log q; h feeds both heads.  dz_px is the part of dz that came from log p(x|z).
        Returns nothing: x is also the target, so what leaves the encoder is not d(loss)/dx.
        Raises RuntimeError without a forward before it.
        """
        # what the loss sends along each wire: -1/(K B), 0, 1, 0 and beta/B for the plain ELBO
        dlog_px, dlog_pz, path, score, dkl = self.take_wires()         # (K*B,) each, dkl (B,)

        # decoder, theta
        dout = self.likelihood.backward(dlog_px)                       # (K*B, D)
        dg = self.to_out.backward(dout)                                # (K*B, H)
        dz_px = self.dec.backward(dg)                                  # (K*B, Z)   theta is filled
        # these are 0 for the plain ELBO.  One wire carries log p(z) - log q(z|x), hence the minus
        dz_pz = self.latent.log_prior_backward(dlog_pz)                # (K*B, Z)
        dz_qz, dmu_qz, dlogvar_qz = self.latent.log_q_backward(-dlog_pz, score)
        # sampling node: dmu = dz and dlogvar = dz * eps * std / 2, summed over k
        dz = path[:, None] * (dz_px + dz_pz + dz_qz)                   # (K*B, Z)
        dmu_z, dlogvar_z = self.latent.sample_backward(dz)             # (B, Z)
        # the KL joins here: beta/B * mu and beta/B * (e^logvar - 1) / 2
        dmu_kl, dlogvar_kl = self.latent.kl_backward(dkl)              # (B, Z)
        dmu = dmu_z + dmu_qz + dmu_kl                                  # (B, Z)
        dlogvar = dlogvar_z + dlogvar_qz + dlogvar_kl                  # (B, Z)
        # encoder, phi: both heads read h
        dh = self.to_logvar.backward(dlogvar) + self.to_mu.backward(dmu)       # (B, H)
        self.enc.backward(dh, input_grad=False)                        # nobody needs dx
