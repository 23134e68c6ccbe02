"""The VAE as a scikit-learn transformer: for pipelines, grid searches and data frames."""

import hashlib
import math
from functools import partial

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_array, check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from minivae import pool
from minivae.building import whole_numbers
from minivae.choices import in_short, whole_number
from minivae.optim import Adam
from minivae.pixels import as_numbers, choose_binarize
from minivae.training.batches import check_data, draw
from minivae.training.loop import check_settings, fit
from minivae.vae import VAE

DRAWS = 10                      # of pixels and z for each image that is scored
ROWS = 50                       # images scored in one forward pass


class VAEEstimator(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Variational autoencoder of dense layers, trained by `minivae.fit`.

    X is always (N, D), a row of floats for each image; a float32 X gives a float32 model, all
    others float64.  Bytes are not divided by 255 here.

    Parameters
    ----------
    z_dim : int
        Latent dimensions, and so the columns of `transform`.
    hidden : tuple of int
        Widths of the encoder's hidden layers; the decoder has them in reverse.
    channels : None or tuple of int
        Those of the encoder's convolutions, in the place of hidden, e.g. (32, 64).
    image_shape : None or tuple of int
        (H, W), or (H, W, C) in colour: what a row of X is an image of.  Convolutions need it.
    likelihood : "bernoulli" or "gaussian"
        bernoulli: X must lie in [0, 1]; grey pixels are drawn black or white, afresh at every pass.
        gaussian: X may hold any finite numbers; one variance is learned.
    activation : "relu", "tanh", "sigmoid" or "softplus"
    beta : float
        Weight of the KL in training; scores have 1.
    samples : int
        Draws of z per image in training.
    epochs, batch_size, lr : int, int, float
        Passes over X, images per step, and Adam's step size.
    random_state : None, int or numpy.random.RandomState
        Decides weights, shuffling and noise of `fit`, and the images of `sample`.

    Attributes
    ----------
    vae_ : VAE
    history_ : list of dict
        A row for each epoch, see `minivae.fit`.
    n_iter_ : int
        Epochs trained so far.
    n_features_in_, feature_names_in_
        D, and the names of the columns where X had any.
    """

    def __init__(self, z_dim=8, hidden=(200,), *, channels=None, image_shape=None,
                 likelihood="bernoulli", activation="relu", beta=1.0, samples=1, epochs=20,
                 batch_size=128, lr=1e-3, random_state=None):
        self.z_dim = z_dim
        self.hidden = hidden
        self.channels = channels
        self.image_shape = image_shape
        self.likelihood = likelihood
        self.activation = activation
        self.beta = beta
        self.samples = samples
        self.epochs = epochs
        self.batch_size = batch_size
        self.lr = lr
        self.random_state = random_state

    def fit(self, X, y=None):
        """Train a new model on X (N, D), and return self.  y is ignored.

        After an error there is no model, neither the new one nor the one before.

        Raises
        ------
        TypeError
            For a setting of the wrong kind.
        ValueError
            For a setting out of range, or an X that cannot be trained on.
        NonFiniteError
            When the loss turns NaN or infinite, see `minivae.fit`.
        """
        self._forget()
        return self._train_new(X, self.epochs)

    def partial_fit(self, X, y=None):
        """Train the present model for one more epoch, over X (N, D), and return self.

        Adam goes on where it stood, moments included.  Without a model, a new one is made.  y is
        ignored.  Raises as `fit`.
        """
        if not hasattr(self, "vae_"):
            return self._train_new(X, 1)
        self._check_settings()
        return self._train(self._rows(X), 1)

    def transform(self, X):
        """X (N, D)  ->  the posterior means mu : (N, Z).

        Raises NotFittedError before `fit`, ValueError for an X that does not fit the model.
        """
        mu, _ = self._fitted().encode(self._rows(X))
        return mu

    def inverse_transform(self, X):
        """z (N, Z)  ->  E[x|z] : (N, D).

        Raises NotFittedError before `fit`, ValueError for a z of another width.
        """
        vae = self._fitted()
        z = _checked(X, check_array)
        if z.shape[1] != vae.z_dim:
            raise ValueError(f"X must have {vae.z_dim} columns, one for each latent, got shape "
                             f"{z.shape}")
        return vae.decode(z)

    def reconstruct(self, X):
        """X (N, D)  ->  E[x|z = mu(x)] : (N, D), through the posterior mean, without noise.

        Raises as `transform`.
        """
        return self._fitted().reconstruct(self._rows(X))

    def sample(self, n_samples=1, random_state=None):
        """New images (n_samples, D): E[x|z] with z from the prior.

        random_state decides them; left out, the estimator's own does.  Raises NotFittedError
        before `fit`.
        """
        state = self.random_state if random_state is None else random_state
        vae, n = self._fitted(), whole_number(n_samples, "n_samples")
        return vae.sample(n, _generator(state))

    def score_samples(self, X):
        """X (N, D)  ->  the ELBO of each image at beta = 1 : (N,), nats, a mean over DRAWS draws.

        The noise of an image is seeded by its own pixels, so its score does not depend on the
        images beside it.  Raises as `transform`.
        """
        vae, X = self._fitted(), self._rows(X).astype(self.vae_.dtype, copy=False)
        binarize = choose_binarize(None, vae.likelihood)
        check_data(vae, X, "X", binarize)
        elbo = np.empty(len(X))
        with vae.undisturbed():
            for first in range(0, len(X), ROWS):
                few = slice(first, first + ROWS)
                x, eps = _draws(vae, X[few], binarize)
                elbo_each = vae.forward(x, eps).elbo.reshape(-1, DRAWS)
                elbo[few] = elbo_each.mean(axis=1, dtype=np.float64)
        return elbo

    def score(self, X, y=None):
        """The mean ELBO of X (N, D) in nats per image: the higher the better.

        y is ignored.  Raises as `transform`.
        """
        return float(self.score_samples(X).mean())

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def __getstate__(self):
        """Of the model only the parameters: its gradients and work buffers are made anew.

        Into how many parts float32 products are cut goes along: a worker shall find the same bits.
        """
        state = super().__getstate__().copy() | {"_parts": pool.identity()["parts"]}
        if "vae_" in state:
            vae = state["vae_"]
            params = {name: param for name, param, _ in vae.named_params()}
            state["vae_"] = vae.dtype, params
        return state

    def __setstate__(self, state):
        """Build the model again, and give it its parameters.

        Sets the number of parts of products for the whole process, as a checkpoint does.
        """
        pool.set_parts(state.pop("_parts", pool.pool.parts))
        super().__setstate__(state)
        if "vae_" in state:
            dtype, params = state["vae_"]
            self._build(dtype, rng=0)
            self.vae_.rng = self._rng
            for name, param, _ in self.vae_.named_params():
                param[...] = params[name]

    @property
    def _n_features_out(self):
        return self.vae_.z_dim

    def _train_new(self, X, epochs):
        """Begin and train; what fails leaves no model, least of all one with fresh weights."""
        self._check_settings()
        X = self._rows(X, reset=True)
        try:
            self._begin(X)
            return self._train(X, epochs)
        except BaseException:
            self._forget()
            raise

    def _forget(self):
        for name in ("vae_", "history_", "n_iter_"):
            vars(self).pop(name, None)

    def _check_settings(self):
        check_settings(self.epochs, self.batch_size, self.samples, self.lr)

    def _rows(self, X, reset=False):
        return _checked(X, partial(validate_data, self, reset=reset))

    def _fitted(self):
        check_is_fitted(self, "vae_")
        return self.vae_

    def _begin(self, X):
        """Make a new model and a new Adam, from the settings as they are now."""
        self._rng = _generator(self.random_state)
        self._sizes = self._chosen_sizes()
        self._settings = {"z_dim": self.z_dim, "likelihood": self.likelihood,
                          "activation": self.activation, "beta": self.beta}
        self._build(X.dtype, self._rng)
        self._adam = Adam(self.vae_.named_params(), self.lr).state()
        self.n_iter_, self.history_ = 0, []

    def _build(self, dtype, rng):
        """A model of the settings that `_begin` kept: set_params may have changed them since."""
        make = VAE.mlp if "x_dim" in self._sizes else VAE.conv
        self.vae_ = make(**self._sizes, **self._settings, rng=rng, dtype=dtype)

    def _chosen_sizes(self):
        """Those of the dense layers or of the convolutions.  Raises ValueError."""
        if self.channels is None:
            return {"x_dim": self.n_features_in_, "hidden": self.hidden}
        shape, D = self.image_shape, self.n_features_in_
        if shape is None or math.prod(whole_numbers(shape, "image_shape")) != D:
            raise ValueError("channels needs image_shape, (H, W) or (H, W, C), with as many "
                             f"numbers as X has columns, {D}; got {in_short(shape)}")
        return {"image_shape": shape, "channels": self.channels}

    def _train(self, X, epochs):
        adam = Adam(self.vae_.named_params(), self.lr)
        adam.restore(self._adam)
        rows = fit(self.vae_, X, epochs=epochs, batch_size=self.batch_size, lr=self.lr,
                   samples=self.samples, rng=self._rng, adam=adam)
        self.history_ += [row | {"epoch": self.n_iter_ + row["epoch"]} for row in rows]
        self._adam, self.n_iter_ = adam.state(), len(self.history_)
        return self


def _draws(vae, X, binarize):
    """X (B, D)  ->  x (B * DRAWS, D) and eps (B * DRAWS, Z), image after image."""
    x, eps = [], []
    for n, pixels in enumerate(X):
        seed = np.frombuffer(hashlib.sha256(pixels.tobytes()).digest(), np.uint32)
        rng = np.random.default_rng(seed)
        x.append(draw(X, np.full(DRAWS, n), 1.0, binarize, rng, vae.dtype))
        eps.append(rng.standard_normal((DRAWS, vae.z_dim), vae.dtype))
    return np.concatenate(x), np.concatenate(eps)


def _checked(X, check) -> np.ndarray:
    """X as scikit-learn's `check` returns it.  Its errors become one line that names X.

    Raises TypeError or ValueError; for a missing value the message says where it is.
    """
    if np.ma.isMaskedArray(X):
        X = as_numbers(X, "X")                             # scikit-learn would not see the mask
    try:
        found = check(X, dtype=[np.float64, np.float32], ensure_all_finite=False)
    except (TypeError, ValueError) as error:
        # between its sentences scikit-learn prints the array, line by line
        lines = [line for line in str(error).splitlines()
                 if line[:1].isalpha() and not line.startswith("array=")]
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"X: {' '.join(lines)}") from None
    if not np.isfinite(found).all():
        row, column = np.argwhere(~np.isfinite(found))[0]
        value = "NaN" if np.isnan(found[row, column]) else found[row, column]
        names = getattr(X, "columns", range(found.shape[1]))
        raise ValueError(f"X must be finite, found {value} in row {row}, column "
                         f"{names[column]!r}: fill it, or leave the row out")
    return found


def _generator(random_state) -> np.random.Generator:
    """A NumPy Generator from what scikit-learn calls a random state.

    Raises ValueError for what is none.
    """
    try:
        state = check_random_state(random_state)
    except ValueError:
        raise ValueError("random_state must be None, a whole number from 0 to 2**32 - 1 or a "
                         f"numpy.random.RandomState, got {in_short(random_state)}") from None
    return np.random.default_rng(state.randint(2**31, size=4))
