"""Convolutions: worked by hand, a public number, the adjoint, seven loops, a matrix, tiles, and PyTorch."""

import itertools

import numpy as np
import pytest

from minivae import check_layer, convolutions, cores, kernels, pool
from minivae.convolutions import Conv, ConvTranspose, Reshape, checked_step, conv_shape
from minivae.gradcheck.cases import perturbed
from minivae.layers import Dense, ReLU, Sequential, Sigmoid, Softplus, Tanh
from minivae.learn import patches as twins


F8 = np.float64
DTYPES = [np.float32, F8]
# kernel, stride, padding for images of 7 x 5: overlap and none, gaps, a kernel of 1, a padding as large as the
# kernel, sizes that do not divide
STEPS = [(1, 1, 0), (2, 2, 0), (3, 1, 1), (3, 2, 0), (4, 2, 1), (2, 3, 0), (3, 3, 2), (5, 2, 2), (1, 2, 1), (4, 3, 2)]
steps = pytest.mark.parametrize("step", STEPS, ids=str)
dtypes = pytest.mark.parametrize("dtype", DTYPES)


def conv(*sizes, dtype=F8, rng=0):
    """A Conv with a bias that is not 0."""
    return perturbed(Conv(*sizes, rng=np.random.default_rng(rng), dtype=dtype), np.random.default_rng(1))


def conv_transpose(*sizes, dtype=F8, rng=0):
    return perturbed(ConvTranspose(*sizes, rng=np.random.default_rng(rng), dtype=dtype), np.random.default_rng(1))


def whole(rng, *shape, dtype=F8):
    """Whole numbers from -3 to 3: their sums and products are exact."""
    return rng.integers(-3, 4, shape).astype(dtype)


# --- by hand ----------------------------------------------------------------------------------------------------------

GRID = np.arange(16.0).reshape(1, 4, 4, 1)


def by_hand(kernel, stride):
    """A Conv of one channel with W = 1, 2, 3, .. and b = 0.5, and the transpose with the same W and b."""
    layer = Conv(1, 1, kernel, stride, 0, np.random.default_rng(0), F8)
    back = ConvTranspose(1, 1, kernel, stride, 0, (4, 4), np.random.default_rng(0), F8)
    for one in (layer, back):
        one.params["W"][:, 0], one.params["b"][:] = np.arange(1, kernel**2 + 1), 0.5
    return layer, back


@pytest.mark.parametrize("kernel, stride, y, dW, dx", [
    (2, 2, [[34, 54], [114, 134]], [20, 24, 36, 40], [[1, 2, 1, 2], [3, 4, 3, 4], [1, 2, 1, 2], [3, 4, 3, 4]]),
    (2, 1, [[34, 44, 54], [74, 84, 94], [114, 124, 134]], [45, 54, 81, 90],
     [[1, 3, 3, 2], [4, 10, 10, 6], [4, 10, 10, 6], [3, 7, 7, 4]]),
    (3, 1, [[303, 348], [483, 528]], [10, 14, 18, 26, 30, 34, 42, 46, 50],
     [[1, 3, 5, 3], [5, 12, 16, 9], [11, 24, 28, 15], [7, 15, 17, 9]])])
def test_a_four_by_four_image_is_as_worked_by_hand(kernel, stride, y, dW, dx):
    """dy is 1 in every output pixel; without overlap, and with it."""
    layer, back = by_hand(kernel, stride)
    y, ones = np.array(y, F8)[None, :, :, None], np.ones((1, len(y), len(y), 1))
    np.testing.assert_array_equal(layer.forward(GRID), y + 0.5)
    np.testing.assert_array_equal(layer.backward(ones)[0, :, :, 0], dx)
    np.testing.assert_array_equal(layer.grads["W"][:, 0], dW)
    assert layer.grads["b"] == [ones.size]
    # the transpose paints what the convolution sends back, and sends back what the convolution gives
    np.testing.assert_array_equal(back.forward(ones)[0, :, :, 0], np.array(dx) + 0.5)
    np.testing.assert_array_equal(back.backward(GRID), y)
    np.testing.assert_array_equal(back.grads["W"][:, 0], dW)
    assert back.grads["b"] == [GRID.sum()]


