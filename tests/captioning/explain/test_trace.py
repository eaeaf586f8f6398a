"""A trace leads from a caption to the lines of the records that it was made from."""

from __future__ import annotations

import datetime

import pytest

from sono.manifests.errors import UserError
from sono.manifests.schemas import CAPTIONS

HEADER = "patient_id,study_id,plane,ga_days,hc_mm,structures_seen"


def traced(clinic, frame, fact):
    """Line and field of the statements behind one fact of a frame's caption."""
    from sono.captioning.explain.trace import trace

    found = trace(clinic.workspace, frame["frame_id"])
    return [
        (statement.place.split(" of ")[0], statement.fact)
        for traced_fact in found.facts
        if traced_fact.name == fact
        for statement in traced_fact.statements
    ]


def test_a_caption_leads_back_to_the_lines_of_the_records(clinic):
    from sono.captioning.explain.text import trace_text
    from sono.captioning.explain.trace import trace

    frame = clinic.frame("a")
    clinic.frames("one", frame, clinic.frame("b"))
    clinic.regions("one", clinic.region(frame, "head"))
    lines = ["PAT-1,1.2.840.1,,150,,", "PAT-1,1.2.840.1,TT,,,thalami", "PAT-1,1.2.840.1,FL,,,femur"]
    clinic.caption(clinic.csv(HEADER, *lines))
    for row in clinic.rows(CAPTIONS):
        found = trace(clinic.workspace, row["caption_id"])
        assert (found.text, found.caption_id) == (row["text"], row["caption_id"])
        age = next(fact for fact in found.facts if fact.name == "ga_days")
        assert [(said.place, said.value) for said in age.statements] == [("line 2 of records file 1", 150)]
        assert "line 2 of records file 1, column ga_days: ga_days 150" in trace_text(found).plain
        assert found.template_text.startswith("{{ article }} {{ ga }}-week fetal ultrasound")
    whole = trace(clinic.workspace, next(r["caption_id"] for r in clinic.rows(CAPTIONS) if r["region_id"] is None))
    shown = next(fact for fact in whole.facts if fact.name == "structures")
    assert [said.value for said in shown.statements] == ["thalami"]
    with pytest.raises(UserError, match="no caption has this id"):
        trace(clinic.workspace, "abc")


def test_an_age_leads_back_to_the_measurement_even_from_other_planes(clinic):
    femur = clinic.frame("b", plane="femur")
    clinic.frames("one", clinic.frame("a"), femur)
    clinic.caption(clinic.csv(HEADER, "PAT-1,1.2.840.1,TT,,175,thalami"))
    assert traced(clinic, femur, "ga_days") == [("line 2", "hc_mm")]
    assert traced(clinic, femur, "structures") == []


def test_a_trace_shows_the_records_that_were_matched_and_no_others(clinic):
    first, second, only = (
        clinic.frame("a", study="1.1"),
        clinic.frame("b", study="2.2"),
        clinic.frame("c", study="3.3", patient="PAT-2"),
    )
    clinic.frames("one", first, second, only)
    lines = ["PAT-1,1.1,150,", "PAT-1,2.2,157,", "PAT-1,,164,", "PAT-2,,171,2024-05-31"]
    clinic.caption(clinic.csv("patient_id,study_id,ga_days,exam_date", *lines))
    assert traced(clinic, first, "ga_days") == [("line 2", "ga_days")]
    assert traced(clinic, second, "ga_days") == [("line 3", "ga_days")]
    assert traced(clinic, only, "ga_days") == [("line 5", "ga_days")]


def test_an_age_leads_back_to_the_due_date_of_another_examination(clinic):
    day = datetime.date(2024, 5, 31)
    first = clinic.frame("a", study="1.1", date=day)
    second = clinic.frame("b", study="2.2", date=day + datetime.timedelta(days=14))
    clinic.frames("one", first, second)
    clinic.caption(clinic.csv("patient_id,study_id,edd", "PAT-1,1.1,2024-10-04", "PAT-1,2.2,"))
    assert traced(clinic, first, "ga_days") == traced(clinic, second, "ga_days") == [("line 2", "edd_day")]


def test_a_trace_does_not_need_the_pack_that_the_configuration_names(clinic):
    from sono.captioning.explain.trace import trace

    frame = clinic.frame("a")
    clinic.frames("one", frame)
    clinic.caption(clinic.csv(HEADER, "PAT-1,1.2.840.1,,150,,"))
    clinic.configure('[workspace]\ncenter = "Center"\n[caption]\ntemplates = "gone"\n')
    assert trace(clinic.workspace, frame["frame_id"]).template_text.startswith("{{ article }}")
