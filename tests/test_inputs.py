"""The matrix of inputs: what is taken gives the numbers of the plain array, what is refused says what to do."""

import gzip
import io
import os
import struct
import zipfile
from pathlib import Path

import numpy as np
import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import sparse

from minivae import VAE, fit
from minivae.app.cli import main
from minivae.data.own import read_own
from minivae.data.idx import parse_idx
from minivae.pixels import check_pixels
from minivae.training.loop import evaluate

N, D = 12, 6


def small(likelihood="bernoulli"):
    return VAE.mlp(D, [5], 2, likelihood=likelihood, rng=0, dtype=np.float64)


def grey(rng):
    """Sixteenths: exact in every float type."""
    return rng.integers(0, 17, (N, D)) / 16


def with_one(value):
    x = np.full((N, D), 0.5)
    x[3, 2] = value
    return x


# what was wanted, what came, where, how to mend it: each is in the message
REFUSED = {
    "NaN": (lambda: with_one(np.nan), ["must", "found nan", "row 3, pixel 2", "fill it"]),
    "infinity": (lambda: with_one(np.inf), ["must", "found inf", "row 3, pixel 2", ": "]),
    "minus infinity": (lambda: with_one(-np.inf), ["must", "found -inf", "row 3, pixel 2", ": "]),
    "above one": (lambda: with_one(255.0),
                  ["must lie in [0, 1] for the Bernoulli", "found 255", "row 3, pixel 2", "divide by 255?"]),
    "below zero": (lambda: with_one(-0.5),
                   ["must lie in [0, 1] for the Bernoulli", "found -0.5", "row 3, pixel 2",
                    "a Gaussian likelihood takes"]),
    "no rows": (lambda: np.zeros((0, D)), ["is empty", "(0, 6)", "wanted at least one row"]),
    "no pixels": (lambda: np.zeros((N, 0)), ["is empty", "(12, 0)", "at least one pixel"]),
    "a number": (lambda: np.float64(0.5), ["must have shape (N, D)", "got ()", "x.reshape(1, -1)"]),
    "one dimension": (lambda: np.zeros(D), ["must have shape (N, D)", "got (6,)", "x.reshape(1, -1)"]),
    "five dimensions": (lambda: np.zeros((N, 1, 2, 3, 1)),
                        ["must have shape (N, D)", "got (12, 1, 2, 3, 1)", "x.reshape(len(x), -1)"]),
    "another width": (lambda: np.zeros((N, D + 1)), ["must have 6 pixels per row for this model", "(12, 7)"]),
    "objects": (lambda: np.full((N, D), None), ["must hold numbers", "got dtype object", "x.astype(np.float32)"]),
    "complex": (lambda: np.zeros((N, D), complex),
                ["must hold numbers", "got dtype complex128", "x.astype(np.float32)"]),
    "strings": (lambda: np.full((N, D), "0.5"), ["must hold numbers", "got dtype <U3", "x.astype(np.float32)"]),
    "dates": (lambda: np.zeros((N, D), "M8[s]"), ["must hold numbers", "got dtype datetime64[s]"]),
    "records": (lambda: np.zeros((N, D), [("a", float)]), ["must hold numbers", "got dtype [('a', '<f8')]"]),
    "ragged lists": (lambda: [[0.0] * D, [0.0]], ["cannot be made an array of numbers", "inhomogeneous"]),
    "sparse": (lambda: sparse.csr_array(np.eye(N, D)),
               ["must be a dense array", "got a sparse csr_array", "x.toarray()"]),
    "masked": (lambda: np.ma.masked_equal(with_one(1.0), 1.0),
               ["must have a value in every place", "1 of this masked array are masked", "x.filled(0)"]),
    "large whole numbers": (lambda: np.full((N, D), 1000), ["whole numbers", "1000", ": "]),
    "negative whole numbers": (lambda: np.full((N, D), -1), ["-1", ": "]),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("entry", ["fit", "test images", "evaluate", "forward", "encode", "reconstruct"])
def test_what_is_no_image_is_refused_in_one_line(case, entry, rng):
    make, pieces = REFUSED[case]
    x, vae = make(), small()
    before = [p.copy() for _, p, _ in vae.named_params()]
    calls = {"fit": lambda: fit(vae, x, epochs=1), "test images": lambda: fit(vae, grey(rng), X_test=x, epochs=1),
             "evaluate": lambda: evaluate(vae, x)}
    with pytest.raises(ValueError) as caught:
        calls.get(entry, lambda: getattr(vae, entry)(x))()
    said = str(caught.value)
    assert "\n" not in said and said.startswith({"fit": "X", "test images": "X_test", "evaluate": "X"}.get(entry, "x"))
    assert [piece for piece in pieces if piece not in said] == [], said
    for (_, p, _), q in zip(vae.named_params(), before):
        np.testing.assert_array_equal(p, q)


def frozen(x):
    x = x.copy()
    x.setflags(write=False)
    return x


def mapped(x, folder):
    np.save(folder / "x.npy", x)
    return np.load(folder / "x.npy", mmap_mode="r")


# every way to write the same pixels
SAME = {
    "float16": lambda x, _: x.astype(np.float16),
    "float32": lambda x, _: x.astype(np.float32),
    "longdouble": lambda x, _: x.astype(np.longdouble),
    "big-endian float64": lambda x, _: x.astype(">f8"),
    "big-endian float32": lambda x, _: x.astype(">f4"),
    "columns first": lambda x, _: np.asfortranarray(x),
    "every second row and pixel": lambda x, _: np.repeat(np.repeat(x, 2, axis=0), 2, axis=1)[::2, ::2],
    "backwards": lambda x, _: x[::-1].copy()[::-1],
    "read-only": lambda x, _: frozen(x),
    "memory-mapped": mapped,
    "masked nowhere": lambda x, _: np.ma.array(x),
    "lists": lambda x, _: x.tolist(),
}


@pytest.mark.parametrize("case", SAME)
def test_the_same_pixels_give_the_same_numbers_however_they_are_stored(case, rng, tmp_path):
    x = grey(rng)
    same = SAME[case](x, tmp_path)
    np.testing.assert_array_equal(small().encode(same)[0], small().encode(x)[0])
    assert small().forward(same).loss == small().forward(x).loss
    a, b = (fit(small(), z, X_test=z, epochs=1, rng=0)[0] for z in (x, same))
    del a["seconds"], b["seconds"]
    assert a == pytest.approx(b, rel=1e-12)


@pytest.mark.parametrize("dtype, kept", [("f2", "f4"), (">f4", "f4"), (">f8", "f8"), ("g", "f8")])
def test_no_float_is_stored_in_fewer_digits_than_float64_has(dtype, kept, rng):
    x = rng.random((N, D)).astype(dtype)
    np.testing.assert_array_equal(check_pixels(x), x.astype(kept))
    assert check_pixels(x).dtype == np.dtype(kept)


BINARY = {"bool": bool, "uint8": np.uint8, "int64": np.int64, "big-endian int16": ">i2", "float32": np.float32}


@pytest.mark.parametrize("case", BINARY)
def test_black_and_white_may_have_any_type(case, rng):
    x = rng.random((N, D)) < 0.5
    same = x.astype(BINARY[case])
    assert small().forward(same).loss == small().forward(x.astype(float)).loss
    recon, wanted = (fit(small(), images, epochs=1, binarize="none", rng=0)[0]["recon"] for images in (same, x))
    assert recon == wanted


@pytest.mark.parametrize("stored", [
    "columns first", "every second row and pixel", "backwards", "read-only", "memory-mapped"])
def test_bytes_train_alike_however_they_are_stored(stored, rng, tmp_path):
    x = rng.integers(0, 256, (N, D)).astype(np.uint8)
    a, b = (fit(small(), z, epochs=1, rng=0)[0]["loss"] for z in (x, SAME[stored](x, tmp_path)))
    assert a == b


def test_a_data_frame_is_an_array_of_its_values(rng):
    x = grey(rng)
    assert small().forward(pandas.DataFrame(x)).loss == small().forward(x).loss


@pytest.mark.parametrize("kind, x", [("Int64", np.eye(D, dtype=int)), ("UInt8", np.eye(D, dtype=np.uint8) * 255),
                                     ("Float64", np.eye(D) / 2), ("boolean", np.eye(D)), ("Float32", np.eye(D))])
def test_nullable_columns_train_as_the_array_of_their_values(kind, x):
    """Bytes in Int64 columns are divided by 255, too."""
    frame = pandas.DataFrame(x).astype(kind)
    losses = [fit(small(), data, epochs=1, binarize="threshold", rng=0)[0]["loss"] for data in (x, frame)]
    assert losses[0] == losses[1]


@pytest.mark.parametrize("kind", ["Int64", "Float64", "boolean"])
def test_a_missing_value_is_named_by_its_row_and_pixel(kind):
    frame = pandas.DataFrame(np.eye(D)).astype(kind)
    frame.iloc[3, 2] = pandas.NA
    with pytest.raises(ValueError, match="X must be finite, found nan at row 3, pixel 2: fill it, or leave the row"):
        fit(small(), frame, epochs=1)


def test_bytes_that_end_at_16_are_doubted_once_and_the_warning_says_how_to_mend_it(rng):
    x = np.minimum(rng.integers(0, 99, (N, D)), 16).astype(np.uint8)
    said = "X: the images are bytes and go up to 16 only, and are divided by 255: if 16 is white, divide them by 16"
    with pytest.warns(UserWarning, match=said) as found:
        fit(small(), x, epochs=2, rng=0)
    assert len(found) == 1 and found[0].filename == __file__
    fit(small(), x / 16, epochs=1, rng=0)                  # mended: a warning would be an error here
    with pytest.raises(ValueError, match="if 16 is white, pass x / 16; if 255 is, x.astype"):
        fit(small(), x.astype(int), epochs=1, rng=0)
    with pytest.raises(ValueError, match="max 16.: divide by 16"):
        fit(small(), x.astype(float), epochs=1, rng=0)


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
@pytest.mark.parametrize("x", [np.full((1, D), 0.5), np.full((N, D), 0.25), np.zeros((N, D)),
                               np.tile(np.linspace(0, 1, D), (3, 1))],
                         ids=["one image", "constant", "black", "constant columns"])
def test_few_or_constant_images_train_to_finite_numbers(likelihood, x):
    history = fit(small(likelihood), x, X_test=x, epochs=3, batch_size=100, rng=0)      # a batch larger than N, too
    assert all(np.isfinite(list(row.values())).all() for row in history)


@pytest.mark.parametrize("entry", ["fit", "encode", "forward"])
@pytest.mark.parametrize("value", [1e153, -1e153])
def test_a_number_that_float32_has_no_room_for_is_told_as_the_caller_has_it(entry, value):
    """It would be infinite in the model, and NumPy would warn of the cast."""
    x, vae = with_one(value), VAE.mlp(D, [4], 2, likelihood="gaussian", rng=0)
    with pytest.raises(ValueError) as caught:
        fit(vae, x, epochs=1) if entry == "fit" else getattr(vae, entry)(x)
    assert str(caught.value) == (f"{'X' if entry == 'fit' else 'x'} holds {value:g} at row 3, pixel 2, which is "
                                 "infinite in float32: scale the pixels, or choose dtype float64")
    double = VAE.mlp(D, [4], 2, likelihood="gaussian", rng=0, dtype=np.float64)
    assert np.isfinite(double.encode(x)[0]).all()


def test_the_gaussian_likelihood_takes_floats_outside_the_unit_interval(rng):
    assert np.isfinite(fit(small("gaussian"), 100 * rng.standard_normal((N, D)), epochs=1, rng=0)[0]["loss"])


# --- the command line ---------------------------------------------------------------------------------


def write_sparse(path):
    sparse.save_npz(path.with_suffix(".npz"), sparse.csr_array(np.eye(4)))
    path.with_suffix(".npz").rename(path)


def zipped(path, name, data):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(name, data)


def header_of(shape):
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f8", "fortran_order": False, "shape": shape})
    return stream.getvalue() + bytes(8)


FILES = {
    "NaN": (lambda p: np.save(p, with_one(np.nan)), "found nan at row 3, pixel 2"),
    "infinity": (lambda p: np.save(p, with_one(np.inf)), "found inf at row 3, pixel 2"),
    "too large for float32": (lambda p: np.save(p, with_one(1e153)),
                              "holds 1e+153 at row 3, pixel 2, which is infinite in float32: scale the pixels"),
    "above one": (lambda p: np.save(p, np.full((N, D), 255.0)), "divide by 255?"),
    "no rows": (lambda p: np.save(p, np.zeros((0, D))), "is empty"),
    "no pixels": (lambda p: np.save(p, np.zeros((N, 0))), "is empty"),
    "one dimension": (lambda p: np.save(p, np.zeros(D)), "got (6,): one image of 6 pixels is x.reshape(1, -1)"),
    "five dimensions": (lambda p: np.save(p, np.zeros((N, 1, 2, 3, 1))), "got (12, 1, 2, 3, 1): reshape it"),
    "objects": (lambda p: np.save(p, np.full((N, D), None), allow_pickle=True),
                "holds Python objects, not numbers: save a plain array"),
    "complex": (lambda p: np.save(p, np.zeros((N, D), complex)), "got dtype complex128: convert it"),
    "strings": (lambda p: np.save(p, np.full((N, D), "0")), "got dtype <U1: convert it"),
    "sparse": (write_sparse, "holds a sparse matrix: save it dense"),
    "a damaged picture": (lambda p: p.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100)), "cannot be read as an image"),
    "an empty folder": (lambda p: p.mkdir(), "holds no images: wanted files that end in .png, .jpg, .jpeg"),
    "a pipe": (os.mkfifo, "is neither a file nor a folder: save the images in a file first"),
    "a zip of no arrays": (lambda p: zipped(p, "a.txt", b"hi"), "holds no arrays: it needs an array x_train"),
    "a zip of a false array": (lambda p: zipped(p, "x_train.npy", b"hi"), "is no readable .npy or .npz file"),
    "an array without its ending": (lambda p: zipped(p, "x_train", b"hi"), "holds no arrays"),
    "two bytes of a zip": (lambda p: p.write_bytes(b"PK"), "is no readable .npy or .npz file: File is not a zip file"),
    "a shape that overflows": (lambda p: p.write_bytes(header_of((2**40, 2**40))), "is no readable .npy or .npz file"),
    "one image": (lambda p: np.save(p, np.zeros((28, 28))), "one image is x[None], 28 rows of 28 pixels"),
    "one image in colour": (lambda p: np.save(p, np.zeros((28, 28, 3))), "28 images of 28 x 3 pixels"),
    "whole numbers to 16": (lambda p: np.save(p, np.full((N, D), 16)), "if 16 is white, pass x / 16"),
}


