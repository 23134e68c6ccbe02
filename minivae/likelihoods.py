"""Likelihoods: log p(x|z) from the decoder's output.  Page 2 of the lesson (after layers).

Here the gradient enters.  This page makes page 0's lines `recon = ...` and `dlogits = ...` general:
each row has a weight of its own, and pixels may be Gaussian.

Both nodes return log p(x|z) in nats, one number per row.  Page 0's recon is -log p(x|z), so the
sign is turned here: dlog_px is -1/(K B) in every row for the plain ELBO.  K samples share each x:
row k*B + n of the decoder's output belongs to x[n].  Forward and backward raise ValueError for an
array whose shape does not fit.
"""

import numpy as np

from minivae import cores, kernels
from minivae.layers import Likelihood, as_rows, as_sample_rows, sigmoid
from minivae.pixels import DARK

LOGVAR_FLOOR = -10.0     # a std of e^-5 = 0.0067: under two of 255 grey levels


class BernoulliLikelihood(Likelihood):
    """log p(x|z) = sum_i x_i log p_i + (1 - x_i) log(1 - p_i),  p = sigmoid(logits).

    Computed as  x l - log(1 + e^l):  p is never formed, so there is no log(0) and nothing to clip,
    for any finite logit l.  Source: Kingma & Welling (2014), arXiv:1312.6114, appendix C.1.

    Grey pixels in (0, 1) are accepted, but then this is a cross-entropy and no likelihood of x:
    draw binary pixels from the intensities instead (see `fit(binarize="dynamic")`).
    """

    name, out_name, binary = "bernoulli", "to_logits", True

    def __init__(self, dtype=np.float32):
        super().__init__()                                 # no parameters, so dtype is not needed

    def check(self, x: np.ndarray) -> None:
        """Raise ValueError unless all of x (B, D) lies in [0, 1]."""
        if kernels.count_outside_unit(x):              # (~((x >= 0) & (x <= 1))).sum()
            row, pixel = np.argwhere(~((x >= 0) & (x <= 1)))[0]
            low, high = np.min(x), np.max(x)
            hint = "a Gaussian likelihood takes any finite number"
            if np.isnan(low):
                hint = "fill it"
            elif low >= 0 and high <= 255:
                hint = f"divide by {255 if high > DARK else high:.9g}?"
            raise ValueError("x must lie in [0, 1] for the Bernoulli likelihood, found "
                             f"{x[row, pixel]:g} at row {row}, pixel {pixel} "
                             f"(min {low:g}, max {high:g}): {hint}")

    def forward(self, logits: np.ndarray, x: np.ndarray) -> np.ndarray:
        """logits : (K*B, D), x : (B, D)  ->  log_px : (K*B,), nats."""
        logits = as_sample_rows(logits, x.shape[1], x, "logits")
        x = as_rows(x, x.shape, logits.dtype, "x")
        log_px = np.empty(len(logits), logits.dtype)
        residual = self._work("residual", logits.shape, logits.dtype)
        # log_px = (x*logits - logaddexp(0, logits)).sum(axis=1);  residual = x - sigmoid(logits)
        cores.bernoulli_forward(logits, x, log_px, residual)
        self._cache["forward"] = (residual,)
        return log_px

    def backward(self, dlog_px: np.ndarray) -> np.ndarray:
        """dlog_px : (K*B,)  ->  dlogits : (K*B, D).

        log_px[r] = sum_i x_i l_i - log(1 + e^l_i).  d log(1 + e^l)/dl = sigmoid(l), so the gradient
        of each logit is the residual x - sigmoid(l), times the row's weight.
        """
        (residual,) = self._take()
        dlog_px = as_rows(dlog_px, (len(residual),), residual.dtype, "dlog_px")
        cores.scale_rows(dlog_px, residual)                # dlogits = dlog_px[:, None] * residual
        return residual                                    # in place: it is dlogits now

    def mean(self, logits: np.ndarray) -> np.ndarray:
        """E[x|z] = sigmoid(logits), a new array."""
        p = np.empty_like(logits)
        kernels.sigmoid_forward(logits, p)                 # p = 1 / (1 + exp(-logits))
        return p


