"""Stopping and going on, and files that are whole or refused."""

import errno
import io
import json
import os
import re
import resource
import signal
import struct
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minivae
from minivae import VAE, estimators, fit
from minivae.app.cli import main
from minivae.app.signals import StopAsked
from minivae.app.train import Run
from minivae.optim import Adam
from minivae.saving import archive, checkpoint
from minivae.saving.archive import ArchiveError, previous
from minivae.saving.checkpoint import CheckpointError, Saver, Throttle, TrainingState
from minivae.training import loop
from minivae.training.evaluation import NonFiniteError, evaluate
from minivae.training.loop import Settings

from conftest import JIT

D, BATCH, EPOCHS = 9, 8, 3
BATCHES = EPOCHS * 3                                       # of 23 images, the last one of 7


@pytest.fixture
def grey(rng):
    """Grey bytes: 23 to train on and 5 to test on."""
    return rng.integers(0, 256, (23, D), dtype=np.uint8), rng.integers(0, 256, (5, D), dtype=np.uint8)


def build(likelihood="bernoulli", seed=0, **options):
    return VAE.mlp(D, [6], 2, likelihood=likelihood, rng=seed, **options)


def train(vae, data, **options):
    usual = dict(X_test=data[1], epochs=EPOCHS, batch_size=BATCH, samples=2, binarize="dynamic", warmup=1.5,
                 decay=0.8, rng=5)
    return fit(vae, data[0], **{**usual, **options})


def after(batches):
    """A `stop` that says True once, after so many batches."""
    asked = iter([*[False] * (batches - 1), True, *[False] * 1000])
    return lambda: next(asked)


def name_of(parameter):
    """What pytest calls a case: the names of its options, without the message."""
    return "-".join(parameter) if isinstance(parameter, dict | list) else ""


def timeless(history):
    return [{name: number for name, number in row.items() if name != "seconds"} for row in history]


def everything(path):
    """What a checkpoint says, but for the clock."""
    arrays, meta = checkpoint.read(path)
    state = meta["state"]
    numbers = {name: value for name, value in state.items() if name not in ("seconds", "history")}
    return {name: a.tobytes() for name, a in arrays.items()}, json.dumps([numbers, timeless(state["history"])])


# --- going on ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_stopping_after_any_batch_and_resuming_changes_no_bit(grey, tmp_path, likelihood):
    """Grey bytes binarised afresh, K = 2, warm-up and decay on; resumed by another model with another seed."""
    never = tmp_path / "never.npz"
    history = train(build(likelihood), grey, checkpoint=never)
    for n in range(1, BATCHES + 1):
        path = tmp_path / f"{n}.npz"
        part = train(build(likelihood), grey, checkpoint=path, stop=after(n))
        assert len(part) == (n - 1) // 3                   # an epoch is over once it has been judged
        again = train(build(likelihood, seed=1), grey, checkpoint=path, resume=path, rng=6)
        assert timeless(again) == timeless(history)
        assert everything(path) == everything(never)


def test_stopping_after_every_batch_changes_no_bit(grey, tmp_path):
    never, path = tmp_path / "never.npz", tmp_path / "often.npz"
    train(build(), grey, checkpoint=never, patience=2)
    train(build(), grey, checkpoint=path, patience=2, stop=after(1))
    for seed in range(BATCHES):
        train(build(seed=seed), grey, checkpoint=path, resume=path, patience=2, rng=seed, stop=after(1))
    assert everything(path) == everything(never)


def test_saving_itself_changes_no_bit(grey, tmp_path):
    plain, saved = build(), build()
    train(plain, grey), train(saved, grey, checkpoint=tmp_path / "model.npz")
    for name, array in plain.state().items():
        np.testing.assert_array_equal(array, saved.state()[name], err_msg=name)


@pytest.mark.parametrize("kind", [np.random.MT19937, np.random.Philox, np.random.SFC64, np.random.PCG64DXSM],
                         ids=lambda kind: kind.__name__)
def test_any_generator_of_numpy_goes_on_where_it_was(grey, tmp_path, kind):
    never, path = tmp_path / "never.npz", tmp_path / "model.npz"
    train(build(), grey, checkpoint=never, rng=np.random.Generator(kind(1)))
    train(build(), grey, checkpoint=path, rng=np.random.Generator(kind(1)), stop=after(4))
    train(build(), grey, checkpoint=path, rng=np.random.Generator(kind(2)), resume=path)
    assert everything(path) == everything(never)


def test_more_epochs_can_be_added_and_are_those_of_a_longer_run(grey, tmp_path):
    never, path = tmp_path / "never.npz", tmp_path / "model.npz"
    train(build(), grey, checkpoint=never, epochs=4)
    train(build(), grey, checkpoint=path, epochs=2)
    train(build(), grey, checkpoint=path, resume=path, epochs=4)
    assert everything(path) == everything(never)


@pytest.mark.parametrize("change, message", [
    ({"lr": 0.01}, r"with lr 0.001, not 0.01: to resume, only epochs may be changed"),
    ({"batch_size": 7}, "with batch_size 8, not 7"),
    ({"samples": 1}, "with samples 2, not 1"), ({"binarize": "threshold"}, "with binarize dynamic, not threshold"),
    ({"warmup": 0}, "with warmup 1.5, not 0.0"), ({"decay": 1.0}, "with decay 0.8, not 1.0"),
    ({"patience": 3}, "with patience None, not 3"),
    ({"epochs": 1}, "has trained 2 epochs already: epochs may be raised, not lowered to 1"),
    ({"X_test": None}, "other data: the test images"),
    ({"rng": np.random.Generator(np.random.MT19937(0))}, "with rng PCG64, not MT19937")], ids=name_of)
