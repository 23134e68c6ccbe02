"""Record the README's first picture from the page itself: the orange front on its way.

    python docs/record_page.py [RUN]

writes demos/pictures/explain.gif, a loop, and demos/pictures/explain.png, its last picture, for
those who prefer reduced motion.  Chromium and chromedriver must be installed.
"""

import base64
import io
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from browser import Browser  # noqa: E402

from minivae.explain.page import explain  # noqa: E402

IMAGE = 1                                # a seven that one can read
WIDTH, HEIGHT = 1100, 900
FRAMES, SECONDS = 64, 8                  # of the front; the finished pass then stays for a while
STAYS = 3                                # seconds
COLOURS = 160                            # the page is flat: more would only store blurred edges
# the front at time t, and each sentence lit once it has come true
SHOW = """
const t = arguments[0], said = moments(), at = timetable().at;
paintFront(t);
document.querySelectorAll(".moments li").forEach((item, i) =>
  item.classList.toggle("waits", t < Math.min(i ? at[said[i].from] ?? 1 : 0.02, 0.999)));
"""
# of the page: the graph and the five sentences, without the buttons between them
PREPARE = """
const rest = document.querySelectorAll("header, #controls, #card .buttons, figcaption");
for (const e of rest) e.remove();
document.querySelector("#graph").style.marginTop = "12px";
const box = document.querySelector("#card").getBoundingClientRect();
return Math.ceil(box.bottom + 12);
"""


def frames(page: Path) -> list[Image.Image]:
    """One picture of the page for each moment of the front, and one of its end."""
    browser = Browser()
    try:
        browser.resize(WIDTH, HEIGHT, prefers_color_scheme="light", prefers_reduced_motion="reduce")
        browser.open(page)
        browser.click("[data-ask=direction]")
        height = browser.run(PREPARE)
        browser.run("scrollTo(0, 0)")
        clip = {"x": 0, "y": 0, "width": WIDTH, "height": height, "scale": 1}
        taken = []
        for t in np.linspace(0, 1, FRAMES + 1):
            browser.run(SHOW, float(t))
            browser.run("document.getAnimations().forEach(a => a.finish())")
            shot = browser.chrome("Page.captureScreenshot", format="png", clip=clip)["data"]
            taken.append(Image.open(io.BytesIO(base64.b64decode(shot))).convert("RGB"))
        return taken
    finally:
        browser.close()


def main(run: str | None) -> None:
    """Write the loop and the still."""
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "page.html"
        explain(run, IMAGE, str(page))
        taken = frames(page)
    pictures = ROOT / "demos" / "pictures"
    taken[-1].quantize(COLOURS).save(pictures / "explain.png", optimize=True)
    both = Image.fromarray(np.concatenate([np.asarray(taken[0]), np.asarray(taken[-1])]))
    palette = both.quantize(COLOURS, dither=Image.Dither.NONE)     # blue and orange alike
    flat = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in taken]
    each = 1000 * SECONDS // FRAMES
    flat[0].save(pictures / "explain.gif", save_all=True, append_images=flat[1:], loop=0,
                 duration=[each] * FRAMES + [1000 * STAYS], optimize=True)
    for name in ("explain.gif", "explain.png"):
        print(f"wrote {pictures / name} ({(pictures / name).stat().st_size / 1e6:.2f} MB)")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