def test_the_docstring_of_the_page_shows_these_numbers():
    page = " ".join(convolutions.__doc__.split())
    for words in ("= [20, 24, 36, 40]", "y = 34 54", "114 134", "its dx is 1 + 2 + 3 + 4 = 10"):
        assert words in page, words


def test_the_public_reference_of_cs231n():
    """conv_forward_naive of the assignments of Stanford's CS231n: k 4, s 2, p 1, two images of three channels."""
    x = np.linspace(-0.1, 0.5, 2 * 3 * 4 * 4).reshape(2, 3, 4, 4).transpose(0, 2, 3, 1)
    layer = Conv(3, 3, 4, 2, 1, np.random.default_rng(0), F8)
    W = np.linspace(-0.2, 0.3, 3 * 3 * 4 * 4).reshape(3, 3, 4, 4)                # (out, in, k, k)
    layer.params["W"][...] = W.transpose(2, 3, 1, 0).reshape(-1, 3)
    layer.params["b"][...] = np.linspace(-0.1, 0.2, 3)
    found = layer.forward(x)[0, :, :, 0]
    np.testing.assert_allclose(found, [[-0.08759809, -0.10987781], [-0.18387192, -0.2109216]], rtol=0, atol=5e-9)


# --- the adjoint: exact, for whole numbers have exact sums ------------------------------------------------------------


def cut(x, step, dtype=None):
    """P(x) by the kernel."""
    B, H, W, C = x.shape
    rows = np.full((B, *conv_shape((H, W), *step), step[0] ** 2 * C), np.nan, dtype or x.dtype)
    kernels.patches(x.reshape(B, H, W * C), *step, rows)
    return rows


def put_back(rows, step, x):
    """x + P^T(rows) by the kernel."""
    x = x.copy()
    kernels.add_patches(rows, *step, x.reshape(*x.shape[:2], -1))
    return x


@dtypes
@steps
def test_the_kernels_are_their_twins_and_each_others_adjoint(step, dtype, rng):
    """<P x, c> = <x, P^T c>, to the last bit; add_patches adds to what is there."""
    x, start = whole(rng, 3, 7, 5, 2, dtype=dtype), whole(rng, 3, 7, 5, 2, dtype=dtype)
    rows = cut(x, step)
    np.testing.assert_array_equal(rows, twins.patches(x, *step))
    c = whole(rng, *rows.shape, dtype=dtype)
    added = put_back(c, step, np.zeros_like(x))
    np.testing.assert_array_equal(added, twins.add_patches(c, *step, x.shape))
    np.testing.assert_array_equal(put_back(c, step, start), start + added)
    assert rows.dtype == added.dtype == dtype and (rows * c).sum() == (x * added).sum()


@pytest.mark.parametrize("dtype", DTYPES)
@steps
def test_the_layers_are_each_others_adjoint(step, dtype, rng):
    """<conv(x), y> = <x, convT(y)> with one W and no bias, to the last bit."""
    forth = Conv(2, 3, *step, rng, dtype)
    back = ConvTranspose(3, 2, *step, (7, 5), rng, dtype)
    forth.params["W"][...] = back.params["W"][...] = whole(rng, *forth.params["W"].shape)
    x, y = whole(rng, 4, 7, 5, 2, dtype=dtype), whole(rng, 4, *back.in_shape, 3, dtype=dtype)
    painted = back.forward(y)
    assert (forth.forward(x) * y).sum() == (x * painted).sum()
    # and the backward of the one is the forward of the other, bit by bit
    np.testing.assert_array_equal(forth.backward(y), painted)
    np.testing.assert_array_equal(back.backward(x), forth.forward(x))


# --- three ways -------------------------------------------------------------------------------------------------------