def test_resuming_with_another_setting_is_refused_in_one_line_and_nothing_is_touched(grey, tmp_path, change, message):
    path, vae = tmp_path / "model.npz", build(seed=1)
    train(build(), grey, checkpoint=path, epochs=2)
    with pytest.raises(CheckpointError, match=message) as caught:
        train(vae, grey, resume=path, **change)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    for name, array in vae.state().items():
        np.testing.assert_array_equal(array, build(seed=1).state()[name], err_msg=name)


@pytest.mark.parametrize("model, message", [
    ({"beta": 2.0}, "with beta 1.0, not 2.0"), ({"dtype": np.float64}, "with dtype float32, not float64"),
    ({"activation": "tanh"}, "with activation relu, not tanh")], ids=name_of)
def test_resuming_with_another_model_is_refused(grey, tmp_path, model, message):
    train(build(), grey, checkpoint=tmp_path / "model.npz", epochs=1)
    with pytest.raises(CheckpointError, match=message):
        train(build(**model), grey, resume=tmp_path / "model.npz")


def test_resuming_on_other_data_is_refused_though_one_pixel_differs(grey, tmp_path):
    train(build(), grey, checkpoint=tmp_path / "model.npz", epochs=1)
    grey[0][3, 4] ^= 1
    with pytest.raises(CheckpointError, match="trained on other data: the training images are not those of before"):
        train(build(), grey, resume=tmp_path / "model.npz")


def test_a_model_without_its_training_can_be_loaded_but_not_resumed(grey, tmp_path):
    minivae.save(build(), tmp_path / "model.npz")
    with pytest.raises(CheckpointError, match="it can be loaded, but not resumed"):
        train(build(), grey, resume=tmp_path / "model.npz")


def test_the_model_of_a_checkpoint_can_be_loaded(grey, tmp_path):
    vae = build("gaussian")
    train(vae, grey, checkpoint=tmp_path / "model.npz")
    np.testing.assert_array_equal(minivae.load(tmp_path / "model.npz").sample(3, rng=0), vae.sample(3, rng=0))


def test_adam_goes_on_where_it_was(rng):
    grads = rng.standard_normal((6, 4))
    one, two = (Adam([("p", np.zeros(4), grad)], 0.1) for grad in (np.zeros(4), np.zeros(4)))
    walk = []
    for adam, steps in ((one, range(6)), (two, range(3))):
        for i in steps:
            adam.slots["p"][1][:] = grads[i]
            adam.step()
        walk.append(adam.slots["p"][0].copy())
    three = Adam([("p", walk[1], np.zeros(4))], 0.1)
    state = two.state()
    two.step()                                             # what `state` gave are copies
    three.restore(state)
    for i in range(3, 6):
        three.slots["p"][1][:] = grads[i]
        three.step()
    np.testing.assert_array_equal(three.slots["p"][0], walk[0])


# --- schedules and early stopping -------------------------------------------------------------------


def test_beta_rises_by_the_batch_and_lr_falls_by_a_factor_per_epoch():
    s = Settings(8, 0.01, 1, "none", 4.0, 0.5, None)
    found = [s.schedule(3.0, passed) for passed in (0, 1, 4, 6)]
    assert found == [(0.0, 0.01), (0.75, 0.005), (3.0, 0.000625), (3.0, 0.01 / 64)]
    assert Settings(8, 0.01, 1, "none", 0.0, 1.0, None).schedule(3.0, 5.3) == (3.0, 0.01)


def test_the_scheduled_beta_and_lr_are_those_that_training_uses(grey, monkeypatch):
    seen, vae = [], build(beta=2.0)
    forward, step = VAE.forward, Adam.step
    monkeypatch.setattr(VAE, "forward", lambda self, x, eps: (seen.append([self.beta]), forward(self, x, eps))[1])
    monkeypatch.setattr(Adam, "step", lambda self: (seen[-1].append(self.lr), step(self))[1])
    history = train(vae, grey, X_test=None, epochs=2, lr=0.01)
    passed = np.array([0, 8, 16, 23, 31, 39]) / 23         # epochs before each batch
    wanted = np.stack([2 * np.minimum(1, passed / 1.5), 0.01 * 0.8**passed], axis=1)
    np.testing.assert_allclose(seen, wanted, rtol=1e-12)
    assert [(row["beta"], row["lr"]) for row in history] == [(2 / 1.5, 0.01 * 0.8), (2.0, 0.01 * 0.8**2)]
    assert vae.beta == 2.0                                 # the model's own beta is never changed


def test_a_multi_sample_bound_cannot_be_warmed_up(grey):
    with pytest.raises(ValueError, match="wants beta = 1, got 0"):
        train(build(estimator=estimators.iwae), grey)


@pytest.mark.parametrize("bad, message", [
    ({"warmup": -1}, "warmup must be"), ({"warmup": np.inf}, "warmup must be"), ({"decay": 0}, "decay must be"),
    ({"decay": 1.1}, "decay must be"), ({"patience": 0}, "patience must be at least 1, got 0")])
def test_schedules_out_of_range_are_refused(grey, bad, message):
    with pytest.raises(ValueError, match=message):
        train(build(), grey, **bad)


