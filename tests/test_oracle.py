"""An independent oracle: the same weights and eps in PyTorch, differentiated by its autograd."""

import numpy as np
import pytest

from minivae import VAE, DiscreteVAE, estimators
from minivae.discrete import BernoulliLatent, ConcreteLatent, StraightThroughLatent
from minivae.gradcheck.cases import perturbed
from minivae.likelihoods import LOGVAR_FLOOR, GaussianLikelihood


pytestmark = pytest.mark.oracle

B, D, Z = 5, 7, 2


def torch_loss(torch, p, x, eps, hidden, activation, likelihood, sampled_kl, beta):
    """-ELBO written once more, in PyTorch's own words: distributions, not our formulas."""
    from torch.distributions import Bernoulli, Independent, Normal, kl_divergence

    act = {"tanh": torch.tanh, "softplus": torch.nn.functional.softplus}[activation]
    h = x
    for i in range(len(hidden)):
        h = act(h @ p[f"enc.{2 * i}.W"] + p[f"enc.{2 * i}.b"])
    q = Independent(Normal(h @ p["to_mu.W"] + p["to_mu.b"], (0.5 * (h @ p["to_logvar.W"] + p["to_logvar.b"])).exp()), 1)
    prior = Independent(Normal(torch.zeros(Z, dtype=x.dtype), torch.ones(Z, dtype=x.dtype)), 1)
    z = q.base_dist.loc + q.base_dist.scale * eps                            # (K, B, Z)
    g = z
    for i in range(len(hidden)):
        g = act(g @ p[f"dec.{2 * i}.W"] + p[f"dec.{2 * i}.b"])
    if likelihood == "bernoulli":
        px = Independent(Bernoulli(logits=g @ p["to_logits.W"] + p["to_logits.b"], validate_args=False), 1)
    else:
        head = "to_mean_raw" if likelihood == "per_pixel" else "to_mean"
        out = g @ p[f"{head}.W"] + p[f"{head}.b"]
        per_pixel = likelihood == "per_pixel"
        mean, raw = (out[..., :D], out[..., D:]) if per_pixel else (out, p["likelihood.raw_logvar"])
        logvar = LOGVAR_FLOOR + torch.nn.functional.softplus(raw - LOGVAR_FLOOR)
        px = Independent(Normal(mean, (0.5 * logvar).exp().expand_as(mean)), 1)
    kl = (q.log_prob(z) - prior.log_prob(z)) if sampled_kl else kl_divergence(q, prior)
    return (-px.log_prob(x) + beta * kl).mean()


@pytest.mark.parametrize("K", [1, 3])
@pytest.mark.parametrize("sampled_kl", [False, True], ids=["elbo", "elbo_mc"])
@pytest.mark.parametrize("likelihood", ["bernoulli", "shared", "per_pixel"])
@pytest.mark.parametrize("hidden, activation", [([6], "tanh"), ([6, 4], "softplus")],
                         ids=["one hidden tanh", "two hidden softplus"])
def test_every_gradient_equals_autograds(torch, hidden, activation, likelihood, sampled_kl, K, rng):
    ours = "bernoulli" if likelihood == "bernoulli" else GaussianLikelihood(likelihood, np.float64)
    vae = VAE.mlp(D, hidden, Z, likelihood=ours, activation=activation, beta=1.7, rng=rng, dtype=np.float64,
                  estimator=estimators.elbo_mc if sampled_kl else estimators.elbo)
    perturbed(vae, rng)
    x, eps = rng.random((B, D)), rng.standard_normal((K, B, Z))
    result = vae.forward(x, eps)
    vae.backward()

    p = {name: torch.tensor(param, requires_grad=True) for name, param, _ in vae.named_params()}
    loss = torch_loss(torch, p, torch.tensor(x), torch.tensor(eps), hidden, activation, likelihood, sampled_kl,
                      beta=1.7)
    loss.backward()
    assert result.loss == pytest.approx(loss.item(), rel=1e-12)
    for name, _, grad in vae.named_params():
        atol = 1e-10 * max(1, np.abs(grad).max())
        np.testing.assert_allclose(grad, p[name].grad.numpy(), rtol=0, atol=atol, err_msg=name)


def torch_discrete_loss(torch, p, x, u, latent, beta):
    """What autograd is to differentiate: -ELBO for a relaxed z.

    For coins it is the score's surrogate, its weights detached.
    """
    from torch.distributions import Bernoulli, Independent, kl_divergence

    a = torch.tanh(x @ p["enc.0.W"] + p["enc.0.b"]) @ p["to_a.W"] + p["to_a.b"]
    q, prior = Independent(Bernoulli(logits=a), 1), Independent(Bernoulli(probs=torch.full_like(a, 0.5)), 1)
    coin = (u > torch.sigmoid(-a)).double().detach()
    if latent.name == "concrete":
        z = torch.sigmoid((a + torch.logit(u)) / latent.temperature)
    else:
        z = coin + torch.sigmoid(a) - torch.sigmoid(a).detach() if latent.name == "straight-through" else coin
    logits = torch.tanh(z @ p["dec.0.W"] + p["dec.0.b"]) @ p["to_logits.W"] + p["to_logits.b"]
    log_px = Independent(Bernoulli(logits=logits, validate_args=False), 1).log_prob(x)       # (K, B)
    loss = (-log_px + beta * kl_divergence(q, prior)).mean()
    if latent.name == "bernoulli":
        f, K = log_px.detach(), len(u)
        weight = f - (f.sum(dim=0) - f) / (K - 1)
        # worth 0, and its slope is the score's
        loss = loss - (weight * (q.log_prob(coin) - q.log_prob(coin).detach())).mean()
    return loss


@pytest.mark.parametrize("latent", [BernoulliLatent(), ConcreteLatent(0.7), StraightThroughLatent()],
                         ids=lambda latent: latent.name)
def test_every_gradient_of_a_discrete_model_equals_autograds(torch, latent, rng):
    estimator = estimators.elbo if latent.has_path else estimators.score_analytic_kl
    vae = DiscreteVAE.mlp(D, [6], Z, latent=latent, estimator=estimator, activation="tanh", beta=1.7, rng=rng,
                          dtype=np.float64)
    perturbed(vae, rng)
    x, u = rng.random((B, D)), rng.random((3, B, Z))
    result = vae.forward(x, u)
    vae.backward()
    p = {name: torch.tensor(param, requires_grad=True) for name, param, _ in vae.named_params()}
    loss = torch_discrete_loss(torch, p, torch.tensor(x), torch.tensor(u), latent, beta=1.7)
    loss.backward()
    assert result.loss == pytest.approx(loss.item(), rel=1e-12)
    for name, _, grad in vae.named_params():
        atol = 1e-10 * max(1, np.abs(grad).max())
        np.testing.assert_allclose(grad, p[name].grad.numpy(), rtol=0, atol=atol, err_msg=name)
