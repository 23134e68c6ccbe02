"""The NumPy twin of every kernel: the line that stands beside its call, returning what it writes."""

import numpy as np

LOG_2PI = np.log(2 * np.pi)


def sigmoid(x):
    return np.exp(-np.logaddexp(0, -x))


def by_sample(a, B):
    """(K*B, Z) -> (K, B, Z)"""
    return a.reshape(-1, B, a.shape[1])


def matmul_by_hand(a, b):
    return a @ b


def add_bias(b, y):
    return y + b


def sum_rows(dy):
    return dy.sum(axis=0)


def relu_forward(x):
    return np.where(x <= 0, 0, x)


def relu_backward(x, dy):
    return dy * (x > 0)


def tanh_forward(x):
    return np.tanh(x)


def tanh_backward(y, dy):
    return dy * (1 - y**2)


def sigmoid_forward(x):
    return sigmoid(x)


def sigmoid_backward(y, dy):
    return dy * y * (1 - y)


def softplus_forward(x):
    return np.logaddexp(0, x)


def softplus_backward(x, dy):
    return dy * sigmoid(x)


def bernoulli_forward(logits, x):
    x = np.tile(x, (len(logits) // len(x), 1))
    return (x * logits - np.logaddexp(0, logits)).sum(axis=1), x - sigmoid(logits)


def gaussian_forward(mean, logvar, x):
    x = np.tile(x, (len(mean) // len(x), 1))
    return -0.5 * ((x - mean) ** 2 * np.exp(-logvar) + logvar + LOG_2PI).sum(axis=1)


def gaussian_backward(mean, logvar, x, dlog_px):
    x = np.tile(x, (len(mean) // len(x), 1))
    dmean = dlog_px[:, None] * (x - mean) * np.exp(-logvar)
    return dmean, dlog_px[:, None] * 0.5 * ((x - mean) ** 2 * np.exp(-logvar) - 1)


def scale_rows(weight, a):
    return weight[:, None] * a


def sample_forward(mu, logvar, eps):
    return np.exp(logvar / 2), (mu + np.exp(logvar / 2) * eps).reshape(-1, mu.shape[1])


def sample_backward(std, eps, dz):
    dz = by_sample(dz, len(std))
    return dz.sum(axis=0), (dz * eps * std / 2).sum(axis=0)


def kl_forward(mu, logvar):
    return 0.5 * (mu**2 + np.expm1(logvar) - logvar).sum(axis=1)


def kl_backward(mu, logvar, dkl):
    return dkl[:, None] * mu, dkl[:, None] * np.expm1(logvar) / 2


def log_q_forward(z, mu, logvar):
    r = by_sample(z, len(mu)) - mu
    return -0.5 * (r**2 * np.exp(-logvar) + logvar + LOG_2PI).sum(axis=2).ravel()


def log_q_backward(z, mu, logvar, along_z, along_phi):
    r = by_sample(z, len(mu)) - mu
    t = r * np.exp(-logvar)
    along_z, along_phi = along_z.reshape(-1, len(mu), 1), along_phi.reshape(-1, len(mu), 1)
    dz = (-along_z * t).reshape(z.shape)
    return dz, (along_phi * t).sum(axis=0), (along_phi * 0.5 * (r * t - 1)).sum(axis=0)


def log_prior_forward(z):
    return -0.5 * (z**2 + LOG_2PI).sum(axis=1)


def binarize(x, u):
    return (u < x).astype(x.dtype)


def binarize_bytes(X, index, bits):
    return (bits < np.round(X[index] * (65536 / 255))).astype(float)


def count_outside_unit(x):
    return (~((x >= 0) & (x <= 1))).sum()


def adam(param, grad, m, v, step_size, beta1, beta2, adam_eps, unbias_v):
    m = beta1 * m + (1 - beta1) * grad
    v = beta2 * v + (1 - beta2) * grad**2
    return param - step_size * m / (np.sqrt(v) * unbias_v + adam_eps), m, v
