"""Every demo runs, offline, and says what it promises, in lines of at most 80 columns."""

import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

DEMOS = Path(__file__).parents[1] / "demos"
ARGUMENTS = {"01_train_digits.py": ["out", "2"],                                       # fewer epochs
             "02_does_backprop_start_at_the_decoder.py": ["2"],
             "03_catch_the_bug.py": ["out"],
             "04_what_is_maximised.py": ["out"],
             "05_what_is_held_constant.py": ["out", "200"],                            # fewer draws
             "05b_why_is_the_score_noisier.py": ["out", "60"],
             "05c_where_the_path_ends.py": ["out"],
             "06_discrete_latents.py": ["out", "2"],
             "07_tighter_bounds.py": ["out", "1"],
             "08_is_my_loss_right.py": ["out", "10"],
             "09_five_issues_five_verdicts.py": ["out"],
             "10_convolutions.py": ["out", "2"]}
SAYS = {
    "01_train_digits.py": ["Chance is 44.36 nats an image", "wrote out"],
    "02_does_backprop_start_at_the_decoder.py": [
        "1. it enters here", "3. it splits", "4. the KL joins", "gives the decoder (theta) exactly 0.0"],
    "03_catch_the_bug.py": [
        "+0.285523 more than ours", "dy * x * s * (1 - s) is  +0.285523", "8 PASS", "divided by B inside", "wrote out"],
    "04_what_is_maximised.py": [
        "log p(x) = ELBO + KL(q || true posterior)", "a = 1.5, q = posterior                 +0.248521 +0.248521",
        "its maximum", "while log p fell to", "variance 0.1900 = 1 - r^2", "wrote out"],
    "05_what_is_held_constant.py": [
        "same number, 3.0000 = 2d", "count it twice, 6.0000 = 4d", "3.0000      1.6000       49.0102",
        "under all four answers (largest difference 0.0)", "are the same to the bit", "count it twice: 2.0000 times",
        "wrote out"],
    "05b_why_is_the_score_noisier.py": [
        "path is worth", "above k = 1.06 for mu, above k = 1.30 for sigma", "wrote out"],
    "05c_where_the_path_ends.py": [
        "score                        0.352065", "path                         0.000000",
        "log P grad Q                      0.480521", "wrote out"],
    "06_discrete_latents.py": [
        "and 12 more; the sum over all is the gradient", "(its division by", "they differ in spread only",
        "to 0: bias / T -> 0.0813 and T * variance -> 0.0075, in closed form",
        "Test ELBO in nats per image after 2 epochs", "judge a relaxed model on what it is meant to be", "wrote out"],
    "07_tighter_bounds.py": [
        "tends to 1/2 Var_q[p(z|x)/q(z|x)],\n   in closed form 0.3744", "IWAE     K^-0.50   theory -1/2",
        "DReG     K^+0.50   theory +1/2", "d log p/dw is 0.8166", "active units of 20", "wrote out"],
    "08_is_my_loss_right.py": [
        "beta   1, beside a recon", "beta   64, beside a recon", "mend   recon: multiply by 64",
        "kl:    KL of a logvar that is log std", "kl:    0.00025 x KL", "kl     cannot tell, 5 readings are left",
        "kl     4 x KL, summed per image", "beta  64  0.0", "x is grey: the cross-entropy cannot fall below 13.4867",
        "wrote out"],
    "09_five_issues_five_verdicts.py": [
        "wrong: half of it     error 1.1e-07          FAIL", "no threshold tells them apart",
        "OpenMDAO #3164       right                 relative error 1.0     PASS", "wrote out"],
    "10_convolutions.py": [
        "[  4   5   6   7]     [ 74  84  94]         [  4  10  10   6]     [ 81  90]]",
        "<conv(x), y>        -12.93356031", "<x, transpose(y)>   -12.93356031",
        "of its 225 numbers 81 are not 0, and 9 are different", "less its transpose   0\n",
        "gradient of the convolutions passes its check", "gradients summed over 1,600 patches", "wrote out"],
}


@cache
def printed_by(demo: str) -> str:
    """What the script prints; it runs once, for all tests that read it."""
    with TemporaryDirectory() as folder:
        done = subprocess.run([sys.executable, "-W", "error", str(DEMOS / demo), *ARGUMENTS[demo]], cwd=folder,
                              capture_output=True, text=True, timeout=300, env=os.environ)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("demo", sorted(DEMOS.glob("[0-9]*.py")), ids=lambda path: path.stem)
def test_demo(demo):
    printed = printed_by(demo.name)
    for words in SAYS[demo.name]:
        assert words in printed, printed
    assert max(map(len, printed.splitlines())) <= 80, printed


def test_every_demo_is_run():
    assert {demo.name for demo in DEMOS.glob("[0-9]*.py")} == set(SAYS) == set(ARGUMENTS)


@pytest.mark.parametrize("argv, wanted", [
    ([], ["runs/demo", 30]), (["out"], ["out", 30]), (["out", "2"], ["out", 2]),
    (["-f", "kernel-1.json"], ["runs/demo", 30]), (["--f=/tmp/kernel-1.json"], ["runs/demo", 30])])
def test_the_arguments_are_the_scripts_words_and_never_those_of_a_kernel(argv, wanted, monkeypatch):
    monkeypatch.syspath_prepend(DEMOS)
    import pictures

    monkeypatch.setattr(sys, "argv", ["demo", *argv])
    assert pictures.arguments(Path("runs/demo"), 30) == [Path(wanted[0]), wanted[1]]
