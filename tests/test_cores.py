"""Products and loops on all cores: right numbers, and bits that do not depend on who else is busy."""

import json
import multiprocessing
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from conftest import JIT

from minivae import cores, fit, kernels, pool
from minivae.vae import VAE

SIZES = [(1, 7, 3), (5, 784, 400), (20, 400, 20), (48, 33, 65), (49, 33, 65), (63, 100, 10), (64, 100, 10),
         (128, 784, 400), (255, 20, 400), (256, 20, 400), (300, 1, 1), (256, 784, 30), (257, 784, 30)]


def operands(B, n, m, dtype, seed=0):
    rng = np.random.default_rng(seed)
    x, W, dy = (rng.standard_normal(shape).astype(dtype) for shape in ((B, n), (n, m), (B, m)))
    return x, W, dy


def products(x, W, dy):
    """The three products of a Dense layer, into arrays filled with NaN."""
    y, dW, dx = (np.full(shape, np.nan, x.dtype) for shape in (dy.shape, W.shape, x.shape))
    cores.times(x, W, y)
    cores.transpose_times(x, dy, dW)
    cores.times_transpose(dy, W, dx)
    return y, dW, dx


def alone(monkeypatch):
    monkeypatch.setattr(pool.Pool, "together", lambda self: False)


def together(monkeypatch):
    """All threads of the pool work, however busy the machine is; where there is no pool, nothing changes."""
    pool.pool.begin()
    monkeypatch.setattr(pool.Pool, "together", lambda self: self.library != pool.NOBODY)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("n", [1, 2, 3])
def test_the_bias_is_added_once_to_every_entry(size, dtype, n, parts):
    """In whichever part an entry stands: to the bit, as a product and then a sum."""
    parts(n)
    x, W, dy = operands(*size, dtype)
    b = np.random.default_rng(1).standard_normal(W.shape[1]).astype(dtype)
    y = np.full(dy.shape, np.nan, dtype)
    cores.times_plus(x, W, b, y)
    without, _, _ = products(x, W, dy)
    np.testing.assert_array_equal(y, without + b)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_the_three_products_are_those_of_numpy(size, dtype, n, parts):
    parts(n)
    x, W, dy = operands(*size, dtype)
    exact = [a @ b for a, b in ((x.astype(float), W.astype(float)), (x.T.astype(float), dy.astype(float)),
                                (dy.astype(float), W.T.astype(float)))]
    size_of_terms = [abs(a) @ abs(b) for a, b in ((x, W), (x.T, dy), (dy, W.T))]
    for found, want, terms, length in zip(products(x, W, dy), exact, size_of_terms, (size[1], size[0], size[2])):
        # a sum of `length` products in any order: Higham (2002), section 3.5, and sqrt for random rounding
        bound = 4 * np.sqrt(length) * np.finfo(dtype).eps * terms
        assert (np.abs(found - want) <= bound).all()


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_the_bits_of_a_product_do_not_depend_on_how_many_threads_work(size, monkeypatch):
    operand = operands(*size, np.float32)
    together(monkeypatch)
    on_all = [products(*operand) for _ in range(3)]
    alone(monkeypatch)
    on_one = products(*operand)
    for found in on_all:
        for a, b in zip(found, on_one):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("how", [together, alone])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 3, 4, 5), (37, 7, 5, 3), (3, 1, 1, 65)], ids=str)
@pytest.mark.parametrize("n", [1, 2, 7])
def test_every_pixel_is_summed_once(shape, dtype, n, how, parts, monkeypatch):
    """Whole numbers, so that the sums are exact in any order; also in more parts than there are pixels."""
    parts(n)
    how(monkeypatch)
    dy = np.random.default_rng(0).integers(-9, 10, shape).astype(dtype)
    db = np.full(shape[3], np.nan, dtype)
    cores.sum_pixels(dy, db)
    np.testing.assert_array_equal(db, dy.sum(axis=(0, 1, 2)))


