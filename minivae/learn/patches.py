"""The NumPy twins of the convolutions: images are cut into patches, and a patch is a row of Dense.

B images of H x W pixels with C channels each, (B, H, W, C).  A patch is k x k pixels, patches start
`stride` pixels apart, and `padding` pixels of 0 stand around the image.  H' x W' patches fit.  In
a shape W is the width; the array W holds the weights, (k*k*C, C').  Like twins.py, this page is
held to the kernels by a test, and exercises are cut from it.
"""

import numpy as np


def patches(x, k, stride, padding):
    """x (B, H, W, C)  ->  rows (B, H', W', k*k*C).

    rows[n, i, j] holds the k x k pixels of image n from (i*stride - padding, j*stride - padding)
    on, row by row and pixel by pixel.
    """
    x = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(x, (k, k), axis=(1, 2))
    windows = windows[:, ::stride, ::stride].transpose(0, 1, 2, 4, 5, 3)      # (B, H', W', k, k, C)
    return windows.reshape(*windows.shape[:3], -1)


def add_patches(rows, k, stride, padding, shape):
    """rows (B, H', W', k*k*C), shape (B, H, W, C)  ->  x of that shape, the adjoint of patches.

    Every number of a row is added to the pixel that patches copies it from; what was copied from
    the padding is dropped.
    """
    B, H, W, C = shape
    high, wide = rows.shape[1:3]
    rows = rows.reshape(B, high, wide, k, k, C)
    x = np.zeros((B, H + 2 * padding, W + 2 * padding, C), rows.dtype)
    for i in range(high):
        for j in range(wide):
            top, left = i * stride, j * stride
            x[:, top : top + k, left : left + k] += rows[:, i, j]
    return x[:, padding : padding + H, padding : padding + W]


def conv_forward(x, W, b, k, stride, padding):
    """x (B, H, W, C), W (k*k*C, C'), b (C',)  ->  y (B, H', W', C').

    y[n, i, j, d] = sum_r rows[n, i, j, r] W[r, d] + b[d], where rows are the patches of x
    """
    y = patches(x, k, stride, padding) @ W + b
    return y


def conv_backward(x, W, dy, k, stride, padding):
    """x (B, H, W, C), W (k*k*C, C'), dy (B, H', W', C')  ->  dx, dW, db.

    dW[r, d] = sum over all patches n, i, j of rows[n, i, j, r] dy[n, i, j, d]
    dx        = add_patches of sum_d dy[n, i, j, d] W[r, d]
    db[d]     = sum over all patches of dy[n, i, j, d]
    """
    rows = patches(x, k, stride, padding).reshape(-1, len(W))    # (B*H'*W', k*k*C)
    d_out = dy.reshape(-1, dy.shape[3])                           # (B*H'*W', C')
    dW = rows.T @ d_out
    dx = add_patches(dy @ W.T, k, stride, padding, x.shape)
    db = d_out.sum(axis=0)
    return dx, dW, db


def conv_transpose_forward(x, W, b, k, stride, padding, shape):
    """x (B, H', W', C'), W (k*k*C, C'), b (C,), shape (H, W)  ->  y (B, H, W, C).

    Every pixel x[n, i, j] paints a patch, sum_d x[n, i, j, d] W[r, d], and patches that overlap
    add up.
    """
    y = add_patches(x @ W.T, k, stride, padding, (len(x), *shape, len(b))) + b
    return y


def conv_transpose_backward(x, W, dy, k, stride, padding):
    """x (B, H', W', C'), W (k*k*C, C'), dy (B, H, W, C)  ->  dx, dW, db.

    dx[n, i, j, d] = sum_r rows[n, i, j, r] W[r, d], where rows are the patches of dy
    dW[r, d]      = sum over all patches n, i, j of rows[n, i, j, r] x[n, i, j, d]
    db[c]          = sum over all pixels of dy[n, h, w, c]
    """
    rows = patches(dy, k, stride, padding)                        # (B, H', W', k*k*C)
    dx = rows @ W
    dW = rows.reshape(-1, len(W)).T @ x.reshape(-1, x.shape[3])
    db = dy.reshape(-1, dy.shape[3]).sum(axis=0)
    return dx, dW, db
