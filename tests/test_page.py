"""The page: it has the recorded numbers, is valid, needs no network, and does in a browser what it says."""

import base64
import hashlib
import io
import json
import re
import shutil
import subprocess
import sys
import tarfile
import time
from contextlib import chdir
from pathlib import Path

import html5lib
import numpy as np
import pytest

from browser import Browser, missing
from conftest import folder_of_images, skip, small_run
import minivae
from minivae import VAE, DiscreteVAE, estimators
from minivae.app.cli import main
from minivae.data import Data
from minivae.explain import page
from minivae.explain.page import contents, render
from minivae.explain.subject import find_subject, subject_of
from minivae.explain.trace import trace
from minivae.likelihoods import GaussianLikelihood

HOSTILE = "<img src=x onerror=alert(1)> & \"'</script>"     # a run's name may be anything that a file system takes


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """A folder with runs on 5x4 pixels, and the page of each: plain; beta 2 and a hostile name; one with a NaN."""
    with folder_of_images(tmp_path_factory, "page") as here:
        small_run("plain")
        small_run(HOSTILE.replace("/", ""), beta=2.0, likelihood="gaussian")
        vae = small_run("broken")
        vae.to_mu.params["W"][0, 0] = np.nan
        minivae.save(vae, "broken/model.npz")
        found = [main(["explain", run, "--image", "1", "--out", f"{name}.html"])
                 for run, name in (("plain", "plain"), (HOSTILE.replace("/", ""), "hostile"), ("broken", "broken"))]
    linear = VAE.mlp(20, [], 2, likelihood=GaussianLikelihood("per_pixel"), rng=0)
    x = np.random.default_rng(1).random((5, 20), dtype=np.float32)
    subject = subject_of(linear, Data("own", x, x, (5, 4), None, "no file"), 0, "a linear one", "none", 1e-3)
    (here / "linear.html").write_text(render(contents(subject)))
    assert found == [0, 0, 3]
    return here


def embedded(path: Path) -> dict:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', path.read_text(), re.S)
    return json.loads(found.group(1))


def decode(stored: dict) -> np.ndarray:
    """An array of the page."""
    return np.frombuffer(base64.b64decode(stored["base64"]), "<f8").reshape(stored["shape"])


@pytest.fixture(scope="module")
def data(here):
    return embedded(here / "plain.html")


@pytest.fixture(scope="module")
def coins(tmp_path_factory):
    """The page of a small model with coins for latents."""
    vae = DiscreteVAE.mlp(20, [6], 4, rng=0, estimator=estimators.score_analytic_kl)
    x = np.random.default_rng(1).random((5, 20)).astype(np.float32).round()
    subject = subject_of(vae, Data("own", x, x, (5, 4), None, "no file"), 0, "coins", "none", 1e-3)
    path = tmp_path_factory.mktemp("coins") / "coins.html"
    path.write_text(render(contents(subject)))
    return path


def conv_page(path: Path, image_shape: tuple, likelihood="bernoulli") -> Path:
    """The page of a small conv model with one image of that shape."""
    vae = VAE.conv(image_shape, (3, 20), 4, kernel=3, likelihood=likelihood, rng=0)
    x = np.random.default_rng(1).random((5, vae.x_dim)).astype(np.float32)
    x = x.round() if likelihood == "bernoulli" else x
    subject = subject_of(vae, Data("own", x, x, image_shape, None, "no file"), 0, "convolutions", "none", 1e-3)
    path.write_text(render(contents(subject)))
    return path


@pytest.fixture(scope="module")
def conv(tmp_path_factory):
    return conv_page(tmp_path_factory.mktemp("conv") / "conv.html", (6, 7))


@pytest.fixture(scope="module")
def colour(tmp_path_factory):
    return conv_page(tmp_path_factory.mktemp("colour") / "colour.html", (6, 7, 3), "gaussian")


@pytest.fixture
def recorded(here, monkeypatch):
    """The pass that the page of `plain` shows, made again."""
    monkeypatch.chdir(here)
    s = find_subject("plain", 1)
    return trace(s.vae, s.x, s.noise(1), estimators.elbo)


# --- the file -----------------------------------------------------------------------------------------


def test_the_numbers_in_the_page_are_the_recorded_ones_to_the_bit(data, recorded):
    t, seen = recorded, 0
    for node in data["nodes"]:
        if node["name"] in ("x", "loss"):
            continue
        node_pass = t.passes[node["name"]]
        for figures, arrays in ((node["inputs"], node_pass.inputs),
                                (node["outgoing"], {node_pass.passed_on[k]: a for k, a in node_pass.outgoing.items()}),
                                ([node["output"]], {node_pass.called: node_pass.output}),
                                ([node["incoming"]], {f"d{node_pass.called}": node_pass.incoming}),
                                (node["local"], node_pass.local)):
            assert {figure["symbol"] for figure in figures} == set(arrays)
            for figure in figures:
                shown = decode(data["arrays"][figure["array"]])
                assert np.array_equal(shown, arrays[figure["symbol"]]), (node["name"], figure["symbol"])
                seen += 1
        for filled in node["fills"]:
            p = t.params[f"{node['name']}.{filled['of']}"]
            assert filled["norm"] == np.linalg.norm(p.grad)
            assert filled["parts"] == {wire: np.linalg.norm(a) for wire, a in p.parts.items()}
            assert [check["numeric"] for check in filled["checks"]] == [check.numeric for check in p.checks]
    assert seen > 40 and data["about"]["loss"] == t.loss