def test_training_stops_when_patience_ends_and_the_best_model_is_kept(rng, tmp_path):
    """Few noisy images are learned by heart, which the tenth held out shows: judged at beta = 1, though beta is 0.1."""
    X = rng.random((60, D)).astype(np.float32)
    vae = VAE.mlp(D, [64], 4, beta=0.1, rng=0)
    kept = {}
    same = dict(X_test=X[:5], batch_size=9, lr=0.01, binarize="threshold", patience=3)
    history = fit(vae, X, epochs=500, rng=0, checkpoint=tmp_path / "model.npz", **same,
                  callback=lambda row: kept.update({row["epoch"]: vae.state()}))
    held = [row["held_elbo"] for row in history]
    best = int(np.argmax(held)) + 1
    assert len(history) == best + 3 < 500                  # three epochs after the best one, no more
    found = minivae.load(tmp_path / "best.npz")
    for name, array in found.state().items():
        np.testing.assert_array_equal(array, kept[best][name], err_msg=name)
    order = np.random.default_rng(20131220).permutation(60)
    assert evaluate(found, X[np.sort(order[:6])], binarize="threshold")["elbo"] == held[best - 1]
    again = fit(VAE.mlp(D, [64], 4, beta=0.1, rng=9), X, epochs=600, resume=tmp_path / "model.npz", **same)
    assert timeless(again) == timeless(history)            # patience stays at its end


def test_the_images_held_out_are_never_trained_on(grey, monkeypatch):
    rows, held = loop._hold_out(23)
    assert sorted([*rows, *held]) == list(range(23)) and len(held) == 2
    drawn, draw = [], loop.draw

    def draw_and_note(X, index, *rest):
        assert len(X) == 23
        drawn.extend(index)
        return draw(X, index, *rest)

    monkeypatch.setattr(loop, "draw", draw_and_note)
    train(build(), grey, patience=5)
    assert set(drawn) == set(rows) and len(drawn) == EPOCHS * len(rows)


def test_patience_does_not_count_the_epochs_of_the_warm_up(grey, tmp_path):
    state = TrainingState(build(), Adam([]), np.random.default_rng(0), np.arange(3))
    s = Settings(8, 0.01, 1, "none", 4.5, 1.0, 2)
    state.best_epoch = 1
    ends = []
    for state.epoch in range(1, 10):
        ends.append(loop._is_over(state, 100, s))
    # before epoch 8, five epochs of warm-up and two of patience are over
    assert ends == [False] * 7 + [True] * 2


def test_patience_wants_ten_images(grey):
    with pytest.raises(ValueError, match="wants at least 10, got 9"):
        fit(build(), grey[0][:9], patience=1)


@pytest.fixture
def never_due(monkeypatch):
    """It is never time to save, as after a slow save: only the end of training, or an error, saves."""
    monkeypatch.setattr(Throttle, "due", lambda self, every=0.0: False)


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")
@pytest.mark.parametrize("patience", [None, 5])
def test_a_training_that_blows_up_leaves_the_epoch_on_the_disk_that_its_message_names(grey, tmp_path, never_due,
                                                                                      patience):
    """And from there the training goes on, bit for bit, where the cause is gone."""
    never, path, same = tmp_path / "never.npz", tmp_path / "model.npz", dict(patience=patience)
    train(build(), grey, checkpoint=never, epochs=2, **same)
    kept, asked = {}, iter(range(100))

    def sabotage():                                        # in the middle of epoch 3, which has 3 batches
        if next(asked) == (7 if patience is None else 6):
            vae.to_mu.params["W"][...] = np.inf
        return False

    vae = build()
    with pytest.raises(NonFiniteError, match="in epoch 3, .* The model is back at the end of epoch 2"):
        train(vae, grey, checkpoint=path, stop=sabotage, callback=lambda row: kept.update(vae.state()), **same)
    assert everything(path) == everything(never)
    for name, array in minivae.load(path).state().items():
        np.testing.assert_array_equal(array, kept[name], err_msg=name)
        np.testing.assert_array_equal(array, vae.state()[name], err_msg=name)
    train(build(), grey, checkpoint=never, resume=never, **same)
    train(build(seed=1), grey, checkpoint=path, resume=path, **same)
    assert everything(path) == everything(never)


@pytest.mark.parametrize("error", [BrokenPipeError, OSError(errno.ENOSPC, "full"), KeyboardInterrupt])
def test_an_error_in_the_callback_loses_no_epoch(grey, tmp_path, never_due, error):
    """The reader of the lines goes away, a picture finds the disk full: the epoch is saved all the same."""
    def fails(row):
        if row["epoch"] == 2:
            raise error

    path = tmp_path / "model.npz"
    with pytest.raises(error if isinstance(error, type) else type(error)):
        train(build(), grey, checkpoint=path, callback=fails)
    assert len(checkpoint.read(path)[1]["state"]["history"]) == 2


def test_the_first_epoch_is_saved_before_its_callback(grey, tmp_path):
    """A kill while its pictures are drawn finds the model on the disk."""
    seen = []
    train(build(), grey, checkpoint=tmp_path / "model.npz", epochs=1,
          callback=lambda row: seen.append((tmp_path / "model.npz").exists()))
    assert seen == [True]


def test_two_trainings_in_one_folder_keep_their_best_models_apart(grey, tmp_path):
    for name in ("A", "B", "model"):
        train(build(), grey, checkpoint=tmp_path / f"{name}.npz", patience=5, epochs=1)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"A.npz", "A.best.npz", "B.npz", "B.best.npz", "model.npz", "best.npz"}