@pytest.mark.parametrize("case", FILES)
def test_the_command_line_refuses_a_file_in_one_line(case, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write, message = FILES[case]
    write(Path("x.npy"))
    assert main(["--data", "x.npy", "--epochs", "1"]) == 2
    said = capsys.readouterr().err
    assert message in said and said.startswith("minivae: x.npy") or said.startswith("minivae: x: x_train"), said
    assert said.count("\n") == 1 and not Path("runs").exists()


@pytest.mark.parametrize("x", [np.zeros((N, 2, 3), bool), np.full((N, 5, 2), 9, np.uint8),
                               np.full((N, D), 0.5, np.float16), np.full((N, D), 0.5, ">f8"),
                               np.asfortranarray(np.full((N, D), 0.5)), np.full((2, 7), 0.5)],
                         ids=["bool, 2 x 3", "uint8, 5 x 2", "float16", "big-endian", "columns first", "two images"])
def test_the_command_line_takes_what_fit_takes(x, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", x)
    assert main(["--data", "x.npy", "--epochs", "1", "--hidden", "4", "--latent", "2"]) == 0


# --- any bytes ----------------------------------------------------------------------------------------

few = settings(max_examples=60, derandomize=True, deadline=None, database=None)
pixels = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=3, max_dims=3, max_side=4))
damage = st.one_of(st.tuples(st.just("cut"), st.integers(1, 400)), st.tuples(st.just("flip"), st.integers(0, 10_000)),
                   st.tuples(st.just("append"), st.binary(min_size=1, max_size=9)))


