"""Every planted fault is caught, and planting leaves nothing behind."""

import json
from pathlib import Path

import numpy as np
import pytest

from minivae import VAE
from minivae.app.cli import main
from minivae.gradcheck.museum import BY_NAME, FAULTS, catch, edited_source, planted, record

# planted faults overflow as they please
pytestmark = [pytest.mark.gradients, pytest.mark.filterwarnings("ignore::RuntimeWarning")]

# what `minivae gradcheck --plant all --json` printed last, and the manual shows
RECORD = json.loads((Path(__file__).parents[1] / "benchmarks" / "results" / "museum.json").read_text())
CAUGHT_BY = {row["fault"]: row["check"] for row in RECORD}

# finite differences see nothing of these: a check of the forward pass must
INVISIBLE = {"bernoulli-mean-both-ways", "bernoulli-wrong-image", "gaussian-no-constant",
             "sample-variance-as-std-both-ways", "sample-shared-noise-both-ways", "kl-mean-both-ways",
             "adam-no-bias-correction", "adam-betas-swapped", "bound-sum-for-mean", "coin-upside-down",
             "coin-kl-wrong-prior", "disarm-no-weight", "baseline-holds-the-present", "nvil-not-divided",
             "nvil-variance-as-std"}
NODES = ["dense", "relu", "tanh", "sigmoid", "softplus", "Sequential", "bernoulli", "gaussian", "sample", "kl_",
         "log_q", "log_prior", "elbo", "elbo_mc", "VAE.forward", "VAE.backward", "Adam", "BernoulliLatent",
         "ConcreteLatent", "StraightThroughLatent", "DiscreteVAE.backward", "disarm", "RunningMean", "NVIL"]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_the_checks_catch(fault):
    caught = catch(fault)
    assert caught.check, f"MISSED: {fault.name}, planted in {fault.where}"
    assert caught.message and fault.symptom
    assert caught.check == CAUGHT_BY[fault.name], "renew benchmarks/results/museum.json"
    if fault.name in INVISIBLE:
        assert caught.check.startswith(("forward.", "VAE.by hand", "VAE.objective")), caught


def test_the_museum_is_large_enough_and_covers_every_node():
    assert len(FAULTS) >= 40 and len({f.mechanism for f in FAULTS}) >= 25 and len(BY_NAME) == len(FAULTS)
    everywhere = " ".join(f.where + " " + f.name for f in FAULTS)
    for node in NODES:
        assert node in everywhere, node


def test_planting_leaves_nothing_behind(rng):
    x, eps = rng.random((5, 7)), rng.standard_normal((5, 2))

    def gradients():
        vae = VAE.mlp(7, [6], 2, rng=0, dtype=np.float64)
        vae.forward(x, eps)
        vae.backward()
        return [g.copy() for _, _, g in vae.named_params()]

    before = gradients()
    for fault in FAULTS:
        with planted(fault):
            pass
    for a, b in zip(before, gradients()):
        np.testing.assert_array_equal(a, b)


def test_a_fault_whose_line_has_gone_says_so():
    with pytest.raises(ValueError, match="has 0 times 'no such line'"):
        edited_source("layers:Dense.backward", "no such line", "x")


def test_the_command_plants_one_and_shows_how_it_is_caught(capsys):
    assert main(["gradcheck", "--plant", "elbo-beta-ignored"]) == 1
    out = capsys.readouterr().out
    for words in ("planted in estimators:elbo, in memory only", "- -t.beta / B", "+ -1.0 / B",
                  "--beta 4 gives the same model", "the KL term counts 1 times, not 1.7", "caught by VAE.elbo"):
        assert words in out
    assert main(["gradcheck", "--plant", "elbo-beta-ignored", "--json"]) == 1
    fault = BY_NAME["elbo-beta-ignored"]
    assert json.loads(capsys.readouterr().out) == record(fault, catch(fault))
    assert main(["gradcheck", "--plant", "no-such-fault"]) == 2
    assert "unknown fault" in capsys.readouterr().err
