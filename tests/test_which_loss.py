"""`which_loss` and `minivae loss`: every convention that people write is named, and none by another's name."""

import json
from collections import Counter
from itertools import product

import numpy as np
import pytest

import minivae
from minivae import which_loss
from minivae.app.cli import main
from minivae.learn.two_numbers import readings_of

SIZES = [(20, 30, 7), (64, 49, 3), (11, 12, 10)]           # B, D, Z
EQUAL = [(16, 64, 16), (9, 9, 4), (1, 20, 5), (8, 5, 5)]
# The formulas as people write them, not taken from the package.
RECONS = {
    "cross-entropy": lambda x, o: -x * np.log(s(o)) - (1 - x) * np.log(1 - s(o)),
    "cross-entropy in bits": lambda x, o: -x * np.log2(s(o)) - (1 - x) * np.log2(1 - s(o)),
    "cross-entropy with the sigmoid applied twice": lambda x, o: -np.log(np.where(x, s(s(o)), 1 - s(s(o)))),
    "half the squared error of sigmoid(logits)": lambda x, o: 0.5 * (x - s(o)) ** 2,
    "squared error of sigmoid(logits)": lambda x, o: (x - s(o)) ** 2,
    "-log N(x; mean, 1), mean = sigmoid(logits)": lambda x, o: 0.5 * (x - s(o)) ** 2 + 0.5 * np.log(2 * np.pi),
    "half the squared error of logits without a sigmoid": lambda x, o: 0.5 * (x - o) ** 2,
    "squared error of logits without a sigmoid": lambda x, o: (x - o) ** 2,
    "-log N(x; mean, 1), mean = logits without a sigmoid": lambda x, o: 0.5 * (x - o) ** 2 + 0.5 * np.log(2 * np.pi),
}
KLS = {
    "KL": lambda m, v: -0.5 * (1 + v - m**2 - np.exp(v)),
    "KL without its 1/2 (or beta = 2)": lambda m, v: -(1 + v - m**2 - np.exp(v)),
    "KL in bits": lambda m, v: -0.5 * (1 + v - m**2 - np.exp(v)) / np.log(2),
    "KL without its -1": lambda m, v: -0.5 * (v - m**2 - np.exp(v)),
    "KL of a logvar that is log std": lambda m, v: -0.5 * (1 + 2 * v - m**2 - np.exp(v) ** 2),
    "KL with exp(logvar)^2 where the variance belongs": lambda m, v: -0.5 * (1 + v - m**2 - np.exp(v) ** 2),
    "KL with the std where the variance belongs": lambda m, v: -0.5 * (1 + v - m**2 - np.exp(0.5 * v)),
}
SCALES = {"cross-entropy in bits": 1 / np.log(2), "KL in bits": 1 / np.log(2), "KL without its 1/2 (or beta = 2)": 2.0,
          "squared error of sigmoid(logits)": 2.0, "squared error of logits without a sigmoid": 2.0}
BETAS = [0.00025, 0.1, 0.5, 4.0]


def s(o):
    return 1 / (1 + np.exp(-o))


def arrays(seed, B, D, Z, dtype=np.float64):
    """x in {0, 1}, logits, mu, logvar as of a model that has learned something."""
    rng = np.random.default_rng(seed)
    x = (rng.random((B, D)) < 0.3).astype(dtype)
    logits = 1.5 * (2 * x - 1) + rng.standard_normal((B, D)) - 0.5
    return x, logits.astype(dtype), rng.standard_normal((B, Z)).astype(dtype), (rng.standard_normal((B, Z)) * 0.7
                                                                                - 1).astype(dtype)


def conventions(formulas, betas):
    """Every combination: formula, over pixels or latents, over the batch, sign, beta.  One number per image is a way
    to leave the batch alone."""
    return product(formulas, ("sum", "mean"), ("mean", "sum", "per image"), (1, -1), betas)


def value(formula, convention, a, b):
    """The number, or the one per image, that somebody's code makes of the arrays; and its factor beside nats per image,
    summed."""
    name, inner, batch, sign, beta = convention
    each = formula(a, b)
    number = sign * beta * (each.sum(1) if inner == "sum" else each.mean(1))
    factor = sign * beta * SCALES.get(name, 1.0) / (each.shape[1] if inner == "mean" else 1)
    return {"mean": number.mean(), "sum": number.sum(), "per image": number}[batch], (
        factor * len(each) if batch == "sum" else factor)


def rounded(number, digits):
    if digits == "float32":
        return np.float32(number)
    return number if digits == "float64" else np.array([float(f"{n:.{digits}g}") for n in np.atleast_1d(number)])


