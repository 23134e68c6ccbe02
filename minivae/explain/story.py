"""The words of the page: what happens at each node, and what each estimator holds constant."""

# what the outputs of VAE.forward are
MEANINGS = {
    "x": "the image",
    "h": "what the encoder makes of the image",
    "mu": "the mean of q(z|x), per latent",
    "logvar": "the log variance of q(z|x), per latent",
    "eps": "the noise, drawn from N(0, 1)",
    "z": "the sampled latent",
    "g": "what the decoder makes of z",
    "logits": "one per pixel; sigmoid(logits) is the chance that it is 1",
    "log_px": "log p(x|z), nats",
    "kl": "KL(q || p), nats",
    "log_qz": "log q(z|x), nats",
    "log_pz": "log p(z), nats",
    "a": "the logits of the coins; sigmoid(a) is the chance that z is 1",
    "u": "the noise, drawn from U(0, 1)",
    "mean": "the mean of each pixel",
    "mean_raw": "mean and log variance of each pixel",
    "out": "what the decoder says of the pixels",
}

# by kind of node: its title, what is said forward, what is said backward
NODES = {
    "x": (
        "The image",
        "One image of the test set. The whole pass below is of this one image, so the batch size "
        "is 1 and no average hides anything.",
        "The walk ends. `x` is data: nobody can change the image, so nobody asks for `dx`. Every "
        "parameter of the encoder (phi) has its gradient now.",
    ),
    "Dense": (
        "a Dense layer",
        "Every output is a weighted sum of all inputs, plus a bias of its own.",
        "What arrives says by how much the loss would rise if an output rose by one. The weight "
        "from input i to output j was multiplied by input i, so its gradient is input i times what "
        "arrives at output j: each column of `dW` is the input again, scaled.",
    ),
    "Conv": (
        "a convolution",
        "The image is cut into patches of k x k pixels, P(x). Every output pixel is a Dense layer "
        "of its patch, and all patches share one W: each column of W is a filter.",
        "The two lines of a Dense layer, then the way back from patches to pixels. `dW` sums over "
        "all patches, because each of them used the same W. P only copied pixels, so P^T adds what "
        "came back: a pixel that was in four patches gets the sum of four numbers.",
    ),
    "ConvTranspose": (
        "a transposed convolution",
        "Every input pixel paints a patch of k x k pixels, and patches that overlap add up: P^T. "
        "It is the `dx` of a convolution, run forward, and leads from small images to large ones.",
        "What arrives is cut into patches, as a convolution cuts its input: the backward of the "
        "one is the forward of the other. Each input pixel gets the product of its patch with W, "
        "and `dW` sums over all patches.",
    ),
    "Reshape": (
        "a Reshape",
        "The same numbers in another shape: a row of pixels becomes an image, or an image a row.",
        "The same numbers again, in the shape that came in.",
    ),
    "Planes": (
        "the planes side by side",
        "Every pixel has one number for each plane, such as a mean and a log variance. The "
        "likelihood wants them one plane after the other.",
        "The same numbers, pixel by pixel again.",
    ),
    "ReLU": (
        "a ReLU",
        "Negative numbers become 0, the others pass.",
        "Where the unit was shut, nothing comes back: its gradient is 0. Where it was open, the "
        "gradient passes unchanged.",
    ),
    "Tanh": (
        "a Tanh",
        "Every number is squashed into (-1, 1).",
        "The slope of tanh is 1 - y^2: a unit near -1 or 1 is saturated and lets little through.",
    ),
    "Sigmoid": (
        "a Sigmoid",
        "Every number is squashed into (0, 1).",
        "The slope is y (1 - y), at most a quarter: a unit near 0 or 1 lets little through.",
    ),
    "Softplus": (
        "a Softplus",
        "A smooth max(x, 0).",
        "The slope is sigmoid(x): nearly 0 for very negative inputs, nearly 1 for large ones.",
    ),
    "kl": (
        "The KL: how far q(z|x) is from the prior",
        "The KL leaves the path here. It is integrated on paper, so it needs no sample, and it "
        "goes straight to the loss without passing the decoder.",
        "The KL joins here. Its `dmu_kl`, beta times `mu`, pulls the mean to 0; its `dlogvar_kl`, "
        "beta times (e^logvar - 1) / 2, pulls the std to 1. Each is added to what came through z: "
        "`dmu = dmu_z + dmu_kl`, `dlogvar = dlogvar_z + dlogvar_kl`. It goes to the encoder only: "
        "the decoder gets exactly 0 from the KL.",
    ),
    "sample": (
        "The sampling node: z = mu + std * eps",
        "A draw from q(z|x). The noise `eps` is drawn outside and comes in as data; `mu` and "
        "`std` only shift and stretch it. That makes z a smooth function of mu and logvar, and a "
        "gradient can pass.",
        "Here the gradient splits. Move `mu` and z moves with it, one to one: `dmu_z = dz`. "
        "Move `logvar` and std = e^(logvar/2) changes by half of itself, times `eps`: `dlogvar_z = "
        "dz * eps * std / 2`. No gradient goes to `eps`: noise is data, a dead end.",
    ),
    "log_q": (
        "log q(z|x): how likely this z was",
        "The log of the density that z was drawn from, at z.",
        "log q has two weights. `along_z` goes through z: z moves, and log q with it. `along_phi` "
        "goes straight to mu and logvar, with z held: the density moves, and z does not. An "
        "estimator may cut either one.",
    ),
    "log_prior": (
        "log p(z): how likely this z is under the prior",
        "The log of the prior's density, N(0, 1) for each latent, at z.",
        "It has no parameters. It only pulls z to 0, where the prior is largest.",
    ),
    "likelihood": (
        "The likelihood: how well the decoder explains the image",
        "log p(x|z), summed over the pixels: 0 would be perfect.",
        "The gradient of the image enters the network here, at each pixel by the difference "
        "between what the decoder painted and what the pixel is. The sign is turned: the loss "
        "falls when log p(x|z) rises, so `dlog_px` is -1.",
    ),
    "loss": (
        "The loss",
        "loss = recon + beta * kl, with recon = -log p(x|z). At beta = 1 it is -ELBO: minimising "
        "it maximises the ELBO.",
        "The walk back begins with d(loss)/d(loss) = 1. It goes two ways: `dlog_px = -1` to the "
        "likelihood, because recon is -log p(x|z), and `dkl = beta` to the KL, which lies behind "
        "the decoder and meets the rest again at mu and logvar.",
    ),
}