@pytest.mark.parametrize("name, patience", [("data.npz", None), ("model.npz", None), ("best.npz", 5),
                                            ("data.npy", None)])
def test_a_checkpoint_never_takes_the_place_of_a_file_of_another_program(grey, tmp_path, name, patience):
    if name.endswith(".npz"):
        np.savez(tmp_path / name, x_train=grey[0])
    else:
        np.save(tmp_path / name, grey[0])
    path, before = tmp_path / ("model.npz" if name == "best.npz" else name), (tmp_path / name).read_bytes()
    with pytest.raises(ArchiveError, match=f"{name} exists already and minivae did not write it"):
        train(build(), grey, checkpoint=path, patience=patience, callback=lambda row: pytest.fail("it trained"))
    assert (tmp_path / name).read_bytes() == before and len(list(tmp_path.iterdir())) == 1


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")
def test_a_training_that_blows_up_leaves_its_last_save_and_its_best_model(grey, tmp_path):
    def sabotage(row):
        if row["epoch"] == 2:
            vae.to_mu.params["W"][...] = np.inf

    vae = build()
    with pytest.raises(NonFiniteError):
        train(vae, grey, checkpoint=tmp_path / "model.npz", patience=5, callback=sabotage)
    for name in ("model.npz", "best.npz"):
        assert all(np.isfinite(a).all() for a in minivae.load(tmp_path / name).state().values())


# --- when it saves ----------------------------------------------------------------------------------


class Clock:
    """A perf_counter that stands still until a test moves it."""

    def __init__(self, monkeypatch):
        self.now = 100.0
        monkeypatch.setattr(checkpoint, "perf_counter", lambda: self.now)


def test_saving_waits_two_hundred_times_as_long_as_it_takes(monkeypatch):
    clock = Clock(monkeypatch)
    throttle = Throttle()
    assert throttle.due() and not throttle.due(60)
    with throttle.timed():
        clock.now += 0.5
    clock.now += 99.9
    assert not throttle.due()
    clock.now += 0.2
    assert throttle.due() and throttle.due(60) and not throttle.due(101)
    with throttle.timed():
        clock.now += 70                                    # a disk that was slow once
    clock.now += 601
    assert throttle.due(60)


def test_a_long_epoch_is_saved_within(grey, tmp_path, monkeypatch):
    """The clock moves 25 s at every batch: after the third, more than 60 s have passed."""
    clock, saved, save, step = Clock(monkeypatch), [], Saver.save, Adam.step

    def save_and_note(self):
        saved.append((self.state.epoch, self.state.next_row))
        save(self)

    monkeypatch.setattr(Saver, "save", save_and_note)
    monkeypatch.setattr(Adam, "step", lambda self: (setattr(clock, "now", clock.now + 25), step(self))[1])
    train(build(), grey, epochs=2, batch_size=5, checkpoint=tmp_path / "model.npz")
    assert saved == [(1, 15), (2, 0), (2, 15), (3, 0)]


def test_what_cannot_be_saved_is_refused_before_training(grey, tmp_path):
    unknown = build()
    unknown.estimator = estimators.estimator(estimators.analytic_elbo)(lambda t: estimators.elbo(t))
    cases = [(unknown, tmp_path / "model.npz", "save knows elbo"),
             (build(), tmp_path / "none" / "model.npz", "there is no folder")]
    for vae, path, message in cases:
        with pytest.raises(ValueError, match=message):
            train(vae, grey, checkpoint=path, callback=lambda row: pytest.fail("it trained"))


# --- files ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A small checkpoint: its bytes, and what it says."""
    path = tmp_path_factory.mktemp("small") / "model.npz"
    save_small(path)
    return path.read_bytes(), *checkpoint.read(path)


def save_small(path):
    vae = VAE.mlp(4, [], 2, rng=0)
    Saver(path, TrainingState(vae, Adam(vae.named_params()), np.random.default_rng(0), np.arange(30)), {}, None).save()


def right_or_refused(path, small):
    """True where `path` says what `small` says, False where it is refused in one line; all else is an error."""
    try:
        arrays, meta = checkpoint.read(path)
    except CheckpointError as error:
        assert "\n" not in str(error)
        return False
    assert json.dumps(meta) == json.dumps(small[2]) and arrays.keys() == small[1].keys()
    for name, array in arrays.items():
        assert array.dtype == small[1][name].dtype
        np.testing.assert_array_equal(array, small[1][name])
    return True


def test_a_file_cut_short_anywhere_is_refused(small, tmp_path):
    data = small[0]
    for size in [*range(0, len(data), 23), *range(len(data) - 30, len(data))]:
        (tmp_path / "model.npz").write_bytes(data[:size])
        assert not right_or_refused(tmp_path / "model.npz", small)


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(st.data())
def test_no_edit_of_the_bytes_brings_a_traceback_or_a_wrong_array(small, data):
    """Flips, cuts, copies of one part over another, and bytes of choice."""
    spoilt = bytearray(small[0])
    place = st.integers(0, len(spoilt) - 1)
    for _ in range(data.draw(st.integers(1, 4))):
        a, b = data.draw(place), data.draw(place)
        kind = data.draw(st.sampled_from(["flip", "write", "copy", "cut", "insert"]))
        if kind == "flip":
            spoilt[a % len(spoilt)] ^= 1 << data.draw(st.integers(0, 7))
        elif kind == "write":
            new = data.draw(st.binary(min_size=1, max_size=8))
            spoilt[a : a + len(new)] = new
        elif kind == "copy":
            spoilt[a : a + 40] = spoilt[b : b + 40]
        elif kind == "cut":
            del spoilt[a : a + b % 100 + 1]
        else:
            spoilt[a:a] = data.draw(st.binary(min_size=1, max_size=40))
        spoilt = spoilt or bytearray(b"\0")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.npz"
        path.write_bytes(spoilt)
        right_or_refused(path, small)