def test_a_fresh_process_that_repeats_the_pass_writes_the_same_page(here):
    command = [sys.executable, "-m", "minivae", "explain", "plain", "--image", "1", "--out", "again.html"]
    done = subprocess.run(command, cwd=here, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and done.stderr == "" and "wrote     again.html" in done.stdout
    assert (here / "again.html").read_bytes() == (here / "plain.html").read_bytes()


def test_every_shown_gradient_has_its_difference_within_the_error_bar(data):
    for node in data["nodes"]:
        for figure in [node["incoming"], *node["outgoing"], *node["fills"]]:
            if figure is None:
                continue
            where = node["name"], figure["symbol"]
            for check in figure["checks"]:
                assert check["verdict"] == "PASS", where
                assert abs(check["analytic"] - check["numeric"]) <= check["bar"], where
            assert figure["checks"], where


@pytest.mark.parametrize("name", ["plain", "hostile", "linear"])
def test_every_node_is_shown_with_the_lines_of_the_two_passes_that_call_it(here, name):
    for node in embedded(here / f"{name}.html")["nodes"]:
        if node["name"] in ("x", "loss"):
            continue
        for direction in ("forward", "backward"):
            (call,) = node["code"]["call"][direction]
            line = (Path(minivae.__file__).parent / "vae.py").read_text().splitlines()[call["line"] - 1]
            assert call["file"] == "minivae/vae.py" and call["text"] == line.strip()


def test_every_estimator_is_there_with_the_wires_of_its_own_pass(data, here, monkeypatch):
    monkeypatch.chdir(here)
    s = find_subject("plain", 1)
    wanted = [name for name, e in estimators.ESTIMATORS.items() if not e.antithetic]
    assert [e["name"] for e in data["estimators"]] == wanted
    for e in data["estimators"]:
        t = trace(s.vae, s.x, s.noise(e["samples"]), estimators.ESTIMATORS[e["name"]], entries=0)
        assert e["wires"] == {wire: np.ravel(weight).tolist() for wire, weight in t.wires._asdict().items()}
        assert np.array_equal(decode(data["arrays"][e["dmu"]]), t.passes["to_mu"].incoming[0]) and e["sentence"]
    refused = {e["name"]: e["refused"] for e in embedded(here / "hostile.html")["estimators"] if "refused" in e}
    assert set(refused) == {"iwae", "iwae_stl", "dreg", "rws", "vimco"}
    assert all("wants beta = 1" in words for words in refused.values())


@pytest.mark.parametrize("name", ["plain", "hostile", "broken", "linear"])
def test_the_page_is_valid_html_without_any_reference_to_elsewhere(here, name):
    text = (here / f"{name}.html").read_text()
    parser = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False)              # raises at the first fault
    document = parser.parse(text)
    without_comments = re.sub(r'"base64":"[^"]*"|(?m:^//.*$)|"text":"[^"]*"', "", text.split('id="data">')[0])
    assert "http" not in text and "//" not in without_comments
    assert not [e for e in document.iter() if e.tag in ("link", "img", "iframe", "object") or e.get("src")]
    assert all(e.get("href", "#").startswith("#") for e in document.iter())
    assert "@import" not in text and "url(" not in text


def test_a_name_cannot_leave_the_data(here):
    text, name = (here / "hostile.html").read_text(), HOSTILE.replace("/", "")
    assert "<img" not in text and embedded(here / "hostile.html")["about"]["run"] == name
    before, after = text.split('id="data">')[0], text.split('id="data">')[1].split("</script>", 1)[1]
    assert "alert(1)" not in after and before.count("alert(1)") == 1        # in the text of the walk
    assert "&lt;img src=x onerror=alert(1)&gt;" in before


def test_the_data_of_a_page_may_hold_no_number_that_json_lacks():
    with pytest.raises(ValueError):
        render({"loss": float("nan")})


def test_a_model_with_a_nan_gets_a_page_that_says_so_and_exit_code_3(here, capsys, monkeypatch):
    message = "the parameter to_mu.W is not finite, so neither is anything after it"
    assert embedded(here / "broken.html")["error"] == message
    monkeypatch.chdir(here)
    assert main(["explain", "broken", "--out", "b.html"]) == 3
    assert capsys.readouterr().err == f"minivae: {message}; the page says so\n"


def test_the_page_names_the_likelihood_by_its_own_name(here, rng):
    class Laplace(GaussianLikelihood):
        name = "laplace"

    assert embedded(here / "plain.html")["about"]["likelihood"] == "Bernoulli"
    assert embedded(here / "hostile.html")["about"]["likelihood"] == "Gaussian"
    x = rng.random((5, 20), dtype=np.float32)
    vae = VAE.mlp(20, [], 2, likelihood=Laplace("per_pixel"), rng=0)
    subject = subject_of(vae, Data("own", x, x, (5, 4), None, "no file"), 0, "a run", "none", 1e-3)
    assert page.about(subject)["likelihood"] == "Laplace"


def test_images_too_large_for_a_page_are_refused_in_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(page, "PIXELS", 19)
    np.save("mine.npy", np.random.default_rng(0).random((30, 5, 4)))
    small_run("r")
    assert main(["explain", "r"]) == 2
    assert capsys.readouterr().err == "minivae: the page draws images of up to 19 numbers, these have 20\n"
    assert main(["explain", "r", "--out", "no/where.html"]) == 2


@pytest.mark.parametrize("kind, estimator", [("bernoulli", "disarm"), ("bernoulli", "score"), ("bernoulli", "vimco"),
                                             ("concrete", "elbo"), ("straight-through", "elbo")])
def test_a_discrete_run_has_its_page_data_too(here, monkeypatch, kind, estimator):
    monkeypatch.chdir(here)
    run = f"{kind}-{estimator}"
    small_run(run, latent_kind=kind, estimator=estimator)
    s = find_subject(run, 1)
    data = json.loads(json.dumps(contents(s), allow_nan=False))
    K = {"disarm": 2, "score": 2, "vimco": 4, "elbo": 1}[estimator]
    t = trace(s.vae, s.x, s.noise(K, estimator == "disarm"))
    has_path = kind != "bernoulli"
    assert data["about"]["loss"] == t.loss
    assert (data["about"]["estimator"], data["about"]["samples"]) == (estimator, K)
    graph = {"latent": kind, "heads": ["to_a"], "path": has_path, "noise": "u", "score": not has_path}
    assert {key: data["graph"][key] for key in graph} == graph
    nodes = {node["name"]: node for node in data["nodes"]}
    assert set(data["forward"]) == set(nodes) >= set(data["backward"])
    assert ("sample" in data["backward"]) is has_path and ("log_q" in data["backward"]) is not has_path
    lines = (Path(minivae.__file__).parent / "discrete.py").read_text().splitlines()
    for name in data["forward"][1:-1]:
        node, node_pass = nodes[name], t.passes[name]
        assert node["title"] and node["words"]["forward"]
        assert (node["incoming"] is None) is (name not in data["backward"])
        figures = {f["symbol"]: f for f in [*node["inputs"], node["output"], *node["outgoing"]]}
        arrays = {**node_pass.inputs, node_pass.called: node_pass.output,
                  **{node_pass.passed_on[value]: grad for value, grad in node_pass.outgoing.items()}}
        assert set(figures) == set(arrays)
        for symbol, figure in figures.items():
            assert np.array_equal(decode(data["arrays"][figure["array"]]), arrays[symbol]), (name, symbol)
        for figure in [*node["outgoing"], *node["fills"]]:
            assert figure["checks"] and all(check["verdict"] == "PASS" for check in figure["checks"])
        for calls in node["code"]["call"].values():
            assert all(lines[call["line"] - 1].strip() == call["text"] for call in calls)
        # both halves of the code of each node that backward visits
        assert (node["code"]["backward"] is None) is (node["incoming"] is None)
    for sums in nodes["kl"]["sums"]:
        *parts, total = (decode(data["arrays"][f["array"]]) for f in sums["parts"])
        np.testing.assert_allclose(sum(parts), total, rtol=1e-12, atol=1e-15)        # one sum in another order
    wanted = {"bernoulli": ["score", "score_analytic_kl", "rws", "vimco", "disarm"]}.get(kind, ["elbo"])
    assert [e["name"] for e in data["estimators"]] == wanted
    for e in data["estimators"]:
        da = decode(data["arrays"][e["da"]])
        noise = s.noise(e["samples"], e["name"] == "disarm")
        one = trace(s.vae, s.x, noise, estimators.ESTIMATORS[e["name"]], entries=0)
        assert np.array_equal(da, one.passes["to_a"].incoming[0]) and e["sentence"]
    assert "mu and logvar" not in " ".join(data["wires"].values())


