"""The scikit-learn estimator, held to scikit-learn's own checks and to what minivae does without it."""

import copy
import io
import pickle
import subprocess
import sys

import joblib
import numpy as np
import pandas
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from minivae import VAEEstimator, fit
from minivae.sklearn_api import DRAWS
from minivae.training.evaluation import NonFiniteError, evaluate

QUICK = dict(z_dim=2, hidden=(8,), epochs=2, random_state=0)


def small(**settings):
    return VAEEstimator(**(QUICK | settings))


@pytest.fixture
def X(rng):
    """Two kinds of picture, with noise."""
    kinds = rng.random((2, 9)) < 0.5
    return (kinds[rng.integers(0, 2, 60)] ^ (rng.random((60, 9)) < 0.05)).astype(float)


# --- scikit-learn's checks ------------------------------------------------------------------------------

# a Bernoulli likelihood is one of pixels in [0, 1], and says so where these checks hand it other numbers
REFUSED = {
    "X is normal noise, half of it negative": [
        "check_estimators_overwrite_params", "check_estimators_fit_returns_self", "check_readonly_memmap_input",
        "check_n_features_in_after_fitting", "check_positive_only_tag_during_fit", "check_pipeline_consistency",
        "check_estimators_pickle", "check_transformer_data_not_an_array", "check_transformer_general",
        "check_transformer_preserve_dtypes", "check_array_api_input"],
    "X is uniform up to 3": [
        "check_dont_overwrite_parameters", "check_estimators_dtypes", "check_f_contiguous_array_estimator",
        "check_methods_sample_order_invariance", "check_methods_subset_invariance", "check_dict_unchanged",
        "check_fit2d_predict1d"],
    "X is uniform up to 3, and refused for that before anything is said of its one row or column": [
        "check_fit2d_1sample", "check_fit2d_1feature"],
    "X lies around 100": ["check_fit_idempotent", "check_fit_check_is_fitted", "check_n_features_in"],
}


def expected_failures(estimator):
    if estimator.likelihood == "gaussian":
        return {}
    return {check: reason for reason, checks in REFUSED.items() for check in checks}


@parametrize_with_checks([small(likelihood="gaussian"), small(likelihood="bernoulli")],
                         expected_failed_checks=expected_failures)
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


# --- what each method gives -----------------------------------------------------------------------------


def test_it_trains_the_model_that_fit_trains(X):
    estimator = small().fit(X)
    again = small()
    again.n_features_in_ = X.shape[1]
    again._begin(X)
    history = fit(again.vae_, X, epochs=2, rng=again._rng)
    for (name, p, _), (_, q, _) in zip(estimator.vae_.named_params(), again.vae_.named_params()):
        np.testing.assert_array_equal(p, q, err_msg=name)
    assert [row["loss"] for row in estimator.history_] == [row["loss"] for row in history]
    assert estimator.n_iter_ == 2 and estimator.n_features_in_ == 9


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_partial_fit_once_for_each_epoch_is_fit_to_the_bit(X, likelihood):
    """The weights, the order, the noise and Adam's moments all go on where they stood."""
    whole, parts = small(likelihood=likelihood, epochs=3).fit(X), small(likelihood=likelihood)
    for _ in range(3):
        parts.partial_fit(X)
    for (name, p, _), (_, q, _) in zip(whole.vae_.named_params(), parts.vae_.named_params()):
        np.testing.assert_array_equal(p, q, err_msg=name)
    assert [row["epoch"] for row in parts.history_] == [1, 2, 3] and parts.n_iter_ == 3


def test_partial_fit_goes_on_from_fit_and_fit_begins_anew(X):
    first = small(epochs=1).fit(X)
    further = small(epochs=1).fit(X).partial_fit(X)
    assert further.n_iter_ == 2 and not np.array_equal(further.transform(X), first.transform(X))
    np.testing.assert_array_equal(further.fit(X).transform(X), first.transform(X))


def test_the_methods_are_those_of_the_model(X):
    estimator = small().fit(X)
    z = estimator.transform(X)
    np.testing.assert_array_equal(z, estimator.vae_.encode(X)[0])
    np.testing.assert_array_equal(estimator.inverse_transform(z), estimator.vae_.decode(z))
    np.testing.assert_array_equal(estimator.reconstruct(X), estimator.inverse_transform(z))
    assert z.shape == (60, 2) and estimator.reconstruct(X).shape == X.shape