@pytest.mark.parametrize("step, first", [(13, 0), (13, 7)])
def test_a_flipped_bit_is_refused_or_changes_nothing(small, tmp_path, step, first):
    data = bytearray(small[0])
    for byte in range(first, len(data), step):
        data[byte] ^= 1 << byte % 8
        (tmp_path / "model.npz").write_bytes(data)
        right_or_refused(tmp_path / "model.npz", small)
        data[byte] ^= 1 << byte % 8


def npy(header, body=b""):
    text = repr(header).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + body


def zipped(parts, compression=zipfile.ZIP_STORED):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as file:
        for name, data in parts:
            file.writestr(name, data)
    return stream.getvalue()


def parts_of(data):
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        return {name: file.read(name) for name in file.namelist()}


def forged(data, change):
    """`data` with another header, sealed anew."""
    parts = parts_of(data)
    header = json.loads(np.load(io.BytesIO(parts["header.npy"])).tobytes())
    header = change(header) or header
    packed = np.frombuffer(json.dumps(header).encode(), np.uint8)
    for name, array in (("header", packed), ("seal", archive._seal(packed))):
        stream = io.BytesIO()
        np.save(stream, array)
        parts[f"{name}.npy"] = stream.getvalue()
    return zipped(parts.items())


def with_part(data, name, part, **options):
    return zipped((parts_of(data) | {name: part}).items(), **options)


def without_part(data, name):
    return zipped([(n, part) for n, part in parts_of(data).items() if n != name])


GIANT = npy({"descr": "<f4", "fortran_order": False, "shape": (65536, 65536)})
OBJECTS = npy({"descr": "|O", "fortran_order": False, "shape": (2,)}, bytes(16))
CRAFTED = {
    "a giant": (lambda d: with_part(d, "enc.npy", GIANT), "it should hold the arrays"),
    "a giant of the right name": (lambda d: with_part(d, "to_mu.W.npy", GIANT),
                                  r"shape \(65536, 65536\) and float32 does not have 0 bytes"),
    "a giant alone": (lambda d: GIANT, "damaged or no minivae file"),
    "a giant header": (lambda d: with_part(d, "header.npy", GIANT), "does not have 0 bytes"),
    "a zip bomb": (lambda d: with_part(d, "to_mu.W.npy", bytes(10**7), compression=zipfile.ZIP_DEFLATED),
                   "compressed, or larger"),
    "an extra array": (lambda d: with_part(d, "x.npy", GIANT), "it should hold the arrays"),
    "an array less": (lambda d: without_part(d, "to_mu.b.npy"), "it should hold the arrays"),
    "no seal": (lambda d: without_part(d, "seal.npy"), "it has no seal"),
    "no header": (lambda d: without_part(d, "header.npy"), "it has no header"),
    "another format": (lambda d: forged(d, lambda h: h.update(format=1)), "has format 1, this version reads 3"),
    "no names": (lambda d: forged(d, lambda h: h.update(arrays={})), "it should hold the arrays"),
    "a list": (lambda d: forged(d, lambda h: [h]), "damaged or no minivae file"),
    "no state": (lambda d: forged(d, lambda h: h["meta"].pop("state") and None), "not where its training stood"),
    "an object array": (lambda d: with_part(d, "to_mu.b.npy", OBJECTS), "Object arrays cannot be loaded"),
}


