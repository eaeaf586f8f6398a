"""Masks travel as COCO run lengths: the page codes them exactly as pycocotools does, both ways."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from sono.manifests import masks

Mask = npt.NDArray[np.bool_]

ENCODE = """async (masks) => {
  const { encode } = await import("/static/rle.js");
  return masks.map(({ bits, width, height }) =>
    encode(Uint8Array.from(atob(bits), (byte) => byte.charCodeAt(0)), width, height));
}"""

DECODE = """async (rles) => {
  const { decode } = await import("/static/rle.js");
  return rles.map((rle) => {
    const bits = decode(rle);
    let text = "";
    for (let at = 0; at < bits.length; at += 4096) text += String.fromCharCode(...bits.subarray(at, at + 4096));
    return btoa(text);
  });
}"""


def random_masks() -> list[Mask]:
    """Empty, full, thin, of single pixels, with holes and specks, in many shapes."""
    random = np.random.default_rng(15)
    found: list[Mask] = []
    for height, width in [(1, 1), (1, 9), (9, 1), (2, 3), (31, 17), (64, 64), (200, 260), (333, 127)]:
        found += [np.zeros((height, width), bool), np.ones((height, width), bool)]
        for density in (0.01, 0.2, 0.5, 0.9):
            found.append(random.random((height, width)) < density)
        one = np.zeros((height, width), bool)
        one[random.integers(height), random.integers(width)] = True
        found += [one, ~one]
        y, x = np.mgrid[:height, :width]
        distance = np.hypot((y - height / 2) / max(height, 2), (x - width / 2) / max(width, 2))
        found += [(distance < 0.4) & (distance > 0.2), np.broadcast_to(x % 2 == 0, (height, width)).copy()]
        found.append(np.broadcast_to(y % 3 == 0, (height, width)).copy())
    return found


def test_masks_are_encoded_as_pycocotools_encodes_them(modules: Any) -> None:
    drawn = random_masks()
    sent = [
        {"bits": base64.b64encode(mask.tobytes()).decode(), "width": mask.shape[1], "height": mask.shape[0]}
        for mask in drawn
    ]
    assert modules.evaluate(ENCODE, sent) == [masks.encode(mask) for mask in drawn]


def test_masks_are_decoded_to_the_same_pixels(modules: Any) -> None:
    drawn = random_masks()
    answers = modules.evaluate(DECODE, [masks.encode(mask) for mask in drawn])
    for mask, answer in zip(drawn, answers, strict=True):
        assert base64.b64decode(answer) == mask.tobytes()


def test_a_mask_of_twelve_megapixels_is_coded_in_a_worker_and_exact(modules: Any) -> None:
    mask = np.zeros((3000, 4000), bool)
    mask[500:2500, 700:3300] = True
    mask[1000:1100, 1000:1100] = False
    there_and_back = """async (rle) => {
      const { decodeMask, encodeMask } = await import("/static/coding.js");
      const bits = await decodeMask(rle);
      return encodeMask(bits, rle.size[1], rle.size[0]);
    }"""
    assert modules.evaluate(there_and_back, masks.encode(mask)) == masks.encode(mask)


def test_a_large_mask_is_coded_even_if_no_worker_can_be_loaded(modules: Any) -> None:
    mask = np.zeros((1100, 1000), bool)
    mask[200:900, 300:700] = True
    modules.route("**/rle_worker.js", lambda route: route.abort())
    coded = modules.evaluate(
        """async (rle) => {
          const { decodeMask, encodeMask } = await import("/static/coding.js?without");
          const bits = await decodeMask(rle);
          const wrong = await decodeMask({ ...rle, counts: "0" }).catch(({ name }) => name);
          return [await encodeMask(bits, rle.size[1], rle.size[0]), wrong];
        }""",
        masks.encode(mask),
    )
    modules.unroute("**/rle_worker.js")
    assert coded == [masks.encode(mask), "RangeError"]


def test_the_worker_is_loaded_before_it_is_needed(modules: Any) -> None:
    with modules.expect_event("worker", timeout=10_000):
        modules.evaluate("() => import('/static/coding.js?anew').then(() => null)")


@pytest.mark.parametrize(
    "rle",
    [
        {"size": [4, 4], "counts": "0"},  # covers nothing
        {"size": [4, 4], "counts": "0a0"},  # covers more
        {"size": [4, 4], "counts": "o"},  # the number goes on, and does not
        {"size": [4, 4], "counts": "~"},
        {"size": [4, 4], "counts": ""},
        {"size": [4, 4], "counts": "oooooooooooo0"},  # longer than any number
    ],
)
def test_runs_that_do_not_cover_the_image_are_refused(modules: Any, rle: dict[str, object]) -> None:
    decode = """async (rle) => {
      const { decode } = await import("/static/rle.js");
      try { decode(rle); return "decoded"; } catch (error) { return error.name; }
    }"""
    assert modules.evaluate(decode, rle) == "RangeError"