# the same for the nodes of a latent that is a row of coins; of a coin, and of its two stand-ins
COINS = {
    "kl": (
        "The KL: how far the coins are from fair ones",
        "The KL is integrated on paper: a coin has two faces, so the mean over them is a sum of "
        "two terms. It goes straight to the loss without passing the decoder.",
        "The KL joins here. Its `da_kl` pulls `a` to 0, where the coin is fair. It is added to "
        "what log q sent: `da = da_qz + da_kl`. It goes to the encoder only.",
    ),
    "log_q": (
        "log q(z|x): how likely these coins were",
        "The log of the chance that the coins fell as they did.",
        "No gradient came back through z. What comes here is one number for each draw, "
        "`along_phi`: how well this draw explained the image, compared with what one expected, or "
        "with the other draws. Times `z - sigmoid(a)` it is `da_qz`. If the draw was better, the "
        "coins become likelier to fall this way; if it was worse, less likely.",
    ),
    "log_prior": (
        "log p(z): the prior's coins are fair",
        "Every row of Z coins has the same chance, 2^-Z.",
        "It is the same for every z, so it has no gradient.",
    ),
}
BOUND_OF_COINS = (
    "The loss is -L_K, a bound on -log p(x) from all draws together: each tosses all coins once.",
    "The walk back begins with d(loss)/d(loss) = 1. `dlog_px` goes to the likelihood. The path "
    "from z to the encoder is missing, because a coin is a step. In its place log q gets a weight "
    "for each draw, which comes from a comparison with the other draws.",
)
LOSS_OF_COINS = (
    "The loss is the mean over the draws: each draw tosses all coins once.",
    "The walk back begins with d(loss)/d(loss) = 1. `dlog_px` goes to the likelihood. The path "
    "from z to the encoder is missing, because a coin is a step. In its place log q gets a weight "
    "for each draw: f - b. f is how well the draw did. b, the baseline, is how well one expected "
    "it to do, and it does not depend on this draw. b changes how noisy the gradient is, and not "
    "its mean.",
)
SAMPLES = {
    "bernoulli": (
        "The sampling node: toss the coins",
        "z is 1 where the noise `u` is above sigmoid(-a), else 0; so it is 1 with the chance "
        "sigmoid(a). Move `a` a little, and almost every coin stays as it fell.",
        "",
    ),
    "concrete": (
        "The sampling node: a soft coin",
        "A smooth function stands in for the step. z lies between 0 and 1, near the face on which "
        "the coin would fall; a low temperature brings it nearer.",
        "A gradient passes, because z is smooth in `a`. It is biased for a model of coins: the "
        "decoder was shown a z that no coin can have.",
    ),
    "straight-through": (
        "The sampling node: a coin, and on the way back a line",
        "z is 1 where the noise `u` is above sigmoid(-a), else 0, as of a coin.",
        "The step has slope 0. This node goes back as if z had been sigmoid(a). That is not the "
        "derivative of what forward did, so it is biased.",
    ),
}

