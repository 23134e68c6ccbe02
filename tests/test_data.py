"""Every kind of input, good and bad: a wrong one gets one line that says what to do."""

import gzip
import struct
import subprocess
import sys

import numpy as np
import pytest

from minivae import load_data
from minivae.data.idx import parse_idx
from minivae.pixels import is_grey, scale_of
from minivae.training.batches import draw


def test_reading_data_loads_neither_a_model_nor_a_heavy_library():
    """`import minivae.data` is for whoever only wants to look at a file."""
    code = "import sys, minivae.data; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not loaded & {"numba", "llvmlite", "scipy", "sklearn", "matplotlib", "requests", "pooch", "PIL"}
    assert {name for name in loaded if name.split(".")[0] == "minivae"} == {
        "minivae", "minivae.data", "minivae.data.arrays", "minivae.data.image_files", "minivae.data.table",
        "minivae.data.own", "minivae.data.idx", "minivae.data.published", "minivae.choices", "minivae.pixels",
        "minivae.locks"}


def test_digits_are_offline_and_their_split_never_changes():
    a, b = load_data(), load_data("digits")
    assert a.x_train.shape == (1500, 64) and a.x_test.shape == (297, 64) and a.image_shape == (8, 8)
    assert a.x_train.min() == 0 and a.x_train.max() == 1 and a.x_train.dtype == np.float32
    np.testing.assert_array_equal(a.x_test, b.x_test)
    assert len({row.tobytes() for row in a.x_test} & {row.tobytes() for row in a.x_train}) == 0


def test_mnist_is_read_from_idx_files(mnist_dir):
    data = load_data("mnist", mnist_dir)
    assert data.x_train.shape == (60000, 784) and data.x_test.shape == (10000, 784) and data.image_shape == (28, 28)
    assert data.x_train.dtype == np.uint8 and data.x_train.max() == 255
    assert np.bincount(data.y_test).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


def write_mnist(folder, n=4, labels=None, suffix=""):
    folder.mkdir(parents=True, exist_ok=True)
    pack = gzip.compress if suffix else bytes
    for part in ("train", "t10k"):
        images = struct.pack(">IIII", 0x803, n, 2, 3) + bytes(range(n * 6))
        (folder / f"{part}-images-idx3-ubyte{suffix}").write_bytes(pack(images))
    n_labels = n if labels is None else labels
    labels = struct.pack(">II", 0x801, n_labels) + bytes(n_labels)
    (folder / f"t10k-labels-idx1-ubyte{suffix}").write_bytes(pack(labels))


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("inner", ["mnist", "."])
def test_idx_files_may_be_gzipped_and_lie_in_the_folder_or_in_its_mnist(tmp_path, suffix, inner, monkeypatch):
    write_mnist(tmp_path / inner, suffix=suffix)
    monkeypatch.setenv("MINIVAE_DATA", str(tmp_path))
    data = load_data("mnist")
    assert data.x_train.shape == (4, 6) and data.image_shape == (2, 3)
    np.testing.assert_array_equal(data.x_train.ravel(), np.arange(24))


def test_mnist_labels_and_images_must_agree(tmp_path):
    write_mnist(tmp_path, labels=3)
    with pytest.raises(ValueError, match="4 test images, 3 labels"):
        load_data("mnist", tmp_path)


GOOD_IDX = struct.pack(">IIII", 0x803, 2, 2, 3) + bytes(12)


@pytest.mark.parametrize("data, message", [
    (b"<!DOCTYPE html><html><body>404</body></html>", "no IDX file of images: it starts with 3c21444f"),
    (b"", "starts with nothing"),
    (GOOD_IDX[:3], "no IDX file"),
    (GOOD_IDX[:-1], r"promises \(2, 2, 3\), 12 bytes, and 11 follow"),
    (GOOD_IDX + b"x", "12 bytes, and 13 follow"),
    (struct.pack(">II", 0x801, 2) + bytes(2), "no IDX file of images"),
    (struct.pack("<IIII", 0x803, 2, 2, 3) + bytes(12), "no IDX file"),
    (struct.pack(">IIII", 0x803, 2**32 - 1, 2**32 - 1, 2**32 - 1), "and 0 follow"),
    (struct.pack(">IIII", 0x803, 0, 2, 3), "damaged"),
    (gzip.compress(GOOD_IDX)[:-5], "cannot be read"),
    (b"\x1f\x8bnonsense", "cannot be read"),
], ids=["html", "empty", "three bytes", "truncated", "trailing byte", "labels", "little-endian", "huge header",
        "no images", "gzip cut", "gzip nonsense"])