@pytest.mark.parametrize("B, D", [(300, 200), (7, 6000), (301, 77)])
@pytest.mark.parametrize("n", [2, 3])
def test_the_bits_of_a_loop_are_those_of_its_kernel(B, D, n, parts, monkeypatch):
    parts(n)
    together(monkeypatch)
    rng = np.random.default_rng(1)
    a, b = (rng.standard_normal((B, D)).astype(np.float32) for _ in range(2))
    for name, given in (("tanh_forward", (a,)), ("tanh_backward", (a, b))):
        found, want = np.full_like(a, np.nan), np.full_like(a, np.nan)
        getattr(cores, name)(*given, found)
        getattr(kernels, name)(*given, want)
        np.testing.assert_array_equal(found, want)
    x, logits = (b > 0).astype(np.float32), rng.standard_normal((3 * B, D)).astype(np.float32)
    results = []
    for room in (cores, kernels):
        log_px, residual = np.full(3 * B, np.nan, np.float32), np.full_like(logits, np.nan)
        room.bernoulli_forward(logits, x, log_px, residual)
        param, m, v = a.ravel().copy(), np.zeros(a.size, np.float32), np.zeros(a.size, np.float32)
        room.adam(param, b.ravel(), m, v, 1e-3, 0.9, 0.999, 1e-8, 1.5)
        results.append((log_px, residual, param, m, v))
    for found, want in zip(*results):
        np.testing.assert_array_equal(found, want)


@pytest.mark.parametrize("grain", [1, 8, 16])
@pytest.mark.parametrize("n", [0, 1, 7, 16, 100, 1001])
@pytest.mark.parametrize("parts", [1, 2, 3, 7])
def test_the_parts_are_of_one_size_and_cover_all(n, parts, grain):
    """To one grain: a part that is twice as long is waited for twice as long."""
    ends = [cores._cut(n, part, parts, grain) for part in range(parts)]
    assert [i for begin, end in ends for i in range(begin, end)] == list(range(n))
    assert all(begin % grain == 0 for begin, end in ends if begin < end)
    sizes = [end - begin for begin, end in ends]
    assert max(sizes) <= n / parts + grain


@pytest.mark.parametrize("n", [2, 3])
def test_the_bits_of_a_loop_over_many_numbers_are_those_of_its_kernel(n, parts, monkeypatch):
    parts(n)
    together(monkeypatch)
    rng = np.random.default_rng(1)
    a, b = (rng.standard_normal((700, 301)).astype(np.float32) for _ in range(2))
    assert a.size >= cores.LARGE
    for name, given in (("relu_forward", (a,)), ("relu_backward", (a, b))):
        found, want = np.full_like(a, np.nan), np.full_like(a, np.nan)
        getattr(cores, name)(*given, found)
        getattr(kernels, name)(*given, want)
        np.testing.assert_array_equal(found, want)
    found, want = b.copy(), b.copy()
    cores.scale_rows(a[:, 0].copy(), found)
    kernels.scale_rows(a[:, 0].copy(), want)
    np.testing.assert_array_equal(found, want)


def trained_bits(seed=0):
    """The parameters of a model after three float32 steps of `fit`, as bytes."""
    vae = VAE.mlp(300, [120], 8, rng=seed)
    X = (np.random.default_rng(seed).random((300, 300)) < 0.3).astype(np.float32)
    fit(vae, X, epochs=1, batch_size=100, rng=seed)
    return b"".join(param.tobytes() for _, param, _ in vae.named_params())


def children_that_agree():
    """For a process of its own: which kinds of children train to its own bits."""
    here, agree = trained_bits(), []
    for way in ("fork", "spawn"):
        with multiprocessing.get_context(way).Pool(1) as children:
            agree += [way] * (children.apply_async(trained_bits).get(timeout=240) == here)
    return agree


def test_training_in_a_forked_and_a_spawned_child_gives_the_same_bits():
    """A fork has none of the threads of GNU OpenMP, a spawned child has its own."""
    code = "import json, test_cores; print(json.dumps(test_cores.children_that_agree()))"
    assert run_in_new_process(code, cwd=Path(__file__).parent) == ["fork", "spawn"]


def test_training_in_several_threads_at_once_gives_the_same_bits():
    here = trained_bits()
    with ThreadPoolExecutor(4) as threads:
        assert set(threads.map(lambda _: trained_bits(), range(8))) == {here}