def judge(readings, convention, factor):
    """right, wrong or cannot tell."""
    if len(readings) != 1:
        return "cannot tell"
    name, inner, batch, sign, beta = convention
    (reading,) = readings
    right = reading.factor == pytest.approx(factor, rel=2e-3) and name in reading.formula.names
    if beta == 1:
        ending = "one number per image" if batch == "per image" else f"{batch} over the batch"
        right = right and reading.words.startswith(f"{'minus ' * (sign < 0)}{name}, {inner} over ")
        right = right and reading.words.endswith(ending)
    return "right" if right else "wrong"


def measure(sizes, digits, betas, seeds=(0,), dtype=np.float64):
    """Every convention of kl, with those of recon taken in turn beside them.  Counter of (part, beta is 1, verdict)."""
    found, recons = Counter(), list(conventions(RECONS, [1.0]))
    for size, seed in product(sizes, seeds):
        made = arrays(seed, *size, dtype)
        x, o, m, v = (a.astype(np.float64) for a in made)
        kls = list(conventions(KLS, betas))
        for i in range(max(len(kls), len(recons))):
            r, k = recons[i % len(recons)], kls[i % len(kls)]
            recon, recon_factor = value(RECONS[r[0]], r, x, o)
            kl, kl_factor = value(KLS[k[0]], k, m, v)
            loss = which_loss(rounded(recon, digits), rounded(kl, digits), *made)
            found["recon", True, judge(loss.recon, r, recon_factor)] += 1
            verdict = judge(loss.kl, k, kl_factor)
            found["kl", k[-1] == 1, verdict] += 1
            if loss.named:
                assert loss.beta == pytest.approx(abs(kl_factor / recon_factor), rel=5e-3)
    return found


def share(found, *keys):
    """What part of the verdicts is right."""
    return sum(found[*key, "right"] for key in keys) / sum(n for key, n in found.items() if key[:2] in keys)


# --- the measured part ---


@pytest.mark.parametrize("digits, plain, weighed", [
    ("float64", 1.0, 1.0), ("float32", 1.0, 0.99), (6, 0.98, 0.9), (5, 0.98, 0.35), (4, 0.98, 0.35)])
def test_every_convention_is_named_or_cannot_be_told_and_none_wrongly(digits, plain, weighed):
    """Least shares that are named: of numbers without a weight, and of KLs with one.  A lone number with a weight wants
    six digits, as the docstring says: of 4 or 5 little more than the third that is given per image is named."""
    found = measure(SIZES, digits, [1.0, *BETAS], dtype=np.float32 if digits == "float32" else np.float64)
    assert not [key for key in found if "wrong" in key] and sum(found.values()) > 2500
    assert share(found, ("recon", True)) >= plain and share(found, ("kl", True)) >= plain, found
    assert share(found, ("kl", False)) >= weighed, found
    if digits in ("float64", "float32", 6):                # the docstring's 96 %
        assert share(found, ("recon", True), ("kl", True), ("kl", False)) >= 0.96
    assert "96 % are named from six digits" in which_loss.__doc__ and "98 % from four" in which_loss.__doc__


@pytest.mark.parametrize("digits", ["float64", 5])
def test_where_sizes_are_equal_none_is_named_wrongly(digits):
    """With B = Z a mean over the one and a sum over the other is the sum over the one and a mean over the other."""
    found = measure(EQUAL, digits, [1.0, 0.5], seeds=(0,))
    assert not [key for key in found if "wrong" in key] and found["kl", True, "cannot tell"] > 0
    assert found["kl", True, "right"] > 0


@pytest.mark.parametrize("digits", ["float64", 6, 4])
def test_a_weight_that_is_not_round_makes_no_other_formula_fit(digits):
    betas = np.exp(np.random.default_rng(0).uniform(-8, 4, 4))
    found = measure(SIZES, digits, betas, seeds=(3,))
    assert not [key for key in found if "wrong" in key]
    assert share(found, ("kl", False)) >= 0.25


@pytest.fixture
def made():
    return arrays(0, 20, 30, 7)


def test_a_mean_over_pixels_is_a_beta_of_d_and_the_lines_say_how_to_mend_it(made):
    x, o, m, v = made
    recon, kl = RECONS["cross-entropy"](x, o), KLS["KL"](m, v)
    loss = which_loss(recon.mean(), kl.sum(1).mean(), *made)
    assert loss.named and loss.beta == pytest.approx(30)
    nats = recon.sum(1).mean(), kl.sum(1).mean()
    assert (loss.recon_nats, loss.kl_nats) == pytest.approx(nats)
    assert loss.mending() == ["recon: multiply by 30"]
    assert f"= {sum(nats):.6g} nats per image" in str(loss) and "Higgins" in str(loss)
    right = which_loss(*nats, *made)
    assert right.beta == pytest.approx(1) and right.mending() == []