def seven_loops(x, W, b, dy, step):
    """y, dx, dW, db: every product of a weight and a pixel, one by one."""
    (k, stride, padding), (_, H, width, C) = step, x.shape
    W = W.reshape(k, k, C, -1)
    y, dx, dW = np.zeros_like(dy), np.zeros_like(x), np.zeros_like(W)
    y += b
    for n, i, j, d in np.ndindex(dy.shape):
        for r, s, c in np.ndindex(k, k, C):
            h, w = i * stride + r - padding, j * stride + s - padding
            if 0 <= h < H and 0 <= w < width:
                y[n, i, j, d] += x[n, h, w, c] * W[r, s, c, d]
                dx[n, h, w, c] += dy[n, i, j, d] * W[r, s, c, d]
                dW[r, s, c, d] += x[n, h, w, c] * dy[n, i, j, d]
    return y, dx, dW.reshape(-1, dy.shape[3]), dy.sum(axis=(0, 1, 2))


def as_matrix(W, step, shape, C):
    """M with y = M x for one image: y[i, j, d] reads x[h, w, c] with the weight at (h, w) less its patch's corner."""
    (k, stride, padding), (H, width) = step, shape
    out = conv_shape(shape, *step)
    W = W.reshape(k, k, C, -1)
    M = np.zeros((*out, W.shape[3], H, width, C))
    for i, j, h, w in np.ndindex(*out, H, width):
        r, s = h - (i * stride - padding), w - (j * stride - padding)
        if 0 <= r < k and 0 <= s < k:
            M[i, j, :, h, w] = W[r, s].T
    return M.reshape(np.prod(out) * W.shape[3], -1)


def passes(layer, x, dy):
    """y, dx, dW, db of one pass, copied."""
    y = layer.forward(x).copy()
    dx = layer.backward(dy).copy()
    return y, dx, layer.grads["W"].copy(), layer.grads["b"].copy()


def assert_near(found, want, tolerance=1e-12):
    for a, b in zip(found, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * np.abs(b).max())


@steps
def test_three_ways_agree(step, rng):
    """Seven loops, patches and a product, an explicit matrix and its transpose."""
    layer, x = conv(2, 3, *step), rng.standard_normal((2, 7, 5, 2))
    W, b = layer.params["W"], layer.params["b"]
    dy = rng.standard_normal((2, *conv_shape((7, 5), *step), 3))
    found = passes(layer, x, dy)
    assert_near(found, seven_loops(x, W, b, dy, step))
    assert_near(found, (twins.conv_forward(x, W, b, *step), *twins.conv_backward(x, W, dy, *step)))
    M = as_matrix(W, step, (7, 5), 2)
    assert_near(found[:2], ((x.reshape(2, -1) @ M.T).reshape(dy.shape) + b, (dy.reshape(2, -1) @ M).reshape(x.shape)))


@steps
def test_three_ways_agree_for_the_transpose(step, rng):
    """The same matrix, transposed: its forward is M' x, its backward M dy."""
    layer, dy = conv_transpose(3, 2, *step, (7, 5)), rng.standard_normal((2, 7, 5, 2))
    W, b = layer.params["W"], layer.params["b"]
    x = rng.standard_normal((2, *layer.in_shape, 3))
    found = passes(layer, x, dy)
    of_conv, painted, dW, _ = seven_loops(dy, W, 0, x, step)
    assert_near(found, (painted + b, of_conv, dW, dy.sum(axis=(0, 1, 2))))
    assert_near(found, (twins.conv_transpose_forward(x, W, b, *step, (7, 5)),
                        *twins.conv_transpose_backward(x, W, dy, *step)))
    M = as_matrix(W, step, (7, 5), 2)
    assert_near(found[:2], ((x.reshape(2, -1) @ M).reshape(dy.shape) + b, (dy.reshape(2, -1) @ M.T).reshape(x.shape)))


