"""The ladder: every step of the backward pass as an exercise, from a bias to the whole VAE.

A table.  An entry says which functions of a page are shown, which of their lines are open, and
what is said about them; rung.py cuts the files and grades what comes back.  What is no derivative
(wires, steps of Adam) is held to the page's own numbers, see weights.py.
"""

from minivae import first
from minivae.learn import convolution_rungs, twins, wires
from minivae.learn.rung import Rung
from minivae.learn.weights import Steps, Wires
from minivae.learn.whole import Whole

WIRES = "decoder, latent, path, score, kl"
LOG_TERMS = ("log_px = rng.standard_normal((K, B)) - 3\n"
             "log_pz = rng.standard_normal((K, B)) - 2\n"
             "log_qz = rng.standard_normal((K, B)) - 1")
X = "x = rng.standard_normal((B, D))"
HEADS = "mu = rng.standard_normal((B, Z))\nlogvar = rng.standard_normal((B, Z))"
PIXELS = ("logits = 2 * rng.standard_normal((K * B, D))\n"
          "x = rng.random((B, D))")
DENSE = dict(
    page=twins, functions=("dense_forward", "dense_backward"),
    arrays=f"{X}\nW = rng.standard_normal((D, H))\nb = rng.standard_normal(H)",
    forward="y = dense_forward(x, W, b)", backward="dx, dW, db = dense_backward(x, W, dy)")
ONE_SAMPLE = dict(
    page=twins, functions=("one_sample_forward", "one_sample_backward"),
    arrays=f"{HEADS}\neps = rng.standard_normal((B, Z))",
    forward="std, z = one_sample_forward(mu, logvar, eps)",
    backward="dmu, dlogvar = one_sample_backward(std, eps, dz)")