# --- in a browser -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chromium():
    if why := missing():
        skip(why)
    browser = Browser()
    yield browser
    browser.close()


def opened(browser, path, place="", width=1440, height=900, **media):
    """The page, freshly loaded at a place such as "#step=19"."""
    browser.resize(width, height, **{"prefers_reduced_motion": "reduce", "prefers_color_scheme": "light", **media})
    browser.call("POST", "/url", {"url": "about:blank"})
    browser.call("POST", "/url", {"url": path.as_uri() + place})
    return browser


@pytest.fixture
def plain(chromium, here):
    return opened(chromium, here / "plain.html")


EDGES = ("return [...document.querySelectorAll('#graph .wide .edge')]"
         ".map(g => ({...g.dataset, classes: [...g.classList]}))")


def edges(browser) -> dict[tuple[str, str], set[str]]:
    """{(from, to): the classes of that edge in the widest graph}."""
    return {(e["from"], e["to"]): set(e["classes"]) for e in browser.run(EDGES)}


def orange(browser) -> set[tuple[str, str]]:
    return {ends for ends, classes in edges(browser).items() if "back" in classes}


def test_the_page_opens_on_the_finished_pass(plain, data):
    assert plain.text("#card h2") == "The finished pass"
    unused = {ends for ends, classes in edges(plain).items() if "unused" in classes}
    assert unused == {("log_q", "loss"), ("sample", "log_q"), ("to_mu", "log_q"), ("to_logvar", "log_q")}
    # a gradient along every other arrow, but into the image and the noise
    assert orange(plain) == set(edges(plain)) - unused - {("x", "enc.0"), ("eps", "sample")}
    assert plain.run("return document.querySelectorAll('#graph .wide .frame-of.filled').length") == 2
    assert plain.run("return document.querySelectorAll('.questions button').length") == 3
    for node in data["nodes"]:                             # scalars with their sign, arrays by their norm
        if node["incoming"] and node["name"] != "loss":
            a = decode(data["arrays"][node["incoming"]["array"]])
            shown = plain.run("return document.querySelector(`#graph .wide .node[data-name='${arguments[0]}'] .number`)"
                              ".textContent", node["name"]).replace("−", "-")
            assert float(shown) == pytest.approx(a.item() if a.size == 1 else np.linalg.norm(a), rel=6e-3), node["name"]
            assert plain.run("return document.querySelector(`#graph .wide .node[data-name='${arguments[0]}'] .symbol`)"
                             ".textContent", node["name"]) == node["incoming"]["symbol"]
    first_screen = plain.run("return [...document.querySelectorAll('.questions button, #graph')]"
                             ".map(e => e.getBoundingClientRect().bottom)")
    assert max(first_screen) <= 900
    assert plain.complaints() == []


def test_the_front_fills_theta_splits_is_met_by_the_kl_and_stops_before_x(plain):
    """At chosen times: what the front has crossed by then."""
    assert plain.run("return SECONDS") == 8
    seen = {}
    for t in np.linspace(0, 1, 41):
        plain.run("paintFront(arguments[0])", t)
        for ends in orange(plain):
            seen.setdefault(ends, t)
    decoder = [("likelihood", "loss"), ("to_logits", "likelihood"), ("dec.0", "dec.1"), ("sample", "dec.0")]
    assert [seen[ends] for ends in decoder] == sorted({seen[ends] for ends in decoder})
    assert seen["sample", "dec.0"] < seen["to_mu", "sample"] == seen["to_logvar", "sample"]
    assert seen["to_mu", "kl"] == seen["to_logvar", "kl"] == seen["to_mu", "sample"]         # they meet
    assert seen["to_mu", "sample"] < seen["enc.1", "to_mu"] == seen["enc.1", "to_logvar"] < seen["enc.0", "enc.1"] == 1
    assert ("x", "enc.0") not in seen and ("eps", "sample") not in seen


def test_the_first_question_plays_the_front_in_eight_seconds(chromium, here):
    browser = opened(chromium, here / "plain.html", prefers_reduced_motion="no-preference")
    browser.click("[data-ask=direction]")
    moving = "return document.querySelectorAll('#graph .wide .edge.moving').length"
    time.sleep(1.5)
    early = orange(browser)
    assert browser.run(moving) > 0 and ("likelihood", "loss") in early and ("to_mu", "sample") not in early
    waits = "return document.querySelectorAll('.moments .waits').length"
    assert browser.run(waits) >= 3
    time.sleep(4)
    assert browser.run(moving) > 0 and early < orange(browser)
    time.sleep(3.5)
    assert browser.run(moving) == 0 and browser.run(waits) == 0 and ("enc.0", "enc.1") in orange(browser)
    assert browser.complaints() == []


def test_without_motion_the_answer_is_there_at_once(plain):
    plain.click("[data-ask=direction]")
    assert ("enc.0", "enc.1") in orange(plain)
    assert plain.run("return document.querySelectorAll('.edge.moving, .waits').length") == 0
    assert plain.text("#card h2").startswith("Yes")


def test_the_three_bar_charts_of_a_sum_have_one_scale_so_that_a_plus_b_is_c(plain):
    plain.click("[data-ask=kl]")
    for name in ("dmu", "dlogvar"):
        charts = plain.run("""const charts = document.querySelectorAll(`[data-sum='${arguments[0]}'] svg.bars`);
            return [...charts].map(chart => ({
            scale: [...chart.querySelectorAll("text")].map(t => t.textContent),
            bars: [...chart.querySelectorAll("rect")]
                .map(r => +r.getAttribute("height") * (r.classList.contains("n") ? -1 : 1)),
            zero: +chart.querySelector("line.axis").getAttribute("y1")}))""", name)
        assert len(charts) == 3 and charts[0]["scale"] == charts[1]["scale"] == charts[2]["scale"]
        assert len({chart["zero"] for chart in charts}) == 1
        a, b, c = (np.array(chart["bars"]) for chart in charts)
        # a bar is at least 1 high, so that it can be seen; the others are rounded to a hundredth
        assert np.all(np.abs(a + b - c) <= 0.03 + (np.abs(a) <= 1) + (np.abs(b) <= 1) + (np.abs(c) <= 1)), name
        assert np.abs(c).max() > 10


def test_locks_close_on_what_is_held_constant(plain):
    closed = "return [...document.querySelectorAll('#graph .wide .lock.closed')].map(e => e.dataset.lock).sort()"
    assert plain.run(closed) == []
    plain.click("[data-ask=constant]")
    assert plain.run(closed) == ["eps", "theta", "x"]
    plain.click("[data-learning=theta]")
    assert plain.run(closed) == ["eps", "phi", "x"]
    plain.click("[data-ask=kl]")
    assert plain.run(closed) == []