def test_the_matrix_of_a_tiny_convolution_and_its_transpose():
    """3 x 3 pixels, k 2, s 1: four rows, a patch each.  M' has a row for each pixel: who reads it, by which weight."""
    M = as_matrix(np.array([1.0, 2, 3, 4]), (2, 1, 0), (3, 3), 1)
    np.testing.assert_array_equal(M, [[1, 2, 0, 3, 4, 0, 0, 0, 0],
                                      [0, 1, 2, 0, 3, 4, 0, 0, 0],
                                      [0, 0, 0, 1, 2, 0, 3, 4, 0],
                                      [0, 0, 0, 0, 1, 2, 0, 3, 4]])
    layer, back = by_hand(2, 1)
    layer.params["b"][:] = 0
    images = np.eye(9).reshape(9, 3, 3, 1)                               # a 1 in one pixel after the other
    np.testing.assert_array_equal(layer.forward(images).reshape(9, 4), M.T)
    layer.forward(images[:4])
    np.testing.assert_array_equal(layer.backward(np.eye(4).reshape(4, 2, 2, 1)).reshape(4, 9), M)


# --- tiles, parts, threads --------------------------------------------------------------------------------------------

TILED = [(1, 4, (4, 2, 1), (28, 28)), (8, 5, (4, 2, 1), (14, 15)), (3, 4, (3, 1, 1), (21, 26))]


def tiled(case, dtype):
    """Both layers of a case, images and dy: five tiles and a part of one, so that two parts have several, too."""
    n_in, n_out, step, shape = case
    high, wide = conv_shape(shape, *step)
    tile = max(1, cores.TILE // (high * wide * step[0] ** 2 * n_in))
    rng = np.random.default_rng(3)
    B = 5 * tile + tile // 2
    x = rng.standard_normal((B, *shape, n_in)).astype(dtype)
    y = rng.standard_normal((B, high, wide, n_out)).astype(dtype)
    forth = conv(n_in, n_out, *step, dtype=dtype)
    back = conv_transpose(n_out, n_in, *step, shape, dtype=dtype)
    assert tile > 1 and tile * high * wide * len(forth.params["W"]) <= cores.TILE
    return forth, back, x, y


def without_pool(monkeypatch):
    monkeypatch.setattr(cores, "_in_pool", lambda *arrays: False)


def one_by_one(monkeypatch):
    monkeypatch.setattr(pool.Pool, "together", lambda self: False)


@pytest.mark.parametrize("road", ["as it is", "one by one", "without a pool"])
@pytest.mark.parametrize("n", [1, 2, 3])
@dtypes
@pytest.mark.parametrize("case", TILED, ids=str)
def test_batches_larger_than_a_tile(case, dtype, n, road, parts, monkeypatch):
    """In every number of parts, with the pool and without: the sums of one float64 pass over the whole batch.

    A sum of n products in any order: Higham (2002), section 3.5, with sqrt(n) for random rounding.
    """
    parts(n)
    if road != "as it is":
        {"one by one": one_by_one, "without a pool": without_pool}[road](monkeypatch)
    forth, back, x, y = tiled(case, dtype)
    step = forth.step
    W, x8, y8 = forth.params["W"].astype(F8), x.astype(F8), y.astype(F8)
    want = (twins.conv_forward(x8, W, forth.params["b"].astype(F8), *step), *twins.conv_backward(x8, W, y8, *step))
    size = (twins.conv_forward(abs(x8), abs(W), 0, *step), *twins.conv_backward(abs(x8), abs(W), abs(y8), *step))
    within_rounding(passes(forth, x, y), want, size, dtype, y)
    V = back.params["W"].astype(F8)
    want = (twins.conv_transpose_forward(y8, V, back.params["b"].astype(F8), *step, x.shape[1:3]),
            *twins.conv_transpose_backward(y8, V, x8, *step))
    size = (twins.conv_transpose_forward(abs(y8), abs(V), 0 * back.params["b"], *step, x.shape[1:3]),
            *twins.conv_transpose_backward(abs(y8), abs(V), abs(x8), *step))
    within_rounding(passes(back, y, x), want, size, dtype, y)


def within_rounding(found, want, size_of_terms, dtype, y):
    for a, b, terms in zip(found, want, size_of_terms, strict=True):
        assert a.dtype == dtype
        length = max(y[..., 0].size, 100) if a.ndim < 4 else 100           # rows of patches, or numbers of one
        assert (np.abs(a - b) <= 4 * np.sqrt(length) * np.finfo(dtype).eps * (terms + 1)).all()


@pytest.mark.parametrize("case", TILED, ids=str)
def test_the_bits_do_not_depend_on_how_many_threads_work(case, monkeypatch):
    def bits():
        forth, back, x, y = tiled(case, np.float32)
        return [*passes(forth, x, y), *passes(back, y, x)]

    on_all = [bits() for _ in range(2)]
    one_by_one(monkeypatch)
    for found in on_all:
        for a, b in zip(found, bits(), strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_large_patch_is_a_tile_of_its_own(rng):
    """One image alone has more numbers of patches than a tile; and an image of one pixel has few."""
    for layer, shape in ((conv(1, 2, 22, 1, 21), (3, 2, 2, 1)), (conv(2, 3, 1, 1, 0), (3, 1, 1, 2))):
        x = rng.standard_normal(shape)
        dy = rng.standard_normal(layer.forward(x).shape)
        W, b = layer.params["W"], layer.params["b"]
        assert_near(passes(layer, x, dy), (twins.conv_forward(x, W, b, *layer.step),
                                           *twins.conv_backward(x, W, dy, *layer.step)))


def test_the_patches_in_memory_are_those_of_a_tile_and_not_of_the_batch(rng):
    import tracemalloc

    forth, back, x, y = tiled(TILED[1], F8)
    passes(forth, x, y), passes(back, y, x)                              # now the layers have their buffers
    tracemalloc.start()
    forth.forward(x), forth.backward(y), back.forward(y), back.backward(x)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * 8 * cores.TILE < 8 * cut(x, forth.step).size


# --- what a layer does ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [lambda: (conv(2, 3, 3, 2, 1), (4, 6, 5, 2)),
                                  lambda: (conv_transpose(2, 3, 3, 2, 1, (6, 5)), (4, 3, 3, 2))])
