"""The doctor reports what is there, and what is broken, and never breaks itself."""

import json
import os
import subprocess
import sys

import numpy
import pytest

from minivae.app import doctor
from minivae.app.cli import main
from minivae.data import published
from minivae.data.published import PARTS


speed = doctor._speed           # without the JIT a single step takes seconds, so only one test trains


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "SECONDS", 0.02)
    monkeypatch.setattr(doctor, "_speed", lambda: {"steps a second": 1.0})
    monkeypatch.delenv("MINIVAE_DATA", raising=False)
    monkeypatch.setattr(published, "cache_folder", lambda name: tmp_path / "cache" / name)


PARTS_OF_THE_REPORT = ["system", "libraries", "variables", "threads", "kernels", "cache", "data", "speed"]


def test_plain_text_and_json_hold_the_same_findings(capsys, monkeypatch):
    monkeypatch.setattr(doctor, "_speed", speed)
    found = doctor.examine()
    monkeypatch.setattr(doctor, "examine", lambda data_dir: found)
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert main(["doctor", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == found and list(found) == PARTS_OF_THE_REPORT
    said = " ".join(text.split())                          # lines are wrapped
    for findings in found.values():
        for name, value in findings.items():
            lines = value if isinstance(value, list) else [value]
            assert name in text and all(" ".join(str(line).split()) in said for line in lines)
    assert found["libraries"]["numpy"] == numpy.__version__ and found["speed"]["steps a second"] > 0
    assert "BROKEN" not in text
    assert any("blas" in pool or "mkl" in pool for pool in found["threads"]["pools"])
    assert "not made yet" in found["cache"]["downloads"]
    assert found["kernels"]["parts"] >= 1 and found["kernels"]["multiplies"]
    assert "8x8 digits" in found["data"]["digits"] and found["data"]["kmnist"].startswith("not here: it is downloaded")


def test_compiled_kernels_are_kept_in_the_users_cache_and_not_in_the_package(tmp_path):
    """Files of Numba in the package's folder would stay behind at an uninstall, and hide the next install."""
    env = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
    code = "from minivae import kernels; print(kernels.add_bias.stats.cache_path)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                          env={**env, "XDG_CACHE_HOME": str(tmp_path)})
    assert done.stdout.startswith(str(tmp_path / "minivae" / "kernels"))


def test_a_broken_library_is_named_and_the_rest_goes_on(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)      # import sklearn now raises
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    found = doctor.examine()
    for text in (found["libraries"]["sklearn"], found["threads"]["broken"]):
        assert text.startswith("BROKEN: ModuleNotFoundError")
    assert found["data"]["digits"].startswith("BROKEN: ") and found["data"]["mnist"].startswith("not here")
    assert found["libraries"]["numpy"] == numpy.__version__ and found["speed"]["steps a second"] > 0


@pytest.mark.parametrize("part", PARTS_OF_THE_REPORT)
def test_no_part_can_bring_the_report_down(part, monkeypatch, capsys):
    def broken(*_):
        raise RuntimeError("over\nthere")

    monkeypatch.setattr(doctor, f"_{part}", broken)
    assert main(["doctor"]) == 0
    assert f"{part:10s} broken               BROKEN: RuntimeError: over there\n" in capsys.readouterr().out


def test_data_are_found_and_hashed_but_not_fetched(tmp_path, capsys):
    folder = tmp_path / "data" / "mnist"
    folder.mkdir(parents=True)
    (folder / PARTS[0]).write_bytes(b"no image")
    found = doctor.examine(tmp_path / "data")["data"]
    assert found["mnist"] == [str(folder), f"  {PARTS[0]}: NOT RECOGNISED as the published one",
                              f"  {PARTS[1]}: MISSING", f"  {PARTS[2]}: MISSING"]
    nowhere = tmp_path / "nowhere"
    assert doctor.examine(nowhere)["data"]["mnist"] == f"BROKEN: ValueError: --data-dir {nowhere}: no such folder"
    assert not (tmp_path / "cache").exists() and capsys.readouterr().err == ""


def test_a_cache_that_cannot_be_written_is_reported(tmp_path):
    (tmp_path / "cache").write_text("a file where the folder should be")
    assert "NOT writable" in doctor.examine()["cache"]["downloads"]


def test_a_run_without_the_jit_says_so():
    code = "from minivae.app import doctor; print(doctor.examine.__globals__['_kernels']())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                          env={**os.environ, "NUMBA_DISABLE_JIT": "1"})
    assert "off (NUMBA_DISABLE_JIT)" in done.stdout
