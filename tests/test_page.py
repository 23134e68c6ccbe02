"""The page: it has the recorded numbers, is valid, needs no network, and does in a browser what it says."""

import base64
import json
import re
import subprocess
import sys
from pathlib import Path

import html5lib
import numpy as np
import pytest

from browser import Browser, missing
from conftest import folder_of_images, skip, small_run
import minivae
from minivae import VAE, estimators
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


def test_the_draws_start_with_the_walk_and_their_gradients_follow_the_formulas(data, recorded):
    s = {name: decode(data["arrays"][key]) for name, key in data["sampling"].items() if name not in ("kept", "draws")}
    kept, sample = data["sampling"]["kept"], recorded.passes["sample"]
    # the batch of draws sums in another order than one row alone: a few roundings
    np.testing.assert_allclose(s["draws_dz"][0], sample.incoming[0][kept], rtol=1e-12)
    np.testing.assert_allclose(s["path_mu"], s["draws_dz"] + s["mu"][kept], rtol=1e-10, atol=1e-12)
    std, kl_part = np.exp(s["logvar"] / 2)[kept], np.expm1(s["logvar"][kept]) / 2
    through_z = s["draws_dz"] * s["draws_eps"] * std / 2
    np.testing.assert_allclose(s["path_logvar"], through_z + kl_part, rtol=1e-10, atol=1e-12)
    weight = (s["score_mu"] - s["mu"][kept]) * std / s["draws_eps"]         # -log p(x|z), the same for every latent
    np.testing.assert_allclose(weight, weight[:, :1] * np.ones(len(kept)), rtol=1e-8)


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
    text = (here / "hostile.html").read_text()
    assert "<img" not in text and embedded(here / "hostile.html")["about"]["run"] == HOSTILE.replace("/", "")
    assert "alert(1)" not in text.split('id="data">')[0] + text.split('id="data">')[1].split("</script>", 1)[1]


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
    assert capsys.readouterr().err == "minivae: the page draws images of up to 19 pixels, these have 20\n"
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
    assert data["about"]["loss"] == t.loss and data["sampling"] is None
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


@pytest.fixture
def plain(chromium, here):
    chromium.resize(1300, 900, prefers_reduced_motion="reduce")
    chromium.open(here / "plain.html")
    return chromium


def test_the_arrow_keys_walk_forward_then_backward_and_home_rewinds(plain, data):
    order = [(name, "Forward") for name in data["forward"]] + [(name, "Backward") for name in data["backward"]]
    titles = {node["name"]: node["title"] for node in data["nodes"]}
    for i, (name, direction) in enumerate(order):
        assert plain.text("#card h3") == titles[name] and plain.text(".badge").startswith(direction)
        assert plain.run("return document.querySelector('.node.now').dataset.name") == name
        assert f"step {i + 1} of {len(order)}" in plain.text(".badge")
        plain.type("body", "ArrowRight")
    assert f"step {len(order)} of" in plain.text(".badge")            # the end stays the end
    plain.type("body", "ArrowLeft")
    assert f"step {len(order) - 1} of" in plain.text(".badge")
    plain.type("body", "Home")
    assert "step 1 of" in plain.text(".badge")
    assert plain.complaints() == []


def test_each_backward_card_shows_both_values_of_its_gradient(plain, data):
    plain.type("body", "End")
    for name in reversed(data["backward"][1:-1]):
        plain.type("body", "ArrowLeft")
        node = next(node for node in data["nodes"] if node["name"] == name)
        shown = plain.text("#card").replace("−", "-")
        for check in (node["incoming"]["checks"][0], *(f["checks"][0] for f in node["fills"])):
            for kind, words in (("analytic", "by hand"), ("numeric", "by differences")):
                digits = str(float(f"{check[kind]:.9g}")).removesuffix(".0")
                tiny = abs(check[kind]) < 1e-3             # shown with an exponent
                assert f"{digits}{words}" in shown or tiny, (name, digits)
        assert f"backward, {node['code']['backward']['file']}:{node['code']['backward']['line']}" in shown
        assert plain.run("return document.querySelectorAll('#card .formula .sym').length") > 0


def test_buttons_nodes_chips_and_the_time_line_work_too(plain, data):
    plain.click("#next")
    assert "step 2 of" in plain.text(".badge")
    plain.click("[data-node='sample']")
    assert plain.text("#card h3").startswith("The sampling node") and plain.text(".badge").startswith("Forward")
    plain.click("[data-chip='eps']")
    lit = plain.run("return [...document.querySelectorAll('#card .lit')].map(e => e.tagName + e.dataset.s)")
    # in the formula, the code and the caption; and the picture
    assert {"SPANeps", "FIGUREeps"} == set(lit) and lit.count("SPANeps") > 3
    plain.type("#time", "ArrowRight")
    assert "step 8 of" in plain.text(".badge")             # one step, not two: the slider keeps its own keys
    plain.click("#play")
    assert plain.text("#play") == "Pause"
    plain.click("#play")
    plain.click("#rewind")
    assert "step 1 of" in plain.text(".badge") and plain.text("#play") == "Play"
    assert plain.complaints() == []


def values(browser) -> dict[str, float]:
    script = "return document.getElementById('out-' + arguments[0]).dataset.value"
    return {name: float(browser.run(script, name)) for name in ("std", "z", "dmu", "dlogvar")}


