"""Takes the README's picture of the demo's page, from what the model sees to how it is scored.

make demo && .venv/bin/python docs/figures/demo.py demo/index.html
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

WIDTH_PX, MARGIN_PX = 928, 16
FIRST = "h2:text-is('What the model sees')"
LAST = "h2:text-is('What do masks change, and what do they give away?') ~ div.wide"


def main(page_file: Path, picture: Path) -> None:
    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-background-networking"]
        )
        page = browser.new_page(viewport={"width": WIDTH_PX, "height": 1000})
        page.goto(page_file.resolve().as_uri())
        first, last = (page.locator(place).first.bounding_box() for place in (FIRST, LAST))
        assert first, "the page has no frames"
        assert last, "the page has no table of scores"
        top, bottom = first["y"] - MARGIN_PX, last["y"] + last["height"] + MARGIN_PX
        clip = {"x": 0, "y": top, "width": WIDTH_PX, "height": bottom - top}
        page.screenshot(path=picture, full_page=True, clip=clip)
        browser.close()
    colours = Image.open(picture).convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    colours.save(picture, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(__file__).with_suffix(".png"))
