"""The demos as notebooks: each `# %%` cell runs in a kernel, and the figures appear below the cells."""

import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from test_demos import DEMOS

ROOT = DEMOS.parent

def notebook_of(script: str):
    """A notebook of the script's cells: `# %% [markdown]` begins one of text, `# %%` one of code."""
    cells = []
    for cell in script.split("# %%")[1:]:
        kind, _, body = cell.partition("\n")
        if kind.strip() == "[markdown]":
            cells.append(nbformat.v4.new_markdown_cell(body.replace("\n# ", "\n").removeprefix("# ").strip()))
        else:
            cells.append(nbformat.v4.new_code_cell(body.strip()))
    return nbformat.v4.new_notebook(cells=cells)


def executed(notebook, cwd):
    """The notebook after its run in a kernel of this Python, with this checkout and the demos on its path."""
    paths = os.pathsep.join([str(ROOT), str(DEMOS), os.environ.get("PYTHONPATH", "")])
    env = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"}     # as in a notebook, not in CI
    client = NotebookClient(notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(cwd)}})
    client.create_kernel_manager()
    client.km.kernel_spec.argv[0] = sys.executable
    return client.execute(env={**env, "PYTHONPATH": paths})


def printed(notebook):
    return "".join(output.text for cell in notebook.cells if cell.cell_type == "code"
                   for output in cell.outputs if output.output_type == "stream" and output.name == "stdout")


def pictures_in(cell):
    return [output for output in cell.get("outputs", []) if "image/png" in output.get("data", {})]


# Runs before the first cell: every figure is looked at before it is saved.
BEFORE = f"""
import sys
sys.path.append({str(Path(__file__).parent)!r})
import looks, pictures
faults, save = [], pictures.save

def look_and_save(figure, path):
    faults.extend(f"{{path.name}}: {{fault}}" for fault in looks.faults(figure))
    save(figure, path)

pictures.save = look_and_save
"""
AFTER = """
import json
print(json.dumps(faults))
"""


@pytest.mark.parametrize("demo", sorted(DEMOS.glob("[0-9]*.py")), ids=lambda path: path.stem)
def test_demo(demo, tmp_path):
    """At full length and with the kernel's own argv: it ends, and its figures are below its cells, legible."""
    notebook = notebook_of(demo.read_text())
    notebook.cells.insert(0, nbformat.v4.new_code_cell(BEFORE))
    notebook.cells.append(nbformat.v4.new_code_cell(AFTER))
    done = executed(notebook, tmp_path)
    *lines, faults = printed(done).splitlines()
    written = list(tmp_path.glob("runs/demo-*/*.png"))
    shown = sum(len(pictures_in(cell)) for cell in done.cells)
    assert shown == len(written) == sum(line.startswith("wrote runs/demo-") for line in lines)
    assert (shown == 0) == (demo.name == "02_does_backprop_start_at_the_decoder.py")          # it draws nothing
    assert json.loads(faults) == []


# --- importing minivae leaves a notebook's pictures alone ---


INLINE = """
import pkgutil, matplotlib, minivae
from matplotlib import pyplot
def show():
    pyplot.plot([1, 2])
    pyplot.show()
show()
#%%
before = matplotlib.get_backend()
for module in pkgutil.walk_packages(minivae.__path__, "minivae."):
    if not module.name.endswith("__main__"):
        __import__(module.name)
import numpy as np
from minivae.app import plots
from minivae.layers import Tanh
minivae.check_layer(Tanh(), np.ones((2, 3))).plot("taylor.png")
plots.samples(np.zeros((4, 9)), (3, 3), "samples.png")
print(before, matplotlib.get_backend())
#%%
show()
"""


def test_pictures_stay_inline_after_all_of_minivae_was_imported(tmp_path):
    cells = [nbformat.v4.new_code_cell(cell) for cell in INLINE.split("#%%")]
    done = executed(nbformat.v4.new_notebook(cells=cells), tmp_path)
    before, after = printed(done).split()
    assert before == after and "inline" in before
    assert [len(pictures_in(cell)) for cell in done.cells] == [1, 0, 1]
    assert (tmp_path / "taylor.png").is_file() and (tmp_path / "samples.png").is_file()


def test_no_file_of_ours_names_a_backend():
    for folder in ("minivae", "demos"):
        for path in (ROOT / folder).rglob("*.py"):
            assert "matplotlib.use(" not in path.read_text() and "switch_backend" not in path.read_text(), path


def test_a_script_keeps_the_backend_that_it_chose():
    code = ("import matplotlib; matplotlib.use('svg'); import minivae; from minivae import check_layer, fit, VAE; "
            "from minivae.app import plots; print(matplotlib.get_backend())")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "svg"