def test_input_grad_false_leaves_dx_out_and_nothing_else(make, rng):
    layer, shape = make()
    x = rng.standard_normal(shape)
    dy = rng.standard_normal(layer.forward(x).shape)
    _, _, dW, db = passes(layer, x, dy)
    for grad in layer.grads.values():
        grad[...] = np.nan
    layer.forward(x)
    assert layer.backward(dy, input_grad=False) is None
    np.testing.assert_array_equal(layer.grads["W"], dW)
    np.testing.assert_array_equal(layer.grads["b"], db)


@pytest.mark.parametrize("make, fan", [
    (lambda dtype: Conv(3, 5, 4, 2, 1, np.random.default_rng(7), dtype), 16 * 8),
    (lambda dtype: ConvTranspose(5, 3, 4, 2, 1, (6, 6), np.random.default_rng(7), dtype), 16 * 8)])
@dtypes
def test_the_first_weights_are_uniform_within_their_bound_and_b_is_zero(make, fan, dtype):
    """a = sqrt(6 / (k*k*n_in + k*k*n_out)), in the generator's own order."""
    layer, bound = make(dtype), np.sqrt(6 / fan)
    W = np.random.default_rng(7).uniform(-bound, bound, (48, 5)).astype(dtype)
    np.testing.assert_array_equal(layer.params["W"], W)
    assert not layer.params["b"].any() and not any(g.any() for g in layer.grads.values())
    for name, shape in (("W", (48, 5)), ("b", layer.params["b"].shape)):
        for arrays in (layer.params, layer.grads):
            assert arrays[name].shape == shape and arrays[name].dtype == dtype and arrays[name].ctypes.data % 64 == 0
    assert layer.grads["W"] is not layer.params["W"]


def test_float32_without_a_dtype():
    rng = np.random.default_rng(0)
    for layer in (Conv(1, 2, 3, 1, 1, rng), ConvTranspose(2, 1, 3, 1, 1, (5, 5), rng)):
        assert {a.dtype for a in (*layer.params.values(), *layer.grads.values())} == {np.dtype(np.float32)}


