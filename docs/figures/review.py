"""Takes the picture of the review page: of the frames that wait in a phantom workspace, the one with most masks.

sono-curate phantom phantoms --exams 8 --seed 1, ingest, qc and caption it, masks import --predicted its masks, then
python docs/figures/review.py WORKSPACE
"""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

SIZE = {"width": 1440, "height": 900}
QUEUE = "api/queue?limit=64"


def main(workspace: Path, picture: Path) -> None:
    command = ["sono-curate", "review", str(workspace), "--reviewer", "anna", "--no-open", "--backend", "grabcut"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server, sync_playwright() as driver:
        assert server.stdout
        address = server.stdout.readline().removeprefix("Review at ").strip()
        browser = driver.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-background-networking"]
        )
        page = browser.new_page(viewport=SIZE, color_scheme="light")
        page.goto(address)
        page.wait_for_selector("#question:not([hidden])")
        for _ in range(place_of_most(page)):
            shown = page.get_attribute("#stage", "data-frame")
            page.keyboard.press("Space")
            while page.get_attribute("#stage", "data-frame") == shown:
                page.wait_for_timeout(20)
        page.wait_for_timeout(1000)
        page.screenshot(path=picture)
        browser.close()
        server.send_signal(signal.SIGINT)
    colours = Image.open(picture).convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    colours.save(picture, optimize=True)


def place_of_most(page: Any) -> int:
    """How many frames come before the one with most masks."""
    asked = f"fetch(new URL('{QUEUE}', document.baseURI)).then((answer) => answer.json())"
    counts = [len(item["regions"]) for item in page.evaluate(asked)["items"]]
    return counts.index(max(counts))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(__file__).with_suffix(".png"))