def test_samples_are_decided_by_the_random_state(X):
    estimator = small().fit(X)
    a, b, c = estimator.sample(4), estimator.sample(4), estimator.sample(4, random_state=1)
    np.testing.assert_array_equal(a, b)
    assert a.shape == (4, 9) and not np.array_equal(a, c)
    unseeded = small(random_state=None).fit(X)
    assert not np.array_equal(unseeded.sample(4), unseeded.sample(4))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_model_has_the_precision_of_the_data(X, dtype):
    estimator = small().fit(X.astype(dtype))
    assert estimator.vae_.dtype == dtype == estimator.transform(X.astype(dtype)).dtype


def test_the_score_is_the_elbo_exactly_where_the_decoder_ignores_z(rng):
    """Then log p(x|z) is a constant of x, so no noise is left: ELBO = log p(x) - KL."""
    X = rng.standard_normal((7, 5))
    estimator = small(likelihood="gaussian").fit(X)
    vae = estimator.vae_
    vae.to_out.params["W"][...] = 0
    mean, raw = vae.to_out.params["b"], vae.likelihood.params["raw_logvar"][0, 0]
    logvar = np.logaddexp(0, raw + 10) - 10                # the floor of likelihoods.py
    mu, logvar_q = vae.encode(X)
    log_px = -0.5 * ((X - mean) ** 2 * np.exp(-logvar) + logvar + np.log(2 * np.pi)).sum(axis=1)
    kl = 0.5 * (mu**2 + np.exp(logvar_q) - 1 - logvar_q).sum(axis=1)
    np.testing.assert_allclose(estimator.score_samples(X), log_px - kl, rtol=1e-12)
    assert estimator.score(X) == pytest.approx((log_px - kl).mean(), rel=1e-12)


def test_the_score_knows_no_beta_and_agrees_with_evaluate(X):
    estimator = small(beta=3.0, epochs=30).fit(X)
    scores, judged = estimator.score_samples(X), evaluate(estimator.vae_, X)["elbo"]
    # evaluate draws one z for each image; from the noise alone, its ELBOs vary by less than 1.5 nats
    assert scores.mean() == pytest.approx(judged, abs=4 * 1.5 / np.sqrt(len(X)) * np.sqrt(1 + 1 / DRAWS))
    assert estimator.vae_.beta == 3.0


def test_an_image_has_one_score_in_any_company(rng):
    X = rng.random((120, 9))                               # grey: the draws of its pixels, too, are its own
    estimator = small().fit(X)
    scores = estimator.score_samples(X)
    order = rng.permutation(120)
    # not to the bit: BLAS rounds by position
    np.testing.assert_allclose(estimator.score_samples(X[order]), scores[order], rtol=1e-12)
    np.testing.assert_allclose(estimator.score_samples(X[7:8]), scores[7:8], rtol=1e-12)
    np.testing.assert_array_equal(estimator.score_samples(X), scores)
    assert len(set(scores)) == 120


def test_what_was_learned_scores_higher_than_what_was_not(X):
    estimator = small(epochs=60, lr=1e-2).fit(X)
    assert estimator.score(X) > small(epochs=1, lr=1e-9).fit(X).score(X)
    assert estimator.score_samples(X).mean() > estimator.score_samples(1 - X).mean()


def test_data_and_settings_that_cannot_be_are_refused_by_the_rules_of_the_package(X):
    estimator = small().fit(X)
    for refuse in (estimator.partial_fit, estimator.transform, estimator.score_samples, estimator.fit):
        message = r"must lie in \[0, 1\] for the Bernoulli likelihood, found 255 .*divide by 255"
        with pytest.raises(ValueError, match=message):
            refuse(255 * X)
    with pytest.raises(ValueError, match="unknown likelihood 'poisson'"):
        small(likelihood="poisson").fit(X)
    with pytest.raises(ValueError, match="epochs must be at least 1"):
        small(epochs=0).fit(X)
    with pytest.raises(ValueError, match=r"X must have 2 columns, one for each latent, got shape \(3, 5\)"):
        small().fit(X).inverse_transform(np.zeros((3, 5)))


@pytest.mark.parametrize("bad, said", [
    (np.zeros(9), "X: Expected 2D array, got 1D array instead: Reshape your data either using array.reshape"),
    (np.zeros((3, 9)) * 1j, "X: Complex data not supported$"), ([[{}] * 9], "X: float.. argument must be"),
    (np.full((3, 9), np.inf), "X must be finite, found inf in row 0, column 0: fill it"),
    (np.zeros((3, 3, 3)), "X: Found array with dim 3"), (np.zeros((3, 8)), "X: X has 8 features, but VAEEstimator")])