def test_one_image_is_summed_or_averaged_alike_and_the_beta_is_known(made):
    x, o, m, v = (a[:1] for a in made)
    loss = which_loss(RECONS["cross-entropy"](x, o).sum(), KLS["KL"](m, v).mean(), x, o, m, v)
    assert not loss.named and len(loss.recon) == len(loss.kl) == 2 and loss.beta == pytest.approx(1 / 7)
    assert "cannot tell, 2 readings are left" in str(loss)


def test_a_number_per_pixel_and_per_latent(made):
    x, o, m, v = made
    loss = which_loss(RECONS["cross-entropy"](x, o), 0.3 * KLS["KL"](m, v), *made)
    assert loss.named and loss.beta == pytest.approx(0.3 * 30 / 7)         # each broadcasts as its mean


def test_what_no_formula_gives_is_not_named(made):
    loss = which_loss(np.arange(20.0), np.pi, *made)
    assert loss.recon == () and len(loss.kl) > 3 and loss.beta is None and not loss.named
    assert "no reading gives this" in str(loss) and "may tell" in str(loss)
    assert len(which_loss(1.0, 0.0, *made).kl) > 1


def test_probabilities_in_place_of_logits(made):
    x, o, m, v = made
    kl, p = KLS["KL"](m, v).sum(1).mean(), s(o)
    scored = which_loss(RECONS["cross-entropy"](x, o).sum(1).mean(), kl, x, p, m, v)
    assert scored.recon[0].words.startswith("cross-entropy of your logits as probabilities")
    twice = which_loss(RECONS["cross-entropy"](x, p).sum(1).mean(), kl, x, p, m, v)
    assert twice.recon[0].words.startswith("cross-entropy, sum") and "sigmoid applied twice" in twice.notes[0]


@pytest.mark.parametrize("name, power", [("variance", 1), ("std", 0.5)])
def test_a_logvar_that_is_the_variance_or_the_std(made, name, power):
    x, o, m, v = made
    loss = which_loss(RECONS["cross-entropy"](x, o).mean(), KLS["KL"](m, v).mean(), x, o, m, np.exp(power * v))
    assert loss.named and loss.kl[0].words.startswith(f"KL of a logvar that is the {name}")
    assert loss.kl_nats == pytest.approx(KLS["KL"](m, v).sum(1).mean())
    wrong = which_loss(1.0, KLS["KL"](m, np.exp(v)).mean(), x, o, m, np.exp(v))
    assert any("as a variance is" in note for note in wrong.notes)


def test_a_log_std_may_be_meant_and_then_nothing_is_wrong(made):
    x, o, m, v = made
    log_std = KLS["KL of a logvar that is log std"](m, v).sum(1).mean()
    loss = which_loss(RECONS["cross-entropy"](x, o).sum(1).mean(), log_std, *made)
    assert loss.named and loss.kl_nats == pytest.approx(log_std)
    (words,) = loss.mending()
    assert "if logvar holds log std" in words and f"is {KLS['KL'](m, v).sum(1).mean():.6g} per image" in words


def test_grey_pixels_have_an_entropy_that_no_recon_falls_below(made):
    _, o, m, v = made
    x = np.full(o.shape, 0.25)
    entropy = -30 * (0.25 * np.log(0.25) + 0.75 * np.log(0.75))
    best = np.full(o.shape, np.log(1 / 3))                                # sigmoid of it is 1/4
    loss = which_loss(RECONS["cross-entropy"](x, best).mean(), KLS["KL"](m, v).mean(), x, best, m, v)
    assert loss.named and loss.recon_nats == pytest.approx(entropy)
    (note,) = loss.notes
    assert f"{entropy:.6g} nats per image" in note and abs(float(note.split()[-3])) < 1e-9


@pytest.mark.parametrize("signs, words", [((-1, 1), "recon - kl is the ELBO"), ((1, -1), "rewards a large KL"),
                                          ((-1, -1), "to be maximised")])
def test_a_turned_sign_is_said(made, signs, words):
    x, o, m, v = made
    loss = which_loss(signs[0] * RECONS["cross-entropy"](x, o).sum(1).mean(), signs[1] * KLS["KL"](m, v).sum(1).mean(),
                      *made)
    assert loss.named and loss.beta == pytest.approx(1) and words in loss.notes[0]


def test_every_line_fits_80_columns():
    for size, digits in product([(20, 30, 7), (1, 20, 5)], ("float64", 4)):
        made = arrays(0, *size)
        made[0][...] = 0.3
        for r, k in zip(conventions(RECONS, [1.0, 0.37]), list(conventions(KLS, [1.0, 0.37])) * 2):
            recon, kl = value(RECONS[r[0]], r, *made[:2])[0], value(KLS[k[0]], k, *made[2:])[0]
            assert max(map(len, str(which_loss(rounded(recon, digits), rounded(kl, digits), *made)).splitlines())) <= 80