@pytest.mark.parametrize("case", CRAFTED)
def test_a_crafted_file_is_refused_in_one_line(small, tmp_path, case):
    make, message = CRAFTED[case]
    path = tmp_path / "model.npz"
    path.write_bytes(make(small[0]))
    with pytest.raises(CheckpointError, match=message) as caught:
        checkpoint.read(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


@pytest.mark.parametrize("change, message", [
    (lambda h: h["meta"]["config"].update(x_dim=10**9, hidden=[10**9]), "larger than any that it holds"),
    (lambda h: h["meta"]["config"].update(z_dim=1), "wanted"),
    (lambda h: h["meta"].update(config=None), "describes no model"),
    (lambda h: h["meta"]["config"].update(dtype="float64"), "has shape .* and float32, wanted .* and float64"),
    (lambda h: h["meta"]["config"].update(colour="red"), "describes no model"),
    (lambda h: h["meta"]["config"].update(hidden="ab"), "describes no model")],
    ids=["a giant", "another size", "none", "another dtype", "unknown key", "no numbers"])
def test_a_model_described_falsely_is_refused_before_it_is_built(small, tmp_path, change, message):
    path = tmp_path / "model.npz"
    path.write_bytes(forged(small[0], lambda h: change(h) and None))
    with pytest.raises(ArchiveError, match=message):
        minivae.load(path)


@pytest.mark.parametrize("change, message", [
    (lambda h: h["meta"]["state"].update(rng={"state": 1}), "describes no training"),
    (lambda h: h["meta"]["state"].pop("epoch"), "knows"),
    (lambda h: h["meta"].update(config=[]), "not where its training stood"),
    (lambda h: h["meta"]["settings"].pop("lr"), "describes no training"),
    (lambda h: h["meta"]["state"].update(history=None), "not where its training stood"),
    (lambda h: h.update(meta=[]), "not resumed"),
    (lambda h: h["meta"]["state"].update(epoch="one"), "its epoch is missing or not what training writes"),
    (lambda h: h["meta"]["state"].update(epoch=7), "contradict each other"),
    (lambda h: h["meta"]["state"].update(seconds=None), "its seconds is missing or not"),
    (lambda h: h["meta"]["state"].update(next_row=1.5), "its next_row is missing or not"),
    (lambda h: h["meta"]["state"].update(history=[1]), "its history is missing or not"),
    (lambda h: h["meta"]["state"].update(best_elbo="x"), "its best_elbo is missing or not"),
    (lambda h: h["meta"]["state"]["products"].update(parts=10**12), "its products is missing or not"),
    (lambda h: h["meta"]["state"]["rng"]["state"].update(state=-1), "describes no training"),
    (lambda h: h["meta"]["state"].update(next_row=24), "contradict"),
    ], ids=["rng", "no epoch", "config", "no lr", "history", "a list", "epoch", "another epoch", "seconds",
            "a half row", "a row of history", "best ELBO", "parts", "negative rng", "next row"])
def test_a_state_described_falsely_is_refused_in_one_line(grey, tmp_path, change, message):
    path = tmp_path / "model.npz"
    train(build(), grey, checkpoint=path, epochs=1)
    path.write_bytes(forged(path.read_bytes(), lambda h: change(h) and None))
    with pytest.raises(CheckpointError, match=message):
        train(build(), grey, resume=path)


def test_an_order_that_leaves_the_data_is_refused(grey, tmp_path):
    """A kernel would read past the end of the images."""
    path = tmp_path / "model.npz"
    train(build(), grey, checkpoint=path, epochs=1)
    arrays, meta = archive.read(path)
    arrays["training.order"][0] = 10**6
    archive.write(path, arrays, meta)
    with pytest.raises(CheckpointError, match="contradict each other"):
        train(build(), grey, resume=path)


def test_the_save_before_is_kept_and_named_as_the_way_out(grey, tmp_path):
    path = tmp_path / "model.npz"
    train(build(), grey, checkpoint=path, epochs=1)
    first = path.read_bytes()
    train(build(), grey, checkpoint=path, resume=path, epochs=2)
    assert previous(path).read_bytes() == first and previous(path).name == "model.prev.npz"
    path.write_bytes(path.read_bytes()[:-9])
    for read in (minivae.load, lambda p: train(build(), grey, resume=p)):
        with pytest.raises(ArchiveError, match=rf"damaged .*; the save before it is {re.escape(str(previous(path)))}"):
            read(path)
    path.unlink()
    with pytest.raises(CheckpointError, match="does not exist; the save before it is "):
        checkpoint.read(path)
    assert len(train(build(), grey, resume=previous(path))) == EPOCHS


def test_the_same_file_twice_and_no_hard_links_are_no_trouble(tmp_path, monkeypatch):
    path = tmp_path / "model.npz"
    save_small(path)
    os.link(path, previous(path))                          # as a kill between two steps would leave it
    save_small(path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.npz", "model.prev.npz"]
    monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(PermissionError("no links here")))
    kept = path.read_bytes()
    save_small(path)
    assert previous(path).read_bytes() == kept
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.npz", "model.prev.npz"]


def test_temporary_files_of_the_dead_are_swept_away_and_others_are_not(tmp_path):
    """A young one of a process that runs may be under its hands."""
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    dead, alive = gone.stdout.strip(), os.getpid()
    for name in (f".model.npz.{dead}.a.tmp", f".model.npz.{dead}.a.link.tmp", f".model.npz.{alive}.old.tmp",
                 ".model.npz.x.tmp", f".other.npz.{dead}.a.tmp", "model.npz.tmp"):
        (tmp_path / name).touch()
    os.utime(tmp_path / f".model.npz.{alive}.old.tmp", (1000, 1000))
    (tmp_path / f".model.npz.{alive}.young.tmp").touch()
    save_small(tmp_path / "model.npz")
    left = {p.name for p in tmp_path.iterdir()}
    assert left == {f".model.npz.{alive}.young.tmp", f".other.npz.{dead}.a.tmp", "model.npz", "model.npz.tmp"}


WRITER = """
import os, sys
from minivae.saving.archive import write_whole
children = []
for number in range(12):
    child = os.fork()
    if child == 0:
        for _ in range(40):
            write_whole(sys.argv[1], bytes([number]) * 20_000)
        os._exit(0)
    children.append(child)
sys.exit(sum(os.waitpid(child, 0)[1] != 0 for child in children))
"""


def test_twelve_processes_that_write_one_file_leave_one_of_theirs_whole_and_nothing_else(tmp_path):
    path = tmp_path / "sample.png"
    done = subprocess.run([sys.executable, "-c", WRITER, str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr               # how many of them failed
    data = path.read_bytes()
    assert len(data) == 20_000 and len(set(data)) == 1 and list(tmp_path.iterdir()) == [path]


def test_a_file_keeps_its_permissions_and_a_new_one_heeds_the_umask(tmp_path):
    before = os.umask(0o077)
    try:
        save_small(tmp_path / "new.npz")
        save_small(tmp_path / "old.npz")
        os.chmod(tmp_path / "old.npz", 0o640)
        save_small(tmp_path / "old.npz")
    finally:
        os.umask(before)
    modes = [path.stat().st_mode & 0o777 for path in (tmp_path / "new.npz", tmp_path / "old.npz")]
    assert modes == [0o600, 0o640]


def test_a_link_stays_a_link_and_what_it_points_to_is_replaced(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    os.symlink(tmp_path / "elsewhere" / "real.npz", tmp_path / "model.npz")
    for _ in range(2):
        save_small(tmp_path / "model.npz")
        assert (tmp_path / "model.npz").is_symlink() and checkpoint.read(tmp_path / "elsewhere" / "real.npz")


@pytest.mark.parametrize("kind", ["folder", "device"])
def test_what_is_no_file_is_never_replaced_by_one(tmp_path, grey, kind):
    path = tmp_path / "model.npz"
    if kind == "folder":
        path.mkdir()
        (path / "mine").write_text("mine")
    else:
        os.mkfifo(path)                                    # a device node takes root to make
    for write in (lambda: archive.write_whole(path, b"new"), lambda: minivae.save(build(), path),
                  lambda: train(build(), grey, checkpoint=path, callback=lambda row: pytest.fail("it trained"))):
        with pytest.raises(ArchiveError, match=f"it is a {kind}, wanted the name of a file"):
            write()
    assert list(tmp_path.iterdir()) == [path] and not path.is_file()


@pytest.mark.parametrize("where, number", [
    ("builtins.open", errno.EROFS), ("builtins.open", errno.EACCES), ("os.fsync", errno.ENOSPC),
    ("os.replace", errno.ENOSPC)])
def test_a_save_that_fails_leaves_the_old_file_and_says_so_in_one_line(tmp_path, monkeypatch, where, number):
    path = tmp_path / "model.npz"
    save_small(path)
    old = path.read_bytes()

    def fails(*arguments, **options):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(where, fails)
        message = f"model.npz cannot be written: {os.strerror(number)}; nothing was overwritten"
        with pytest.raises(ArchiveError, match=message):
            save_small(path)
    assert path.read_bytes() == old and [p.name for p in tmp_path.iterdir()] == ["model.npz"]


def test_a_disk_that_fills_up_leaves_the_old_file(tmp_path):
    """A limit on the size of files stands in for the disk: the kernel breaks the write off."""
    path = tmp_path / "model.npz"
    save_small(path)
    old, (soft, hard) = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    for room in (0, 1, 4096, len(old) - 200):
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
        try:
            with pytest.raises(ArchiveError, match="cannot be written: File too large"):
                save_small(path)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert path.read_bytes() == old and [p.name for p in tmp_path.iterdir()] == ["model.npz"]


# --- signals and the command ------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_asks_and_the_handlers_of_before_come_back(number, capfd):
    def handlers():
        return [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]

    before = handlers()
    with StopAsked() as stop:
        assert stop() is False and stop.number is None
        os.kill(os.getpid(), number)
        assert stop() is True and stop.number == number
    assert handlers() == before
    assert capfd.readouterr().err.strip() == "minivae: finishing the batch and saving; Ctrl-C once more leaves at once"


def test_a_signal_that_was_ignored_stays_ignored(monkeypatch):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with StopAsked() as stop:
            os.kill(os.getpid(), signal.SIGINT)
            assert stop() is False
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_fit_leaves_signals_alone(grey):
    def handlers():
        return signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)

    seen, before = [], handlers()
    train(build(), grey, callback=lambda row: seen.append(handlers()))
    assert seen == [before] * EPOCHS


SHORT = ["--hidden", "8", "--latent", "3", "--warmup", "2", "--decay", "0.9"]


def run_files(folder):
    """All that a run's folder says, but for the clock."""
    lines = [line.rsplit(",", 1)[0] for line in (folder / "history.csv").read_text().splitlines()]
    return everything(folder / "model.npz"), lines


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_says_how_to_go_on_and_the_run_is_the_one_never_stopped(tmp_path, monkeypatch, number, capsys):
    """A process of its own gets the signal once its first epoch is printed; then, here, two more epochs."""
    monkeypatch.setattr(Run, "_draw_pictures", lambda self: None)
    monkeypatch.chdir(tmp_path)
    command = [sys.executable, "-m", "minivae", "train", "--epochs", "100000", *SHORT, "--out", "r"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for line in process.stdout:
        if line.split()[:1] == ["1"]:
            process.send_signal(number)
            break
    out, err = process.communicate(timeout=120)
    assert process.returncode == 128 + number, err
    assert err.splitlines()[-1] == "minivae: finishing the batch and saving; Ctrl-C once more leaves at once"
    assert out.endswith("bit for bit:\n  " + out.splitlines()[-1].strip() + "\n")
    assert out.endswith("minivae train --resume r\n")
    trained = len(checkpoint.read("r/model.npz")[1]["state"]["history"])
    assert main(["train", "--resume", "r", "--epochs", str(trained + 2)]) == 0
    assert main(["train", "--epochs", str(trained + 2), *SHORT, "--out", "never"]) == 0
    assert run_files(tmp_path / "r") == run_files(tmp_path / "never")
    assert json.loads((tmp_path / "r" / "config.json").read_text())["epochs"] == trained + 2


@pytest.fixture
def trained(tmp_path, monkeypatch, rng):
    """A folder of a short run, without pictures, which take a second."""
    monkeypatch.setattr(Run, "_draw_pictures", lambda self: None)
    monkeypatch.chdir(tmp_path)
    np.save("mine.npy", rng.random((30, 5, 4)))
    assert main(["--data", "mine.npy", "--epochs", "2", *SHORT, "--out", "r"]) == 0
    return tmp_path / "r"


@pytest.mark.parametrize("options, message", [
    (["r"], "has trained 2 epochs of 2 already: --epochs 4 would double them"),
    (["r", "--epochs", "1"], "has trained 2 epochs of 1 already"),
    (["r", "--epochs", "3", "--lr", "0.5"],
     "--lr 0.5 with --resume: the run has 0.001, and only --epochs may be changed"),
    (["r", "--epochs", "3", "--beta", "2"], "--beta 2.0 with --resume: the run has 1.0"),
    (["r", "--epochs", "3", "--out", "s"], "--out s with --resume: a resumed run stays in its folder"),
    (["nowhere"], "nowhere does not exist"),
    (["r", "--epochs", "3", "--data", "other.npy"], "trained on other data: the training images"),
    (["r", "--epochs", "3", "--data", "digits"], "trained on other data: the training images"),
    (["library.npz"], "was not written by `minivae train`")], ids=name_of)
def test_what_cannot_be_resumed_gets_one_line_and_the_folder_stays_as_it_was(trained, grey, options, message, capsys):
    np.save("other.npy", np.zeros((30, 5, 4)))
    train(build(), grey, checkpoint="library.npz", epochs=1)
    before = {path.name: path.read_bytes() for path in trained.iterdir()}
    capsys.readouterr()
    assert main(["train", "--resume", *options]) == 2
    err = capsys.readouterr().err
    assert message in err and err.startswith("minivae: ") and err.count("\n") == 1
    assert {path.name: path.read_bytes() for path in trained.iterdir()} == before


def test_a_damaged_run_goes_on_from_the_save_before(trained, capsys):
    (trained / "model.npz").write_bytes(b"PK")
    assert main(["train", "--resume", "r", "--epochs", "3"]) == 2
    assert "the save before it is r/model.prev.npz" in capsys.readouterr().err
    assert main(["train", "--resume", "r/model.prev.npz", "--epochs", "3"]) == 0
    assert main(["train", "--data", "mine.npy", "--epochs", "3", *SHORT, "--out", "never"]) == 0
    assert run_files(trained) == run_files(Path("never"))


@pytest.mark.parametrize("name, value", [("epochs", "3"), ("lr", None), ("hidden", 8), ("hidden", [8.5]), ("data", 5),
                                         ("patience", True), ("beta", 10**40), ("seed", "0")])
def test_a_note_whose_settings_have_another_type_is_refused_in_one_line(trained, name, value, capsys):
    path = trained / "model.npz"
    path.write_bytes(forged(path.read_bytes(), lambda h: h["meta"]["note"].update({name: value})))
    capsys.readouterr()
    assert main(["train", "--resume", "r", "--epochs", "3"]) == 2
    err = capsys.readouterr().err
    assert f"describes no training that this version knows: the run's setting {name} is of type" in err
    assert err.startswith("minivae: ") and err.count("\n") == 1


def test_moved_data_can_be_named_when_resuming(trained):
    os.rename("mine.npy", "moved.npy")
    assert main(["train", "--resume", "r", "--epochs", "3"]) == 2
    assert main(["train", "--resume", "r", "--epochs", "3", "--data", "moved.npy"]) == 0


def test_a_run_with_patience_keeps_its_best_model_and_evaluate_judges_that(tmp_path, monkeypatch, rng, capsys):
    monkeypatch.setattr(Run, "_draw_pictures", lambda self: None)
    monkeypatch.chdir(tmp_path)
    np.save("mine.npy", rng.random((60, 9)))
    options = ["--hidden", "64", "--lr", "0.01", "--beta", "0.1", "--patience", "2", "--out", "r"]
    assert main(["--data", "mine.npy", "--epochs", "300", *options]) == 0
    printed = capsys.readouterr().out
    assert "stopped early: no better ELBO on the held-out images in 2 epochs" in printed and "  r/best.npz\n" in printed
    lines = Path("r/history.csv").read_text().splitlines()
    _, meta = checkpoint.read(Path("r/model.npz"))
    assert f"the best was epoch {meta['state']['best_epoch']}, test loss " in printed
    assert lines[0] == "epoch,loss,recon,kl,test_elbo,held_elbo,beta,lr,seconds" and len(lines) - 1 < 300
    main(["evaluate", "r", "--eval-samples", "20"])
    assert "best.npz, the best one" in capsys.readouterr().out
    minivae.save(minivae.load("r/model.npz"), "r/best.npz")
    numbers = []
    for _ in range(2):
        main(["evaluate", "r", "--eval-samples", "20", "--json"])
        numbers.append(json.loads(capsys.readouterr().out)["elbo"])
        Path("r/best.npz").unlink(missing_ok=True)
    assert numbers[0] == numbers[1]                        # without best.npz it judges model.npz


def test_a_kill_while_saving_leaves_a_whole_file(tmp_path):
    """The benchmark of faults, at a setting that takes seconds."""
    if not JIT:                                            # nothing here that the JIT has a part in
        return
    options = ["--kills", "6", "--naive-kills", "0", "--every", "101", "--out", str(tmp_path)]
    command = [sys.executable, "-m", "benchmarks.faults", *options]
    done = subprocess.run(command, cwd=Path(__file__).resolve().parents[1], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "faults.json").read_text())
    table = record["table"]
    assert record["lost"] == record["stale"] == 0 and table["SIGKILL while saving: model.npz"] == {"loads right": 6}
    for name, counts in table.items():
        if "np.savez" not in name:
            assert set(counts) <= {"loads right", "refused in one line"}, name
