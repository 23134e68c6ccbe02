"""What the README shows is what the code does."""

import doctest
import json
import re
from pathlib import Path

import pytest

from minivae.training.loop import evaluate

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_the_python_examples_print_what_the_readme_prints():
    failed, tried = doctest.testfile(str(ROOT / "README.md"), module_relative=False)
    assert failed == 0 and tried > 15


def test_the_two_gradients_of_the_readme_agree():
    by_hand, by_differences = map(float, re.search(r"by hand +(\S+) +by differences +(\S+)", README).groups())
    assert by_hand == pytest.approx(by_differences, rel=1e-7) and by_hand != 0


def test_the_line_counts_are_those_of_the_files():
    listed = re.findall(r"\| \[(minivae/\w+\.py)\]\(\S+\) \| (\d+) \|", README)
    assert len(listed) == 7
    for name, lines in listed:
        assert int(lines) == len((ROOT / name).read_text().splitlines()), name


def test_every_file_that_the_readme_names_exists():
    for name in set(re.findall(r"(?:minivae|demos|tests|benchmarks)/[\w/]+\.(?:py|png)", README)):
        assert (ROOT / name).is_file(), name


def test_the_hand_worked_table_is_the_one_that_is_tested():
    tested = (ROOT / "tests" / "test_by_hand.py").read_text()
    for number in ("1.0064088", "1.3068528", "2.3132617", "-0.2689414", "-0.1344707", "-0.5378828", "1.8844707", "0.3844707", "-1.5378828"):
        assert number in README and number in tested, number


def test_the_museum_and_the_checks_are_as_many_as_the_readme_says():
    from minivae.gradcheck.suite import CHECKS
    from minivae.gradcheck.museum import FAULTS

    assert f'"{len(FAULTS)} of {len(FAULTS)} caught"' in README and f"{len(CHECKS)} checks" in README
    assert f"{len(FAULTS)} faults of {len({fault.mechanism for fault in FAULTS})} kinds" in README


def test_the_table_of_checkers_is_the_recorded_one():
    """benchmarks/results/checkers.json is what `python -m benchmarks.checkers` wrote last, over the museum of today."""
    from minivae.gradcheck.museum import FAULTS

    record = json.loads((ROOT / "benchmarks" / "results" / "checkers.json").read_text())
    assert record["faults"] == len(FAULTS) == len(record["suite"])
    for name, found in record["found"].items():
        row = next(line for line in README.splitlines() if line.startswith(f"| {name} |"))
        seen = len(set(found) & set(record["visible"]))
        assert row.endswith(f"| {seen} | {len(found)} |"), name
        assert ("| yes |" in row) == record["accepts"][name], name


def record(name):
    return json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())


def three_digits(number):
    return f"{number:.3g}" if number < 1000 else f"{number:.0f}"


def test_the_table_of_speed_is_the_recorded_one():
    table = record("step")["table"]
    assert len(table) == 13
    for row in table:
        ours, theirs, ratio = (three_digits(row[key]) for key in ("ours", "theirs", "ratio"))
        line = f"| {row['work']} | {ours} | {theirs} ({row['against']}) | {ratio} | "
        shown = next((shown for shown in README.splitlines() if shown.startswith(line)), None)
        assert shown is not None, line
        assert ("short" in shown) != row["reached"], shown


def test_the_table_of_mnist_is_the_recorded_one():
    for name, row in record("mnist").items():
        assert re.search(rf"\| {name}, K = {row['K']} \| {row['passes']} \| {row['nll']:.2f} \| {row['active']} \|", README, re.I), name


def test_the_table_of_faults_is_the_recorded_one():
    found = record("faults")
    assert found["lost"] == found["stale"] == 0
    for name, counts in found["table"].items():
        row = " | ".join(str(counts.get(key, 0)) for key in ("loads right", "refused in one line", "traceback", "silently wrong"))
        assert f"| {name} | {row} |" in README, name


def test_the_digits_run_of_the_readme_can_be_had_again():
    """The default recipe, in this process, with the command's seeds; four of OpenBLAS's instruction sets end within 0.023 nats of each other."""
    from minivae import VAE, fit, load_data
    from minivae.app.cli import RECIPES

    from conftest import JIT

    rows = re.findall(r"^ +(\d+) +([\d.]+) +([\d.]+) +([\d.]+) +(-[\d.]+) +[\d.]+$", README, re.M)
    shown = {int(epoch): list(map(float, numbers)) for epoch, *numbers in rows}
    epochs = 60 if JIT else 1
    assert 60 in shown and 1 in shown
    recipe, data = RECIPES["digits"], load_data("digits")
    vae = VAE.mlp(64, recipe["hidden"], recipe["latent"], activation=recipe["activation"], rng=0)
    history = fit(vae, data.x_train, X_test=data.x_test, epochs=epochs, batch_size=recipe["batch_size"], lr=recipe["lr"], rng=[0, 1])
    row = history[-1]
    # twice that, and what rounding to the digits shown takes: 0.05
    assert [row["loss"], row["recon"], row["kl"], row["test_elbo"]] == pytest.approx(shown[epochs], abs=0.05)
    assert evaluate(vae, data.x_test)["elbo"] == row["test_elbo"]
