"""What `minivae loss` does: print every plausible reading of the two numbers of a VAE's loss."""

import json

from minivae.learn.two_numbers import REASONS, Pair, readings_of


def print_readings(recon: float, kl: float, D: int, Z: int, B: int, as_json: bool) -> None:
    """Print the readings, a row for each `Pair`.   Raises what `readings_of` does."""
    pairs = readings_of(recon, kl, D, Z, B)
    if as_json:
        print(json.dumps([{**pair._asdict(), "recon": pair.recon._asdict(),
                           "kl": pair.kl._asdict()} for pair in pairs], indent=1))
        return
    print(f"recon {recon:g}, kl {kl:g}; {D} pixels, {Z} latents, {B} image{'s' * (B > 1)} a batch: "
          f"{len(pairs) or 'no'} reading{'s' * (len(pairs) != 1)}\n")
    if pairs:
        print("    beta  recon                pixels batch  kl        batch nats an image")
        print("\n".join(map(_row, pairs)))
        print("\nEach is added up over pixels (kl: over latents), then over the batch.")
        print("beta is the KL's weight beside a recon summed over the pixels; the ELBO has 1.")
        if any(way.factor < 0 for pair in pairs for way in (pair.recon, pair.kl)):
            print("A minus is a sign turned: a loss adds -log p(x|z) and +KL.")
    print(REASONS)
    print("Formulas, bits and a wrong variance show in arrays only: minivae.which_loss.")


def _row(pair: Pair) -> str:
    """One line of the table."""
    r, k = pair.recon, pair.kl
    formula = f"-({r.formula})" if r.factor < 0 else r.formula
    kl = "-" * (k.factor < 0) + k.inner
    return (f"{pair.beta:8.3g}  {formula:20} {r.inner:6} {r.batch:6} {kl:9} {k.batch:5} "
            f"{pair.recon_nats:.4g} + {pair.kl_nats:.4g}")
