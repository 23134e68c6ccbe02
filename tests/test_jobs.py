"""Workers: the same numbers from this process, from processes and threads of joblib, and from a Dask cluster."""

import json
import os
import signal
import warnings
from unittest.mock import patch

import numpy as np
import pytest
from joblib import parallel_config
from joblib.externals.loky import get_reusable_executor

from minivae import VAE, DiscreteVAE, evaluate, pool
from minivae.app.cli import main
from minivae.likelihoods import GaussianLikelihood
from minivae.sklearn_api import VAEEstimator
from minivae.training import workers
from minivae.training.evaluation import NonFiniteError, elbo
from minivae.training.metrics import log_px, measure

from conftest import folder_of_images, skip, small_run

N = 1100                        # two whole groups of `evaluate`, and the rest


def models():
    """Of each kind one: its name, the model, and what its pixels may be."""
    yield "dense", VAE.mlp(64, [40], 5, rng=0), "grey"
    yield "float64", VAE.mlp(64, [40], 5, rng=0, dtype=np.float64), "grey"
    yield "conv", VAE.conv((8, 8), (3, 4), 5, rng=0), "grey"
    yield "coins", DiscreteVAE.mlp(64, [40], 5, rng=0), "grey"
    yield "gaussian", VAE.mlp(64, [40], 5, rng=0, likelihood=GaussianLikelihood("shared")), "any"


def numbers(n_jobs, images=N):
    """Everything that takes n_jobs, of every model: names and arrays."""
    found, rng = {}, np.random.default_rng(0)
    for name, vae, pixels in models():
        X = rng.random((images, 64))
        found[name, "evaluate"] = np.array(list(evaluate(vae, X, n_jobs=n_jobs).values()))
        found[name, "elbo"] = elbo(vae, X, n_jobs=n_jobs)
        x = X[:33] if pixels == "any" else (X[:33] < 0.4).astype(float)
        found[name, "log_px"] = np.array(log_px(vae, x, 150, rng=1, n_jobs=n_jobs))
        for key, values in measure(vae, x, 20, rng=1, n_jobs=n_jobs)._asdict().items():
            found[name, key] = values
    return found


@pytest.fixture(scope="module")
def here():
    return numbers(None)


@pytest.fixture(scope="module", autouse=True)
def loky():
    """The processes of joblib's own backend serve every test, and are ended after the last."""
    yield
    get_reusable_executor().shutdown(wait=True, kill_workers=True)


def assert_same(found, want):
    assert found.keys() == want.keys()
    for key in want:
        np.testing.assert_array_equal(found[key], want[key], err_msg=str(key))


def test_two_processes_find_the_same_numbers(here):
    assert_same(numbers(2), here)


def test_workers_cut_products_into_as_many_parts_as_this_process(here, parts):
    """Alone, a worker of two would cut them into its own number of cores."""
    parts(3)
    assert_same(numbers(2), numbers(None))


@pytest.mark.parametrize("n_jobs", [1, 3])
def test_threads_find_the_same_numbers(here, n_jobs):
    with parallel_config("threading"):
        assert_same(numbers(n_jobs), here)


def test_a_dask_cluster_finds_the_same_numbers(here):
    try:
        from distributed import Client, LocalCluster
    except ImportError:
        skip("Dask is not installed: pip install '.[test]'")
    # Dask's variables for its workers stay in this process, too
    with (patch.dict(os.environ), LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
          Client(cluster), parallel_config("dask")):
        assert_same(numbers(-1), here)


def test_an_images_draws_do_not_depend_on_the_images_after_it():
    vae, x = VAE.mlp(64, [40], 5, rng=0), (np.random.default_rng(0).random((30, 64)) < 0.4).astype(np.float32)
    few, many = log_px(vae, x[:20], 50, rng=3)[0], log_px(vae, x, 50, rng=3)[0]
    np.testing.assert_array_equal(few, many[:20])
    rng = np.random.default_rng(3)
    first, second = log_px(vae, x, 50, rng=rng)[0], log_px(vae, x, 50, rng=rng)[0]
    np.testing.assert_array_equal(first, many)
    assert (first != second).all()                         # the generator went on


class Forgetful:
    """A layer that counts how often it was called, and so would give another group other numbers."""

    def __init__(self):
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return x * self.calls

    def backward(self, dy, input_grad=True):
        return dy


def test_a_layer_with_a_memory_judges_every_group_alike():
    """Where groups were judged one after another by one model, the workers' numbers would differ."""
    vae = VAE.mlp(64, [40], 5, rng=0)
    vae.enc.layers.append(Forgetful())
    X = np.random.default_rng(0).random((N, 64))
    want = elbo(vae, X)
    np.testing.assert_array_equal(elbo(vae, X, n_jobs=2), want)
    assert vae.enc.layers[-1].calls == 0