class GaussianLikelihood(Likelihood):
    """log p(x|z) = -1/2 sum_i ( (x_i - mean_i)^2 / e^logvar_i + logvar_i + log 2 pi ).

    Source: Kingma & Welling (2014), appendix C.2.

    Parameters
    ----------
    logvar : "per_pixel" | "shared" | float
        per_pixel: the decoder gives (mean, raw) side by side, (K*B, 2D).  shared: raw is one scalar
        of theta, params["raw_logvar"].  A number: the log-variance itself, fixed.
        A learned one is bounded below, smoothly: logvar = floor + softplus(raw - floor), with
        floor = -10, because a pixel that never varies would drive its variance to 0 and the density
        to infinity.  Nothing is clipped, so the gradient never dies at the bound.
    dtype : float32 or float64, of the shared raw_logvar

    Raises
    ------
    ValueError
        For another word, or a number that is not finite.
    """

    name = "gaussian"

    def __init__(self, logvar: str | float = "shared", dtype=np.float32):
        super().__init__()
        if isinstance(logvar, str) and logvar not in ("per_pixel", "shared"):
            raise ValueError(f'logvar must be "per_pixel", "shared" or a number, got {logvar!r}')
        if not isinstance(logvar, str) and not (np.isscalar(logvar) and np.isfinite(logvar)):
            raise ValueError(f"logvar must be a finite number, got {logvar}")
        self.logvar = logvar if isinstance(logvar, str) else float(logvar)
        self.settings = {"logvar": self.logvar}
        self.out_name = "to_mean_raw" if logvar == "per_pixel" else "to_mean"
        if logvar == "shared":
            self.params = {"raw_logvar": np.zeros((1, 1), dtype)}
            self.grads = {"raw_logvar": np.zeros((1, 1), dtype)}

    def width(self, D: int) -> int:
        """How many numbers the decoder must give for D pixels."""
        return 2 * D if self.logvar == "per_pixel" else D

    def check(self, x: np.ndarray) -> None:
        """Raise ValueError unless all of x (B, D) is finite."""
        if not np.isfinite(x).all():
            row, pixel = np.argwhere(~np.isfinite(x))[0]
            raise ValueError("x must be finite for the Gaussian likelihood, found "
                             f"{x[row, pixel]} at row {row}, pixel {pixel}: fill it")

    def _split(self, out: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """The decoder's output as mean, logvar, raw; the last is None where logvar is fixed."""
        if self.logvar not in ("per_pixel", "shared"):
            return out, np.full((1, 1), self.logvar, out.dtype), None
        if self.logvar == "shared":
            mean, raw = out, self.params["raw_logvar"]
        else:
            mean, raw = np.hsplit(out, 2)
        return mean, LOGVAR_FLOOR + np.logaddexp(0, raw - LOGVAR_FLOOR), raw

    def forward(self, out: np.ndarray, x: np.ndarray) -> np.ndarray:
        """out : (K*B, D), or (K*B, 2D) per pixel;  x : (B, D)  ->  log_px : (K*B,), nats."""
        out = as_sample_rows(out, self.width(x.shape[1]), x, "out")
        x = as_rows(x, x.shape, out.dtype, "x")
        mean, logvar, raw = self._split(out)
        log_px = np.empty(len(out), out.dtype)
        # log_px = -0.5 * ((x - mean)**2 * exp(-logvar) + logvar + log(2 pi)).sum(axis=1)
        kernels.gaussian_forward(mean, logvar, x, log_px)
        self._cache["forward"] = (mean, logvar, raw, x)
        return log_px

    def backward(self, dlog_px: np.ndarray) -> np.ndarray:
        """dlog_px : (K*B,)  ->  dout, of out's shape.  Fills grads of a shared logvar.

        mean_i:    d log_px / d mean_i   = (x_i - mean_i) / e^logvar_i.
        logvar_i:  d log_px / d logvar_i = 1/2 ( (x_i - mean_i)^2 / e^logvar_i - 1 ).
        raw:       d logvar / d raw = sigmoid(raw - floor); a shared one sums over rows and pixels.
        """
        mean, logvar, raw, x = self._take()
        dlog_px = as_rows(dlog_px, (len(mean),), mean.dtype, "dlog_px")
        D = mean.shape[1]
        dout = self._work("dout", (len(mean), 2 * D), mean.dtype)
        dmean, dlogvar = dout[:, :D], dout[:, D:]
        # dmean = dlog_px[:, None] * (x - mean) * exp(-logvar)
        # dlogvar = dlog_px[:, None] * 0.5 * ((x - mean)**2 * exp(-logvar) - 1)
        kernels.gaussian_backward(mean, logvar, x, dlog_px, dmean, dlogvar)
        if raw is None:
            return dmean
        d_raw = dlogvar                                    # in place: dout holds dmean and d_raw
        d_raw *= sigmoid(raw - LOGVAR_FLOOR)
        if self.logvar == "per_pixel":
            return dout
        self.grads["raw_logvar"][...] = d_raw.sum()
        return dmean

    def mean(self, out: np.ndarray) -> np.ndarray:
        """E[x|z] = mean, a new array."""
        return self._split(out)[0].copy()