def spoil(data, damage):
    """`data` cut short, with one bit flipped, or made longer."""
    kind, what = damage
    if kind == "cut":
        return data[: max(0, len(data) - what)]
    if kind == "append":
        return data + what
    bad = bytearray(data)
    bad[what // 8 % len(data)] ^= 1 << what % 8
    return bytes(bad)


def idx(x):
    return struct.pack(">IIII", 0x803, *x.shape) + x.tobytes()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("any-bytes")


def read_idx(path):
    return parse_idx(path.read_bytes(), path)


def read(path, data, reader):
    path.write_bytes(data)
    try:
        return reader(path)
    except ValueError as error:                            # the one way to say no
        assert "\n" not in str(error) and str(path) in str(error)
        return None


@few
@given(pixels, st.booleans())
def test_any_idx_file_is_read_as_it_was_written(place, x, packed):
    found = read(place / "images", gzip.compress(idx(x)) if packed else idx(x), read_idx)
    np.testing.assert_array_equal(found, x)


@few
@given(pixels, damage)
def test_a_damaged_packed_idx_file_is_refused_or_right(place, x, damage):
    """gzip has a checksum; what may change unseen is its time stamp and the like."""
    found = read(place / "images", spoil(gzip.compress(idx(x), mtime=0), damage), read_idx)
    assert found is None or np.array_equal(found, x)


@few
@given(pixels, damage)
def test_a_damaged_plain_idx_file_never_changes_its_shape(place, x, damage):
    """It has no checksum: a flipped bit of a pixel is another picture, and no reader can know."""
    found = read(place / "images", spoil(idx(x), damage), read_idx)
    assert found is None or (found.shape == x.shape and (found != x).sum() <= 1)


@few
@given(st.binary(max_size=60))
def test_any_other_bytes_are_no_idx_file_and_no_array(place, data):
    assert read(place / "images", data, read_idx) is None
    assert read(place / "x.npy", data, read_own) is None
    assert read(place / "x.npy", b"\x93NUMPY" + data, read_own) is None
    assert read(place / "x.npz", b"PK\x03\x04" + data, read_own) is None


dtypes = st.sampled_from([np.bool_, np.uint8, np.float16, np.float32, np.float64, np.dtype(">f4"), np.dtype(">i2")])
arrays = hnp.arrays(dtypes, hnp.array_shapes(min_dims=1, max_dims=4, max_side=4))


def npy(x):
    stream = io.BytesIO()
    np.save(stream, x)
    return stream.getvalue()


@few
@given(arrays)
def test_any_array_is_read_as_it_was_saved(place, x):
    found, *rest = read(place / "x.npy", npy(x), read_own)
    assert rest == [None] * 3 and found.dtype == x.dtype and type(found) is np.ndarray
    np.testing.assert_array_equal(found, x)


@few
@given(arrays, arrays, damage)
def test_a_damaged_npz_is_refused_or_right(place, x_train, x_test, damage):
    stream = io.BytesIO()
    np.savez_compressed(stream, x_train=x_train, x_test=x_test)
    found = read(place / "x.npz", spoil(stream.getvalue(), damage), read_own)
    if found is not None:
        np.testing.assert_array_equal(found[0], x_train)
        np.testing.assert_array_equal(found[1], x_test)


def test_no_flipped_bit_of_an_npz_changes_or_hides_an_array(place):
    """Every bit of its table of contents.  Some hide x_test from np.load; then a tenth of x_train would be held out."""
    stream = io.BytesIO()
    np.savez(stream, x_train=np.arange(4.0)[None], x_test=np.ones((1, 4), bool))
    outcomes = set()
    for n in range(8 * stream.getvalue().index(b"PK\x01\x02"), 8 * len(stream.getvalue())):
        found = read(place / "x.npz", spoil(stream.getvalue(), ("flip", n)), read_own)
        outcomes.add("None" if found is None else str([x if x is None else x.tolist() for x in found[:2]]))
    assert outcomes == {"None", "[[[0.0, 1.0, 2.0, 3.0]], [[True, True, True, True]]]"}


@few
@given(arrays, st.integers(1, 400), st.binary(min_size=1, max_size=9))
def test_an_npy_file_cut_short_or_made_longer_is_refused(place, x, n, more):
    assert read(place / "x.npy", npy(x)[:-n], read_own) is None
    assert read(place / "x.npy", npy(x) + more, read_own) is None


def test_a_flipped_bit_in_the_header_of_an_npy_gives_no_other_error(place):
    """It has no checksum, so some flips are a readable header of another type.

    np.load raises TokenError and SyntaxError, too.
    """
    for n in range(8 * 128):
        read(place / "x.npy", spoil(npy(np.arange(6.0)), ("flip", n)), read_own)