def test_an_x_that_cannot_be_is_refused_in_one_line_that_names_it(X, bad, said):
    with pytest.raises((TypeError, ValueError), match=f"^{said}") as caught:
        small().fit(X).transform(bad)
    assert "\n" not in str(caught.value)


def test_settings_of_a_wrong_kind_are_named(X):
    for settings, said in (({"random_state": "x"}, "random_state must be None, a whole number from 0 to .*got 'x'"),
                           ({"random_state": -1}, "random_state must be None, .*got -1"),
                           ({"hidden": None}, "hidden must be a sequence of whole numbers, .* got None"),
                           ({"channels": (2,), "image_shape": "33"}, "image_shape must be a sequence of whole num"),
                           ({"channels": (2,), "image_shape": (2, 3)}, "image_shape, .* 9; got .2, 3.")):
        with pytest.raises((TypeError, ValueError), match=said):
            small(**settings).fit(X)
    with pytest.raises(ValueError, match="n_samples must be at least 1, got 0"):
        small().fit(X).sample(0)


# --- with the rest of scikit-learn --------------------------------------------------------------------------


def test_in_a_pipeline_there_and_back(rng):
    X = rng.normal(50, 9, (40, 9))
    pipeline = make_pipeline(MinMaxScaler(), small()).fit(X)
    back = pipeline.inverse_transform(pipeline.transform(X))
    assert pipeline.transform(X).shape == (40, 2) and back.shape == X.shape
    assert X.min() < back.mean() < X.max() and np.isfinite(pipeline.score(X))


def test_a_clone_has_the_settings_and_nothing_learned(X):
    estimator = small(beta=2.0, hidden=(5, 4)).fit(X)
    copied = clone(estimator)
    assert copied.get_params() == estimator.get_params() and not hasattr(copied, "vae_")
    np.testing.assert_array_equal(copied.fit(X).transform(X), estimator.transform(X))


def test_a_grid_search_chooses_by_the_elbo(X):
    search = GridSearchCV(small(epochs=20), {"lr": [1e-9, 1e-2]}, cv=2).fit(X)
    assert search.best_params_ == {"lr": 1e-2} and search.best_score_ < 0


def test_data_frames_go_in_and_come_out(X):
    frame = pandas.DataFrame(X, columns=[f"pixel{i}" for i in range(9)], index=range(100, 160))
    estimator = small().set_output(transform="pandas").fit(frame)
    z = estimator.transform(frame)
    assert list(z.columns) == ["vaeestimator0", "vaeestimator1"] == list(estimator.get_feature_names_out())
    assert list(z.index) == list(frame.index)
    assert list(estimator.feature_names_in_) == list(frame.columns)
    np.testing.assert_array_equal(z, small().fit(X).transform(X))
    with pytest.raises(ValueError, match="feature names should match"):
        estimator.transform(frame[frame.columns[::-1]])


@pytest.mark.parametrize("kind", ["Int64", "Float64", "boolean"])
def test_nullable_columns_go_in_and_a_missing_value_is_named_by_row_and_column(X, kind):
    frame = pandas.DataFrame(X, columns=[f"pixel{i}" for i in range(9)]).astype(kind)
    estimator = small().fit(frame)
    np.testing.assert_array_equal(estimator.transform(frame), small().fit(X).transform(X))
    frame.iloc[3, 2] = pandas.NA
    for refuse in (estimator.transform, estimator.score, estimator.partial_fit, estimator.fit):
        with pytest.raises(ValueError, match="X must be finite, found NaN in row 3, column 'pixel2': fill it, or"):
            refuse(frame)


def by_joblib(estimator):
    stream = io.BytesIO()
    joblib.dump(estimator, stream)
    stream.seek(0)
    return joblib.load(stream)


def by_pickle(estimator):
    return pickle.loads(pickle.dumps(estimator))


@pytest.mark.parametrize("through", [by_pickle, by_joblib, copy.deepcopy], ids=["pickle", "joblib", "deepcopy"])
def test_a_copy_knows_the_same_and_goes_on_learning_as_the_original(X, through):
    estimator = small(likelihood="gaussian").fit(X)
    estimator.set_params(hidden=(3,))                      # after fit, it waits for the next one
    copied = through(estimator)
    np.testing.assert_array_equal(copied.transform(X), estimator.transform(X))
    np.testing.assert_array_equal(copied.vae_.sample(3), estimator.vae_.sample(3))
    np.testing.assert_array_equal(copied.partial_fit(X).transform(X), estimator.partial_fit(X).transform(X))
    np.testing.assert_array_equal(copied.score_samples(X), estimator.score_samples(X))


