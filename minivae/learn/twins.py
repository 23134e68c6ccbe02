"""The NumPy twins of the kernels: every forward beside its backward, one line for each output.

dfoo is d(loss)/d(foo) and has the shape of foo.  B images in a batch, D pixels, H hidden units, Z
latents, K samples of z for each image: row k*B + n of a (K*B, ..) array is sample k of image n.
Log-probabilities and KL are in nats.

A kernel does what the function of its name does here, in place and without temporary arrays; a
test holds each to the other in both precisions.  The exercises of ladder.py are cut from this page.
"""

import numpy as np

LOG_2PI = np.log(2 * np.pi)
LOGVAR_FLOOR = -10.0     # of a learned variance of pixels: a std of e^-5 = 0.0067


def sigmoid(x):
    """1 / (1 + exp(-x)), written so that nothing overflows."""
    return np.exp(-np.logaddexp(0, -x))


def by_sample(a, B):
    """a (K*B, Z)  ->  (K, B, Z): sample k of image n is row k*B + n."""
    return a.reshape(-1, B, a.shape[1])


# --- Dense ----------------------------------------------------------------------------------------


def dense_forward(x, W, b):
    """x (B, D), W (D, H), b (H,)  ->  y (B, H).

    y[n, j] = sum_i x[n, i] W[i, j] + b[j]
    """
    y = x @ W + b
    return y


def dense_backward(x, W, dy):
    """x (B, D), W (D, H), dy (B, H)  ->  dx (B, D), dW (D, H), db (H,).

    dx[n, i] = sum_j dy[n, j] W[i, j]     x[n, i] reached every output j
    dW[i, j] = sum_n x[n, i] dy[n, j]     every row n used the same W
    db[j]    = sum_n dy[n, j]             and the same b
    """
    dx = dy @ W.T
    dW = x.T @ dy
    db = dy.sum(axis=0)
    return dx, dW, db


def add_bias(b, y):
    """b (H,), y (B, H)  ->  y[n, j] + b[j] : (B, H)."""
    return y + b


def sum_rows(dy):
    """dy (B, H)  ->  db[j] = sum_n dy[n, j] : (H,)."""
    return dy.sum(axis=0)


def add_sums(sums, y):
    """sums (P, B, H), y (B, H)  ->  y + sum_p sums[p] : (B, H)."""
    return y + sums.sum(axis=0)


# --- activations: number by number, y[n, j] = f(x[n, j]) ------------------------------------------


def relu_forward(x):
    """x (B, D)  ->  y = max(x, 0) : (B, D)."""
    y = np.where(x <= 0, 0, x)
    return y


def relu_backward(x, dy):
    """x, dy (B, D)  ->  dx (B, D).

    dx = dy where x > 0, else 0: a unit that is shut passes nothing on
    """
    dx = dy * (x > 0)
    return dx


def tanh_forward(x):
    """x (B, D)  ->  y = tanh(x) : (B, D)."""
    y = np.tanh(x)
    return y


def tanh_backward(y, dy):
    """y, dy (B, D)  ->  dx (B, D).  y is what forward returned.

    dy/dx = 1 - tanh(x)^2 = 1 - y^2
    """
    dx = dy * (1 - y**2)
    return dx


def sigmoid_forward(x):
    """x (B, D)  ->  y = 1 / (1 + exp(-x)) : (B, D)."""
    y = sigmoid(x)
    return y


def sigmoid_backward(y, dy):
    """y, dy (B, D)  ->  dx (B, D).  y is what forward returned.

    dy/dx = y (1 - y)
    """
    dx = dy * y * (1 - y)
    return dx


def softplus_forward(x):
    """x (B, D)  ->  y = log(1 + exp(x)) : (B, D)."""
    y = np.logaddexp(0, x)
    return y


def softplus_backward(x, dy):
    """x, dy (B, D)  ->  dx (B, D).

    dy/dx = exp(x) / (1 + exp(x)) = sigmoid(x)
    """
    dx = dy * sigmoid(x)
    return dx


# --- a chain of layers ----------------------------------------------------------------------------


def sequential_forward(x, layers):
    """x (B, D)  ->  y, and the input of every layer, which backward needs.

    layers: pairs of functions, forward(x) -> y and backward(x, dy) -> dx.
    """
    inputs = []
    for forward, _ in layers:
        inputs.append(x)
        x = forward(x)
    return x, inputs


def sequential_backward(inputs, layers, dy):
    """inputs and layers: two lists of one length; dy like y  ->  dx (B, D).

    The last layer first: what one layer returns is the dy of the layer before it.
    """
    last_first = list(zip(layers, inputs))[::-1]
    for (_, backward), x in last_first:
        dy = backward(x, dy)
    return dy


# --- likelihoods: row k*B + n of the K*B rows belongs to x[n] -------------------------------------