@pytest.mark.parametrize("layer, x_shape, y_shape", [
    (conv(1, 2, 3, 1, 1), (2, 5, 4, 1), (2, 5, 4, 2)), (conv(2, 1, 4, 2, 1), (3, 9, 8, 2), (3, 4, 4, 1)),
    (conv(1, 3, 5, 3, 0), (1, 5, 13, 1), (1, 1, 3, 3)), (conv_transpose(2, 1, 4, 2, 1, (9, 8)), (3, 4, 4, 2),
                                                         (3, 9, 8, 1)),
    (conv(1, 2, 3, 1, 1), (0, 5, 4, 1), (0, 5, 4, 2)), (conv_transpose(2, 1, 2, 2, 0, (4, 4)), (0, 2, 2, 2),
                                                        (0, 4, 4, 1))])
def test_the_shapes(layer, x_shape, y_shape, rng):
    y = layer.forward(rng.standard_normal(x_shape))
    assert y.shape == y_shape and layer.backward(np.ones(y_shape)).shape == x_shape


def test_an_empty_batch_has_gradients_of_zero(rng):
    layer = conv(1, 2, 3, 1, 1)
    layer.grads["W"][...] = layer.grads["b"][...] = np.nan
    layer.forward(np.zeros((0, 5, 4, 1)))
    layer.backward(np.zeros((0, 5, 4, 2)))
    assert not layer.grads["W"].any() and not layer.grads["b"].any()


def test_pixels_that_no_patch_reads_get_the_bias_and_no_gradient(rng):
    """7 x 7, k 2, s 3: the last row and column belong to no patch, nor does every third."""
    layer, back = conv(1, 1, 2, 3, 0), conv_transpose(1, 1, 2, 3, 0, (7, 7))
    unread = [2, 5, 6]
    x = rng.standard_normal((2, 7, 7, 1))
    layer.forward(x)
    dx = layer.backward(rng.standard_normal((2, 2, 2, 1)))
    painted = back.forward(rng.standard_normal((2, 2, 2, 1)))
    for a, value in ((dx, 0), (painted, back.params["b"][0])):
        assert (a[:, unread] == value).all() and (a[:, :, unread] == value).all()
        assert (a[:, [0, 1, 3, 4]][:, :, [0, 1, 3, 4]] != value).all()


@pytest.mark.parametrize("layer, shape", [(conv(2, 3, 3, 2, 1), (2, 6, 5, 2)), (Reshape(3, 4), (2, 12)),
                                          (conv_transpose(2, 3, 3, 2, 1, (6, 5)), (2, 3, 3, 2))])
def test_they_say_that_they_are_linear_and_are_held_to_it(layer, shape, rng):
    verdicts = {row.name: row.verdict for row in check_layer(layer, rng.standard_normal(shape)).rows}
    assert verdicts["linear, as it says"] == verdicts["adjoint"] == "PASS"


def test_reshape_is_the_same_numbers(rng):
    layer, x = Reshape(2, 3, 2), rng.standard_normal((4, 12))
    y = layer.forward(x)
    np.testing.assert_array_equal(y, x.reshape(4, 2, 3, 2))
    np.testing.assert_array_equal(layer.backward(y), x)
    assert Reshape(12).forward(y).shape == (4, 12) and Reshape(12).forward(np.zeros((0, 2, 3, 2))).shape == (0, 12)
    assert layer.forward(x.astype(np.float32)).dtype == np.float32
    turned = rng.standard_normal((12, 4)).T                              # rows that do not lie together
    np.testing.assert_array_equal(layer.forward(turned).ravel(), turned.ravel())


@pytest.mark.parametrize("make", [ReLU, Tanh, Sigmoid, Softplus])
@dtypes
def test_an_activation_of_images_is_that_of_their_rows(make, dtype, rng):
    x, dy = (rng.standard_normal((3, 4, 5, 2)).astype(dtype) for _ in range(2))
    on_rows, on_images = make(), make()
    y = on_rows.forward(x.reshape(3, -1))
    np.testing.assert_array_equal(on_images.forward(x), y.reshape(x.shape))
    dx = on_rows.backward(dy.reshape(3, -1))
    np.testing.assert_array_equal(on_images.backward(dy), dx.reshape(x.shape))
    assert make().forward(x[:0]).shape == (0, 4, 5, 2)


