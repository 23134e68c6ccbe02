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
    part, _, number = node.partition(".")
    if part not in parts_of(vae):
        return symbol
    given = {"enc": "h", "dec": "g"}.get(part) or part.removeprefix("to_")
    return given if node == nodes_of(vae, part)[-1] else f"{given}.{number}"


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
    part, _, number = layer.partition(".")
    out = vae.likelihood.out_name
    if number and int(number):
        return f"{part}.{int(number) - 1}"
    below = {"likelihood": ["sample", "dec", out], out: ["sample", "dec"], "dec": ["sample"],
             "enc": ["x"]}.get(part, ["x", "enc"])
    return [below[0], *(node for name in below[1:] for node in nodes_of(vae, name))][-1]


def parts_of(vae: Model) -> list[str]:
    """enc, the heads, dec, and the decoder's last part, by the name that its nodes have."""
    return ["enc", *vae.heads, "dec", vae.likelihood.out_name]


def nodes_of(vae: Model, part: str) -> list[str]:
    """The nodes of one part: enc.0, enc.1, .. of a Sequential, else the part's own name."""
    return [name for name, _ in vae.named_layers() if name.partition(".")[0] == part]


def heads_of(vae: Model) -> list[str]:
    """The nodes that give mu and logvar, or a: to_mu, or the last one of several in its place."""
    return [nodes_of(vae, head)[-1] for head in vae.heads]


def first_of_theta(vae: Model) -> str:
    """The decoder's first node, the last one of it to hear of the loss."""
    return [*nodes_of(vae, "dec"), *nodes_of(vae, vae.likelihood.out_name)][0]


def gradient_name(vae: Model, node: str, value: str) -> str:
    """The name of the gradient that a node passes on to one of the values it took."""
    if node in SUFFIXES:
        return f"d{value}{SUFFIXES[node]}"
    head = node.partition(".")[0]
    if len(vae.heads) > 1 and head in vae.heads and node == nodes_of(vae, head)[0]:
        return f"d{value}_{head.removeprefix('to_')}"
    return "dz_px" if value == "z" else f"d{value}"


def spoken(formula: str, names: dict[str, str]) -> str:
    """A formula in the symbols of a layer's code, said in the names of the pass."""
    return re.sub(r"[A-Za-z_]\w*", lambda word: names.get(word[0], word[0]), formula)
