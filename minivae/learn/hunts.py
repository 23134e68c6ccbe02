"""The hunts, in three levels: what is planted, what is shown, what was seen.  A table of data."""

from minivae.gradcheck.faults import FAULTS, Fault
from minivae.learn.hunt import Hunt, Run

OF_THE_MUSEUM = {fault.name: fault for fault in FAULTS}

# No finite difference sees these four; a clause of the contract does.
IN_PLACE = Fault(
    "tanh-in-place", "writes into its input", "layers:Tanh.backward",
    'dx = self._work("dx", y.shape, y.dtype)', "dx = dy",
    "whoever needs dy a second time finds another dy")
CLIPPED = Fault(
    "dense-clips-upstream", "the upstream gradient clipped on the way", "layers:Dense.backward",
    "as_rows(dy, (len(x), W.shape[1])", "as_rows(np.clip(dy, -5, 5), (len(x), W.shape[1])",
    "sharp likelihoods learn slowly, gentle ones as they should")
SHARED_BUFFERS = Fault(
    "looking-shares-buffers", "a cache overwritten by a second forward", "model:Model.undisturbed",
    'copy.deepcopy(own | {"_cache": {}, "_buffers": {}}, same)', 'own | {"_cache": {}}',
    "looking at reconstructions while training changes what is learned")
KL_OVER_BATCH = Fault(
    "kl-over-batch-both-ways", "divided by the batch size, forward and backward",
    "latents:GaussianLatent.kl", "return kl", "return kl / len(kl)",
    "the KL of an image depends on how many others came with it",
    also=(("latents:GaussianLatent.kl_backward", "kernels.kl_backward(mu, logvar, dkl,",
           "kernels.kl_backward(mu, logvar, dkl / len(dkl),"),))

OBJECTIVES = "analytic_elbo sampled_elbo multi_sample_bound estimator "