def test_a_damaged_idx_file_is_refused_in_one_line(tmp_path, data, message):
    path = tmp_path / "train-images-idx3-ubyte"
    with pytest.raises(ValueError, match=message) as caught:
        parse_idx(data, path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


@pytest.mark.parametrize("shape, image_shape", [
    ((20, 12), (1, 12)), ((20, 9), (3, 3)), ((20, 3, 4), (3, 4)), ((20, 3, 4, 1), (3, 4)),
    ((20, 192), (8, 8, 3)), ((20, 4, 5, 3), (4, 5, 3))])
@pytest.mark.parametrize("dtype", [bool, np.uint8, np.float32, np.float64])
def test_own_arrays_of_any_shape_and_kind(tmp_path, rng, shape, image_shape, dtype):
    x = (rng.random(shape) * (255 if dtype == np.uint8 else 1)).round(2).astype(dtype)
    np.save(tmp_path / "mine.npy", x)
    data = load_data(tmp_path / "mine.npy")
    assert data.name == "mine" and data.image_shape == image_shape and len(data.x_test) == 2 and len(data.x_train) == 18
    together = np.concatenate([data.x_train, data.x_test])
    assert sorted(row.tobytes() for row in together) == sorted(row.tobytes() for row in x.reshape(20, -1))


def test_an_npz_is_taken_by_its_keys_or_by_its_only_array(tmp_path, rng):
    a, b = rng.random((6, 4)), rng.random((3, 4))
    np.savez(tmp_path / "split.npz", x_train=a, x_test=b, y_train=np.zeros(6))
    np.savez(tmp_path / "one.npz", pictures=a)
    data = load_data(tmp_path / "split.npz")
    np.testing.assert_array_equal(data.x_train, a)
    np.testing.assert_array_equal(data.x_test, b)
    assert len(load_data(tmp_path / "one.npz").x_train) == 5


def npy_header(dtype, shape):
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def save_npy(path, x):
    np.save(path, x, allow_pickle=True)


BAD = {
    "a NaN": (lambda p: save_npy(p, np.array([[0.0, 1], [np.nan, 0]])), "must be finite, found nan at row 1, pixel 0"),
    "an infinity": (lambda p: save_npy(p, np.array([[0.0, 1], [1, -np.inf]])),
                    "must be finite, found -inf at row 1, pixel 1"),
    "objects": (lambda p: save_npy(p, np.array([[None, 1]], dtype=object)), "holds Python objects"),
    "strings": (lambda p: save_npy(p, np.array([["a", "b"], ["c", "d"]])),
                "must hold numbers .bool, integer or float., got dtype <U1: convert it"),
    "complex numbers": (lambda p: save_npy(p, np.ones((2, 2), complex)), "got dtype complex128"),
    "wide integers": (lambda p: save_npy(p, np.full((2, 2), 1000)), "holds whole numbers from 1000 to 1000"),
    "no images": (lambda p: save_npy(p, np.ones((0, 5))), r"is empty: shape \(0, 5\)"),
    "no pixels": (lambda p: save_npy(p, np.ones((5, 0))), r"is empty: shape \(5, 0\)"),
    "no dimensions": (lambda p: save_npy(p, np.float64(1)), r"got \(\): one image is x.reshape\(1, H, W\)"),
    "one dimension": (lambda p: save_npy(p, np.ones(5)),
                      r"must have shape \(N, D\), \(N, H, W\), .*got \(5,\): one image of 5 pixels is x.reshape"),
    "channels first": (lambda p: save_npy(p, np.ones((5, 1, 2, 4))), r"got \(5, 1, 2, 4\): x\[:, 0\] takes"),
    "colours first": (lambda p: save_npy(p, np.ones((5, 3, 2, 4))),
                      r"got \(5, 3, 2, 4\): x.transpose\(0, 2, 3, 1\) puts the colours last"),
    "alpha": (lambda p: save_npy(p, np.ones((5, 2, 2, 4))), r"got \(5, 2, 2, 4\): x\[..., :3\] leaves out"),
    "alpha first": (lambda p: save_npy(p, np.ones((5, 4, 2, 2))), r"x\[:, :3\].transpose\(0, 2, 3, 1\)"),
    "two channels": (lambda p: save_npy(p, np.ones((5, 2, 2, 2))), r"got \(5, 2, 2, 2\): reshape it"),
    "one image": (lambda p: save_npy(p, np.ones((1, 4))), "at least 2 are needed"),
    "five dimensions": (lambda p: save_npy(p, np.ones((5, 1, 2, 2, 1))), r"got \(5, 1, 2, 2, 1\): reshape it"),
    "fewer bytes than the header promises": (lambda p: p.write_bytes(npy_header("<f8", (65536, 65536)) + bytes(8)),
                                             "is no readable .npy"),
    "text": (lambda p: p.write_text("hello"), "is no .npy, .npz, .csv, .png or .jpg file: it starts with b'hello'"),
    "nothing": (lambda p: p.write_bytes(b""), "is no .npy, .npz, .csv, .png or .jpg file: it starts with b''"),
}


@pytest.mark.parametrize("case", BAD)
def test_own_arrays_refused(tmp_path, case):
    write, message = BAD[case]
    path = tmp_path / "mine.npy"
    write(path)
    with pytest.raises(ValueError, match=message) as caught:
        load_data(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_an_npz_of_several_unknown_arrays_is_refused(tmp_path):
    np.savez(tmp_path / "mine.npz", a=np.ones((2, 2)), b=np.ones((2, 2)))
    with pytest.raises(ValueError, match="holds a, b: it needs an array x_train"):
        load_data(tmp_path / "mine.npz")


def test_train_and_test_of_different_widths_are_refused(tmp_path):
    np.savez(tmp_path / "mine.npz", x_train=np.ones((3, 4)), x_test=np.ones((3, 5)))
    with pytest.raises(ValueError, match=r"x_train has images of \(2, 2\), x_test of \(1, 5\)"):
        load_data(tmp_path / "mine.npz")


def test_a_missing_file_or_an_unknown_name():
    with pytest.raises(ValueError, match="no-such.npy: no such file or folder$"):
        load_data("no-such.npy")
    known = "digits, mnist, fashion-mnist, kmnist"
    with pytest.raises(ValueError, match=f"emnist: no such file or folder; the names I know are {known}"):
        load_data("emnist")


# --- drawing a batch ---------------------------------------------------------------------------


def test_bytes_are_scaled_as_the_batch_is_drawn():
    X = np.array([[0, 51, 255]], np.uint8)
    assert scale_of(X) == 255 and scale_of(X / 255) == 1
    assert scale_of(X > 0) == 1 and scale_of((X > 0).astype(np.uint8)) == 1
    np.testing.assert_allclose(draw(X, np.array([0]), 255.0, "none", None, np.dtype("f4")), [[0, 0.2, 1]], rtol=1e-7)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_dynamic_binarisation_draws_each_pixel_with_its_intensity(rng, dtype):
    n, grey = 20_000, np.array([0, 64, 128, 200, 255])    # five: each takes every place in a word of random bits
    p, scale = grey / 255, 255.0 if dtype == np.uint8 else 1.0
    X = np.tile((grey if dtype == np.uint8 else p).astype(dtype), (n, 1))
    x = draw(X, np.arange(n), scale, "dynamic", rng, np.dtype("f4"))
    assert set(np.unique(x)) == {0.0, 1.0} and x.dtype == np.float32
    # black stays black and white stays white, exactly: their bound is 0
    assert (np.abs(x.mean(axis=0) - p) <= 5 * np.sqrt(p * (1 - p) / n)).all()
    assert (draw(X, np.arange(n), scale, "dynamic", rng, np.dtype("f4")) != x).any()


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float32])
def test_binary_images_stay_as_they_are_under_dynamic_binarisation(rng, dtype):
    X = (rng.random((50, 9)) < 0.5).astype(dtype)
    np.testing.assert_array_equal(draw(X, np.arange(50), 1.0, "dynamic", rng, np.dtype("f4")), X)


def test_threshold_cuts_at_one_half(rng):
    X = np.array([[0.49, 0.5, 1.0]])
    np.testing.assert_array_equal(draw(X, np.array([0]), 1.0, "threshold", rng, np.dtype("f8")), [[0, 1, 1]])


def test_drawing_never_writes_into_the_stored_pixels(rng):
    X = rng.random((4, 3)).astype(np.float32)
    kept = X.copy()
    draw(X, np.arange(4), 1.0, "dynamic", rng, np.dtype("f4"))
    np.testing.assert_array_equal(X, kept)


def test_grey_is_told_from_black_and_white():
    assert is_grey(np.array([[0, 7, 255]], np.uint8)) and is_grey(np.array([[0.2]]))
    assert not is_grey(np.array([[0, 255]], np.uint8)) and not is_grey(np.array([[True]]))
    assert not is_grey(np.array([[0.0, 1.0]]))