# what the walk says before the numbers of a coin: first for f - b, then for other weights
COIN = (
    "Why no gradient passes a coin: z is 1 where u > sigmoid(-a), else 0. Move a by a little, and "
    "z stays what it is: its slope is 0. What takes the place of the path: log q(z|x), the log of "
    "the chance that the coins fell this way. It is smooth in a, and its slope is z - sigmoid(a)."
)
SCORE_OF_COIN = (
    "For each draw this slope is multiplied by one number, f - b. f says how well the draw did, "
    "and the baseline b how well one expected it to do. A draw that did better than b becomes "
    "likelier."
)
WEIGHTS_OF_COIN = (
    "For each draw this slope is multiplied by one number, which comes from a comparison of the "
    "draws."
)
STEP = "a coin is a step: slope 0, no gradient passes"

# by name of node: its title, and what is added forward and backward
HEADS = {
    "to_mu": (
        "The head of mu",
        "It reads h and says where q(z|x) is.",
        "Its `dmu` is the sum of what came through z and what the KL added.",
    ),
    "to_a": (
        "The head of the coins",
        "It reads h and gives the logit `a` of each coin: sigmoid(a) is the chance of a 1.",
        "Its `da` is the sum of all that reached a.",
    ),
    "to_logvar": (
        "The head of logvar",
        "It reads the same h and says how wide q(z|x) is, as log sigma^2.",
        "Its `dlogvar` is the sum of both, too. Both heads read h, so `dh = dh_mu + dh_logvar`.",
    ),
}

# added to the words of a Dense layer that passes a gradient on
GATHERS = "Input i reached every output, so its gradient gathers from all of them."
# added to the words of the first layer of the decoder, and of the encoder
LAST_OF_THETA = (
    "This is the decoder's first layer: theta's gradients are final, nothing after this changes "
    "them. What goes on is `dz`."
)
LAST_OF_THETA_OF_COINS = (
    "This is the decoder's first layer, and its gradients are final. The walk through the decoder "
    "ends: z fell as a coin falls. Move `a` a little and z stays, so its slope is 0 and nothing "
    "can pass. What takes the place of the path is log q(z|x), on the next card."
)
FIRST_OF_PHI = (
    "This is the encoder's first layer: its input is the image, so `dx` is left out, and the walk "
    "is over."
)

# what each estimator holds constant
ESTIMATORS = {
    "elbo":
        "Held constant: the image x and the noise eps, nothing else. The KL is integrated on "
        "paper, and its gradient goes straight to mu and logvar. The gradient of the "
        "reconstruction reaches them through z. log q and the prior have weight 0, because the KL "
        "contains both.",
    "elbo_mc":
        "Held constant: x and eps, nothing else. The KL is taken from the sample, log q - log p. "
        "phi changes log q(z|x) in two ways: it moves z, and its mu and logvar stand in the "
        "formula.",
    "stl":
        "Held constant: x, eps, and the mu and logvar that stand in the formula of log q(z|x); z "
        "still moves with them. It is called \"sticking the landing\". The cut wire has mean 0, "
        "so the mean of the gradient stays. At a perfect q its noise is gone.",
    "score":
        "Held constant: x and z. The path is cut: no gradient passes from the decoder to the "
        "encoder. Instead log q(z|x) is pushed up or down by how good the sample turned out to "
        "be. True on average, and very noisy.",
    "score_analytic_kl":
        "Held constant: x and z, as in score. But the KL is integrated on paper, so only the "
        "reconstruction is learnt from by trial and error.",
    "iwae":
        "Held constant: x and eps, nothing else. Four draws are weighted by how well each "
        "explains the image: the gradient of the tighter bound L_4.",
    "iwae_stl":
        "Held constant: x, eps, and the mu and logvar in the formula of log q(z|x). The rest is as "
        "in iwae. The cut wire does not average to 0 here, so this one is biased.",
    "dreg":
        "Held constant: x, eps, and the mu and logvar in the formula of log q(z|x). At the "
        "sampling node the gradient is multiplied by the weight of its draw once more: that "
        "repairs the bias of iwae_stl, and the noise stays low.",
    "rws":
        "Held constant: x and z. This is the wake phase: q is drawn towards the draws that "
        "explained the image best. For phi it is not a gradient of the bound, but of the KL the "
        "other way round.",
    "vimco":
        "Held constant: x and z. Each draw is praised or blamed for what it added to the bound, "
        "judged against the other three.",
    "disarm":
        "Held constant: x and z. Two rows of coins are tossed with opposite noise, u and 1 - u. "
        "Each is the other's baseline, and a coin counts only where the two fell apart.",
}
# of the estimators that are no derivative: those whose mean is not the gradient either
BIASED = ("iwae_stl", "rws")

# what runs along each of the five wires
WIRES = {
    "decoder": "log p(x|z), to the decoder's parameters and to z",
    "latent": "log p(z) - log q(z|x), to z",
    "path": "all that reached z, on to mu and logvar: a gain, 1 is open",
    "score": "log q(z|x), straight to mu and logvar, z held fixed",
    "kl": "the KL integrated on paper, to mu and logvar",
}