def test_the_switch_cuts_the_wires_in_the_same_graph(plain, data):
    plain.click("[data-ask=constant]")
    for e in data["estimators"]:
        plain.click(f"#card [name=estimator][value='{e['name']}']")
        cut = {wire for wire, weights in e["wires"].items() if not any(weights)}
        shown = {(f"{g['from']}-{g['to']}", g["wire"]): g["classes"] for g in plain.run(EDGES)}
        hidden = {"latent", "score"} <= cut
        for (ends, wire), classes in shown.items():
            if wire in ("path", "kl"):
                assert ("cut" in classes) is (wire in cut), (e["name"], ends)
            elif wire in ("latent", "score"):
                assert ("unused" in classes) is hidden, (e["name"], ends)
                assert ("cut" in classes) is (wire in cut and not hidden), (e["name"], ends)
            if "cut" in classes:
                assert "back" not in classes, (e["name"], ends)
        assert e["sentence"].replace("`", "") in plain.text("#estimator-words")
        assert f"estimator={e['name']}" in plain.run("return location.hash") or e["name"] == "elbo"
    assert plain.complaints() == []


def test_the_chart_of_bias_and_spread_has_one_scale_for_all_estimators(plain):
    plain.click("[data-ask=constant]")
    marks = "return [...document.querySelector('#spread svg').querySelectorAll('text')].map(t => t.textContent)"
    spread = "return mean(drawsOf(settings.estimator).mu.spread)"
    scale, elbo = plain.run(marks), plain.run(spread)
    plain.click("#card [name=estimator][value=score]")
    assert plain.run(marks) == scale and plain.run(spread) > 3 * elbo
    assert "times" in plain.text("#spread .note")
    assert plain.run("return document.querySelectorAll('#spread .ghost').length") > 0


def test_the_arrow_keys_walk_forward_then_backward_and_home_rewinds(plain, data):
    order = [(name, "Forward") for name in data["forward"]] + [(name, "Backward") for name in data["backward"]]
    titles = {node["name"]: node["title"] for node in data["nodes"]}
    for i, (name, direction) in enumerate(order):
        plain.type("body", "ArrowRight")
        assert plain.text("#card h2") == titles[name] and plain.text(".badge").startswith(direction)
        assert plain.run("return document.querySelector('#graph .wide .node.now').dataset.name") == name
        assert f"step {i + 1} of {len(order)}" in plain.text(".badge")
        assert plain.run("return location.hash") == f"#step={i + 1}"
    assert not {("x", "enc.0"), ("eps", "sample")} & orange(plain)
    plain.type("body", "ArrowRight")
    assert f"step {len(order)} of" in plain.text(".badge")            # the end stays the end
    plain.type("body", "ArrowLeft")
    assert f"step {len(order) - 1} of" in plain.text(".badge")
    plain.type("body", "Home")
    assert "step 1 of" in plain.text(".badge")
    assert plain.complaints() == []


def test_a_gradient_is_written_below_its_node_only_when_all_of_it_is_there(plain, data):
    """dh is whole after both heads have sent theirs, dmu after the KL has joined."""
    where = {name: len(data["forward"]) + i + 1 for i, name in enumerate(data["backward"])}
    below = "return document.querySelector(`#graph .wide .node[data-name='${arguments[0]}'] .symbol`).textContent"
    for step, node, wanted in ((where["sample"], "to_mu", "mu"), (where["kl"], "to_mu", "dmu"),
                               (where["to_logvar"], "enc.1", "h"), (where["to_mu"], "enc.1", "dh")):
        plain.run("go(arguments[0] - 1)", step)
        assert plain.run(below, node) == wanted, (step, node)


def test_each_backward_card_shows_both_values_of_its_gradient(plain, data):
    for i, name in enumerate(data["backward"][1:-1]):
        plain.run("go(arguments[0])", len(data["forward"]) + 1 + i)
        node = next(node for node in data["nodes"] if node["name"] == name)
        shown = plain.text("#card").replace("−", "-")
        parts = [f for s in node["sums"] for f in s["parts"]] or [node["incoming"]]
        for check in (*(f["checks"][0] for f in parts), *(f["checks"][0] for f in node["fills"])):
            for kind, words in (("analytic", "by hand"), ("numeric", "by differences")):
                digits = str(float(f"{check[kind]:.9g}")).removesuffix(".0")
                tiny = abs(check[kind]) < 1e-3             # shown with an exponent
                assert f"{digits}{words}" in shown or tiny, (name, digits)
        assert f"backward, {node['code']['backward']['file']}:{node['code']['backward']['line']}" in shown
        assert plain.run("return document.querySelectorAll('#card .formula .sym').length") > 0


def test_buttons_nodes_chips_and_the_time_line_work_too(plain, data):
    plain.click("#next")
    plain.click("#next")
    assert "step 2 of" in plain.text(".badge")
    plain.click("#graph .wide [data-node='sample']")
    assert plain.text("#card h2").startswith("The sampling node") and plain.text(".badge").startswith("Forward")
    plain.run("document.querySelector('#card .fold').open = true")
    plain.click("[data-chip='eps']")
    lit = plain.run("return [...document.querySelectorAll('#card .lit')].map(e => e.tagName + e.dataset.s)")
    # in the formula, the code and the caption; and the picture
    assert {"SPANeps", "FIGUREeps"} == set(lit) and lit.count("SPANeps") > 3
    at = data["forward"].index("sample") + 1
    plain.type("#time", "ArrowRight")
    assert f"step {at + 1} of" in plain.text(".badge")     # one step, not two: the slider keeps its own keys
    plain.click("#play")
    assert plain.text("#play") == "Pause"
    plain.click("#play")
    plain.click("#rewind")
    assert "step 1 of" in plain.text(".badge") and plain.text("#play") == "Play"
    assert plain.complaints() == []


def hover(browser, selector, x, y):
    """Point at a place of a picture, given as parts of its width and height; what the tip says."""
    browser.run("document.querySelector(arguments[0]).scrollIntoView({block: 'center', behavior: 'instant'})", selector)
    box = browser.run("const b = document.querySelector(arguments[0]).getBoundingClientRect();"
                      "return [b.left, b.top, b.width, b.height]", selector)
    # the scrolling above hides the tip, a frame later
    browser.run("return new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(0))))")
    browser.chrome("Input.dispatchMouseEvent", type="mouseMoved", x=box[0] + x * box[2], y=box[1] + y * box[3])
    said = browser.run("const tip = document.getElementById('tip'); return tip.hidden ? '' : tip.innerText")
    return said.replace("−", "-")


