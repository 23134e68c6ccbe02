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
    "y": "the layer's output",
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
        "`dy` says by how much the loss would rise if an output rose by one. The weight from "
        "input i to output j was multiplied by `x_i`, so its gradient is `x_i` times `dy_j`: each "
        "column of `dW` is the input again, scaled by one `dy_j`.",
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
        "The KL joins here. To each `dmu` that came through z it adds beta times `mu`, which "
        "pulls the mean to 0; to each `dlogvar` it adds beta times (e^logvar - 1) / 2, which "
        "pulls the std to 1. It goes to the encoder only: the decoder gets exactly 0 from the KL.",
    ),
    "sample": (
        "The sampling node: z = mu + std * eps",
        "A draw from q(z|x). The noise `eps` is drawn outside and comes in as data; `mu` and "
        "`std` only shift and stretch it. That makes z a smooth function of mu and logvar, and a "
        "gradient can pass.",
        "Here the gradient splits. Move `mu` and z moves with it, one to one: `dmu = dz`. Move "
        "`logvar` and std = e^(logvar/2) changes by half of itself, times `eps`: `dlogvar = dz * "
        "eps * std / 2`. No gradient goes to `eps`: noise is data, a dead end.",
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

# by name of node: its title, and what is added forward and backward
HEADS = {
    "to_mu": (
        "The head of mu",
        "It reads h and says where q(z|x) is.",
        "Its `dmu` is the sum of what came through z and what the KL added.",
    ),
    "to_logvar": (
        "The head of logvar",
        "It reads the same h and says how wide q(z|x) is, as log sigma^2.",
        "Its `dlogvar` is the sum of both, too. Both heads read h, so dh is the sum of what they "
        "send.",
    ),
}

# added to the words of a Dense layer that passes a gradient on
GATHERS = "Input i reached every output, so `dx_i` gathers from all of them."
# added to the words of the first layer of the decoder, and of the encoder
LAST_OF_THETA = (
    "This is the decoder's first layer: theta's gradients are final, nothing after this changes "
    "them. What goes on is `dz`."
)
FIRST_OF_PHI = (
    "This is the encoder's first layer: its input is the image, so `dx` is left out, and the walk "
    "is over."
)

# what each estimator holds constant
ESTIMATORS = {
    "elbo":
        "The standard one. The KL is integrated on paper, and its gradient goes straight to mu and "
        "logvar. The gradient of the reconstruction reaches them through z. log q and the prior "
        "have weight 0, because the KL contains both.",
    "elbo_mc":
        "Nothing is held constant: the KL is taken from the sample. phi changes log q(z|x) in two "
        "ways: it moves z, and its mu and logvar stand in the formula.",
    "stl":
        "\"Sticking the landing\": in log q(z|x) mu and logvar are held constant, z is not. The "
        "cut wire has mean 0, so the mean of the gradient stays, and at a perfect q its noise is "
        "gone.",
    "score":
        "z is held constant: the path is cut, no gradient passes from the decoder to the encoder. "
        "Instead log q(z|x) is pushed up or down by how good the sample turned out to be. True on "
        "average, and very noisy.",
    "score_analytic_kl":
        "z is held constant as in score, but the KL is integrated on paper. Only the "
        "reconstruction is learnt from by trial and error.",
    "iwae":
        "Four draws, weighted by how well each explains the image: the gradient of the tighter "
        "bound L_4. Nothing is held constant.",
    "iwae_stl":
        "As iwae, with mu and logvar held constant in log q(z|x). The cut wire does not average "
        "to 0 here, so this one is biased.",
    "dreg":
        "As iwae_stl, with the weight once more at the sampling node: that repairs the bias, and "
        "the noise stays low.",
    "rws":
        "The wake phase: z is held constant, and q is drawn towards the draws that explained the "
        "image best. For phi it is not a gradient of the bound, but of the KL the other way round.",
    "vimco":
        "z is held constant. Each draw is praised or blamed for what it added to the bound, "
        "judged against the other three.",
}

# what runs along each of the five wires
WIRES = {
    "decoder": "log p(x|z), to the decoder's parameters and to z",
    "latent": "log p(z) - log q(z|x), to z",
    "path": "all that reached z, on to mu and logvar: a gain, 1 is open",
    "score": "log q(z|x), straight to mu and logvar, z held fixed",
    "kl": "the KL integrated on paper, to mu and logvar",
}
