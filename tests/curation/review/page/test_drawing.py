"""What is drawn is what is stored: strokes, polygons, outlines and steps back, to the pixel."""

from __future__ import annotations

from typing import Any

import numpy as np

BITMAP = 'const { Bitmap } = await import("/static/bitmap.js");'


def test_a_stroke_covers_the_pixels_whose_centres_the_brush_passes_over(modules: Any) -> None:
    drawn = modules.evaluate(
        f"""async () => {{ {BITMAP}
          const bitmap = new Bitmap(40, 30);
          bitmap.stroke({{ x: 8, y: 9 }}, {{ x: 31.5, y: 22 }}, 4.5, 1);
          return [...bitmap.bits];
        }}"""
    )
    y, x = np.mgrid[:30, :40] + 0.5
    direction = np.array([23.5, 13.0])
    along = (((x - 8) * 23.5 + (y - 9) * 13.0) / (direction @ direction)).clip(0, 1)
    expected = np.hypot(x - 8 - along * 23.5, y - 9 - along * 13.0) <= 4.5
    np.testing.assert_array_equal(np.array(drawn).reshape(30, 40) == 1, expected)


def test_a_stroke_over_the_edge_stays_in_the_image(modules: Any) -> None:
    corners = modules.evaluate(
        f"""async () => {{ {BITMAP}
          const bitmap = new Bitmap(20, 10);
          const area = bitmap.stroke({{ x: -5, y: -5 }}, {{ x: 30, y: 20 }}, 3, 1);
          const outside = bitmap.stroke({{ x: 200, y: 200 }}, {{ x: 210, y: 200 }}, 3, 1);
          return [area, outside, bitmap.bits.length];
        }}"""
    )
    assert corners == [{"x": 0, "y": 0, "width": 20, "height": 10}, None, 200]


def test_the_smallest_brush_draws_one_pixel(modules: Any) -> None:
    count = modules.evaluate(
        f"""async () => {{ {BITMAP}
          const bitmap = new Bitmap(9, 9);
          bitmap.stroke({{ x: 4.5, y: 4.5 }}, {{ x: 4.5, y: 4.5 }}, 0.5, 1);
          return [bitmap.count(), bitmap.at(4, 4)];
        }}"""
    )
    assert count == [1, 1]


def test_a_polygon_fills_by_the_even_odd_rule(modules: Any) -> None:
    star = [[20, 2], [32, 38], [2, 15], [38, 15], [8, 38]]
    drawn = modules.evaluate(
        f"""async (star) => {{ {BITMAP}
          const bitmap = new Bitmap(40, 40);
          bitmap.fill(star.map(([x, y]) => ({{ x, y }})), 1);
          return [...bitmap.bits];
        }}""",
        star,
    )
    y, x = np.mgrid[:40, :40] + 0.5
    inside = np.zeros((40, 40), bool)
    for (x1, y1), (x2, y2) in zip(star, star[1:] + star[:1], strict=True):
        crosses = (y1 <= y) != (y2 <= y)
        inside ^= crosses & (x < x1 + (y - y1) * (x2 - x1) / (y2 - y1 if y1 != y2 else 1))
    np.testing.assert_array_equal(np.array(drawn).reshape(40, 40) == 1, inside)


def test_the_exact_outline_encloses_exactly_the_mask(modules: Any) -> None:
    wrong = modules.evaluate(
        f"""async () => {{ {BITMAP}
          const {{ outline }} = await import("/static/outline.js");
          const context = document.createElement("canvas").getContext("2d");
          let seed = 7, wrong = 0;
          for (const share of [0.03, 0.5, 0.9, 1]) {{
            const bitmap = new Bitmap(24, 17);
            for (let at = 0; at < bitmap.bits.length; at += 1) {{
              seed = (seed * 48271) % 2147483647;
              bitmap.bits[at] = seed / 2147483647 < share ? 1 : 0;
            }}
            const path = outline(bitmap, false);
            for (let y = 0; y < 17; y += 1) for (let x = 0; x < 24; x += 1)
              if (context.isPointInPath(path, x + 0.5, y + 0.5, "evenodd") !== (bitmap.at(x, y) === 1)) wrong += 1;
          }}
          return wrong;
        }}"""
    )
    assert wrong == 0