def test_a_pickle_holds_parameters_and_moments_but_no_work_buffers(X):
    estimator = small(hidden=(100,)).fit(X)
    numbers = sum(p.size for _, p, _ in estimator.vae_.named_params())
    # each number with its two moments, and the history
    assert len(pickle.dumps(estimator)) < 3 * 8 * numbers + 10_000


def test_importing_the_estimator_is_what_imports_scikit_learn():
    loaded = "print('sklearn' in sys.modules)"
    code = f"import sys, minivae; dir(minivae); {loaded}; minivae.VAEEstimator; {loaded}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


# --- a fit that fails -----------------------------------------------------------------------------------


FAILS = [({"epochs": 0}, ValueError, "epochs must be at least 1"),
         ({"epochs": 1.5}, TypeError, "epochs must be a whole"),
         ({"lr": "1e-3"}, TypeError, "lr must be a number"), ({"hidden": "5"}, TypeError, "hidden must be a sequence"),
         ({"likelihood": None}, TypeError, "likelihood must be"), ({"beta": -1}, ValueError, "beta must be"),
         ({"lr": 1e30}, NonFiniteError, "non-finite")]


@pytest.mark.parametrize("changed, error, said", FAILS, ids=lambda value: str(value)[:30])
@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")
def test_after_a_fit_that_failed_there_is_no_model(changed, error, said, rng):
    """Least of all one with fresh weights; and a fit that works brings one back."""
    X = rng.random((30, 6))
    one = VAEEstimator(epochs=2, hidden=(4,), z_dim=2, random_state=0).fit(X)
    wanted, settings = one.transform(X), one.get_params()
    with pytest.raises(error, match=said):
        one.set_params(**changed).fit(X)
    for ask in (one.transform, one.score, one.score_samples, one.reconstruct):
        with pytest.raises(NotFittedError):
            ask(X)
    with pytest.raises(NotFittedError):
        one.sample(2)
    assert not hasattr(one, "n_iter_") and not hasattr(one, "history_")
    np.testing.assert_array_equal(one.set_params(**settings).fit(X).transform(X), wanted)


def test_a_partial_fit_that_fails_leaves_the_model_as_it_was(rng):
    X = rng.random((30, 6))
    one = VAEEstimator(hidden=(4,), z_dim=2, random_state=0).partial_fit(X)
    before = one.transform(X)
    with pytest.raises(TypeError, match="lr must be a number"):
        one.set_params(lr="1").partial_fit(X)
    np.testing.assert_array_equal(one.transform(X), before)
    assert one.set_params(lr=1e-3).partial_fit(X).n_iter_ == 2


@pytest.mark.parametrize("method", ["fit", "partial_fit", "transform", "reconstruct", "score_samples"])
def test_masked_pixels_are_refused(method, rng):
    X = rng.random((30, 6))
    one = VAEEstimator(epochs=1, hidden=(4,), z_dim=2, random_state=0).fit(X)
    with pytest.raises(ValueError, match="1 of this masked array are masked"):
        getattr(one, method)(np.ma.masked_equal(X, X[3, 2]))
    assert VAEEstimator(epochs=1, hidden=(4,), z_dim=2, random_state=0).fit(np.ma.array(X)).n_features_in_ == 6


# --- convolutions ---


def test_an_estimator_of_convolutions(X):
    """It is trained, cloned, pickled and searched as the dense one."""
    model = clone(small(channels=(3,), image_shape=(3, 3))).fit(X)
    assert model.vae_.config["channels"] == [3] and model.transform(X).shape == (60, 2)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).transform(X), model.transform(X))
    search = GridSearchCV(small(image_shape=(3, 3), epochs=1), {"channels": [None, (2,), (3,)]}, cv=2).fit(X)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


@pytest.mark.parametrize("image_shape", [None, (3, 2), (3, 3, 3)])
def test_convolutions_want_to_know_what_a_row_is_an_image_of(X, image_shape):
    with pytest.raises(ValueError, match=r"channels needs image_shape, .* as X has columns, 9; got"):
        small(channels=(3,), image_shape=image_shape).fit(X)
