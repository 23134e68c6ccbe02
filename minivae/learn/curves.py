"""Two loss curves as text: a picture and a table, within 80 columns.

A curve is a list of rows (loss, recon, kl), one for each epoch, in nats per image.
"""

from math import isfinite

HEIGHT = 9              # lines of the picture
APART = 5               # columns for an epoch


def picture(right: list, wrong: list) -> str:
    """The loss by epoch: o right, x with the fault, * where the two meet."""
    curves = [[row[0] for row in curve] for curve in (right, wrong)]
    values = [loss for curve in curves for loss in curve if isfinite(loss)]
    low, high = min(values), max(values)
    columns = APART * max(map(len, curves))
    canvas = [[" "] * columns for _ in range(HEIGHT)]
    for curve, mark in zip(curves, "ox"):
        for epoch, loss in enumerate(curve):
            if isfinite(loss):
                row = round((high - loss) / (high - low) * (HEIGHT - 1))
                met = canvas[row][APART * epoch + APART - 1] == "o"
                canvas[row][APART * epoch + APART - 1] = "*" if met and mark == "x" else mark
    labels = {0: f"{high:7.2f}", HEIGHT - 1: f"{low:7.2f}"}
    lines = [f"{labels.get(i, ''):7s} |{''.join(row)}".rstrip() for i, row in enumerate(canvas)]
    epochs = "".join(f"{epoch:{APART}d}" for epoch in range(1, columns // APART + 1))
    return "\n".join([*lines, f"        +{'-' * columns}", f"  epoch  {epochs}",
                      "         loss in nats per image: o right, x with the fault, * both"])


def table(right: list, wrong: list) -> str:
    """Loss, reconstruction and KL of some epochs."""
    last = max(len(right), len(wrong))
    lines = ["                 right                     with the fault",
             "  epoch     loss    recon       KL        loss    recon       KL"]
    for epoch in sorted({1, 2, 4, last // 2, last}):
        cells = ["".join(f"{number:9.2f}" for number in curve[epoch - 1])
                 if epoch <= len(curve) else f"{'stopped':>27s}" for curve in (right, wrong)]
        lines.append(f"  {epoch:5d}{cells[0]}   {cells[1]}")
    return "\n".join(lines)
