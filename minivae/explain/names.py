"""What everything in a pass is called: one name for one thing, as VAE.forward and backward say it.

A layer's own code calls what it takes x and what it gives y.  In the pass these are h and mu, or g
and logits.  A whole gradient is `d` and the name of its value.  Where several gradients meet, each
part has a suffix that says where it came from:

    dz = path * (dz_px + dz_pz + dz_qz)        log p(x|z), log p(z), log q(z|x)
    dmu = dmu_z + dmu_qz + dmu_kl              through z, from log q(z|x), from the KL
    dh = dh_mu + dh_logvar                     from the two heads

Coins have one head, so their dh has no parts; the logits a of the coins stand where mu stands.
"""

from __future__ import annotations

import re

from minivae.model import Model

# a node of the latent, and the suffix of the gradients that it passes on
SUFFIXES = {"sample": "_z", "kl": "_kl", "log_q": "_qz", "log_prior": "_pz"}


def output_name(vae: Model, node: str, symbol: str) -> str:
    """The name of what a node gives: h.0 of enc.0, h of the last of enc, mu of to_mu, ..

    symbol : what its code calls it; that is the name at the latent and the likelihood.
    """
    side, _, number = node.partition(".")
    if number:
        letter, stack = ("h", vae.enc) if side == "enc" else ("g", vae.dec)
        last = len(stack.layers) - 1
        return letter if int(number) == last else f"{letter}.{number}"
    return node.removeprefix("to_") if node.startswith("to_") else symbol


def names_of_inputs(vae: Model, node: str, symbols: tuple[str, ...]) -> dict[str, str]:
    """{what a node's code calls an input: the name of that value in the pass}."""
    names = {symbol: symbol for symbol in symbols}
    if node in SUFFIXES:                                   # the latent has these names already
        return names
    before = node_before(vae, node)
    taken = {"x": "x", "sample": "z"}.get(before) or output_name(vae, before, before)
    return names | {symbols[0]: taken}


def node_before(vae: Model, layer: str) -> str:
    """The name of the node whose output a layer takes; x for the image."""
    side, _, number = layer.partition(".")
    n_enc, n_dec = len(vae.enc.layers), len(vae.dec.layers)
    if number and int(number):
        return f"{side}.{int(number) - 1}"
    if layer == "likelihood":
        return vae.likelihood.out_name
    if side in vae.heads:
        return f"enc.{n_enc - 1}" if n_enc else "x"
    if side == "enc":
        return "x"
    return f"dec.{n_dec - 1}" if n_dec and side != "dec" else "sample"


def gradient_name(vae: Model, node: str, value: str) -> str:
    """The name of the gradient that a node passes on to one of the values it took."""
    if node in SUFFIXES:
        return f"d{value}{SUFFIXES[node]}"
    if node in vae.heads and len(vae.heads) > 1:
        return f"d{value}_{node.removeprefix('to_')}"
    return "dz_px" if value == "z" else f"d{value}"


def spoken(formula: str, names: dict[str, str]) -> str:
    """A formula in the symbols of a layer's code, said in the names of the pass."""
    return re.sub(r"[A-Za-z_]\w*", lambda word: names.get(word[0], word[0]), formula)