def test_two_joblib_workers_of_one_thread_each_agree():
    import joblib

    with joblib.parallel_config("loky", n_jobs=2, inner_max_num_threads=1):
        found = joblib.Parallel()(joblib.delayed(trained_bits)() for _ in range(4))
    assert len(set(found)) == 1


def test_the_bits_stay_the_same_beside_busy_neighbours():
    quiet = trained_bits()
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
    try:
        assert [trained_bits() for _ in range(3)] == [quiet] * 3
    finally:
        for process in busy:
            process.kill()
            process.wait()


def test_who_sees_neighbours_leaves_them_room_and_tries_again(monkeypatch):
    clock, count = [0.0], [0]
    monkeypatch.setattr(pool, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(pool, "_taken_away", lambda: count[0])
    neighbours, together, history = pool.Neighbours(), True, []
    for tick in range(200):                                # 20 s: busy from second 5 to second 12
        clock[0] += 0.1001
        count[0] += 30 if 50 <= tick < 120 else 1
        if clock[0] >= neighbours.next_look:
            together = neighbours.leave_room(together)
        history.append(together)
    assert all(history[:50]) and sum(history[60:120]) < 20 and all(history[-20:])


def test_openblas_has_as_many_threads_after_a_product_as_before():
    if not hasattr(pool.pool, "_get_threads"):
        assert pool.pool.library != pool.OPENBLAS
        return
    before = pool.pool._get_threads()
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda seed: products(*operands(128, 784, 400, np.float32, seed)), range(16)))
    assert pool.pool._get_threads() == before


def run_in_new_process(code, cwd=None, **variables):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=cwd,
                          env={**os.environ, **variables})
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


WHO = "import json; from minivae import pool; print(json.dumps(pool.about()))"


def test_without_gnu_openmp_everything_takes_the_plain_road():
    missing = """
import ctypes
real = ctypes.CDLL
def without_gomp(name, *more, **options):
    if "libgomp" in str(name):
        raise OSError("no such library")
    return real(name, *more, **options)
ctypes.CDLL = without_gomp
"""
    found = run_in_new_process(missing + WHO)
    assert found["multiplies"] == "NumPy's matmul" and found["threads"] == 1


def test_another_threading_layer_or_no_jit_leaves_the_plain_road():
    for variables in ({"NUMBA_THREADING_LAYER": "workqueue"}, {"NUMBA_DISABLE_JIT": "1"}):
        found = run_in_new_process(WHO, **variables)
        assert found["multiplies"] == "NumPy's matmul" and found["threads"] == 1 and found["layer"] == "none"


def test_the_pool_says_who_multiplies_on_how_many_threads():
    found = run_in_new_process(WHO)
    if JIT and sys.platform == "linux":
        assert found["multiplies"].startswith(("oneDNN", "OpenBLAS")) and found["layer"].startswith("omp")
    assert run_in_new_process(WHO, NUMBA_NUM_THREADS="1")["parts"] == 1


def test_parts_below_one_are_refused():
    with pytest.raises(ValueError, match="parts must be at least 1, got 0"):
        pool.set_parts(0)


def test_a_resumed_training_cuts_products_as_before_and_warns_of_another_library(parts, tmp_path, monkeypatch):
    """Stopped with 3 parts and resumed by a process that has 2: the bits of a run that never stopped."""
    X = (np.random.default_rng(0).random((96, 300)) < 0.3).astype(np.float32)

    def train(**more):
        vae = VAE.mlp(300, [100], 5, rng=0)
        fit(vae, X, epochs=3, batch_size=32, rng=0, **more)
        return b"".join(param.tobytes() for _, param, _ in vae.named_params())

    parts(3)
    whole, batches = train(), iter(range(100))
    train(checkpoint=tmp_path / "m.npz", stop=lambda: next(batches) == 4)
    parts(2)
    assert train(resume=tmp_path / "m.npz") == whole and pool.pool.parts == 3
    monkeypatch.setattr(pool.pool, "name", "another library")
    with pytest.warns(UserWarning, match="trained with the products of .*, and here another library multiplies"):
        train(resume=tmp_path / "m.npz")
