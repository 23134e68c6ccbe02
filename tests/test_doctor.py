"""The doctor reports what is there, and what is broken, and never breaks itself."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from configparser import ConfigParser
from pathlib import Path

import numpy
import pytest

from minivae import cores, kernel_cache, kernels
from minivae.app import doctor
from minivae.app.cli import main
from minivae.data import published
from minivae.data.published import PARTS
from minivae.kernel_cache import SealedFile

from conftest import JIT

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
    setup = ConfigParser()
    setup.read(Path(__file__).parents[1] / "setup.cfg")
    names = re.findall("^[a-z-]+", setup["options"]["install_requires"], re.M)
    imported = {"scikit-learn": "sklearn", "pillow": "PIL"}
    assert set(found["libraries"]) == {imported.get(name, name) for name in names}
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


def test_the_last_line_says_which_parts_to_look_at():
    right = {"a": {"x": "here (writable)", "y": 3}, "b": {"z": ["one", "not here: it is downloaded"]}}
    assert doctor.as_text(right).endswith("\n\nnothing is broken")
    wrong = right | {"c": {"z": ["whole", "t10k: MISSING"]}, "d": {"w": "BROKEN: OSError"}, "e": {"v": "NOT writable"}}
    assert doctor.as_text(wrong).endswith("\n\nlook at: c, d, e")


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


# --- compiled kernels on the disk ---------------------------------------------------------------------


USE = ("import numpy as np; from minivae import kernels; y = np.ones((2, 2)); "
       "kernels.add_bias(np.ones(2), y); print(y.sum())")
HITS = "; import sys; print('hits', sum(kernels.add_bias.stats.cache_hits.values()), file=sys.stderr)"


def use_kernel(**variables):
    """Call one kernel in a process of its own; what it printed on stderr."""
    done = subprocess.run([sys.executable, "-c", USE + HITS], capture_output=True, text=True,
                          env={**os.environ, **variables})
    assert done.returncode == 0, done.stderr
    assert done.stdout == "8.0\n"
    return done.stderr


def test_machine_code_is_older_than_a_change_of_any_source(tmp_path):
    """A loop of cores.py holds code of kernels.py: after `git pull` of that file alone it is old, too."""
    for name in kernel_cache.SOURCES:
        (tmp_path / name).write_text("")
    seen = [kernel_cache.stamps(tmp_path)]
    for name in kernel_cache.SOURCES:
        os.utime(tmp_path / name, (1e9, 1e9))
        seen.append(kernel_cache.stamps(tmp_path))
        (tmp_path / name).write_text("#")
        os.utime(tmp_path / name, (1e9, 1e9))
        seen.append(kernel_cache.stamps(tmp_path))
    assert len(set(map(str, seen))) == 5
    sources = Path(kernel_cache.__file__).parent.rglob("*.py")
    compiled = [path.name for path in sources if re.search(r"^@(kernels\.)?kernel$", path.read_text(), re.M)]
    assert sorted(compiled) == sorted(kernel_cache.SOURCES)
    if JIT:
        for dispatcher in (kernels.relu_forward, cores._together):
            assert dispatcher._cache._cache_file._source_stamp[1:] == kernel_cache.stamps()


DAMAGE = {"cut": lambda data: data[: len(data) // 2], "empty": lambda data: b"",
          "one byte flipped": lambda data: data[:-40] + bytes([data[-40] ^ 1]) + data[-39:],
          "a byte in the middle": lambda data: data[: len(data) // 2] + b"?" + data[len(data) // 2 + 1 :]}


@pytest.mark.parametrize("kind", DAMAGE)
@pytest.mark.parametrize("ending", [".nbi", ".nbc"])
def test_a_damaged_file_of_machine_code_is_as_good_as_none(tmp_path, kind, ending, capsys):
    """A power cut and a full disk leave such files; Numba itself raises, or runs what it finds."""
    file = SealedFile(str(tmp_path), "kernels.f", "stamp")
    file.save("float32", b"machine code" * 10)
    assert file.load("float32") == b"machine code" * 10
    path, = tmp_path.glob(f"*{ending}")
    path.write_bytes(DAMAGE[kind](path.read_bytes()))
    kernel_cache._say.cache_clear()
    assert file.load("float32") is None and not path.exists()
    assert capsys.readouterr().err == f"minivae: compiled kernels in {tmp_path} are damaged: compiling them anew\n"
    file.save("float32", b"new code")
    assert file.load("float32") == b"new code" and capsys.readouterr().err == ""


def test_damaged_kernels_are_compiled_anew_with_one_line_and_whole_ones_are_taken(tmp_path):
    if not JIT:                                            # without the JIT nothing is kept
        return
    use_kernel(NUMBA_CACHE_DIR=str(tmp_path))
    files = list(tmp_path.rglob("*.nb[ic]"))
    assert {path.suffix for path in files} == {".nbi", ".nbc"}
    for path in files:
        path.write_bytes(path.read_bytes()[:-9])
    said = [use_kernel(NUMBA_CACHE_DIR=str(tmp_path)) for _ in range(2)]
    assert said == [f"minivae: compiled kernels in {files[0].parent} are damaged: compiling them anew\n"
                    "hits 0\n", "hits 1\n"]
    assert set(tmp_path.rglob("*.nb[ic]")) == set(files)


def test_the_doctor_names_damaged_kernels_where_it_says_where_they_are_kept(tmp_path):
    if not JIT:
        return
    use_kernel(NUMBA_CACHE_DIR=str(tmp_path))
    code = "from minivae.app import doctor; print(doctor._kernels()['kept in'])"

    def kept_in():
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                              env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}).stdout

    assert kept_in().endswith("(writable)\n")
    index, = tmp_path.rglob("*.nbi")
    index.write_bytes(index.read_bytes()[:-9])
    assert f"DAMAGED: {index.name};" in kept_in() and "minivae doctor --clean" in kept_in()


def test_a_full_disk_of_compiled_kernels_is_named_and_the_work_goes_on(tmp_path):
    """A limit on the size of files stands in for the disk."""
    if not JIT:
        return
    code = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
    code += f"resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100)); {USE}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                          env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)})
    assert (done.returncode, done.stdout) == (0, "8.0\n"), done.stderr
    assert done.stderr.startswith("minivae: compiled kernels cannot be kept in ") and done.stderr.count("\n") == 1
    assert str(tmp_path) in done.stderr and "File too large" in done.stderr


@pytest.mark.parametrize("variable", ["XDG_CACHE_HOME", "NUMBA_CACHE_DIR"])
def test_clean_removes_the_compiled_kernels_and_never_data(tmp_path, variable):
    if not JIT:
        return
    env = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"} | {variable: str(tmp_path)}
    ours = tmp_path / "minivae"
    kept = [ours / "mnist" / "train-images-idx3-ubyte.gz", ours / "kernels" / "mine.txt",
            tmp_path / "theirs_1234" / "other.nbi"]
    for path in kept:
        path.parent.mkdir(parents=True)
        path.write_text("mine")
    subprocess.run([sys.executable, "-c", USE], check=True, capture_output=True, env=env)
    before = set(tmp_path.rglob("*.nb[ic]")) - set(kept)
    command = [sys.executable, "-m", "minivae", "doctor", "--clean"]
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"removed {len(before)} files of compiled kernels from")
    assert len(before) >= 2 and set(tmp_path.rglob("*.nb[ic]")) - set(kept) == set()
    assert all(path.read_text() == "mine" for path in kept)


# --- the README's two commands in one clone -----------------------------------------------------------


@pytest.fixture
def clone(tmp_path):
    """A folder with clone/, a copy of the sources, and venv/, which sees the libraries of this environment.

    Also where minivae goes in venv/.
    """
    root = Path(__file__).resolve().parents[1]
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", "*.nb[ic]")
    shutil.copytree(root / "minivae", tmp_path / "clone" / "minivae", ignore=ignored)
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(root / name, tmp_path / "clone")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    place = sysconfig.get_path("purelib", vars={"base": str(tmp_path / "venv")})
    Path(place, "libraries.pth").write_text(sysconfig.get_path("purelib"))
    return tmp_path, Path(place) / "minivae"


def test_every_order_of_installs_in_one_clone_leaves_a_program_that_works(clone):
    """Files that one install leaves behind must not hide the next: pip, pip -e, an extra, uninstall, pip."""
    clone, inside = clone
    env = {name: value for name, value in os.environ.items()
           if name not in ("NUMBA_CACHE_DIR", "PYTHONPATH", "NUMBA_DISABLE_JIT")}
    env |= {"XDG_CACHE_HOME": str(clone / "cache"), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    python = clone / "venv" / "bin" / "python"

    def pip(*words):
        options = [] if words[0] == "uninstall" else ["--no-deps", "--no-build-isolation", "--no-index"]
        done = subprocess.run([sys.executable, "-m", "pip", "--python", str(python), *words, *options],
                              cwd=clone / "clone", env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr

    def works(where):
        # one kernel, compiled and kept, stands for the rest: such files were what got in the way
        code = f"{USE}; import sys; from minivae.app import cli, doctor; doctor._speed = dict; "
        code += "sys.exit(cli.main(['doctor', '--json']))"
        done = subprocess.run([str(python), "-c", code], cwd=clone, env=env, capture_output=True, text=True)
        assert done.returncode == 0 and "BROKEN" not in done.stdout, done.stdout + done.stderr
        found = json.loads(done.stdout.removeprefix("8.0\n"))
        assert found["system"]["minivae"].endswith(f" in {clone / where}")
        assert found["kernels"]["kept in"].startswith(str(clone / "cache"))
        command = [clone / "venv" / "bin" / "minivae", "--version"]
        assert subprocess.run(command, cwd=clone, env=env, capture_output=True).stdout.startswith(b"minivae ")

    pip("install", ".")
    works(inside)
    pip("install", "-e", ".[fast]")
    works("clone/minivae")
    pip("install", ".")
    works(inside)
    pip("uninstall", "-y", "minivae")
    assert not list((clone / "venv").rglob("minivae"))
    pip("install", "-e", ".")
    works("clone/minivae")


def test_cores_are_those_that_affinity_and_the_container_leave(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor.os, "sched_getaffinity", lambda pid: {0, 1, 2, 3, 4, 5}, raising=False)
    monkeypatch.setattr(doctor, "CPU_MAX", tmp_path / "cpu.max")
    found = []
    for text in (None, "max 100000", "250000 100000", "50000 100000", "900000 100000"):
        if text:
            (tmp_path / "cpu.max").write_text(text + "\n")
        found.append(doctor.usable_cores())
    assert found == [6, 6, 2, 1, 6]


@pytest.mark.parametrize("version, said", [("4.1", "mpi4py 4.1; a rank for each core: mpiexec -n 3 minivae train"),
                                           (None, "no mpi4py, which only training on several machines wants")])
def test_mpi_is_found_without_starting_it(monkeypatch, version, said):
    def of(name):
        if version is None:
            raise doctor.metadata.PackageNotFoundError(name)
        return version

    monkeypatch.setattr(doctor.metadata, "version", of)
    assert doctor._mpi(3) == said
