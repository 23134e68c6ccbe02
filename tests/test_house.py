"""The house: who may import whom, how long a page is, and what the lesson never needs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "minivae"

# The one allowed order: a file imports only files that stand above it.  Lesson first, then the
# workshops, then the doors.
ORDER = """
choices kernel_cache kernels pool cores pixels linear_gaussian first
layers convolutions estimators optim likelihoods latents baselines building model vae discrete
gradcheck.report gradcheck.differences gradcheck.complex_step gradcheck.wrong gradcheck.patterns gradcheck.formulas
gradcheck.suspects gradcheck.problem gradcheck.strangers gradcheck.contract gradcheck.parts
gradcheck.of_function gradcheck.of_layer gradcheck.of_model gradcheck.precision gradcheck gradcheck.exact_means
gradcheck.cases gradcheck.forward gradcheck.unbiased gradcheck.suite gradcheck.yours gradcheck.faults gradcheck.museum
locks data.arrays data.image_files data.table data.own data.idx data.published data
saving saving.archive saving.model_file saving.checkpoint saving.runs
training training.batches training.workers training.blocks training.evaluation training.ranks training.loop
training.metrics
explain explain.story explain.rules explain.subject explain.names explain.record explain.checker explain.trace
explain.wires_in_words explain.walk
explain.figures explain.cards explain.draws explain.live explain.graph explain.page
learn learn.exercise learn.twins learn.patches learn.wires learn.restated learn.known learn.cut learn.verdict
learn.rung learn.whole learn.weights learn.convolution_rungs learn.ladder learn.selftest
learn.excerpts learn.curves learn.hunt learn.hunts learn.record
learn.course learn.files learn.digits learn.child learn.grading learn.show learn.watch learn.finish
learn.which_loss learn.two_numbers
app app.signals app.exit_codes app.folders app.surroundings app.settings app.options app.sheets app.plots app.lines
app.resuming app.train app.evaluate app.gallery app.doctor app.gradcheck app.loss app.learn app.cli
sklearn_api __main__
""".split()
LESSON = ORDER[: ORDER.index("discrete") + 1]
LONG = {"kernels", "gradcheck.faults"}           # the Numba loops, and a table of data


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py")) if path != PACKAGE / "__init__.py"}


def imports_of(path: Path) -> set[str]:
    """The files of ours that a file imports, at its top or inside a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute here"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner.removeprefix("minivae.") in FILES else node.module)
    return {name.removeprefix("minivae.") for name in found if name.startswith("minivae.")}


def test_every_file_stands_in_the_order():
    assert set(FILES) == set(ORDER) and len(ORDER) == len(set(ORDER))


@pytest.mark.parametrize("name", ORDER)
def test_imports_go_up_the_list_only(name):
    above = set(ORDER[: ORDER.index(name)])
    assert imports_of(FILES[name]) <= above, sorted(imports_of(FILES[name]) - above)


def test_the_package_itself_imports_nothing_of_ours():
    """`minivae/__init__.py` only names where things live, so everyone may ask it for the version."""
    assert not imports_of(PACKAGE / "__init__.py")


def test_no_page_of_the_lesson_imports_a_workshop():
    for name in LESSON:
        assert imports_of(FILES[name]) <= set(LESSON), name


@pytest.mark.parametrize("name", sorted(FILES))
def test_no_file_is_longer_than_400_lines(name):
    lines = len(FILES[name].read_text().splitlines())
    assert lines <= 400 or name in LONG, lines


@pytest.mark.parametrize("module, heavy", [
    ("minivae", ["numpy", "numba"]),
    ("minivae.pixels", ["numba", "scipy", "sklearn", "matplotlib"]),
    ("minivae.data", ["numba", "scipy", "sklearn", "matplotlib", "minivae.model", "minivae.kernels"]),
    ("minivae.linear_gaussian", ["numba", "scipy"]),
    ("minivae.vae", ["sklearn", "matplotlib", "minivae.saving", "minivae.training", "minivae.gradcheck"]),
    ("minivae.gradcheck.of_function", ["numba", "matplotlib", "minivae.layers"]),
    ("minivae.gradcheck.of_layer", ["numba", "matplotlib", "minivae.layers"]),
    ("minivae.gradcheck", ["matplotlib", "sklearn", "minivae.gradcheck.suite", "minivae.gradcheck.museum"]),
    ("minivae.learn.which_loss", ["numba", "scipy", "minivae.kernels"]),
    ("minivae.app.cli", ["numpy", "numba", "matplotlib"])])
def test_nothing_heavy_is_loaded_before_it_is_used(module, heavy):
    code = f"import sys, {module}; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
