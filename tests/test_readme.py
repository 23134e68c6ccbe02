"""What the READMEs show is what the code does."""

import ast
import doctest
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from statistics import median

import numpy as np
import pytest
from PIL import Image
from test_demos import printed_by
from test_gradcheck import first_report

from minivae import linear_gaussian as lg
from minivae.estimators import ESTIMATORS
from minivae.training.evaluation import EVALUATION_SEED, evaluate

ROOT = Path(__file__).parents[1]
FOLDERS = ["", "demos", "benchmarks", "minivae/gradcheck", "minivae/saving", "tests"]
PAGES = {folder: (ROOT / folder / "README.md").read_text() for folder in FOLDERS}
README, DEMOS, BENCHMARKS, GRADCHECK, SAVING, TESTS = PAGES.values()
ALL = "\n".join(PAGES.values())
every_page = pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder or "front")


def without_code(text):
    return re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)


def record(name):
    return json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())


def three_digits(number):
    return f"{number:.3g}" if number < 1000 else f"{number:.0f}"


def python(*arguments, cwd):
    """The finished process of `python ..`, with this checkout on its path."""
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return subprocess.run([sys.executable, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, timeout=300,
                          env={**os.environ, "PYTHONPATH": paths})


# --- the pages themselves ---


def test_the_front_page_is_short():
    assert len(without_code(README).split()) <= 1300


def test_the_first_result_stands_on_the_first_screen():
    lines = README.splitlines()
    assert lines.index("```text") < 40 and README.index("demos/pictures/explain.gif") < README.index("## Two commands")


def test_the_first_picture_moves_weighs_little_and_has_a_still_for_those_who_want_none():
    found = re.findall(r"demos/pictures/explain\.\w+", README)
    assert found == ["demos/pictures/explain.png", "demos/pictures/explain.gif"]
    assert "prefers-reduced-motion: reduce" in README
    assert (ROOT / found[1]).stat().st_size < 2e6
    with Image.open(ROOT / found[1]) as loop, Image.open(ROOT / found[0]) as still:
        assert loop.n_frames > 40 and loop.size == still.size and loop.info["loop"] == 0
        seconds = []
        for frame in range(loop.n_frames):
            loop.seek(frame)
            seconds.append(loop.info["duration"] / 1000)
        assert 8 <= sum(seconds) <= 13


def test_every_picture_is_shown_by_a_page_and_made_by_code_of_today(tmp_path):
    from minivae.app import plots

    pictures = {path.name: path for folder in ("demos/pictures", "benchmarks/results")
                for path in (ROOT / folder).iterdir() if path.suffix in (".png", ".gif")}
    code = "".join(path.read_text() for folder in ("benchmarks", "docs") for path in (ROOT / folder).glob("*.py"))
    for name, path in pictures.items():
        assert f"{path.parent.name}/{name}" in ALL, f"no page shows {name}"
        assert f'"{name}"' in code or f"/{name}" in code or name == "digits.png", f"nothing writes {name}"
    # digits.png is samples.png of the run of `minivae`: 100 images of 8 x 8
    assert "its `runs/digits/samples.png`" in DEMOS
    plots.samples(np.random.default_rng(0).random((100, 64)), (8, 8), tmp_path / "samples.png")
    with Image.open(pictures["digits.png"]) as shown, Image.open(tmp_path / "samples.png") as today:
        # versions of matplotlib differ by a pixel or two in the room for the title
        assert shown.size == pytest.approx(today.size, rel=0.02)


@every_page
def test_lines_outside_tables_have_at_most_100_columns(folder):
    assert [line for line in PAGES[folder].splitlines() if len(line) > 100 and not line.startswith("|")] == []


@every_page
def test_the_python_examples_print_what_the_page_prints(folder):
    failed, tried = doctest.testfile(str(ROOT / folder / "README.md"), module_relative=False)
    assert failed == 0
    assert tried >= {"": 12, "minivae/gradcheck": 6, "tests": 14}.get(folder, 0)


def anchors(text):
    """GitHub's name of every heading: lower case, spaces as hyphens, all else that is no word left out."""
    headings = re.findall(r"^#+ (.+)$", without_code(text), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_anchors_are_named_as_github_names_them():
    page = "## log p = ELBO + KL\n```\n# no heading\n```\n### Ten `words`, twice"
    assert anchors(page) == {"log-p--elbo--kl", "ten-words-twice"}


@every_page
def test_every_link_leads_somewhere(folder):
    links = re.findall(r"\]\(([^)\s]+)\)", without_code(PAGES[folder]))
    assert links
    for link in links:
        if link.startswith("http"):
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / folder / path).resolve() if path else ROOT / folder / "README.md"
        assert target.exists() and target.is_relative_to(ROOT), link
        if anchor:
            assert target.suffix == ".md" and anchor in anchors(target.read_text()), link


def test_every_file_that_a_page_names_exists():
    for name in set(re.findall(r"(?:minivae|demos|tests|benchmarks)/[\w/]+\.(?:py|png|gif|md)", ALL)):
        assert (ROOT / name).is_file(), name
    for name in re.search(r"Beside the pages lie (.+?)\n\n", README, re.S).group(1).split():
        assert not name.endswith(".py") or (ROOT / "minivae" / name).is_file(), name


def test_every_command_that_a_page_names_exists(tmp_path):
    there = python("-m", "minivae", "--help", cwd=tmp_path).stdout
    named = set(re.findall(r"(?:`|^)minivae ([a-z]+)", ALL, re.M))
    assert {"train", "evaluate", "gradcheck", "explain", "walk"} <= named
    for command in named:
        assert re.search(rf"^    {command} ", there, re.M) or re.search(rf"^    {command}$", there, re.M), command


def test_a_modules_benchmark_can_be_run():
    for name in set(re.findall(r"python -m (benchmarks\.\w+|minivae\.\w+)", ALL)):
        assert (ROOT / (name.replace(".", "/") + ".py")).is_file(), name


# --- the front page ---


def test_the_whole_idea_is_page_0s_backward_word_for_word():
    source = (ROOT / "minivae" / "first.py").read_text()
    (backward,) = [node for node in ast.parse(source).body if getattr(node, "name", None) == "backward"]
    assert f"```python\n{ast.get_source_segment(source, backward)}\n```" in README


def test_the_line_counts_are_those_of_the_files():
    listed = re.findall(r"\| \[(minivae/\w+\.py)\]\(\S+\) \| (\d+) \|", README)
    assert len(listed) == 9
    for name, lines in listed:
        assert int(lines) == len((ROOT / name).read_text().splitlines()), name


def test_every_folder_of_the_package_is_named():
    folders = {path.parent.name for path in (ROOT / "minivae").glob("*/__init__.py")}
    assert folders == set(re.findall(r"^- \[(\w+)/\]\(minivae/\1\): ", README, re.M))


def test_the_two_gradients_agree():
    by_hand, by_differences = map(float, re.search(r"by hand +(\S+) +by differences +(\S+)", TESTS).groups())
    assert by_hand == pytest.approx(by_differences, rel=1e-7) and by_hand != 0


def test_the_hand_worked_table_is_the_one_that_is_tested():
    tested = (ROOT / "tests" / "test_by_hand.py").read_text()
    for number in ("1.0064089", "1.3068528", "2.3132617", "-0.2689414", "-0.1344707", "-0.5378828", "1.8844707",
                   "0.3844707", "-1.5378828"):
        assert number in TESTS and number in tested, number


def test_chance_is_log_2_for_every_pixel():
    digits, mnist = f"{64 * np.log(2):.2f}", f"{784 * np.log(2):.2f}"
    assert f"64 log 2 = {digits} nats" in README and f"chance is {digits} and {mnist}" in README


def test_the_results_are_those_of_the_longer_tables():
    assert re.search(r"^ +60 .* ([\d.]+) +[\d.]+$", README, re.M).group(1) == "23.21"
    assert re.search(r"\| `minivae` \| -23.21 \| 6.5 s \|", README) and "later ones take 6.5 s" in README
    elbo, seconds = re.search(r"\(the default recipe\) \| \S+ \| 30 \| (\S+) \| (\d+ s) \|", DEMOS).groups()
    assert f"| `minivae train --data mnist` | {elbo} | {seconds} |" in README
    assert "Digits 23.2, MNIST 97 nats" in README and round(-float(elbo)) == 97


# --- exercises ---


def test_the_exercise_of_the_example_gets_the_grade_that_is_shown(tmp_path):
    from minivae.learn.course import all_exercises

    assert f"# {len(all_exercises())} exercises in ./minivae-learn;" in README
    name, shown = re.search(r"^\$ minivae learn check (\S+)\n(.*?)^```", README, re.M | re.S).groups()
    assert python("-m", "minivae", "learn", "--once", cwd=tmp_path).returncode == 0
    (file,) = (tmp_path / "minivae-learn").glob(f"*_{name.replace('-', '_')}.py")
    file.write_text(file.read_text().replace("dlogvar = ...", "dlogvar = dz * eps * std"))     # no half
    done = python("-m", "minivae", "learn", "check", name, cwd=tmp_path)
    assert done.returncode == 1 and done.stdout.startswith(shown), done.stdout


# --- gradient checks ---


def test_the_museum_and_the_checks_are_as_many_as_the_pages_say():
    from minivae.gradcheck.museum import FAULTS
    from minivae.gradcheck.suite import CHECKS

    for page in (README, GRADCHECK):
        assert f'"{len(FAULTS)} of {len(FAULTS)} caught"' in page and f"{len(CHECKS)} checks" in page
    assert f"{len(FAULTS)} faults of {len({fault.mechanism for fault in FAULTS})} kinds" in GRADCHECK


def test_the_suite_has_as_many_rows_as_the_page_says():
    from conftest import JIT
    from minivae.gradcheck.suite import CHECKS

    if JIT:                                                # minutes without
        assert f"{sum(len(first_report(name).rows) for name in CHECKS)} rows" in GRADCHECK


def test_the_planted_bug_of_the_example_is_caught_and_named(tmp_path):
    (name,) = set(re.findall(r"--plant (?!all|list)(\S+)", README + GRADCHECK))
    done = python("-m", "minivae", "gradcheck", "--plant", name, cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    suspects = re.findall(r"suspect: (.+)", done.stdout)
    assert suspects and not any("no simple pattern" in suspect for suspect in suspects)
    shown = re.search(r"^\$ minivae gradcheck --plant \S+\n(.*?)^```", GRADCHECK, re.M | re.S).group(1)
    assert "is a half forgotten?" in shown
    for line in shown.splitlines():
        assert line == "..." or line in done.stdout.splitlines(), line


def test_the_table_of_checkers_is_the_recorded_one():
    """benchmarks/results/checkers.json is what `python -m benchmarks.checkers` wrote last, over the museum of today."""
    from minivae.gradcheck.museum import FAULTS

    found_by = record("checkers")
    assert found_by["faults"] == len(FAULTS) == len(found_by["suite"])
    visible = set(found_by["visible"])
    seen = {}
    for name, found in found_by["found"].items():
        row = next(line for line in GRADCHECK.splitlines() if line.startswith(f"| {name} |"))
        seen[name] = len(set(found) & visible)
        assert row.endswith(f"| {seen[name]} | {len(found)} |"), name
        assert ("| yes |" in row) == found_by["accepts"][name], name
    suite = set(found_by["suite"])
    assert f"| yes | {len(suite & visible)} | {len(suite)} |" in GRADCHECK
    others = {name: n for name, n in seen.items() if found_by["accepts"][name] and not name.startswith("minivae")}
    best = max(others, key=others.get)
    assert f"({best})" in README
    assert f"\n| {len(visible)} | {len(suite & visible)} | {others[best]} |\n" in README
    assert f"the other {len(FAULTS) - len(visible)}." in GRADCHECK
    assert len(visible) - seen["minivae check_model"] == 12 and "Twelve faults leave" in GRADCHECK


def test_the_calibration_is_the_recorded_one_and_reaches_what_was_wanted():
    from benchmarks.calibration import line

    found = record("calibration")
    whole = found["all"]
    assert whole["functions"] == 10_000 and found["drawn"] == 10_000 + sum(found["apart"].values())
    for name, row in {**found["by kind"], "all": whole}.items():
        assert line(name, row) in GRADCHECK, name
    assert whole["within"] >= 0.999 * whole["entries"] and whole["false FAIL"] == 0
    assert whole["INCONCLUSIVE"] <= 100
    said = " ".join(GRADCHECK.split())
    assert f"{whole['within']:,} of {whole['entries']:,} true derivatives lie within the bar" in said
    assert f"{whole['INCONCLUSIVE']} of 10,000 right gradients are INCONCLUSIVE" in said
    assert f"{sum(found['apart'].values()):,} more functions stand apart" in said
    assert f"FAILs for {100 * whole['fault FAILed'] / whole['functions']:.0f} %" in said
    assert f"{found['seconds of one core']} s of one core" in said
    for rows in found["by decade"].values():
        assert all(row["within"] >= 0.999 * row["entries"] for row in rows.values())
        assert all(row["error"] < row["bar"] for row in rows.values())


# --- records of benchmarks ---


def test_the_tables_of_speed_are_the_recorded_ones():
    from benchmarks.step import TARGETS

    table = record("step")["table"]
    assert [row["work"] for row in table] == list(TARGETS)
    for row in table:
        ours, theirs, ratio = (three_digits(row[key]) for key in ("ours", "theirs", "ratio"))
        beside, wanted = f"{theirs} ({row['against']})", three_digits(row["must"])
        work = row["work"].removesuffix(", ms")
        if not row["work"].endswith(", ms"):               # a limit: the ratio is the value itself
            assert row["ratio"] == row["ours"]
            line = f"| {work} | {ours} | {beside} | <= {wanted}"
        elif row["against"] in ("products", "bare steps"):
            if "epoch" in work:                            # each round beside its own bare steps
                assert len(row["ratios"]) == 9 and row["ratio"] == median(row["ratios"])
            else:
                assert row["ratio"] == pytest.approx(row["ours"] / row["theirs"], rel=1e-9)
            line = f"| {work} | {ours} | {beside} | {ratio} | <= {wanted}"
        else:
            assert row["ratio"] == pytest.approx(row["theirs"] / row["ours"], rel=1e-9)
            line = f"| {work} | {ours} | {beside} | {ratio} | >= {wanted}"
        assert line + (" |" if row["reached"] else ", short |") in BENCHMARKS, line
    short = sum(not row["reached"] for row in table)
    words = ["none", "one row", *(f"{n} rows" for n in "two three four five six seven eight nine ten".split())]
    assert f"wanted: {words[short]}." in " ".join(BENCHMARKS.split())


def test_the_sentence_on_speed_is_the_tables_first_row():
    row = record("step")["table"][0]
    assert row["work"] == "step, 784-400-20, batch 128, ms"
    said = " ".join(README.split())
    assert (f"(784-400-20, batch 128) takes {row['ours']:.2f} ms, and {row['theirs']:.2f} ms with the fastest peer "
            f"measured, {row['against']}.") in said


def test_the_table_of_neighbours_is_the_recorded_one():
    found = record("neighbours")
    for name, ms in found["mean ms per step"].items():
        assert f"| {name} | {three_digits(ms)} |" in BENCHMARKS, name
    for row in found["table"]:
        work = row["work"].removesuffix(", ms")
        short = "" if row["reached"] else ", short"
        assert f"{work} {three_digits(row['ratio'])} (wanted <= {row['must']:g}{short})" in " ".join(BENCHMARKS.split())


def test_the_table_of_mnist_is_the_recorded_one():
    for name, row in record("mnist").items():
        line = rf"\| {name}, K = {row['K']} \| {row['passes']} \| {row['nll']:.2f} \| {row['active']} \|"
        assert re.search(line, DEMOS, re.I), name


def test_the_table_of_faults_is_the_recorded_one():
    found = record("faults")
    assert found["lost"] == found["stale"] == 0
    for name, counts in found["table"].items():
        kinds = ("loads right", "refused in one line", "traceback", "silently wrong")
        row = " | ".join(str(counts.get(key, 0)) for key in kinds)
        assert f"| {name} | {row} |" in SAVING, name


# --- the answers ---


def test_at_the_posterior_both_slopes_are_the_one_that_is_said():
    """Demo 04's model and data, at w = a = 1.5."""
    S, theta = np.array([[5.0]]), lg.Decoder(np.array([[1.5]]), 1.0)
    log_p = lg.log_evidence_grad(theta, S).W.item()
    elbo = lg.elbo_grad(theta, lg.posterior(theta), S)[0].W.item()
    assert f"{log_p:.6f}" == f"{elbo:.6f}" == "0.248521"
    assert "0.248521" in README and "0.248521" in DEMOS


def test_what_the_pages_say_of_demo_04_is_what_it_prints():
    printed = printed_by("04_what_is_maximised.py")
    for number in ("0.248521", "-2.2775", "-2.5137", "0.1900", "1.0000"):
        assert number in DEMOS and number in printed, number
    em, ascent = re.search(r"after (\d+) steps, gradient ascent after (\d+)", " ".join(DEMOS.split())).groups()
    assert re.search(rf"^ *EM\b.*\b{em}\b", printed, re.M)
    assert re.search(rf"^ *gradient ascent\b.*\b{ascent}\b", printed, re.M)


def test_the_spreads_of_discrete_estimators_are_those_that_demo_06_prints():
    from conftest import JIT

    if not JIT:                                            # minutes without
        return
    told = re.search(r"a spread of ([\d.]+) \(REINFORCE\) to ([\d.]+) \(NVIL\)", README).groups()
    for name, spread in zip(("REINFORCE", "NVIL"), told):
        printed = re.search(rf"^ *{name} +0\.0000 +([\d.]+)", printed_by("06_discrete_latents.py"), re.M).group(1)
        assert f"{float(printed):.1f}" == spread, name


def test_score_and_path_have_the_mean_and_the_variances_that_are_said():
    """f = (z - k)^2, z = mu + sigma eps, as in demo 05; the mean over eps by quadrature."""
    eps, weight = np.polynomial.hermite_e.hermegauss(60)
    weight, mu, sigma, k = weight / weight.sum(), 1.0, 0.8, -0.5
    z = mu + sigma * eps
    told = []
    for gradient in ((z - k) ** 2 * eps / sigma, 2 * (z - k)):             # f dlog q/dmu, df/dz dz/dmu
        mean = gradient @ weight
        told.append((f"{mean:.4f}", f"{(gradient - mean) ** 2 @ weight:.2f}"))
    assert told == [("3.0000", "49.01"), ("3.0000", "2.56")]
    assert "Same mean (3.0000), variance 49.01 against 2.56." in README


def test_the_estimators_stand_in_the_row_where_they_belong():
    rows = re.findall(r"^\| ((?:`\w+`, )*`\w+`) \| (yes|no) \| (yes|not for phi)", DEMOS, re.M)
    told = {name: (derivative, mean) for names, derivative, mean in rows for name in re.findall(r"`(\w+)`", names)}
    assert told.keys() == ESTIMATORS.keys()
    for name, (derivative, mean) in told.items():
        assert (derivative == "yes") == ESTIMATORS[name].is_derivative, name
        assert (mean != "yes") == (name in ("iwae_stl", "rws")), name      # as tests/test_estimators.py proves
    for name in ("score", "stl", "dreg"):
        assert f"`{name}`" in README and told[name] == ("no", "yes")


def test_the_digits_run_of_the_readme_can_be_had_again():
    """The default recipe, in this process, with the command's seeds; four of OpenBLAS's instruction sets end within
    0.023 nats of each other."""
    from conftest import JIT
    from minivae import VAE, fit, load_data
    from minivae.app.lines import EpochTable
    from minivae.app.settings import RunSettings
    from minivae.training.batches import draw
    from minivae.training.metrics import measure

    assert f"```text\n{EpochTable.LEGEND}\n{EpochTable.HEAD}\n" in README
    rows = re.findall(r"^ +(\d+) +([\d.]+) +([\d.]+) +([\d.]+) +([\d.]+) [ *] +[\d.]+", README, re.M)
    shown = {int(epoch): list(map(float, numbers)) for epoch, *numbers in rows}
    epochs = 60 if JIT else 1
    assert 60 in shown and 1 in shown
    recipe, data = RunSettings.for_data("digits"), load_data("digits")
    vae = VAE.mlp(64, recipe.hidden, recipe.latent, activation=recipe.activation, rng=0)
    history = fit(vae, data.x_train, X_test=data.x_test, epochs=epochs, batch_size=recipe.batch_size,
                  lr=recipe.lr, rng=[0, 1])
    row = history[-1]
    # twice that, and what rounding to the digits shown takes: 0.05
    reached = [row["loss"], row["recon"], row["kl"], -row["test_elbo"]]
    assert reached == pytest.approx(shown[epochs], abs=0.05)
    assert evaluate(vae, data.x_test)["elbo"] == row["test_elbo"]

    if JIT:                                                # what `minivae evaluate` says of it, in demos/README.md
        told = r"log p\(x\) is (-[\d.]+) and the ELBO (-[\d.]+): the gap, KL\(q, posterior\), is ([\d.]+) nats"
        log_px, elbo, gap = map(float, re.search(told, " ".join(DEMOS.split())).groups())
        every, rng = np.arange(len(data.x_test)), np.random.default_rng(EVALUATION_SEED)
        x = draw(data.x_test, every, 1, "dynamic", rng, vae.dtype)
        found = measure(vae, x, 1000, [EVALUATION_SEED, 1])
        # of the same trained model, so the bound is the one above; no gradient is judged here
        assert [found.log_px.mean(), found.elbo.mean()] == pytest.approx([log_px, elbo], abs=0.05)
        # both terms of the gap move with the model, so less is left
        assert (found.log_px - found.elbo).mean() == pytest.approx(gap, abs=0.02)
        # two numbers rounded to 0.01 and one to 0.001: 0.0105
        assert gap == pytest.approx(log_px - elbo, abs=0.011)
        assert (found.mu_variance > 0.01).all() and "All 8 latents are active" in DEMOS


def test_the_numbers_of_ranks_are_the_recorded_ones():
    found, said = record("scaleout"), " ".join(BENCHMARKS.split())
    for row in found["table"]:
        times = " | ".join(three_digits(row[key]) for key in ("ms without comm", "ms on 1 rank", "ms on 2 ranks"))
        work = f"| {row['net']} | {row['batch']} |"
        assert f"{work} {times} | {row['efficiency']:.2f} | {row['bytes'] / 1e6:.2f} |" in BENCHMARKS, work
        cells = " | ".join(f"{curve['largest']:.1f} on {curve['largest at']}, pays to {curve['pays to']}"
                           for curve in found["curves"] if (curve["net"], curve["batch"]) == (row["net"], row["batch"]))
        assert f"{work} {row['blocks']} | {cells} |" in BENCHMARKS, work
    for name, network in found["networks"].items():
        assert f"| {name} | {1e6 * network['latency']:.1f} us | {8e-9 * network['bandwidth']:.1f} Gbit/s | " \
               f"{network['source']} |" in BENCHMARKS, name
    small = found["table"][0]
    best = max(curve["largest"] for curve in found["curves"][:3])
    assert f"a step takes {small['ms without comm']:.1f} ms on one machine of two cores, and at best " \
           f"{small['ms on 1 rank'] / best:.1f} ms on four" in said and found["curves"][2]["largest at"] == 4
    free = (small["ms on 1 rank"] + small["ms of the update"]) / 2
    assert f"says {free:.1f} ms on two ranks without any network, and two ranks on this machine took " \
           f"{small['ms on 2 ranks']:.1f} ms" in said


def test_the_numbers_of_convolutions_are_the_recorded_ones():
    found, said = record("conv"), " ".join(BENCHMARKS.split())
    for row in found["table"]:
        assert f"| {row['work'].replace(', ms', '')} | {three_digits(row['ours'])} | {three_digits(row['theirs'])} " \
               f"({row['against']}) | {row['ratio']:.2f} |" in BENCHMARKS, row["work"]
        assert row["ratio"] == pytest.approx(row["ours"] / row["theirs"] if "products" in row["work"]
                                             else row["theirs"] / row["ours"], rel=1e-9)
    one, four, patches = found["memory"].values()
    assert f"take {one:.1f} MB, at batch 128 and at batch 512" in said and f"would take {patches:.1f} MB" in said
    mnist = found["mnist"]
    for training in mnist["trainings"]:
        assert f"seed {training['seed']} | {training['elbo']:.2f} | {training['minutes']:.1f} |" in BENCHMARKS
    elbos = [training["elbo"] for training in mnist["trainings"]]
    assert f"(standard deviation {np.std(elbos, ddof=1):.2f}) | {np.mean(elbos):.2f} |" in BENCHMARKS
    assert f"| dense | {mnist['dense']['elbo']:.2f} |" in BENCHMARKS
    log_px = mnist["log p(x)"]
    assert f"{log_px['nll']:.2f} nats; the standard error from the draws is {log_px['error_draws']:.2f}" in said
    assert f"| {np.mean(elbos):.2f} | {mnist['minutes']:.0f} min |" in README
    ratio = found["table"][0]["ratio"]
    assert f"A step of convolutions is {ratio:.2f} times as fast as the fastest peer's" in " ".join(README.split())