def test_a_cell_tells_its_index_its_value_and_the_product_it_came_from(plain, data, recorded):
    plain.run("go(arguments[0])", len(data["forward"]) + data["backward"].index("to_mu"))
    key, p = "to_mu/fills/0", recorded.params["to_mu.W"]
    node = next(n for n in data["nodes"] if n["name"] == "to_mu")
    column = int(re.search(r"column (\d+)", node["fills"][0]["meaning"]).group(1))
    n = p.grad.shape[0]
    for row in (0, n - 1):
        left = 52 / 300                                    # bars stand right of the axis
        said = hover(plain, f"#card figure[data-key='{key}'] svg", left + (1 - left) * (row + 0.5) / n, 0.4)
        h, dmu = recorded.passes["to_mu"].inputs["h"][0, row], recorded.passes["to_mu"].incoming[0, column]
        first, second = said.splitlines()
        assert first.startswith(f"dW[{row},{column}] = ")
        assert float(first.split(" = ")[1]) == pytest.approx(p.grad[row, column], rel=1e-5)
        assert f"h[{row}] · dmu[{column}]" in second
        a, b = (float(part.strip("()")) for part in second.split(" = ")[-1].split(" · "))
        # the two factors are shown with three digits; the product itself is held to 1e-5 above
        assert a * b == pytest.approx(h * dmu, rel=1e-2, abs=1e-9)
    plain.click("[data-ask=kl]")
    said = hover(plain, "#card figure[data-key='sums/dmu/2'] svg", 0.25, 0.5)
    assert said.splitlines()[1].startswith("= dmu_z[0] + dmu_kl[0] = ")


def test_a_tap_tells_it_too(chromium, here):
    browser = opened(chromium, here / "plain.html", "#step=1", width=390, height=844)
    box = browser.run("const e = document.querySelector('#card figure svg');"
                      "e.scrollIntoView({block: 'center', behavior: 'instant'});"
                      "const b = e.getBoundingClientRect(); return [b.left + b.width / 2, b.top + b.height / 2]")
    browser.chrome("Input.dispatchTouchEvent", type="touchStart", touchPoints=[{"x": box[0], "y": box[1]}])
    assert browser.text("#tip").startswith("x[")


# --- live ---


PASS = """const p = now(), a = name => Array.from(p.gradients[name]);
return {loss: p.loss, to_mu: a("to_mu"), to_logvar: a("to_logvar"), logits: a(D.graph.out),
        z: Array.from(numbers(nodes.sample.output)), painted: Array.from(p.painted)};"""


def as_python(here, eps, beta=1.0, estimator=estimators.elbo):
    """The same pass by minivae, in float64, of the weights as the page holds them."""
    with chdir(here):
        s = find_subject("plain", 1)
    s.vae.beta = beta
    t = trace(s.vae, s.x, eps, estimator, entries=0)
    return t


def test_eps_moves_z_the_painted_image_and_every_gradient(plain, here, recorded, data):
    before, image = plain.run(PASS), plain.run("return document.querySelector('#outcome svg').outerHTML")
    below = "return [...document.querySelectorAll('#graph .wide .number')].map(e => e.textContent).join(' ')"
    numbers = plain.run(below)
    latent = data["shownLatents"][0]
    for keys in (["ArrowRight"] * 40, ["Home"], ["End"]):
        plain.type("#eps", *keys)
        eps = recorded.eps.copy()
        eps[0, 0, latent] = float(plain.run("return document.getElementById('eps').value"))
        t, found = as_python(here, eps), plain.run(PASS)
        # the page has float32 weights as the run has them; the rest is float64 on both sides
        assert found["loss"] == pytest.approx(t.loss, rel=1e-9)
        for node in ("to_mu", "to_logvar"):
            np.testing.assert_allclose(found[node], t.passes[node].incoming[0], rtol=1e-7, atol=1e-10)
        np.testing.assert_allclose(found["z"], t.passes["sample"].output[0], rtol=1e-9)
        np.testing.assert_allclose(found["logits"], t.passes["to_logits"].incoming[0], rtol=1e-7, atol=1e-10)
        assert found["painted"] != before["painted"]
    assert plain.run("return document.querySelector('#outcome svg').outerHTML") != image and plain.run(below) != numbers
    plain.click("#as-recorded")
    assert plain.run(PASS) == before and plain.run(below) == numbers
    assert plain.complaints() == []


def test_beta_another_estimator_more_samples_and_another_image(plain, here, recorded):
    plain.run("change({beta: 2.5})")
    wanted = as_python(here, recorded.eps, 2.5).passes["to_mu"].incoming[0]
    assert plain.run(PASS)["to_mu"] == pytest.approx(wanted, rel=1e-7)
    plain.run("change({beta: 1, K: 4})")
    eps = np.reshape(plain.run("return Array.from(noiseNow())"), (4, 1, -1))
    assert np.array_equal(eps[0, 0], recorded.eps[0, 0])
    wanted = as_python(here, eps).passes["to_mu"].incoming[0]
    assert plain.run(PASS)["to_mu"] == pytest.approx(wanted, rel=1e-7)
    plain.run("chooseEstimator('vimco')")
    wanted = as_python(here, eps, estimator=estimators.ESTIMATORS["vimco"]).passes["to_mu"].incoming[0]
    assert plain.run(PASS)["to_mu"] == pytest.approx(wanted, rel=1e-7)
    before = plain.run(PASS)["loss"]
    plain.run("change({image: 2})")
    assert plain.run(PASS)["loss"] != before
    plain.run("change({beta: 3})")                         # a bound on log p(x) knows no beta
    assert "beta = 1" in plain.text("#live-note") and plain.run("return settings.beta") == 1
    assert plain.complaints() == []


def test_new_draws_differ_and_the_cards_show_the_new_pass(plain, data):
    plain.run("go(arguments[0])", data["forward"].index("sample"))
    card = plain.text("#card")
    plain.click("#new-draw")
    first = plain.run(PASS)
    assert plain.text("#card") != card and plain.text("#card h2").startswith("The sampling node")
    plain.click("#new-draw")
    assert plain.run(PASS)["z"] != first["z"]


def test_an_image_drawn_by_hand_goes_through_the_model(plain):
    plain.run("document.querySelector('.bench-in .fold').open = true")
    plain.run("document.getElementById('pad').scrollIntoView({block: 'center', behavior: 'instant'})")
    left, top, width, height = plain.run("const b = document.getElementById('pad').getBoundingClientRect();"
                                         "return [b.left, b.top, b.width, b.height]")
    before = plain.run(PASS)
    for kind, x, y in (("mousePressed", 0.1, 0.1), ("mouseMoved", 0.9, 0.9), ("mouseReleased", 0.9, 0.9)):
        plain.chrome("Input.dispatchMouseEvent", type=kind, x=left + x * width, y=top + y * height,
                     button="left", buttons=1)
    x = plain.run("return Array.from(now().x)")
    assert x[0] == 1 and x[-1] == 1 and sum(x) == 2
    assert plain.run(PASS)["to_mu"] != before["to_mu"] and plain.text("#image-label") == "drawn by hand"
    plain.type("#pad", "ArrowLeft", " ")
    assert plain.run("return sum(now().x)") == 3
    plain.click("#wipe")
    assert plain.run(PASS) == before and plain.complaints() == []