def test_the_page_recomputes_the_sampling_node_as_python_does(plain, data, recorded):
    """To 1e-9: both are float64, and a wrong half or sign would be off by percents."""
    sample = recorded.passes["sample"]
    mu, logvar, dz = sample.inputs["mu"][0], sample.inputs["logvar"][0], sample.incoming[0]
    for j in data["sampling"]["kept"]:
        plain.click(f"[name=latent][value='{j}']")
        for how in ("recorded", ["ArrowRight"] * 5, ["ArrowLeft"] * 9, ["Home"], ["End"]):
            if how == "recorded":
                plain.click("#same-eps")
                eps = recorded.eps[0, 0, j]
            else:
                plain.type("#eps-slider", *how)
                eps = float(plain.run("return document.getElementById('eps-slider').value"))
            std = np.exp(logvar[j] / 2)
            wanted = {"std": std, "z": mu[j] + std * eps, "dmu": dz[j], "dlogvar": dz[j] * eps * std / 2}
            assert values(plain) == pytest.approx(wanted, rel=1e-9, abs=1e-9), (j, how)
            assert how != ["End"] or eps == 3.0
            assert ("by hand" in plain.text("#draw-note")) is (how != "recorded")
    plain.click("#same-eps")
    assert values(plain)["z"] == sample.output[0, j]
    assert values(plain)["dlogvar"] == pytest.approx(sample.outgoing["logvar"][0, j], rel=1e-12)
    assert plain.complaints() == []


def test_new_eps_shows_recorded_draws_with_their_own_gradients(plain, data):
    s = {name: decode(data["arrays"][key]) for name, key in data["sampling"].items() if name not in ("kept", "draws")}
    j = data["sampling"]["kept"][0]
    plain.click(f"[name=latent][value='{j}']")
    for draw in (1, 2):
        plain.click("#new-eps")
        eps, dz = s["draws_eps"][draw, 0], s["draws_dz"][draw, 0]
        found = values(plain)
        assert found["z"] == pytest.approx(s["mu"][j] + np.exp(s["logvar"] / 2)[j] * eps, rel=1e-9)
        assert found["dmu"] == dz
        kl_part = np.expm1(s["logvar"][j]) / 2
        assert found["dlogvar"] + kl_part == pytest.approx(s["path_logvar"][draw, 0], rel=1e-9)
        assert f"Draw {draw + 1} of" in plain.text("#draw-note")
    score = s["score_mu"][:, 0]
    cells = plain.run("return [...document.querySelectorAll('#spread td')].map(e => e.textContent)")
    assert cells[4] == "score function"
    # shown to 3 digits: off by 5 in the next
    assert float(cells[7].replace("−", "-")) == pytest.approx(score.std(ddof=1), rel=5e-3)


def test_the_switch_lights_the_open_wires_and_greys_the_cut_ones(plain, data):
    for e in data["estimators"]:
        plain.click(f"[name=estimator][value='{e['name']}']")
        shown = plain.run("return [...document.querySelectorAll('.wire-word')]"
                          ".map(w => [w.textContent.split(/[ :]/)[0], w.classList.contains('cut')])")
        assert dict(shown) == {wire: not any(weights) for wire, weights in e["wires"].items()}, e["name"]
        assert plain.text("#estimator-words") == e["sentence"].replace("`", "")
    assert plain.complaints() == []


@pytest.mark.parametrize("width, scheme", [(390, "light"), (700, "dark"), (1300, "light")])
def test_nothing_is_wider_than_the_window(chromium, here, width, scheme):
    chromium.resize(width, 844, prefers_color_scheme=scheme, prefers_reduced_motion="reduce")
    for name in ("plain", "hostile", "broken", "linear"):
        chromium.open(here / f"{name}.html")
        for _ in range(1 if name == "broken" else 4):
            chromium.type("body", *["ArrowRight"] * 5)
            assert chromium.run("return document.documentElement.scrollWidth") <= width, name
        dark = chromium.run("return getComputedStyle(document.body).backgroundColor") == "rgb(20, 22, 26)"
        assert dark is (scheme == "dark") and chromium.complaints() == []


def test_every_picture_has_its_words_and_every_control_its_name(plain, data):
    for _ in data["forward"] + data["backward"]:
        unnamed = plain.run("return [...document.querySelectorAll('svg')]"
                            ".filter(e => !(e.getAttribute('aria-label') && e.getAttribute('role'))).length")
        assert unnamed == 0
        plain.type("body", "ArrowRight")
    nameless = plain.run("return [...document.querySelectorAll('button, input')]"
                         ".filter(e => !(e.getAttribute('aria-label') || e.textContent.trim() || e.labels?.length))"
                         ".map(e => e.outerHTML)")
    assert nameless == []


def test_a_broken_model_shows_a_card_and_a_hostile_name_is_only_text(chromium, here):
    chromium.open(here / "broken.html")
    alert = chromium.text("[role=alert]")
    assert "This pass cannot be drawn" in alert and "to_mu.W is not finite" in alert
    assert chromium.complaints() == []
    chromium.open(here / "hostile.html")
    assert HOSTILE.replace("/", "") in chromium.text("#about")
    assert chromium.run("return document.querySelectorAll('#about img').length") == 0
    struck = chromium.run("return [...document.querySelectorAll('[name=estimator]:disabled')].map(e => e.value)")
    assert struck == ["iwae", "iwae_stl", "dreg", "rws", "vimco"] and chromium.complaints() == []
