"""Numbers worked on paper, and a short run whose numbers are kept."""

import numpy as np
import pytest

from minivae import VAE, fit
from minivae.optim import Adam


def by_hand_vae():
    """Two pixels, one latent, no hidden layer; weights chosen so that mu = 1, std = 2, z = 1/2, logits = (1, 0)."""
    vae = VAE.mlp(2, [], 1, rng=0, dtype=np.float64)
    values = {"to_mu.W": [[0.5], [-1]], "to_mu.b": [0.5], "to_logvar.W": [[np.log(2)], [1]], "to_logvar.b": [np.log(2)],
              "to_logits.W": [[2, -2]], "to_logits.b": [0, 1]}
    for name, param, _ in vae.named_params():
        param[...] = values[name]
    return vae, np.array([[1.0, 0.0]]), np.array([[-0.25]])


def test_the_forward_pass_worked_by_hand():
    vae, x, eps = by_hand_vae()
    mu, logvar = vae.encode(x)
    assert mu.item() == pytest.approx(1)                     # 1 * 0.5 + 0 * -1 + 0.5
    assert logvar.item() == pytest.approx(2 * np.log(2))     # 1 * log 2 + 0 * 1 + log 2, so std = 2
    z = 0.5                                                  # 1 + 2 * -0.25
    assert vae.decode(np.array([[z]])) == pytest.approx(np.array([[1 / (1 + np.exp(-1)), 0.5]]))    # logits (1, 0)
    r = vae.forward(x, eps)
    assert r.recon.item() == pytest.approx(1.0064089)        # log(1 + e) - 1 + log 2 = 0.3132617 + 0.6931472
    assert r.kl.item() == pytest.approx(1.3068528)           # (1 + 4 - 1 - 1.3862944) / 2
    assert r.loss == pytest.approx(2.3132617)                # their sum, by chance 2 + log(1 + 1/e)
    log_qz = -0.5 * (0.25**2 + 2 * np.log(2) + np.log(2 * np.pi))            # ((z - mu) / std)^2 = eps^2
    log_pz = -0.5 * (0.5**2 + np.log(2 * np.pi))
    assert r.logw.item() == pytest.approx(-1.0064089 + log_pz - log_qz)


def test_the_backward_pass_worked_by_hand():
    vae, x, eps = by_hand_vae()
    vae.forward(x, eps)
    vae.backward()
    grads = {name: grad.ravel() for name, _, grad in vae.named_params()}
    close = lambda *numbers: pytest.approx(np.array(numbers), abs=5e-8)      # eight digits, as worked
    assert grads["to_logits.b"] == close(-0.26894142, 0.5)   # dlogits = sigmoid(logits) - x = (0.7310586 - 1, 0.5 - 0)
    assert grads["to_logits.W"] == close(-0.13447071, 0.25)  # z * dlogits
    # dz = 2 * -0.2689414 - 2 * 0.5 = -1.5378828
    # through z: dmu = dz = -1.5378828;  dlogvar = dz * eps * std / 2 = -1.5378828 * -0.25 * 2 / 2 = 0.3844707
    # from the KL: dmu = mu = 1;         dlogvar = (4 - 1) / 2 = 1.5
    assert grads["to_mu.b"] == close(-0.53788284)            # -1.5378828 + 1
    assert grads["to_logvar.b"] == close(1.88447071)         # 0.3844707 + 1.5
    assert grads["to_mu.W"] == close(-0.53788284, 0)         # x * dmu; the black pixel gets nothing
    assert grads["to_logvar.W"] == close(1.88447071, 0)


GOLDEN = [
    9.033548367172, 8.674655581282, 8.700882967713, 8.462668257932, 8.44488702097,
    8.381841353279, 8.307865751277, 8.286966385275, 8.282848524035, 8.248139652154]


def test_ten_steps_give_the_numbers_they_always_gave():
    """Any change of a formula, of the initial weights or of Adam shows here."""
    rng = np.random.default_rng(7)
    vae = VAE.mlp(12, [8, 5], 3, rng=rng, dtype=np.float64, beta=1.7)
    adam = Adam(vae.named_params(), lr=0.01)
    x = rng.random((6, 12))
    losses = []
    for _ in range(10):
        losses.append(vae.forward(x, rng.standard_normal((2, 6, 3))).loss)
        vae.backward()
        adam.step()
    # ten steps magnify a rounding some ten thousand times at most
    assert losses == pytest.approx(GOLDEN, rel=1e-10)


def test_same_seed_same_numbers():
    X = (np.random.default_rng(0).random((50, 9)) * 255).astype(np.uint8)

    def run(seed):
        vae = VAE.mlp(9, [6], 2, rng=1)
        history = fit(vae, X, X_test=X[:10], epochs=2, batch_size=16, rng=seed)
        return [p.copy() for _, p, _ in vae.named_params()], [{**row, "seconds": 0} for row in history]

    (params, history), (params_again, history_again), (params_other, _) = run(3), run(3), run(4)
    assert history == history_again
    for p, q in zip(params, params_again):
        np.testing.assert_array_equal(p, q)
    assert any((p != q).any() for p, q in zip(params, params_other))