def test_every_step_of_a_drawing_can_be_taken_back_and_repeated(modules: Any) -> None:
    counts = modules.evaluate(
        f"""async () => {{ {BITMAP}
          const {{ Draft }} = await import("/static/draft.js");
          const draft = new Draft(new Bitmap(60, 40));
          const counts = [draft.bitmap.count()];
          for (let n = 0; n < 50; n += 1) {{
            draft.begin();
            draft.extend(draft.bitmap.stroke({{ x: n, y: 20 }}, {{ x: n + 3, y: 5 + n / 2 }}, 3, n % 3 ? 1 : 0));
            draft.commit("brush");
            counts.push(draft.bitmap.count());
          }}
          const back = [], forth = [];
          do back.unshift(draft.bitmap.count()); while (draft.undo());
          do forth.push(draft.bitmap.count()); while (draft.redo());
          return [counts, back, forth, draft.used];
        }}"""
    )
    assert counts[0] == counts[1] == counts[2]
    assert counts[3] == ["brush"]


def test_answers_to_one_gesture_are_one_step(modules: Any) -> None:
    counts = modules.evaluate(
        f"""async () => {{ {BITMAP}
          const {{ Draft }} = await import("/static/draft.js");
          const draft = new Draft(new Bitmap(30, 30));
          const gesture = {{}};
          for (const side of [4, 8, 12]) {{
            const answer = new Bitmap(30, 30);
            answer.fill([{{ x: 0, y: 0 }}, {{ x: side, y: 0 }}, {{ x: side, y: side }}, {{ x: 0, y: side }}], 1);
            draft.replace(answer, {{ tool: "box", gesture, prompts: {{ box: {{ side }}, points: [] }} }});
          }}
          const counts = [draft.bitmap.count()];
          draft.undo();
          return [...counts, draft.bitmap.count(), draft.prompts.box, draft.canUndo];
        }}"""
    )
    assert counts == [144, 0, None, False]


def test_a_stroke_that_is_abandoned_leaves_nothing(modules: Any) -> None:
    left = modules.evaluate(
        f"""async () => {{ {BITMAP}
          const {{ Draft }} = await import("/static/draft.js");
          const draft = new Draft(new Bitmap(30, 30));
          draft.begin();
          draft.extend(draft.bitmap.stroke({{ x: 5, y: 5 }}, {{ x: 20, y: 20 }}, 4, 1));
          draft.abandon();
          return [draft.bitmap.count(), draft.canUndo, draft.changed];
        }}"""
    )
    assert left == [0, False, False]


def test_the_point_under_the_pointer_stays_there_while_zooming(modules: Any) -> None:
    places = modules.evaluate(
        """async () => {
          const { View } = await import("/static/view.js");
          const view = new View();
          view.setStage(800, 600);
          view.setImage(1000, 500);
          const fitted = [view.toStage({ x: 0, y: 0 }).x, view.toStage({ x: 1000, y: 0 }).x];
          const before = view.toImage({ x: 300, y: 280 });
          view.zoom(3, 300, 280);
          const after = view.toImage({ x: 300, y: 280 });
          return [fitted, Math.abs(before.x - after.x) < 1e-9, Math.abs(before.y - after.y) < 1e-9];
        }"""
    )
    assert places == [[12, 788], True, True]


def test_structures_of_a_frame_have_different_colours_and_keep_them_on_the_next(modules: Any) -> None:
    colours = modules.evaluate(
        """async () => {
          const { coloursOf } = await import("/static/colours.js");
          const plane = ["head", "falx", "thalami", "cerebellum"];
          const one = coloursOf(plane, ["falx", "head", "spine"]);
          const other = coloursOf(plane, ["head", "thalami", "falx"]);
          const kept = ["head", "falx"].map((id) => one.get(id) === other.get(id));
          return [new Set(one.values()).size, ...kept];
        }"""
    )
    assert colours == [3, True, True]