def test_the_badge_is_green_and_red_after_one_weight_is_corrupted(chromium, here, data, tmp_path):
    browser = opened(chromium, here / "plain.html")
    assert browser.text("#badge") == "✓ agrees with minivae to 1e-5"
    assert browser.run("return document.getElementById('badge').className").endswith("good")
    damaged = embedded(here / "plain.html")
    stored = damaged["live"]["spec"]["params"]["to_mu.W"]
    weights = np.frombuffer(base64.b64decode(stored["base64"]), "<f4").copy()
    weights[0] += 0.01
    stored["base64"] = base64.b64encode(weights.tobytes()).decode()
    text = (here / "plain.html").read_text()
    whole = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S).group(1)
    (tmp_path / "damaged.html").write_text(text.replace(whole, json.dumps(damaged).replace("<", "\\u003c")))
    browser = opened(chromium, tmp_path / "damaged.html")
    assert browser.text("#badge").startswith("✗ does not agree") and browser.complaints() == []
    assert browser.run("return document.getElementById('badge').className").endswith("bad")


def test_training_in_the_page_moves_loss_samples_and_plane(plain):
    plain.click("#train-step")
    until(plain, "return document.getElementById('train-where').textContent.includes('step 1')")
    sheet = "return ['train-samples', 'train-plane'].map(id => document.getElementById(id).innerHTML)"
    first, untrained = plain.run(sheet), plain.run("return curve[0].loss")
    plain.click("#train-start")
    until(plain, "return curve.length >= 200")
    assert plain.text("#train-start") == "Stop"
    plain.click("#train-start")
    assert plain.text("#train-start") == "Start" and plain.run(sheet) != first
    assert np.mean(plain.run("return curve.slice(-20).map(m => m.loss)")) < untrained
    plain.click("#train-reset")
    until(plain, "return document.getElementById('train-where').textContent.startsWith('epoch 0, step 0')")
    assert plain.run("return curve.length") == 0 and plain.complaints() == []


def until(browser, script):
    for _ in range(200):
        if browser.run(script):
            return
        time.sleep(0.05)
    raise AssertionError(f"never came true within ten seconds: {script}")


# --- places, and windows ---


def test_a_link_opens_its_place_and_its_settings(chromium, here, data):
    browser = opened(chromium, here / "plain.html", "#step=9&beta=2&image=2&estimator=stl")
    assert "step 9 of" in browser.text(".badge")
    assert browser.run("return [settings.beta, settings.image, settings.estimator]") == [2, 2, "stl"]
    browser.run("change({eps: Float64Array.of(0.5, -1, 0.25)})")
    place = browser.run("return location.hash")
    assert set(place[1:].split("&")) == {"step=9", "beta=2", "image=2", "estimator=stl", "eps=0.5,-1,0.25"}
    before = browser.run(PASS)
    assert opened(chromium, here / "plain.html", place).run(PASS) == before
    assert "What is held constant" in opened(chromium, here / "plain.html", "#ask=constant").text("#card h2")
    nonsense = "#step=999&beta=x&ask=__proto__&image=-3&estimator=%3Cscript%3E&K=1e9"
    browser = opened(chromium, here / "plain.html", nonsense)
    assert browser.complaints() == [] and browser.text("h1")


WINDOWS = [(390, 844), (820, 1180), (1440, 900), (720, 450)]           # a phone, a tablet, a laptop, and that at 200 %


@pytest.mark.parametrize("width, height", WINDOWS)
def test_the_graph_and_the_card_are_in_sight_at_every_step(chromium, here, data, width, height):
    browser = opened(chromium, here / "plain.html", width=width, height=height)
    # how much of the graph, and of the card's title, is in sight; the title's top, and the strip's bottom
    seen = """const box = e => e.getBoundingClientRect(), title = document.querySelector("#card h2");
        const part = e => Math.min(innerHeight, box(e).bottom) - Math.max(0, box(e).top);
        const graphs = [...document.querySelectorAll("#graph svg, #strip:not([hidden]) svg")];
        const shown = graphs.filter(e => e.checkVisibility()), strip = document.querySelector("#strip:not([hidden])");
        return [Math.max(...shown.map(e => part(e) / box(e).height)), part(title), box(title).top,
                strip ? box(strip).bottom : 0]"""
    both = "found[0] > 0.5 && found[1] > 10 && found[2] >= found[3] - 1"
    for _ in range(len(data["forward"]) + len(data["backward"])):
        browser.type("body", "ArrowRight")
        until(browser, f"const found = (() => {{{seen}}})(); return {both}")
    browser.run("document.getElementById('live').scrollIntoView()")
    until(browser, f"const found = (() => {{{seen}}})(); return found[0] > 0.9")
    strip = browser.run("return document.getElementById('strip').getBoundingClientRect().height")
    assert 80 <= strip <= height / 3 and browser.complaints() == []


def test_most_cards_fit_one_screen(plain, data):
    heights = []
    for step in range(len(data["forward"]) + len(data["backward"])):
        plain.run("go(arguments[0])", step)
        heights.append(plain.run("return document.getElementById('card').getBoundingClientRect().height"))
    # below the strip of the graph and above the buttons
    assert max(heights) <= 900 - 145 - 60, heights


@pytest.mark.parametrize("width, scheme", [(390, "light"), (820, "dark"), (1440, "light"), (320, "light")])
def test_nothing_is_wider_than_the_window(chromium, here, width, scheme):
    for name in ("plain", "hostile", "broken", "linear"):
        for place in ("", "#ask=kl", "#ask=constant", "#step=8", "#step=14"):
            browser = opened(chromium, here / f"{name}.html", place, width, 844, prefers_color_scheme=scheme)
            assert browser.run("return document.documentElement.scrollWidth") <= width, (name, place)
        dark = browser.run("return getComputedStyle(document.body).backgroundColor") == "rgb(20, 22, 26)"
        assert dark is (scheme == "dark") and browser.complaints() == []


# --- for everybody ---


AXE = "axe-core@4.14.1"
AXE_HASH = "FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ=="      # SHA-512


@pytest.fixture(scope="module")
def axe(tmp_path_factory):
    """The source of axe-core, from the npm registry, of a pinned version and hash."""
    folder = tmp_path_factory.mktemp("axe")
    if not shutil.which("npm"):
        skip("npm is not installed, so axe-core cannot be had")
    done = subprocess.run(["npm", "pack", AXE], cwd=folder, capture_output=True, text=True, timeout=120)
    if done.returncode:
        skip("the npm registry does not answer, so axe-core cannot be had")
    raw = next(folder.glob("*.tgz")).read_bytes()
    assert base64.b64encode(hashlib.sha512(raw).digest()).decode() == AXE_HASH
    with tarfile.open(fileobj=io.BytesIO(raw)) as packed:
        return packed.extractfile("package/axe.min.js").read().decode()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 820, 1440])
