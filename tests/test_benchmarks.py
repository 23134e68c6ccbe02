"""The benchmark runs, without the peers, at a tiny setting.  Nothing is asserted about times."""

import json
import os
import subprocess
import sys
from pathlib import Path

from benchmarks.step import TARGETS
from conftest import JIT


def test_the_benchmark_measures_every_row_without_its_peers(tmp_path):
    if not JIT:                                            # its pictures have 784 pixels: minutes without the JIT
        return
    command = [sys.executable, "-m", "benchmarks.step", "--quick", "--ours", "--rows", "256", "--out", str(tmp_path)]
    env = {**os.environ, "MPLBACKEND": "Agg", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=Path(__file__).resolve().parents[1], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    assert "JAX jit is left out" in done.stdout and "PyTorch eager is left out" in done.stdout
    record = json.loads((tmp_path / "step.json").read_text())
    assert [row["work"] for row in record["table"]] == list(TARGETS)
    assert all(row["ours"] > 0 for row in record["table"])
    assert record["machine"]["cores"] >= 1
    assert (tmp_path / "step.png").stat().st_size > 5000 and (tmp_path / "scaling.png").stat().st_size > 5000