RUNGS = [
    # --- layers
    Rung("bias", "The gradient of a bias",
         task="A layer adds the same b to every row of its output: y = x W + b.  dy, the gradient "
              "of the loss by y, comes in from above.  Fill in db, which has b's shape.  dx and "
              "dW are the next two exercises; leave them open.",
         **DENSE, gap=("db",), later=("dx", "dW"),
         wire="b (H,) reached every one of the B rows of y, and dy is (B, H): db needs one number "
              "for each column.",
         index="db[j] = sum over _ _ _ of dy[n, j]",
         home=("kernels.py", "sum_rows"),
         learned="What every row used gets the sum over the rows."),
    Rung("dense-dx", "A Dense layer: the gradient of its input",
         task="y = x W + b, and dy comes in from above.  Fill in dx, which goes on to the layer "
              "below and has x's shape.  dW is the next exercise; leave it open.",
         **DENSE, gap=("dx",), later=("dW",),
         wire="x[n, i] reached every output y[n, j], each through its own weight W[i, j].  dy is "
              "(B, H) and W is (D, H); dx is (B, D).",
         index="dx[n, i] = sum over j of dy[n, j] W[_ _ _]",
         home=("layers.py", "Dense.backward"),
         learned="Forward multiplies by W, backward by W transposed: the sum runs over outputs."),
    Rung("dense-dw", "A Dense layer: the gradient of its weights",
         task="y = x W + b, and dy comes in from above.  Fill in dW, which has W's shape.  These "
              "are the numbers that Adam will move W by.",
         **DENSE, gap=("dW",),
         wire="Every row n used the same W[i, j], to carry x[n, i] to y[n, j].  x is (B, D), dy "
              "is (B, H); dW is (D, H).",
         index="dW[i, j] = sum over _ _ _ of x[n, i] dy[n, j]",
         home=("layers.py", "Dense.backward"),
         learned="A weight's gradient is its input times the gradient of its output, summed over "
                 "the batch."),
    Rung("relu", "ReLU: a mask",
         task="y = max(x, 0), number by number, behind a Dense layer.  dy comes in from above.  "
              "Fill in dx.",
         page=twins, functions=("relu_forward", "relu_backward"), gap=("dx",),
         arrays="x = rng.choice([-1, 1], (B, D)) * (0.3 + rng.random((B, D)))",
         forward="y = relu_forward(x)", backward="dx = relu_backward(x, dy)",
         wire="Every x[n, j] reached y[n, j] alone, so dx, x and dy all have the shape (B, D).",
         index="dx[n, j] = dy[n, j] where _ _ _ > 0, and 0 elsewhere",
         home=("kernels.py", "relu_backward"),
         learned="A unit that was shut in forward is shut in backward: the mask is that of x."),
    Rung("tanh", "tanh: the slope from the output",
         task="y = tanh(x), number by number: the activation of page 0's encoder and decoder.  "
              "dy comes in from above, and backward is handed y, not x.  Fill in dx.",
         page=twins, functions=("tanh_forward", "tanh_backward"), gap=("dx",), arrays=X,
         forward="y = tanh_forward(x)", backward="dx = tanh_backward(y, dy)",
         wire="Every x[n, j] reached y[n, j] alone: dy (B, D) times the slope of tanh there, "
              "written with y.",
         index="dx[n, j] = dy[n, j] (1 - _ _ _)",
         home=("kernels.py", "tanh_backward"),
         learned="The slope of tanh needs the output only, so forward need not keep its input."),
    Rung("sigmoid", "sigmoid: the slope from the output",
         task="y = 1 / (1 + exp(-x)), number by number: it turns a logit into a probability.  dy "
              "comes in from above, and backward is handed y, not x.  Fill in dx.",
         page=twins, functions=("sigmoid_forward", "sigmoid_backward"), gap=("dx",), arrays=X,
         given=("sigmoid",),
         forward="y = sigmoid_forward(x)", backward="dx = sigmoid_backward(y, dy)",
         wire="Every x[n, j] reached y[n, j] alone: dy (B, D) times the slope, written with y.  "
              "The slope is 0 where y is 0 and where y is 1.",
         index="dx[n, j] = dy[n, j] y[n, j] (_ _ _)",
         home=("kernels.py", "sigmoid_backward"),
         learned="The slope is y (1 - y), with the y that forward gave: not sigmoid of it again."),
    Rung("softplus", "softplus: a smooth ReLU",
         task="y = log(1 + exp(x)), number by number: a smooth ReLU.  dy comes in from above.  "
              "Fill in dx; the function sigmoid is at hand.",
         page=twins, functions=("softplus_forward", "softplus_backward"), gap=("dx",),
         arrays="x = 2 * rng.standard_normal((B, D))", given=("sigmoid",),
         forward="y = softplus_forward(x)", backward="dx = softplus_backward(x, dy)",
         wire="Every x[n, j] reached y[n, j] alone.  Far to the left softplus is flat, far to the "
              "right its slope is 1.",
         index="dx[n, j] = dy[n, j] exp(x[n, j]) / (_ _ _)",
         home=("kernels.py", "softplus_backward"),
         learned="The slope of softplus is sigmoid, a mask that shuts softly."),
    Rung("sequential", "A chain of layers",
         task="Layers stand one behind the other, as in the encoder: x -> Dense -> tanh -> Dense "
              "-> y.  dy comes in at the end of the chain.  backward visits the layers, the last "
              "one first, each with the x that it saw in forward.  Fill in what a layer does "
              "with dy.",
         page=twins, functions=("sequential_forward", "sequential_backward"),
         gap=("dy",),
         arrays=f"{X}\nW, V = rng.standard_normal((D, H)), rng.standard_normal((H, Z))\n"
                "layers = [(lambda x: x @ W, lambda x, dy: dy @ W.T),\n"
                "          (np.tanh, lambda x, dy: dy * (1 - np.tanh(x) ** 2)),\n"
                "          (lambda x: x @ V, lambda x, dy: dy @ V.T)]",
         forward="y, inputs = sequential_forward(x, layers)",
         backward="dx = sequential_backward(inputs, layers, dy)",
         wire="The wire from dy runs through every layer, the last one first.  What one layer "
              "returns is the dy of the layer before it.",
         index="dx = backward_1(x_1, backward_2(_ _ _, backward_3(x_3, dy)))",
         home=("layers.py", "Sequential.backward"),
         learned="Backward is forward in reverse, and every layer needs the input that it saw."),
    # --- likelihoods: where the gradient enters
    Rung("bernoulli", "Binary pixels: where the gradient enters",
         task="The decoder gave logits, one for each pixel, and log_px = log p(x|z) is the sum "
              "over the pixels.  K samples share each image x.  dlog_px, one number a row, comes "
              "from the loss.  Fill in residual, which forward keeps because backward needs it, "
              "and dlogits.",
         page=twins, functions=("bernoulli_forward", "bernoulli_backward"),
         gap=("residual", "dlogits"), arrays=PIXELS, given=("sigmoid",),
         forward="log_px, residual = bernoulli_forward(logits, x)",
         backward="dlogits = bernoulli_backward(residual, dlog_px)",
         wire="The residual is the slope of log_px by each logit, (K*B, D).  dlog_px is (K*B,): "
              "one weight for a whole row.  The function sigmoid is at hand.",
         index="residual[r, i] = x[r, i] - _ _ _ ;  dlogits[r, i] = dlog_px[_ _ _] residual[r, i]",
         home=("kernels.py", "bernoulli_forward"),
         learned="From logits the gradient is pixel minus probability: nothing is divided, so "
                 "nothing overflows."),
    Rung("gaussian", "Gaussian pixels: a mean and a log-variance each",
         task="The decoder gave a mean and a log-variance for each pixel.  dlog_px, one number a "
              "row, comes from the loss.  K samples share each image x.  Fill in dmean and "
              "dlogvar.",
         page=twins, functions=("gaussian_forward", "gaussian_backward"),
         gap=("dmean", "dlogvar"),
         arrays="mean = rng.standard_normal((K * B, D))\n"
                "logvar = rng.standard_normal((K * B, D))\n" + X,
         given=("LOG_2PI",),
         forward="log_px = gaussian_forward(mean, logvar, x)",
         backward="dmean, dlogvar = gaussian_backward(mean, logvar, x, dlog_px)",
         wire="dlog_px is (K*B,): one weight for a whole row.  logvar stands in two terms of "
              "log_px, so its slope has two parts.",
         index="dmean[r, i] = dlog_px[r] (x - mean) _ _ _ ;  "
               "dlogvar[r, i] = dlog_px[r] _ _ _ ((x - mean)^2 exp(-logvar) - 1)",
         home=("kernels.py", "gaussian_backward"),
         learned="The precision exp(-logvar) scales the mean's gradient, and the variance's is 0 "
                 "where it fits the squared error."),
    Rung("shared-logvar", "One log-variance for all pixels",
         task="One learned number, raw, gives the log-variance of every pixel of every row; a "
              "softplus keeps it above a floor.  dlogvar comes from the Gaussian node.  Fill in "
              "d_raw, of shape (1, 1).",
         page=twins, functions=("shared_logvar_forward", "shared_logvar_backward"),
         gap=("d_raw",), arrays="raw = rng.standard_normal((1, 1)) - 9",
         given=("LOGVAR_FLOOR", "sigmoid"),
         forward="logvar = shared_logvar_forward(raw, K * B, D)",
         backward="d_raw = shared_logvar_backward(raw, dlogvar)",
         wire="raw reached every entry of logvar, (K*B, D), through one softplus.  "
              "`.sum(keepdims=True)` gives the shape (1, 1).",
         index="d_raw = sum over n and i of dlogvar[n, i] sigmoid(_ _ _)",
         home=("likelihoods.py", "GaussianLikelihood.backward"),
         learned="One number used everywhere gets the sum over everywhere, and a floor made of "
                 "softplus lets the gradient through."),
    # --- the latent: where the gradient splits
    Rung("kl", "The KL from the prior",
         task="kl = KL(N(mu, std^2) || N(0, I)), one number for each image; logvar is the log of "
              "std^2.  dkl, (B,), comes from the loss: beta / B for the plain one.  Fill in dmu "
              "and dlogvar.",
         page=twins, functions=("kl_forward", "kl_backward"), gap=("dmu", "dlogvar"),
         arrays=HEADS, forward="kl = kl_forward(mu, logvar)",
         backward="dmu, dlogvar = kl_backward(mu, logvar, dkl)",
         wire="Every mu[n, j] and logvar[n, j] reached kl[n] alone: dkl is (B,), one weight for "
              "all Z latents of an image.",
         index="dmu[n, j] = dkl[n] mu[n, j];  dlogvar[n, j] = dkl[n] (_ _ _ - 1) / 2",
         home=("kernels.py", "kl_backward"),
         learned="The KL pulls mu to 0 and std to 1, where both gradients are 0."),
    Rung("sample-mu", "The sampling node: to mu",
         task="z = mu + std eps, with std = exp(logvar / 2) and noise eps that is held.  dz comes "
              "down from the decoder and splits here.  Fill in dmu.  dlogvar is the next "
              "exercise; leave it open.",
         **ONE_SAMPLE, gap=("dmu",), later=("dlogvar",),
         wire="mu[n, j] reached z[n, j] alone, with slope 1.  dz and dmu are (B, Z).",
         index="dmu[n, j] = _ _ _ [n, j]",
         home=("kernels.py", "sample_backward"),
         learned="The sample moves with mu one to one, so dz arrives at mu as it is."),
    Rung("sample-logvar", "The sampling node: to logvar",
         task="z = mu + std eps, with std = exp(logvar / 2) and noise eps that is held.  dz comes "
              "down from the decoder.  Fill in dlogvar: this is the wire by which the encoder "
              "learns how sure to be.",
         **ONE_SAMPLE, gap=("dlogvar",),
         wire="logvar[n, j] reached std[n, j], and std reached z[n, j] times eps[n, j].  Two "
              "slopes multiply; all arrays are (B, Z).",
         index="dlogvar[n, j] = dz[n, j] eps[n, j] _ _ _ / 2",
         home=("kernels.py", "sample_backward"),
         learned="d std/d logvar = std / 2, because logvar is the log of the variance: here the "
                 "half comes from."),
    Rung("kl-joins", "The KL joins: two gradients add",
         task="mu and logvar were used twice, for the sample z and for the KL.  dz comes down "
              "from the decoder, dkl from the loss.  Fill in dmu and dlogvar; the backward of each "
              "node is at hand.",
         page=twins, functions=("latent_forward", "latent_backward"), gap=("dmu", "dlogvar"),
         arrays=f"{HEADS}\neps = rng.standard_normal((B, Z))",
         given=("one_sample_forward", "one_sample_backward", "kl_forward", "kl_backward"),
         forward="std, z, kl = latent_forward(mu, logvar, eps)",
         backward="dmu, dlogvar = latent_backward(mu, logvar, std, eps, dz, dkl)",
         wire="Four gradients, all (B, Z), have come back: two for mu and two for logvar.",
         index="dmu[n, j] = dmu_z[n, j] + _ _ _ ;  dlogvar[n, j] = dlogvar_z[n, j] + _ _ _",
         home=("vae.py", "VAE.backward"),
         learned="A value that was used twice gets the sum of what comes back."),
    Rung("k-samples", "K samples of z for each image",
         task="Every image has K samples, all made from one mu and one logvar with their own eps.  "
              "Row k*B + n of z is sample k of image n.  dz, (K*B, Z), comes down from the "
              "decoder; backward has it as (K, B, Z).  Fill in dmu and dlogvar.",
         page=twins, functions=("sample_forward", "sample_backward"), gap=("dmu", "dlogvar"),
         arrays=f"{HEADS}\neps = rng.standard_normal((K, B, Z))", given=("by_sample",),
         forward="std, z = sample_forward(mu, logvar, eps)",
         backward="dmu, dlogvar = sample_backward(std, eps, dz)",
         wire="mu[n, j] reached all K samples.  dz and eps are (K, B, Z), std is (B, Z); dmu and "
              "dlogvar are (B, Z).",
         index="dlogvar[n, j] = sum over _ _ _ of dz[k, n, j] eps[k, n, j] std[n, j] / 2",
         home=("kernels.py", "sample_backward"),
         learned="Samples are one more use of the same mu and logvar: the gradients sum over k."),
    # --- the whole VAE
    Whole("page-0", "The whole backward of page 0",
          task="A whole VAE: x -> h -> mu, logvar -> z -> g -> logits -> loss.  p holds the "
               "parameters, cache what forward kept.  Fill in every line of backward, from the "
               "loss at the bottom of forward up to the encoder.  The numbered comments say where "
               "you are.  `minivae learn finish` trains with what you write here.",
          page=first, functions=("init", "forward", "backward"),
          gap=("drecon", "dkl", "prob", "dlogits", "dp[]", "dg", "da", "dz", "dmu", "dlogvar",
               "dh"),
          arrays="p = init(D, H, Z, rng)\n"
                 "x = rng.random((B, D))\n"
                 "eps = rng.standard_normal((B, Z))",
          forward="loss, cache = forward(p, x, eps)", backward="dp = backward(p, cache)",
          wire="Begin with drecon and dkl, (B,): the loss is a mean over B images.  Then every "
               "line is one of the exercises before; each gradient has the shape of its array.",
          index="dlogits[n, i] = drecon[n] (prob[n, i] - _ _ _);  dp of a weight W in y = x W is "
                "sum over n of _ _ _[n, i] dy[n, j];  dh is the sum of what both heads send back",
          home=("vae.py", "VAE.backward"),
          learned="This is all of it: the backward pass of a VAE, written by you."),
    # --- estimators: weights on wires
    Rung("log-prior", "The log prior of a sample",
         task="log_pz = log N(z; 0, I), one number for each sample.  Estimators that take the KL "
              "from samples need it.  dlog_pz comes from the loss.  Fill in dz.",
         page=twins, functions=("log_prior_forward", "log_prior_backward"), gap=("dz",),
         arrays="z = rng.standard_normal((K * B, Z))", given=("LOG_2PI",),
         forward="log_pz = log_prior_forward(z)", backward="dz = log_prior_backward(z, dlog_pz)",
         wire="Every z[r, j] reached log_pz[r] alone: dlog_pz is (K*B,), dz is (K*B, Z).",
         index="dz[r, j] = _ _ _ dlog_pz[r] z[r, j]",
         home=("latents.py", "GaussianLatent.log_prior_backward"),
         learned="The prior pulls every sample to 0, as hard as it is far away."),
    Rung("log-q", "log q: through z, and in its own formula",
         task="log_qz = log N(z; mu, std^2), one number for each sample.  mu and logvar reach it "
              "twice: z moved with them, and they stand in the formula.  Estimators weigh the two "
              "wires apart: along_z is the weight of the first, along_phi that of the second.  "
              "Fill in dz, dmu and dlogvar; r and t are at hand, as (K, B, Z).",
         page=twins, functions=("log_q_forward", "log_q_backward"),
         gap=("dz", "dmu", "dlogvar"), given=("LOG_2PI", "by_sample"),
         arrays=f"z = rng.standard_normal((K * B, Z))\n{HEADS}\n"
                "z_held, mu_held, logvar_held = z.copy(), mu.copy(), logvar.copy()",
         forward="path, score = (log_q_forward(z, mu_held, logvar_held), "
                 "log_q_forward(z_held, mu, logvar))",
         backward="dz, dmu, dlogvar = log_q_backward(z, mu, logvar, dpath, dscore)",
         wire="dz, (K*B, Z), takes along_z.  dmu and dlogvar, (B, Z), take along_phi, and sum "
              "over the K samples.",
         index="dz = - along_z _ _ _ ;  dmu = sum over k of along_phi t;  "
               "dlogvar = sum over k of along_phi (_ _ _ - 1) / 2",
         home=("kernels.py", "log_q_backward"),
         learned="The wire in log q's own formula is called the score; its mean over z is 0."),
    Wires("elbo", "The ELBO as weights on wires",
          task="backward of a VAE begins with a weight for each of five wires.  decoder carries "
               "log p(x|z) to the decoder and to z; latent carries log p(z) - log q(z|x) to z; "
               "path is a gain, with which all that reached z goes on to mu and logvar; score "
               "carries log q straight to mu and logvar; kl carries the KL on paper.  The "
               "objective, which is maximised, is mean_n (mean_k log p(x|z_k) - beta KL).  Fill "
               "in decoder and kl.  Your weights are held to the package's, and the mean of "
               "their gradient over all noise to the exact one.",
          page=wires, functions=("elbo_wires",), gap=("decoder", "kl"), objective="analytic",
          arrays="beta = 1.7", forward="", backward=f"{WIRES} = elbo_wires(K, B, beta)",
          wire="decoder is (K, B), one weight for each sample; kl is (B,), one for each image.  "
               "A mean over K samples and B images, and a minus.",
          index="decoder[k, n] = 1/(_ _ _);  kl[n] = -beta/_ _ _",
          home=("estimators.py", "elbo"),
          learned="The 1/B of the batch stands here and nowhere else, and beta on one wire only."),
    Wires("elbo-mc", "The KL from samples: two more wires",
          task="Now the KL is taken from the samples: the objective is the mean over k and n of "
               "log p(x|z) + beta (log p(z) - log q(z|x)).  latent multiplies "
               "log p(z) - log q(z|x) on its way to z; score multiplies log q on its way straight "
               "to mu and logvar.  Fill in latent, path and score, which are held as before.",
          page=wires, functions=("elbo_mc_wires",), gap=("latent", "path", "score"),
          arrays="beta = 1.7", forward="", backward=f"{WIRES} = elbo_mc_wires(K, B, beta)",
          wire="All three are (K, B).  latent and score are weights of the same mean; the score "
               "is that of log q, which the objective subtracts.",
          index="latent[k, n] = beta/(_ _ _);  path = 1;  score[k, n] = _ _ _ beta/(K B)",
          home=("estimators.py", "elbo_mc"),
          learned="The total derivative uses both wires of log q: through z, and in its formula."),
    Wires("score-function", "The score function: z is held",
          task="z is held and the density moves: every sample pushes log q(z|x) up by how good it "
               "was.  f = log p(x|z) + beta (log p(z) - log q(z|x)) says how good, and the "
               "baseline, the mean of f over the other samples, is taken off to lessen the "
               "noise.  Fill in f, baseline and score.  Nothing here is a derivative of one loss: "
               "your weights are held to the package's, and their mean to the exact one.",
          page=wires, functions=("score_wires",), gap=("f", "baseline", "score"),
          arrays=f"{LOG_TERMS}\nbeta = 1.7", forward="",
          backward=f"{WIRES} = score_wires(log_px, log_pz, log_qz, beta)",
          wire="f and baseline are (K, B).  The others of sample k are all samples but k: K - 1 "
               "of them.",
          index="baseline[k, n] = (sum over k of f[k, n] - _ _ _) / (K - 1);  "
                "score[k, n] = (f[k, n] - _ _ _) / (K B)",
          home=("estimators.py", "score"),
          learned="No gradient passes the sample; a baseline may use every sample but its own."),
    Wires("stl", "Sticking the landing",
          task="elbo-mc has a wire whose mean is 0: the score of log q.  Cutting it leaves the "
               "mean as it is, and at q = the true posterior no noise at all.  Fill in path and "
               "score.  Your weights are held to the package's, and their mean to the exact one.",
          page=wires, functions=("stl_wires",), gap=("path", "score"),
          arrays="beta = 1.7", forward="", backward=f"{WIRES} = stl_wires(K, B, beta)",
          wire="Both are (K, B).  What comes through z stays open; log q's own formula is cut.",
          index="path[k, n] = _ _ _ ;  score[k, n] = _ _ _",
          home=("estimators.py", "stl"),
          learned="E_q[grad log q] = 0, so a wire can be cut without a bias."),
    Rung("bound", "Several samples weighed: the bound L_K",
         task="L_K = log mean_k w_k with w_k = p(x, z_k) / q(z_k|x) lies between the ELBO and "
              "log p(x).  logw holds log w_k, and dbound comes from the loss.  Fill in share and "
              "dlogw; w is at hand, less its maximum.",
         page=wires, functions=("bound_forward", "bound_backward"), gap=("share", "dlogw"),
         given=("log_mean_exp",), arrays="logw = rng.standard_normal((K, B))",
         forward="bound = bound_forward(logw)", backward="dlogw = bound_backward(logw, dbound)",
         wire="Every logw[k, n] reached bound[n], so dbound is (B,) and dlogw is (K, B).  The "
              "shares of an image's K samples add up to 1.",
         index="share[k, n] = w[k, n] / sum over _ _ _ of w;  dlogw[k, n] = dbound[n] _ _ _",
         home=("estimators.py", "normalised"),
         learned="Backward of log-mean-exp is a softmax over the samples: the best sample teaches "
                 "most."),
    Wires("dreg", "DReG: the share once more",
          task="The weights of L_K, with the score rewritten as a path: decoder and latent carry "
               "each sample's share, and what reached z passes the sampling node times the share "
               "once more.  The score wire is cut.  Fill in the four.  They are held to the "
               "package's, and their mean to the exact one.",
          page=wires, functions=("dreg_wires",), gap=("decoder", "latent", "path", "score"),
          arrays=LOG_TERMS, forward="", objective="bound",
          backward=f"{WIRES} = dreg_wires(log_px, log_pz, log_qz)",
          wire="All four are (K, B), like share.  decoder and latent hold the 1/B of the mean "
               "over the batch; path is a gain, and holds none.",
          index="decoder = latent = share/_ _ _ ;  path = _ _ _ ;  score = _ _ _",
          home=("estimators.py", "dreg"),
          learned="A gain of share at the sampling node makes share squared, and the bias of "
                  "cutting the score is gone."),
    Wires("vimco", "VIMCO: a baseline from the other samples",
          task="The score function of L_K.  The baseline of sample k is L_K with log w_k replaced "
               "by the mean of the other log w, so it does not depend on sample k.  Fill in "
               "others, replaced, baseline and score; own is True where k meets itself.  Your "
               "weights are held to the package's, and their mean to the exact one.",
          page=wires, functions=("vimco_wires",),
          gap=("others", "replaced", "baseline", "score"), given=("log_mean_exp",),
          arrays=LOG_TERMS, forward="", objective="bound",
          backward=f"{WIRES} = vimco_wires(log_px, log_pz, log_qz)",
          wire="others and baseline are (K, B).  replaced is (K, K, B): for every k the K log "
               "weights, of which the k-th is replaced; log_mean_exp runs along axis 1.",
          index="others[k, n] = (sum over k of logw[k, n] - _ _ _) / (K - 1);  "
                "score = (bound - _ _ _ - share)/B",
          home=("estimators.py", "vimco"),
          learned="What a sample is worth is what the bound loses without it."),
    # --- training
    Steps("adam", "Adam",
          task="p and dp are dicts of parameters and their gradients; m and v hold the running "
               "means of the gradient (0.9 of the old) and of its square (0.999 of the old), and "
               "begin empty, as 0.  t is the step, from 1.  Fill in m, v, the two that undo the "
               "start at 0, and the step.  Your numbers are held to page 0's.",
          page=first, functions=("adam",), gap=("m[]", "v[]", "m_hat", "v_hat", "p[]"),
          arrays='p = {"W": rng.standard_normal((D, H)), "b": rng.standard_normal(H)}\n'
                 'dp = {"W": rng.standard_normal((D, H)), "b": rng.standard_normal(H)}\n'
                 "m, v, t = {}, {}, 1",
          forward="", backward="adam(p, dp, m, v, t)",
          wire="Every parameter has an m and a v of its own shape; m.get(name, 0) is 0 at first.  "
               "A step goes down the gradient.",
          index="m = 0.9 m + _ _ _ dp;  v = 0.999 v + 0.001 _ _ _ ;  m_hat = m / (1 - _ _ _);  "
                "p = p - lr m_hat / (_ _ _ + 1e-8)",
          home=("kernels.py", "adam"),
          learned="Adam divides each entry by its usual size: the step's length forgets the "
                  "gradient's scale."),
    *convolution_rungs.RUNGS,
]

for rung, following in zip(RUNGS, RUNGS[1:]):
    rung.next = f"Next: {following.name}."
RUNGS[-1].next = "That was the last one: minivae learn finish trains with what you wrote."

EXERCISES = {rung.name: rung for rung in RUNGS}