_ALL = [
    # --- level 1: finite differences see it
    Hunt("dying-units", "hidden units die one after another", 1,
         OF_THE_MUSEUM["relu-mask-of-upstream"],
         shown="relu_forward relu_backward tanh_forward tanh_backward sigmoid_forward "
               "sigmoid_backward softplus_forward softplus_backward",
         check="VAE.elbo, relu",
         seen="A VAE with relu units.  After 12 epochs all 16 units of its encoder give 0 for "
              "every image, so all images get the same code.  With tanh units nothing is wrong.",
         off="The gradient passes where it should stop and stops where it should pass: it is its "
             "own sign that decides.",
         others=("y[n, j] = zero if x[n, j] <= 0", "one - y[n, j] * y[n, j]"),
         run=Run(activation="relu")),
    Hunt("shrinking-spread", "the encoder gets too sure", 1,
         OF_THE_MUSEUM["kl-minus-one-forgotten"],
         shown="sample_forward sample_backward kl_forward kl_backward log_q_forward log_q_backward "
               "log_prior_forward",
         check="VAE.elbo",
         seen="Reconstructions get sharper and the KL grows from epoch to epoch.  After 12 epochs "
              "the encoder's spread is 0.01, where the twin has 0.5 to 0.9.",
         off="dlogvar of one node is never negative, so it can only push the spread down; the "
             "right one is 0 at a spread of 1.",
         others=("expm1(logvar[n, j]) - logvar", "half * (r * t - one)")),
    Hunt("mean-digit", "every reconstruction is the mean digit", 1,
         OF_THE_MUSEUM["bernoulli-mean-over-pixels"],
         shown="BernoulliLikelihood.forward BernoulliLikelihood.backward BernoulliLikelihood.mean "
               "BernoulliLikelihood.check",
         check="VAE.elbo",
         seen="The KL falls to 0 in the first epochs and stays there.  Whatever image goes in, the "
              "same grey digit comes out.",
         off="The gradient of the reconstruction is too small, by the same factor everywhere; that "
             "of the KL is right.",
         others=('self._cache["forward"] = (residual,)', "dlog_px = as_rows(dlog_px")),
    Hunt("stubborn-variance", "the pixels' variance does not come down", 1,
         OF_THE_MUSEUM["gaussian-logvar-clipped"],
         shown="GaussianLikelihood.__init__ GaussianLikelihood.width GaussianLikelihood._split "
               "GaussianLikelihood.forward GaussianLikelihood.backward GaussianLikelihood.mean",
         check="VAE.elbo, gaussian",
         seen="Gaussian pixels with one learned variance.  The loss comes to rest after two "
              "epochs, while the twin's goes on falling.  The optimiser moves the variance's "
              "parameter all the time, and nothing comes of it.",
         off="A parameter has a gradient and moves nothing: forward is another function than the "
             "one that backward differentiates.",
         others=("d_raw *= sigmoid", 'self.grads["raw_logvar"][...] = d_raw.sum()'),
         run=Run(likelihood="gaussian", activation="relu")),
    Hunt("far-means", "the KL grows to 30 nats and more", 1, OF_THE_MUSEUM["vae-kl-forgotten"],
         shown="VAE.forward VAE.backward",
         check="VAE.elbo",
         seen="Nothing holds the encoder.  Its posterior means scatter with a std of 2.4 to 4.0, "
              "where the prior has 1; its spreads stay near 1.",
         off="The gradient of mu lacks one of its parts.",
         others=("dlogvar = dlogvar_z", "dz = path[:, None]")),
    Hunt("silent-code", "larger batches, and the code falls silent", 1,
         OF_THE_MUSEUM["elbo-kl-summed"],
         shown=OBJECTIVES + "elbo elbo_mc stl score score_analytic_kl",
         check="VAE.elbo",
         seen="With batches of one image all is well.  With batches of 20 the KL is 0 after some "
              "epochs, and with larger ones sooner.",
         off="One term of the loss counts too often in the gradient, by a factor that is a size of "
             "the batch.",
         others=("decoder=one / (K * B), latent=zero", "w = one / (K * B)")),
    Hunt("silent-coins", "the coins fall silent", 1, OF_THE_MUSEUM["coin-score-sign"],
         shown="BernoulliLatent.sample BernoulliLatent.kl BernoulliLatent.kl_backward "
               "BernoulliLatent.log_q BernoulliLatent.log_q_backward BernoulliLatent.kl_each "
               "BernoulliLatent.log_q_each",
         check="DiscreteVAE.score_analytic_kl",
         seen="A VAE of coins.  In the first epoch it pays a KL and the loss is above the twin's "
              "all the same, as if the encoder looked for codes that say nothing.  Then the KL is "
              "0, and every image gets fair coins.",
         off="A gradient of the logits a has the wrong sign.",
         others=("return dkl[:, None] * a", "z * a - np.logaddexp(0, a)"),
         run=Run("DiscreteVAE", Z=8, K=2, estimator="score_analytic_kl", activation="relu",
                 lr=1e-2)),
    Hunt("one-estimator-only", "right with elbo_mc, wrong with stl", 1,
         OF_THE_MUSEUM["log-q-wires-crossed"],
         shown="GaussianLatent.sample GaussianLatent.sample_backward GaussianLatent.kl_backward "
               "GaussianLatent.log_q GaussianLatent.log_q_backward GaussianLatent.log_prior "
               "GaussianLatent.log_prior_backward",
         check="GaussianLatent.log_q, wires",
         seen="With the estimator elbo_mc the gradients are right in every digit.  With stl, which "
              "cuts one wire of elbo_mc, the KL grows and the loss with it.",
         off="What should be weighed by along_z is weighed by another number; where the two are "
             "equal nobody sees it.",
         others=("kernels.sample_backward(std, eps, dz", "return -dlog_pz"),
         run=Run(estimator="stl")),
    # --- level 2: a clause of the contract sees it
    Hunt("skip-connection", "a skip connection makes it worse", 2, IN_PLACE,
         shown="Layer._take Layer._work Dense.forward Dense.backward ReLU.forward ReLU.backward "
               "Tanh.forward Tanh.backward Sequential.forward Sequential.backward",
         check="Tanh",
         seen="Somebody writes h = tanh(a) + a and its backward, tanh.backward(dh) + dh.  It is "
              "right, and still the net trains worse than it should.  Without the skip connection "
              "every number is right.",
         off="The numbers that come back are right; something else is not what it was before.",
         others=('self._cache["forward"] = (y,)', "cores.relu_backward(flat(x)"),
         run=Run(skip=True)),
    Hunt("second-backward", "a backward that should be refused", 2,
         OF_THE_MUSEUM["sequential-stale-cache"],
         shown="Layer._take Layer._work Dense.forward Dense.backward ReLU.forward ReLU.backward "
               "Softplus.forward Softplus.backward Sequential.forward Sequential.backward",
         check="Sequential",
         seen="A training script calls forward once and backward twice, by mistake.  Nobody is "
              "told: the second call uses what another pass left behind.  Where the script is "
              "right, so is every number.",
         off="Nothing is off in a pass of its own; what forward kept is there for longer than it "
             "should be.",
         others=("if node not in self._cache", "array is None or array.shape")),
    Hunt("sharp-likelihood", "sharp likelihoods learn too slowly", 2, CLIPPED,
         shown="as_rows Layer._take Layer._work Dense.forward Dense.backward Tanh.forward "
               "Tanh.backward Sequential.forward Sequential.backward",
         check="Dense",
         seen="With Bernoulli pixels every number is right.  With Gaussian pixels of a small fixed "
              "variance, where gradients are large, the loss falls more slowly than it should.",
         off="Twice the upstream gradient should give twice the result, and for a large one it "
             "does not.",
         others=("dy = as_rows(dy, y.shape", "kernels.sum_rows(dy"),
         run=Run(likelihood=-6.0)),
    Hunt("looking", "it learns worse while you look", 2, SHARED_BUFFERS,
         shown="Model.weigh Model.take_wires Model.q_parameters Model.encode Model.likeliest_z "
               "Model.decode Model.reconstruct Model.undisturbed Model.at_beta "
               "Model.with_objective",
         check="VAE.elbo",
         seen="A script draws the reconstructions of some images in every step, between forward "
              "and backward.  With the drawing the model learns worse than without.",
         off="What a pending backward will read is written over by the passes that draw.",
         others=("self._wires, self.baseline = wires, baseline",
                 "self.baseline = copy.copy(baseline)"),
         run=Run(look=True, activation="relu")),
    Hunt("company", "an image's KL depends on its company", 2, KL_OVER_BATCH,
         shown="GaussianLatent.sample GaussianLatent.sample_backward GaussianLatent.kl "
               "GaussianLatent.kl_backward GaussianLatent.log_q GaussianLatent.log_prior "
               "GaussianLatent.log_prior_backward",
         check="GaussianLatent.kl",
         seen="The loss is far better than the twin's.  But an image judged alone has a KL 20 "
              "times as large as among 19 others, and judged so the model is the worse one.",
         off="The KL and its gradient are too small by the same factor, so they agree.",
         others=("kl = np.empty(len(mu)", "dkl = as_rows(dkl, (len(mu),)")),
    # --- level 3: exact means, or exact numbers of forward, see it
    Hunt("gentle-loss", "a loss too good to be true", 3, OF_THE_MUSEUM["bernoulli-mean-both-ways"],
         shown="bernoulli_forward gaussian_forward gaussian_backward scale_rows "
               "log_prior_forward",
         check="forward.likelihoods",
         seen="The loss is a fraction of the twin's from the first step, and the KL falls to 0.  A "
              "gradient check of every node passes.",
         off="log p(x|z) and its gradient are too small by the same factor, so they agree.",
         others=("terms[i] = log_bernoulli(x[n, i], v, e)", "a[n, j] *= weight[n]")),
    Hunt("two-samples", "two samples learn less than one", 3,
         OF_THE_MUSEUM["bernoulli-wrong-image"],
         shown="bernoulli_forward gaussian_forward gaussian_backward scale_rows sample_forward "
               "sample_backward log_q_forward",
         check="forward.likelihoods",
         seen="With one sample of z for each image all is well.  With two the reconstructions turn "
              "grey, as if the model could not tell which image it is asked for.  A gradient check "
              "of every node passes.",
         off="A row of the decoder's output is held against another image than its own.",
         others=("z[k * B + n, j] = mu[n, j]", "dmu[n, j] += dz[k * B + n, j]"),
         run=Run(K=2)),
    Hunt("noisy-steps", "the gradient scatters ten times as much", 3,
         OF_THE_MUSEUM["sample-shared-noise-both-ways"],
         shown="GaussianLatent.sample GaussianLatent.sample_backward GaussianLatent.kl "
               "GaussianLatent.kl_backward GaussianLatent.log_q GaussianLatent.noise "
               "GaussianLatent.draw_prior",
         check="forward.sample",
         seen="The gradient is right for the noise that was drawn, and its mean is right too.  But "
              "with batches of 20 it scatters ten times as much as the twin's (its variance), and "
              "training is slower.",
         off="Each z has the right mean and the right spread; two have something in common.",
         others=("eps = as_rows(eps, (None", "kernels.sample_forward(mu, logvar"),
         run=Run(lr=1e-2)),
    Hunt("slow-start", "two epochs of nothing", 3, OF_THE_MUSEUM["adam-betas-swapped"],
         shown="Adam.__init__ Adam.step Adam.state Adam.restore",
         check="forward.Adam",
         seen="Every gradient is right, and with plain gradient descent so is the training.  With "
              "this optimiser hardly anything happens for two epochs, and then it goes slowly.",
         off="The first step is not lr long; later ones follow gradients of long ago.",
         others=("step_size = self.lr", "unbias_v = 1 / np.sqrt")),
    Hunt("encoder-at-rest", "the encoder does not move", 3, OF_THE_MUSEUM["stl-path-cut"],
         shown=OBJECTIVES + "elbo elbo_mc stl score iwae iwae_stl dreg",
         check="forward.estimators",
         seen="The decoder learns; the encoder stays as it was drawn, to the last digit.  A "
              "gradient check passes: it holds backward to the weights that the estimator chose.",
         off="The weights of one estimator let nothing through to the encoder.",
         others=("w = one / (K * B)", "path=np.ones_like(w), score=-w"),
         run=Run(estimator="stl")),
    Hunt("half-speed", "the encoder learns at half its speed", 3,
         OF_THE_MUSEUM["score-own-sample-in-baseline"],
         shown=OBJECTIVES + "score score_analytic_kl vimco log_weights normalised log_mean_exp "
               "mean_of_others",
         check="forward.discrete estimators",
         seen="A VAE of coins, trained with two samples.  It learns as a VAE with a KL of twice "
              "the weight would: its coins fall silent where the twin's begin to speak.",
         off="What is subtracted from f depends on the very sample that f is of.",
         others=("f, zero = t.log_px, np.zeros_like", "baseline = log_mean_exp(np.swapaxes"),
         run=Run("DiscreteVAE", Z=8, K=2, estimator="score_analytic_kl", activation="relu",
                 lr=1e-2)),
    Hunt("looks-better", "better than IWAE, says its author", 3,
         OF_THE_MUSEUM["dreg-weight-not-squared"],
         shown=OBJECTIVES + "elbo iwae iwae_stl dreg rws log_weights normalised log_mean_exp",
         check="forward.estimators",
         seen="dreg and iwae climb the same bound, and their gradients must have the same mean.  "
              "Those of this dreg scatter less than iwae's, and the loss is a little lower than "
              "the twin's: its author is content.  The KL is larger.",
         off="One wire of dreg has a weight that is right for another estimator.",
         others=("path=np.ones_like(w), score=-w", "score=np.zeros_like(t.log_px))"),
         run=Run(K=4, estimator="dreg")),
    Hunt("hardly-seen", "hardly anything to be seen", 3, OF_THE_MUSEUM["vimco-weight-dropped"],
         shown=OBJECTIVES + "score vimco rws log_weights normalised log_mean_exp mean_of_others",
         check="forward.estimators",
         seen="Trained with vimco.  The two losses can hardly be told apart; only the KL is always "
              "larger than the twin's.  No curve would make anybody look here.",
         off="The weight of vimco's score lacks a part.",
         others=("without[np.arange(K), np.arange(K)]", "score=t.baseline(f, t.x) / (K * B)"),
         run=Run(K=4, estimator="vimco", lr=1e-2)),
]

HUNTS = {hunt.name: hunt for hunt in _ALL}
