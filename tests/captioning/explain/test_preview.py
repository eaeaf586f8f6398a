"""A preview shows captions with the source of each fact, and writes nothing."""

from __future__ import annotations

import pytest

from sono.manifests.errors import UserError

HEADER = "patient_id,study_id,plane,ga_days,hc_mm,structures_seen"


@pytest.mark.slow
def test_a_preview_shows_each_fact_with_its_source_and_writes_nothing(clinic):
    from sono.captioning.explain.preview import preview
    from sono.captioning.explain.text import preview_text

    # Many frames: the workspace's key, which is random, decides which template each gets.
    planes = [(plane, number) for plane in ("transthalamic", "femur", "nt") for number in range(8)]
    clinic.frames("one", *[clinic.frame(f"{plane}{number}", plane) for plane, number in planes])
    clinic.caption(clinic.csv(HEADER, "PAT-1,1.2.840.1,,150,,"))
    before = clinic.written()
    examples = preview(clinic.workspace, 12, templates="en")
    assert len({example.facts["plane"]["value"] for example in examples}) >= 2
    assert len({example.template for example in examples}) >= 2
    assert clinic.written() == before
    text = preview_text(examples[0])
    assert "from column ga_days" in text.plain
    week = text.plain.index("21")
    assert any(span.start <= week < span.end and "yellow" in str(span.style) for span in text.spans)


def test_a_preview_without_a_record_says_what_to_do(clinic):
    from sono.captioning.explain.preview import preview

    clinic.frames("one", clinic.frame("a"))
    with pytest.raises(UserError, match=r"no frame would get a caption.*run sono-curate caption with --records first"):
        preview(clinic.workspace, 3)