def bernoulli_forward(logits, x):
    """logits (K*B, D), x (B, D) in [0, 1]  ->  log_px (K*B,), residual (K*B, D).

    log_px = sum_i x_i log p_i + (1 - x_i) log(1 - p_i) = sum_i x_i l_i - log(1 + exp(l_i))
    where p = sigmoid(l) and l are the logits.
    """
    x = np.tile(x, (len(logits) // len(x), 1))
    log_px = (x * logits - np.logaddexp(0, logits)).sum(axis=1)
    residual = x - sigmoid(logits)
    return log_px, residual


def bernoulli_backward(residual, dlog_px):
    """residual (K*B, D), dlog_px (K*B,)  ->  dlogits (K*B, D).

    d log_px/d l_i = x_i - sigmoid(l_i) = residual_i
    """
    dlogits = dlog_px[:, None] * residual
    return dlogits


def gaussian_forward(mean, logvar, x):
    """mean, logvar (K*B, D), x (B, D)  ->  log_px (K*B,).

    log_px = -1/2 sum_i (x_i - mean_i)^2 exp(-logvar_i) + logvar_i + log(2 pi)
    """
    x = np.tile(x, (len(mean) // len(x), 1))
    log_px = -0.5 * ((x - mean) ** 2 * np.exp(-logvar) + logvar + LOG_2PI).sum(axis=1)
    return log_px


def gaussian_backward(mean, logvar, x, dlog_px):
    """mean, logvar (K*B, D), x (B, D), dlog_px (K*B,)  ->  dmean, dlogvar (K*B, D).

    d log_px/d mean_i   = (x_i - mean_i) exp(-logvar_i)
    d log_px/d logvar_i = 1/2 ((x_i - mean_i)^2 exp(-logvar_i) - 1)
    """
    x = np.tile(x, (len(mean) // len(x), 1))
    dmean = dlog_px[:, None] * (x - mean) * np.exp(-logvar)
    dlogvar = dlog_px[:, None] * 0.5 * ((x - mean) ** 2 * np.exp(-logvar) - 1)
    return dmean, dlogvar


def shared_logvar_forward(raw, rows, D):
    """raw (1, 1), one number for all pixels  ->  logvar (rows, D).

    logvar[n, i] = floor + log(1 + exp(raw - floor)), which is never below the floor
    """
    logvar = np.tile(LOGVAR_FLOOR + np.logaddexp(0, raw - LOGVAR_FLOOR), (rows, D))
    return logvar


def shared_logvar_backward(raw, dlogvar):
    """raw (1, 1), dlogvar (rows, D)  ->  d_raw (1, 1).

    d_raw = sum over rows and pixels of dlogvar[n, i] sigmoid(raw - floor)
    """
    d_raw = (dlogvar * sigmoid(raw - LOGVAR_FLOOR)).sum(keepdims=True)
    return d_raw


def scale_rows(weight, a):
    """weight (B,), a (B, D)  ->  weight[n] a[n, i] : (B, D)."""
    return weight[:, None] * a


# --- the Gaussian latent --------------------------------------------------------------------------


def one_sample_forward(mu, logvar, eps):
    """mu, logvar (B, Z), eps (B, Z) from N(0, I)  ->  std, z (B, Z).

    std = exp(logvar / 2), because logvar = log(std^2);  z = mu + std eps
    """
    std = np.exp(logvar / 2)
    z = mu + std * eps
    return std, z


def one_sample_backward(std, eps, dz):
    """std, eps, dz (B, Z)  ->  dmu, dlogvar (B, Z).

    dz/dmu = 1;  dz/dlogvar = eps dstd/dlogvar = eps std / 2
    """
    dmu = dz
    dlogvar = dz * eps * std / 2
    return dmu, dlogvar


def sample_forward(mu, logvar, eps):
    """mu, logvar (B, Z), eps (K, B, Z) from N(0, I)  ->  std (B, Z), z (K*B, Z).

    z[k, n, j] = mu[n, j] + std[n, j] eps[k, n, j]
    """
    std = np.exp(logvar / 2)
    z = (mu + std * eps).reshape(-1, mu.shape[1])
    return std, z


def sample_backward(std, eps, dz):
    """std (B, Z), eps (K, B, Z), dz (K*B, Z)  ->  dmu, dlogvar (B, Z).

    dmu[n, j]     = sum_k dz[k, n, j]     all K samples used the same mu and logvar
    dlogvar[n, j] = sum_k dz[k, n, j] eps[k, n, j] std[n, j] / 2
    """
    dz = by_sample(dz, len(std))
    dmu = dz.sum(axis=0)
    dlogvar = (dz * eps * std / 2).sum(axis=0)
    return dmu, dlogvar


def kl_forward(mu, logvar):
    """mu, logvar (B, Z)  ->  kl (B,), of N(mu, std^2) from N(0, I).

    kl = 1/2 sum_j mu_j^2 + exp(logvar_j) - 1 - logvar_j
    """
    kl = 0.5 * (mu**2 + np.expm1(logvar) - logvar).sum(axis=1)
    return kl


def kl_backward(mu, logvar, dkl):
    """mu, logvar (B, Z), dkl (B,)  ->  dmu, dlogvar (B, Z).

    d kl/d mu_j = mu_j;  d kl/d logvar_j = (exp(logvar_j) - 1) / 2
    """
    dmu = dkl[:, None] * mu
    dlogvar = dkl[:, None] * np.expm1(logvar) / 2
    return dmu, dlogvar


def latent_forward(mu, logvar, eps):
    """mu, logvar, eps (B, Z)  ->  std, z (B, Z), kl (B,).

    mu and logvar are used twice: for the sample and for the KL.
    """
    std, z = one_sample_forward(mu, logvar, eps)
    kl = kl_forward(mu, logvar)
    return std, z, kl


def latent_backward(mu, logvar, std, eps, dz, dkl):
    """mu, logvar, std, eps, dz (B, Z), dkl (B,)  ->  dmu, dlogvar (B, Z).

    A value that was used twice gets the sum of the two gradients.
    """
    dmu_z, dlogvar_z = one_sample_backward(std, eps, dz)
    dmu_kl, dlogvar_kl = kl_backward(mu, logvar, dkl)
    dmu = dmu_z + dmu_kl
    dlogvar = dlogvar_z + dlogvar_kl
    return dmu, dlogvar


def log_prior_forward(z):
    """z (K*B, Z)  ->  log_pz (K*B,).

    log_pz = -1/2 sum_j z_j^2 + log(2 pi)
    """
    log_pz = -0.5 * (z**2 + LOG_2PI).sum(axis=1)
    return log_pz


def log_prior_backward(z, dlog_pz):
    """z (K*B, Z), dlog_pz (K*B,)  ->  dz (K*B, Z).

    d log_pz/d z_j = -z_j
    """
    dz = -dlog_pz[:, None] * z
    return dz


def log_q_forward(z, mu, logvar):
    """z (K*B, Z), mu, logvar (B, Z)  ->  log_qz (K*B,).

    log_qz = -1/2 sum_j (z_j - mu_j)^2 exp(-logvar_j) + logvar_j + log(2 pi)
    """
    r = by_sample(z, len(mu)) - mu
    log_qz = -0.5 * (r**2 * np.exp(-logvar) + logvar + LOG_2PI).sum(axis=2).ravel()
    return log_qz


def log_q_backward(z, mu, logvar, along_z, along_phi):
    """z (K*B, Z), mu, logvar (B, Z), along_z, along_phi (K*B,)  ->  dz, dmu, dlogvar.

    With t = (z - mu) exp(-logvar), for every sample k, image n and dimension j:
    dz = -along_z t;  dmu = sum_k along_phi t;  dlogvar = sum_k along_phi ((z - mu) t - 1) / 2
    """
    r = by_sample(z, len(mu)) - mu                                # (K, B, Z)
    t = r * np.exp(-logvar)                                       # (K, B, Z)
    along_z = along_z.reshape(-1, len(mu), 1)                     # (K, B, 1)
    along_phi = along_phi.reshape(-1, len(mu), 1)                 # (K, B, 1)
    dz = (-along_z * t).reshape(z.shape)
    dmu = (along_phi * t).sum(axis=0)
    dlogvar = (along_phi * 0.5 * (r * t - 1)).sum(axis=0)
    return dz, dmu, dlogvar


# --- training -------------------------------------------------------------------------------------


def adam(param, grad, m, v, step_size, beta1, beta2, adam_eps, unbias_v):
    """One step of Adam, all arrays of one shape  ->  param, m, v.

    m = beta1 m + (1 - beta1) grad;  v = beta2 v + (1 - beta2) grad^2;
    param - step_size m / (sqrt(v) unbias_v + adam_eps).
    step_size is lr / (1 - beta1^t) and unbias_v is 1 / sqrt(1 - beta2^t) at step t.
    Kingma & Ba (2015), arXiv:1412.6980, section 2, the last lines
    """
    m = beta1 * m + (1 - beta1) * grad
    v = beta2 * v + (1 - beta2) * grad**2
    param = param - step_size * m / (np.sqrt(v) * unbias_v + adam_eps)
    return param, m, v


def binarize(x, u):
    """x, u (B, D) in [0, 1]  ->  1 where u < x, else 0: 1 with probability x."""
    return (u < x).astype(x.dtype)


def binarize_bytes(X, index, bits):
    """X (N, D) in 0..255, index (B,), bits (B, D) in 0..65535  ->  1 with probability X / 255."""
    return (bits < np.round(X[index] * (65536 / 255))).astype(float)


def count_outside_unit(x):
    """How many numbers of x lie outside [0, 1], a NaN among them."""
    return (~((x >= 0) & (x <= 1))).sum()