def test_a_chain_from_rows_to_images_and_back(rng):
    """Rows -> images -> conv -> rows -> dense: differences agree through every kind of layer."""
    chain = Sequential(Reshape(5, 4, 1), Conv(1, 2, 3, 2, 1, rng, F8), Tanh(), ConvTranspose(2, 1, 3, 2, 1, (5, 4),
                       rng, F8), Softplus(), Reshape(20), Dense(20, 3, rng, F8))
    report = check_layer(perturbed(chain, rng), rng.standard_normal((3, 20)))
    assert report.ok, report


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("values, said", [
    ((0, 1, 0), "kernel must be a whole number of at least 1, got 0"),
    ((3, 0, 0), "stride must be a whole number of at least 1, got 0"),
    ((3, -1, 0), "stride must be a whole number of at least 1, got -1"),
    ((3, 1, -1), "padding must be a whole number of at least 0, got -1"),
    ((2.5, 1, 0), "kernel must be a whole number of at least 1, got 2.5"),
    ((3, 1.5, 0), "stride must be a whole number of at least 1, got 1.5"),
    ((3, 1, 0.5), "padding must be a whole number of at least 0, got 0.5")])
def test_a_step_out_of_range_is_refused(values, said):
    rng = np.random.default_rng(0)
    for make in (lambda: Conv(1, 1, *values, rng), lambda: ConvTranspose(1, 1, *values, (4, 4), rng)):
        with pytest.raises(ValueError) as caught:
            make()
        assert str(caught.value) == said


def test_whole_numbers_of_any_kind_are_taken():
    assert checked_step(np.int64(3), 2.0, True) == (3, 2, 1)
    assert all(type(value) is int for value in checked_step(np.int64(3), 2.0, True))


NO_ROOM = ("a kernel of 5 x 5 does not fit into images of 7 x 2 with a padding of 1: "
           "take a smaller kernel or fewer layers")


@pytest.mark.parametrize("layer, call, said", [
    (conv(1, 1, 5, 1, 1), lambda one: one.forward(np.zeros((2, 7, 2, 1))), NO_ROOM),
    (None, lambda _: conv_transpose(1, 1, 5, 1, 1, (7, 2)), NO_ROOM),
    (conv(2, 1, 3, 1, 1), lambda one: one.forward(np.zeros((2, 5, 5, 3))),
     "x of Conv must have shape (any, any, any, 2), got (2, 5, 5, 3)"),
    (conv(2, 1, 3, 1, 1), lambda one: one.forward(np.zeros((2, 50))),
     "x of Conv must have shape (any, any, any, 2), got (2, 50)"),
    (conv_transpose(2, 1, 3, 2, 1, (5, 5)), lambda one: one.forward(np.zeros((2, 5, 5, 2))),
     "x of ConvTranspose must have shape (any, 3, 3, 2), got (2, 5, 5, 2)"),
    (conv_transpose(2, 1, 3, 2, 1, (5, 5)), lambda one: one.forward(np.zeros((2, 3, 3, 1))),
     "x of ConvTranspose must have shape (any, 3, 3, 2), got (2, 3, 3, 1)"),
    (Reshape(2, 3), lambda one: one.forward(np.zeros((4, 5))),
     "x of Reshape must have 6 numbers for each example, to become (2, 3), got shape (4, 5)"),
])
def test_a_shape_that_does_not_fit_is_refused_in_one_line(layer, call, said):
    with pytest.raises(ValueError) as caught:
        call(layer)
    assert str(caught.value) == said


@pytest.mark.parametrize("layer, x, name", [
    (conv(2, 3, 3, 2, 1), (4, 5, 6, 2), "Conv"), (conv_transpose(2, 3, 3, 2, 1, (5, 6)), (4, 3, 3, 2), "ConvTranspose"),
    (Reshape(2, 6), (4, 12), "Reshape")])