def test_axe_finds_nothing(chromium, here, axe, width, scheme):
    for place in ("", "#ask=direction", "#ask=kl", "#ask=constant&estimator=score", "#step=8", "#step=19"):
        browser = opened(chromium, here / "plain.html", place, width, 900, prefers_color_scheme=scheme)
        browser.run("for (const d of document.querySelectorAll('details')) d.open = true")
        browser.run(axe)
        found = browser.call("POST", "/execute/async", {"args": [], "script": """const done = arguments[0];
            axe.run({resultTypes: ["violations"]})
                .then(r => done(r.violations.map(v => [v.id, v.nodes.map(n => n.html.slice(0, 200))])))"""})
        assert found == [], place


def luminance(colour):
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
               for c in (int(colour[i:i + 2], 16) / 255 for i in (1, 3, 5)))
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_lines_and_borders_stand_out_three_to_one(chromium, here, scheme):
    """WCAG 2.2, 1.4.11: what is needed to understand a picture, against every ground it lies on."""
    browser = opened(chromium, here / "plain.html", prefers_color_scheme=scheme)
    computed = "return getComputedStyle(document.documentElement).getPropertyValue(arguments[0]).trim()"
    value = {name: browser.run(computed, f"--{name}")
             for name in ("bg", "card", "faint", "b-soft", "edge", "cut", "f", "b", "negative", "ink")}
    for line in ("edge", "cut", "f", "b", "negative", "ink"):
        for ground in ("bg", "card", "faint", "b-soft"):
            light, dark = sorted((luminance(value[line]), luminance(value[ground])), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 3, (line, ground)


def test_every_picture_has_its_words_and_every_control_its_name(plain, data):
    for _ in data["forward"] + data["backward"]:
        unnamed = plain.run("return [...document.querySelectorAll('svg')]"
                            ".filter(e => !(e.getAttribute('aria-label') && e.getAttribute('role'))).length")
        assert unnamed == 0
        plain.type("body", "ArrowRight")
    nameless = plain.run("return [...document.querySelectorAll('button, input, select')]"
                         ".filter(e => !(e.getAttribute('aria-label') || e.textContent.trim() || e.labels?.length))"
                         ".map(e => e.outerHTML)")
    assert nameless == []


def test_without_javascript_there_are_the_finished_graph_and_the_walk_and_nothing_dead(here, data):
    document = html5lib.HTMLParser(namespaceHTMLElements=False).parse((here / "plain.html").read_text())
    parents = {child: parent for parent in document.iter() for child in parent}

    def alive(element):                                    # not among what is hidden without JavaScript
        while element is not None:
            if "needs-script" in (element.get("class") or "").split():
                return False
            element = parents.get(element)
        return True

    assert [e for e in document.iter() if e.tag in ("button", "input", "select") and alive(e)] == []
    graph = next(e for e in document.iter() if e.get("class") == "wide")
    assert alive(graph) and len([e for e in graph.iter() if "back" in (e.get("class") or "").split()]) > 15
    text = "".join(next(e for e in document.iter() if e.tag == "pre").itertext())
    assert "FORWARD" in text and "BACKWARD" in text and "checked dmu" in text and max(map(len, text.splitlines())) <= 80


def test_on_paper_it_is_one_poster(plain):
    for place in ("", "#ask=kl", "#step=14"):
        plain.run("location.hash = arguments[0]", place)
        pdf = base64.b64decode(plain.chrome("Page.printToPDF", preferCSSPageSize=True, printBackground=True)["data"])
        assert len(re.findall(rb"/Type\s*/Page\b", pdf)) == 1, place


def test_the_page_asks_nothing_of_any_network(plain):
    plain.run("change({beta: 2}); go(5)")
    asked = plain.run("return performance.getEntriesByType('resource').map(e => e.name)"
                      ".filter(name => !name.startsWith('blob:'))")
    assert asked == [] and plain.complaints() == []


def test_a_broken_model_shows_a_card_and_a_hostile_name_is_only_text(chromium, here):
    browser = opened(chromium, here / "broken.html")
    alert = browser.text("[role=alert]")
    assert "This pass cannot be drawn" in alert and "to_mu.W is not finite" in alert
    assert browser.complaints() == []
    browser = opened(chromium, here / "hostile.html", "#ask=constant")
    assert HOSTILE.replace("/", "") in browser.text("#about")
    assert browser.run("return document.querySelectorAll('#about img').length") == 0
    struck = browser.run("return [...document.querySelectorAll('[name=estimator]:disabled')].map(e => e.value)")
    assert struck == ["iwae", "iwae_stl", "dreg", "rws", "vimco"] and browser.complaints() == []


def test_explain_opens_the_browser_when_asked(here, monkeypatch, capsys):
    monkeypatch.chdir(here)
    asked = []
    monkeypatch.setattr("webbrowser.open", lambda url: asked.append(url) or True)
    assert main(["explain", "plain", "--out", "o.html"]) == 0 and asked == []
    assert main(["explain", "plain", "--out", "o.html", "--open"]) == 0
    assert asked == [(here / "o.html").as_uri()]
    monkeypatch.setattr("webbrowser.open", lambda url: False)
    assert main(["explain", "plain", "--out", "o.html", "--open"]) == 0
    assert capsys.readouterr().err == "minivae: no browser was found: open o.html yourself\n"


# --- coins ---


def test_a_page_of_coins_cuts_the_path_and_keeps_the_score(chromium, coins):
    browser = opened(chromium, coins)
    shown = edges(browser)
    assert "cut" in shown["to_a", "sample"] and "back" in shown["to_a", "log_q"]
    assert "back" not in shown["sample", "dec.0"]
    assert browser.text("#badge").startswith("✓")
    browser.click("[data-ask=direction]")
    assert browser.text("#card h2").startswith("Not with this estimator")
    for _ in range(30):
        browser.type("body", "ArrowRight")
    browser.click("#new-draw")
    browser.click("[data-ask=constant]")
    for name in ("score", "vimco", "disarm"):
        browser.click(f"#card [name=estimator][value={name}]")
    assert browser.complaints() == []


# --- convolutions, and images in colour -----------------------------------------------------------------


def step_of(data, name, backward):
    """The number of a node's step in the walk, as the address has it."""
    if not backward:
        return data["forward"].index(name) + 1
    return len(data["forward"]) + data["backward"].index(name) + 1


@pytest.mark.parametrize("page", ["conv", "colour"])
def test_a_conv_page_opens_walks_every_step_and_agrees(chromium, page, request):
    path = request.getfixturevalue(page)
    data = embedded(path)
    html5lib.HTMLParser(strict=True, namespaceHTMLElements=False).parse(path.read_text())
    opened(chromium, path)
    assert "agrees with minivae" in chromium.text("#badge")
    # a gradient along every arrow that is used, but into the image, into the image as an image, and into the noise
    unused = {ends for ends, classes in edges(chromium).items() if "unused" in classes}
    assert orange(chromium) == set(edges(chromium)) - unused - {("x", "enc.0"), ("enc.0", "enc.1"), ("eps", "sample")}
    assert chromium.run("return document.querySelectorAll('#graph .wide .frame-of.filled').length") == 2
    for step in range(len(data["forward"]) + len(data["backward"])):
        chromium.run("go(arguments[0])", step)
        assert chromium.run("return document.querySelectorAll('#card .pic').length") > 0 or step + 1 in (
            step_of(data, "loss", False), step_of(data, "loss", True), step_of(data, "x", True)), step
    assert chromium.complaints() == []


def test_maps_are_small_pictures_of_the_largest_channels(chromium, conv):
    data = embedded(conv)
    opened(chromium, conv, f"#step={step_of(data, 'enc.3', False)}")
    output = next(node for node in data["nodes"] if node["name"] == "enc.3")["output"]
    a = decode(data["arrays"][output["array"]])
    maps = "document.querySelector('#card .column:last-child svg')"
    channels = chromium.run(f"return {maps}.dataset.channels").split(",")
    assert sorted(map(int, channels)) == sorted(np.argsort(-np.linalg.norm(a[0], axis=(0, 1)))[:16])
    assert "the 16 channels of 20 with the largest norms" in chromium.text("#card .column:last-child")
    # the cell in the second row and the first column of the fourth map, by the pointer
    _, H, W, _ = a.shape
    per = int(chromium.run(f"return {maps}.dataset.maps").split(",")[3])
    x, y = 1 + 3 % per * (W * 10 + 6) + 5, 1 + 3 // per * (H * 10 + 6) + 15
    told = chromium.run(f"""const box = {maps}.getBoundingClientRect(), unit = box.width / {maps}.viewBox.baseVal.width;
        {maps}.dispatchEvent(new PointerEvent("pointermove", {{ bubbles: true,
          clientX: box.left + {x} * unit, clientY: box.top + {y} * unit }}));
        return document.getElementById("tip").textContent;""").replace("−", "-")
    value = a[0, 1, 0, int(channels[3])]
    assert told.startswith(f"h.3[0,1,0,{channels[3]}] = ") and float(told.split()[2].split("=")[0]) == pytest.approx(
        value, rel=1e-5)
    assert "number " in told and " of the patch · W[" in told


def test_patches_are_drawn_where_they_were_cut(chromium, conv):
    """The patches of the image: as many dark squares as P(x) has ones."""
    data = embedded(conv)
    opened(chromium, conv, f"#step={step_of(data, 'enc.1', False)}")
    x = decode(data["arrays"]["x"]).reshape(6, 7)
    padded = np.pad(x, 1)
    ones = sum(padded[i:i + 3, j:j + 3].sum() for i in range(0, 5, 2) for j in range(0, 7, 2))
    pictures = chromium.run("return [...document.querySelectorAll('#card .pic')].map(e => [e.textContent, "
                            "e.querySelectorAll('.frame').length, [...e.querySelectorAll('path')]"
                            ".reduce((n, p) => n + p.getAttribute('d').split('M').length - 1, 0)])")
    (told, frames, squares), = [p for p in pictures if p[0].startswith("P(h.0)")]
    assert "12×9: 3×3 pixels" in told and (frames, squares) == (12, ones)
    # and on the way back those of the gradient that comes to the transposed one
    opened(chromium, conv, f"#step={step_of(data, 'to_logits.0', True)}")
    assert "P(dlogits.0)" in chromium.text("#card .column")


def test_a_filters_gradient_is_drawn_as_large_as_a_patch_and_follows_a_change(chromium, conv):
    data = embedded(conv)
    opened(chromium, conv, f"#step={step_of(data, 'enc.3', True)}")
    shown = "const f = figures['enc.3/fills/0']; return [D.arrays[f.array].shape, [...numbers(f)]]"
    shape, before = chromium.run(shown)
    assert shape == [3, 3, 3]
    column = int(re.search(r"column (\d+), one filter", chromium.text("#card")).group(1))
    chromium.run("change({ eps: recordedEps.map(e => e + 0.5) })")
    _, after = chromium.run(shown)
    whole = np.reshape(chromium.run("return [...now().back.params['enc.3.W']]"), (27, 20))
    assert np.array_equal(after, whole[:, column]) and not np.allclose(before, after)
    assert chromium.complaints() == []


def test_an_image_in_colour_is_shown_in_colour(chromium, colour):
    data = embedded(colour)
    x = decode(data["arrays"]["x"]).reshape(-1, 3)
    wanted = [f"rgb({r},{g},{b})" for r, g, b in np.floor(x * 255 + 0.5).astype(int)]
    opened(chromium, colour, "#step=1")
    fills = "return [...document.querySelectorAll(arguments[0])].map(e => e.getAttribute('fill')).filter(Boolean)"
    assert chromium.run(fills, "#card svg.image rect") == wanted
    assert chromium.run(fills, "#graph .wide .pixels.image rect") == wanted
    # what the graph shows without JavaScript: each channel in 16 steps
    static = set(re.findall(r'fill="#(\w{6})"', colour.read_text().split('id="data"')[0]))
    assert static and all(int(code[i:i + 2], 16) % 17 == 0 for code in static for i in (0, 2, 4))
    # its gradient has signs, so it is three maps
    opened(chromium, colour, f"#step={step_of(data, 'to_mean.1', True)}")
    assert "red, green, blue; coloured: positive, grey: negative" in chromium.text("#card")
    # a hand with one pen cannot draw in colour
    assert chromium.run("return document.getElementById('pad')") is None
    assert chromium.complaints() == []


@pytest.mark.parametrize("width", [1440, 390])
def test_no_word_in_the_graph_of_a_conv_model_leaves_its_box(chromium, conv, width):
    opened(chromium, conv, width=width)
    too_wide = chromium.run("""return [...document.querySelectorAll('#graph .face')]
        .filter(e => e.getClientRects().length).flatMap(face => {
          const box = face.querySelector('rect')?.getBoundingClientRect();
          return [...face.querySelectorAll('text')].filter(t => box && box.width > 20 &&
            t.getBoundingClientRect().width > box.width).map(t => t.textContent);
        });""")
    assert too_wide == []
    assert chromium.run("return document.documentElement.scrollWidth") <= width


def test_a_long_pass_gets_fewer_draws(conv, data):
    from minivae.explain.draws import DRAWS, FEWEST, draws_of

    assert data["draws"] == embedded(conv)["draws"] == DRAWS
    vae = VAE.conv((28, 28), (32, 64), 4, rng=0)
    t = trace(vae, np.zeros((1, 784)), np.zeros((1, 4)), estimators.elbo, entries=0)
    assert FEWEST <= draws_of(t) < 60