def test_a_pending_backward_and_the_model_are_left_alone():
    vae, rng = VAE.mlp(64, [40], 5, rng=0), np.random.default_rng(0)
    x, eps = (rng.random((7, 64)) < 0.4).astype(np.float32), rng.standard_normal((7, 5), np.float32)
    vae.forward(x, eps)
    vae.backward()
    want = vae.gradient()
    vae.forward(x, eps)
    with parallel_config("threading"):
        evaluate(vae, x, n_jobs=2)
        log_px(vae, x, 20, n_jobs=2)
    vae.backward()
    np.testing.assert_array_equal(vae.gradient(), want)


def test_the_first_row_that_is_not_finite_is_named_whoever_judges():
    vae = VAE.mlp(64, [40], 5, rng=0)
    vae.to_mu.params["b"][0] = np.nan
    X = np.random.default_rng(0).random((N, 64))
    for n_jobs in (None, 2):
        with parallel_config("threading"), pytest.raises(NonFiniteError, match="from row 0 on: .*to_mu, .* b is"):
            evaluate(vae, X, n_jobs=n_jobs)


@pytest.mark.parametrize("n_jobs, kind", [(0, ValueError), (-2, ValueError), (1.5, TypeError), ("all", TypeError),
                                          (True, TypeError)])
def test_a_wrong_number_of_workers_is_refused(n_jobs, kind):
    vae, x = VAE.mlp(6, [5], 2, rng=0), np.ones((3, 6))
    for judge in (evaluate, elbo, log_px, measure):
        with pytest.raises(kind, match="n_jobs must be"):
            judge(vae, x, n_jobs=n_jobs)


def test_one_thread_of_blas_while_images_are_judged():
    threads = []

    def look(vae):
        threads.extend(library["num_threads"] for library in workers._blas().info())

    before = [library["num_threads"] for library in workers._blas().info()]
    list(workers.judge_each(look, VAE.mlp(6, [5], 2, rng=0), [()], None))
    assert threads and set(threads) == {1}
    assert [library["num_threads"] for library in workers._blas().info()] == before


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    with folder_of_images(tmp_path_factory, "jobs"):
        small_run("runs/mine")
        yield "runs/mine"


def test_the_command_finds_the_same_numbers_with_jobs(run, capsys):
    told = []
    for extra in ([], ["--jobs", "2"]):
        assert main(["evaluate", run, "--json", "--eval-samples", "30", *extra]) == 0
        told.append(json.loads(capsys.readouterr().out))
    assert told[0] == told[1]


def test_a_grid_search_finds_the_same_with_two_workers(parts):
    from sklearn.model_selection import GridSearchCV

    parts(3)
    X = np.random.default_rng(0).random((120, 300)).astype(np.float32)
    searches = [GridSearchCV(VAEEstimator(2, (90,), epochs=1, batch_size=40, random_state=0), {"beta": [0.5, 1.0]},
                             cv=2, n_jobs=n_jobs).fit(X) for n_jobs in (1, 2)]
    one, two = (search.cv_results_ for search in searches)
    for key in ("split0_test_score", "split1_test_score", "mean_test_score"):
        np.testing.assert_array_equal(one[key], two[key])
    assert searches[0].best_params_ == searches[1].best_params_
    for a, b in zip(*(search.best_estimator_.vae_.state().values() for search in searches)):
        np.testing.assert_array_equal(a, b)
    assert pool.pool.parts == 3


class Deadly(Forgetful):
    """A layer that ends its process, as the system does where memory runs out."""

    def __init__(self, pid):
        super().__init__()
        self.pid = pid

    def forward(self, x):
        if os.getpid() != self.pid:
            os.kill(os.getpid(), signal.SIGKILL)
        return x


def test_a_killed_worker_is_told_in_one_line():
    vae = VAE.mlp(64, [40], 5, rng=0)
    vae.enc.layers.append(Deadly(os.getpid()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")                    # joblib's, of files that the worker left
        with pytest.raises(ChildProcessError, match="^a worker process was killed before .* memory: take fewer"):
            evaluate(vae, np.random.default_rng(0).random((N, 64)), n_jobs=2)


def test_the_command_tells_a_killed_worker_in_one_line(run, capsys, monkeypatch):
    monkeypatch.setattr(workers, "_in_worker", die)
    assert main(["evaluate", run, "--json", "--eval-samples", "30", "--jobs", "2"]) == 2
    out, err = capsys.readouterr()
    assert not out and err.count("\n") == 1 and err.startswith("minivae: a worker process was killed")


def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