def test_a_dy_of_another_shape_or_without_a_forward_is_refused(layer, x, name):
    with pytest.raises(RuntimeError, match=f"{name}.backward called without a forward before it"):
        layer.backward(np.zeros(3))
    y = layer.forward(np.zeros(x))
    with pytest.raises(ValueError) as caught:
        layer.backward(np.zeros((*y.shape[:-1], y.shape[-1] + 1)))
    assert str(caught.value).startswith(f"dy of {name} must have shape {y.shape}, got (")
    layer.forward(np.zeros(x))
    layer.backward(np.zeros(y.shape))
    with pytest.raises(RuntimeError, match=f"{name}.backward called without a forward before it"):
        layer.backward(np.zeros(y.shape))


def test_the_size_of_the_output():
    """H' = floor((H + 2 p - k) / s) + 1, for both sides."""
    assert conv_shape((28, 28), 4, 2, 1) == (14, 14) and conv_shape((7, 5), 3, 3, 2) == (3, 3)
    assert conv_shape((9, 10), 4, 2, 1) == (4, 5) and conv_shape((3, 4), 5, 7, 1) == (1, 1)
    for H, k, s, p in itertools.product(range(1, 9), range(1, 6), range(1, 4), range(3)):
        if H + 2 * p >= k:
            starts = [t for t in range(-p, H + p, s) if t + k <= H + p]
            assert conv_shape((H, H + 1), k, s, p)[0] == len(starts)


# --- PyTorch ----------------------------------------------------------------------------------------------------------


def channels_first(a):
    return np.ascontiguousarray(a.transpose(0, 3, 1, 2))


def in_torchs_order(W, k):
    """W (k*k*C, C')  ->  (C', C, k, k), as both of PyTorch's functions take it."""
    return np.ascontiguousarray(W.reshape(k, k, -1, W.shape[1]).transpose(3, 2, 0, 1))


def torch_passes(torch, function, x, W, b, dy, k, **settings):
    """y, dx, dW, db by PyTorch's own function and its autograd."""
    x, W, b = (torch.tensor(a, requires_grad=True) for a in (channels_first(x), in_torchs_order(W, k), b))
    y = function(x, W, b, **settings)
    y.backward(torch.tensor(channels_first(dy)))
    return [a.detach().numpy() for a in (y, x.grad, W.grad, b.grad)]


@pytest.mark.oracle
@dtypes
@pytest.mark.parametrize("padding", [0, 1, 2])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_values_and_gradients_are_pytorchs(torch, stride, padding, dtype):
    """Kernels of 1 to 5, square and not, sizes that divide and that do not, one channel and several.

    PyTorch's transpose makes at most stride - 1 rows more than the smallest image, as every Conv here leaves over.
    """
    F, rng = torch.nn.functional, np.random.default_rng(stride + 10 * padding)
    tolerance = {np.float32: 1e-5, F8: 1e-13}[dtype]              # sums of up to 4000 products, in another order
    cases = itertools.product((1, 2, 3, 4, 5), ((7, 7), (8, 5), (28, 28)), ((1, 3), (3, 2)))
    compared = 0
    for k, shape, (n_in, n_out) in cases:
        step = (k, stride, padding)
        layer, back = conv(n_in, n_out, *step, dtype=dtype), conv_transpose(n_out, n_in, *step, shape, dtype=dtype)
        x = rng.standard_normal((5, *shape, n_in)).astype(dtype)
        y = rng.standard_normal((5, *back.in_shape, n_out)).astype(dtype)
        over = [H - ((h - 1) * stride - 2 * padding + k) for H, h in zip(shape, back.in_shape)]
        for one, function, a, dy, more in (
                (layer, F.conv2d, x, y, {}), (back, F.conv_transpose2d, y, x, {"output_padding": over})):
            want = torch_passes(torch, function, a, one.params["W"], one.params["b"], dy, k, stride=stride,
                                padding=padding, **more)
            found = passes(one, a, dy)
            found = [channels_first(found[0]), channels_first(found[1]), in_torchs_order(found[2], k), found[3]]
            scales = [*(np.abs(a).max() for a in want[:3]), np.sqrt(dy.size)]    # db sums normal numbers: it may cancel
            for ours, theirs, scale in zip(found, want, scales, strict=True):
                assert ours.shape == theirs.shape
                np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * scale)
                compared += 1
    assert compared == 5 * 3 * 2 * 2 * 4