def test_images_may_keep_their_shape_and_any_dtype(made):
    x, o, m, v = made
    numbers = RECONS["cross-entropy"](x, o).mean(), KLS["KL"](m, v).mean()
    wanted = str(which_loss(*numbers, *made))
    assert str(which_loss(*numbers, x.reshape(20, 1, 5, 6), o.reshape(20, 1, 5, 6), m, v)) == wanted
    assert str(which_loss(*numbers, x.astype(bool), o, m, v)) == wanted
    assert minivae.which_loss is which_loss


@pytest.mark.parametrize("change, words", [
    ({"recon": np.nan}, "recon must be finite"), ({"kl": np.ones(3)}, r"kl must be one number, one per image \(20,\)"),
    ({"kl": "5"}, "kl must be a number"), ({"x": np.full((20, 30), 255.0)}, "found 255 to 255: divide by 255"),
    ({"x": np.full((20, 30), -0.1)}, r"x must lie in \[0, 1\]"), ({"x": np.zeros((20, 29))}, "have the shape of x"),
    ({"logits": np.full((20, 30), np.inf)}, "logits must be finite"), ({"mu": np.zeros((20, 6))}, "shape of mu"),
    ({"mu": np.zeros((4, 7)), "logvar": np.zeros((4, 7))}, "got 4 rows beside 20"),
    ({"logvar": np.full((20, 7), 1e3)}, "its exponential is infinite"), ({"x": np.zeros(30)}, "x must have shape")])
def test_bad_input_is_one_clear_line(made, change, words):
    given = dict(zip(("x", "logits", "mu", "logvar"), made)) | {"recon": 1.0, "kl": 1.0} | change
    with pytest.raises(ValueError, match=words) as error:
        which_loss(**given)
    assert "\n" not in str(error.value)


# --- two numbers ---


@pytest.mark.parametrize("size", [(128, 784, 20), (32, 64, 8), (1, 784, 1)])
def test_two_numbers_of_a_plausible_model_have_the_true_reading_among_theirs(size):
    B, D, Z = size
    for per_pixel, per_image in product((0.1, 0.3, 0.69), (0.5, 5.0)):
        for pixels, latents, r_batch, k_batch, sign in product((1, 1 / D), (1, 1 / Z, 1 / D), (1, B), (1, B), (1, -1)):
            recon, kl = sign * per_pixel * D * pixels * r_batch, per_image * latents * k_batch
            pairs = readings_of(recon, kl, D, Z, B)
            beta = latents * k_batch / pixels / r_batch
            assert any(p.recon.formula == "cross-entropy" and p.beta == pytest.approx(beta) and
                       (p.recon_nats, p.kl_nats) == pytest.approx((per_pixel * D, per_image)) for p in pairs)


def test_implausible_readings_are_left_out():
    pairs = readings_of(100.0, 20.0, 784, 20, 128)
    assert [p.beta for p in pairs if (p.recon.formula, p.recon.batch, p.kl.batch) == ("cross-entropy", "mean", "mean")
            ] == [1.0]
    assert all(p.recon.inner == "sum" for p in pairs)                     # 100 nats a pixel is no mean
    assert readings_of(1e9, 3.0, 784, 20, 128) == []


def test_the_command_prints_a_row_for_each_reading(capsys):
    words = "loss --recon 0.15 --kl -5.2 --pixels 784 --latents 20 --batch 128".split()
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "     784  cross-entropy        mean   mean   -sum      mean  117.6 + 5.2\n" in printed
    assert "A minus is a sign turned" in printed and max(map(len, printed.splitlines())) <= 80
    assert main([*words, "--json"]) == 0
    pairs = json.loads(capsys.readouterr().out)
    assert f"{len(pairs)} readings" in printed and pairs[0]["beta"] == pytest.approx(784)
    assert main("loss --recon 1e9 --kl 1 --pixels 784 --latents 20 --batch 1".split()) == 0
    assert "no readings" in capsys.readouterr().out


@pytest.mark.parametrize("wrong, words", [("--recon nan", "recon must be finite"), ("--batch 0", "--batch")])
def test_the_command_refuses_bad_numbers_in_one_line(wrong, words, capsys):
    assert main([*"loss --recon 1 --kl 1 --pixels 784 --latents 20 --batch 128".split(), *wrong.split()]) == 2
    printed = capsys.readouterr().err
    assert words in printed and printed.count("\n") == 1
