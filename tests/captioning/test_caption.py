"""From records and frames to captions, through the public entry."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from sono.manifests.errors import UserError
from sono.manifests.schemas import CAPTIONS, EXCLUSIONS, FRAMES, RECORDS
from sono.manifests.stages import in_process

HEADER = "patient_id,study_id,plane,ga_days,hc_mm,structures_seen"


def test_a_frame_and_its_region_get_the_papers_sentences(clinic):
    frame = clinic.frame("a")
    clinic.frames("one", frame)
    clinic.regions("one", clinic.region(frame, "thalami"), clinic.region(frame, "head", "edited"))
    report = clinic.caption(clinic.csv(HEADER, "PAT-1,1.2.840.1,,150,,"))
    assert sorted(clinic.texts()) == [
        "A 21-week fetal ultrasound image of transthalamic plane showing head, thalami.",
        "A 21-week fetal ultrasound transthalamic plane. The segmentation highlights the head.",
        "A 21-week fetal ultrasound transthalamic plane. The segmentation highlights the thalami.",
    ]
    assert (report.counts.global_captions, report.counts.region_captions) == (1, 2)
    assert report.counts.frames_without == {}
    assert report.counts.records_unmatched == 0


def test_a_caption_row_says_what_it_was_made_from(clinic):
    frame = clinic.frame("a")
    clinic.frames("one", frame)
    clinic.regions("one", clinic.region(frame, "head"))
    clinic.caption(clinic.csv(HEADER, "PAT-1,1.2.840.1,,,175,"))
    whole, region = sorted(clinic.rows(CAPTIONS), key=lambda row: row["region_id"] or "")
    assert json.loads(whole["facts"]) == {
        "ga": {"value": 20, "source": "records.hc_mm via hadlock_1984_hc"},
        "plane": {"value": "transthalamic", "source": "frames.plane"},
        "anatomies": {"value": ["head"], "source": "regions"},
    }
    assert json.loads(region["facts"])["structure"] == {"value": "head", "source": "regions.structure"}
    assert whole["template"] == "global"
    assert region["template"] == "region"
    assert whole["region_id"] is None
    assert region["frame_id"] == whole["frame_id"] == frame["frame_id"]
    assert whole["tokens"] is None
    assert whole["dropped"] == []
    assert whole["caption_id"] == clinic.workspace.keys.content(f"caption/{frame['frame_id']}//global")


def test_every_part_of_frames_has_the_captions_part_of_its_name(clinic):
    clinic.frames("one", clinic.frame("a"))
    clinic.frames("two", clinic.frame("b"))
    clinic.frames("empty")
    clinic.caption(clinic.csv(HEADER, "PAT-1,1.2.840.1,,150,,"))
    assert list(clinic.workspace.store.parts(CAPTIONS)) == ["empty", "one", "two"]


def test_captions_of_frames_that_are_gone_go_too(clinic):
    clinic.frames("one", clinic.frame("a"))
    clinic.frames("two", clinic.frame("b", plane=None))
    records = clinic.csv(HEADER, "PAT-1,1.2.840.1,,150,,")
    clinic.caption(records)
    clinic.workspace.store.remove(FRAMES, "two", "ingest")
    report = clinic.caption(records)
    assert report.captions.removed == 1
    assert clinic.reasons("caption") == []


def test_only_accepted_and_edited_regions_count(clinic):
    frame = clinic.frame("a")
    clinic.frames("one", frame)
    statuses = {"head": "proposed", "thalami": "rejected", "falx": "accepted"}
    clinic.regions("one", *[clinic.region(frame, structure, status) for structure, status in statuses.items()])
    report = clinic.caption(clinic.csv(HEADER, "PAT-1,1.2.840.1,,150,,"))
    assert report.counts.region_captions == 1
    assert any("showing midline falx." in text for text in clinic.texts())


def test_without_evidence_the_planes_own_structures_stand(clinic):
    clinic.frames("one", clinic.frame("a", plane="femur"))
    clinic.caption(clinic.csv(HEADER, "PAT-1,1.2.840.1,,150,,"))
    assert clinic.texts() == ["A 21-week fetal ultrasound image of femur plane showing femur, thigh."]
    assert json.loads(clinic.rows(CAPTIONS)[0]["facts"])["anatomies"]["source"] == "planes.toml"


def test_structures_seen_join_the_outlined_ones_in_the_planes_priority(clinic):
    frame = clinic.frame("a")
    clinic.frames("one", frame)
    clinic.regions("one", clinic.region(frame, "cavum_septi_pellucidi"))
    clinic.caption(clinic.csv(HEADER, "PAT-1,1.2.840.1,transthalamic,150,,Thalamus; skull;stomach"))
    whole = next(row for row in clinic.rows(CAPTIONS) if row["region_id"] is None)
    assert whole["text"].endswith("showing head, thalami, cavum septi pellucidi, stomach.")
    assert json.loads(whole["facts"])["anatomies"]["source"] == "regions and records.structures_seen"


def test_a_record_about_the_study_lends_only_structures_of_the_plane(clinic):
    clinic.frames("one", clinic.frame("a"))
    clinic.caption(clinic.csv(HEADER, "PAT-1,1.2.840.1,,150,,thalami;stomach;femur"))
    assert clinic.texts() == ["A 21-week fetal ultrasound image of transthalamic plane showing thalami."]


def test_a_record_about_the_plane_wins_over_one_about_the_study(clinic):
    clinic.frames("one", clinic.frame("a"), clinic.frame("b", plane="femur"))
    clinic.caption(clinic.csv(HEADER, "PAT-1,1.2.840.1,,150,,", "PAT-1,1.2.840.1,TT,160,,head"))
    assert sorted(clinic.texts()) == [
        "A 21-week fetal ultrasound image of femur plane showing femur, thigh.",
        "A 22-week fetal ultrasound image of transthalamic plane showing head.",
    ]


def test_a_plane_without_an_age_takes_its_studys(clinic):
    clinic.frames("one", clinic.frame("a"))
    report = clinic.caption(clinic.csv(HEADER, "PAT-1,1.2.840.1,,150,,", "PAT-1,1.2.840.1,TT,,,head"))
    assert clinic.texts() == ["A 21-week fetal ultrasound image of transthalamic plane showing head."]
    assert report.records.rows == 2


def test_a_patient_with_one_study_needs_no_study_id(clinic):
    clinic.frames("one", clinic.frame("a", study=None))
    clinic.caption(clinic.csv("patient_id,ga_weeks", " PAT-1 ,8+2"))
    assert clinic.texts()[0].startswith("An 8-week ")


def test_frames_that_ingest_keyed_find_their_records(clinic, tmp_path):
    """Both sides hash identifiers on their own; only a real ingest shows that they agree."""
    from PIL import Image

    from sono.curation.ingest import ingest

    source = tmp_path / "source"
    source.mkdir()
    for number, name in enumerate("ab"):
        Image.effect_noise((320 + number, 240), 60).save(source / f"{name}.png")
    metadata = tmp_path / "metadata.csv"
    metadata.write_text("file,patient_id,study_id,plane\na.png,P,,TT\nb.png,P,S1,FL\n")
    ingest(clinic.workspace, [source], engine=in_process, metadata=metadata)
    report = clinic.caption(clinic.csv("patient_id,study_id,ga_days", "P,,150", "P,S1,160"))
    assert report.counts.records_unmatched == 0
    assert sorted(text[:50] for text in clinic.texts()) == [
        "A 21-week fetal ultrasound image of transthalamic ",
        "A 22-week fetal ultrasound image of femur plane sh",
    ]


def test_frames_without_a_caption_stand_among_the_exclusions(clinic):
    clinic.frames(
        "one",
        clinic.frame("a", plane=None),
        clinic.frame("b", plane="no_such_plane"),
        clinic.frame("c", study="9.9"),
        clinic.frame("d", study="8.8"),
    )
    report = clinic.caption(clinic.csv(HEADER, "PAT-1,1.2.840.1,,150,,", "PAT-1,8.8,,,,", "PAT-1,7.7,,150,,"))
    keys = clinic.workspace.keys
    found = {(row["source_key"], row["reason"], row["frame_index"]) for row in clinic.exclusions("caption")}
    assert found == {
        (keys.source("a"), "plane_unknown", 0),
        (keys.source("b"), "plane_unknown", 0),
        (keys.source("c"), "no_record", 0),
        (keys.source("d"), "no_gestational_age", 0),
    }
    assert report.counts.frames_without == {"plane_unknown": 2, "no_record": 1, "no_gestational_age": 1}
    assert report.counts.records_unmatched == 1  # 7.7; 1.2.840.1 has frames, though they get no caption
    assert report.counts.global_captions == 0


def test_a_region_of_an_unknown_structure_is_excluded_and_its_frame_captioned(clinic):
    frame = clinic.frame("a")
    clinic.frames("one", frame)
    clinic.regions("one", clinic.region(frame, "gizzard"), clinic.region(frame, "head"))
    report = clinic.caption(clinic.csv(HEADER, "PAT-1,1.2.840.1,,150,,"))
    assert clinic.reasons("caption") == ["structure_unknown"]
    assert (report.counts.global_captions, report.counts.region_captions) == (1, 1)


def test_a_frame_of_another_patient_than_its_record_is_left_out(clinic):
    clinic.frames("one", clinic.frame("a", patient="PAT-2"), clinic.frame("b"), clinic.frame("c"))
    report = clinic.caption(clinic.csv(HEADER, "PAT-1,1.2.840.1,,150,,"))
    assert report.counts.frames_without == {"another_patient": 1}
    assert report.counts.global_captions == 2


def test_a_study_that_stands_for_an_unnamed_patient_is_no_contradiction(clinic):
    keys = clinic.workspace.keys
    frame = clinic.frame("a")
    frame["patient_key"] = keys.patient_of_study(str(frame["study_key"]))
    clinic.frames("one", frame)
    assert clinic.caption(clinic.csv(HEADER, "PAT-1,1.2.840.1,,150,,")).counts.global_captions == 1


def test_running_again_computes_nothing(clinic):
    frame = clinic.frame("a")
    clinic.frames("one", frame)
    clinic.frames("two", clinic.frame("b", plane="femur"))
    clinic.regions("one", clinic.region(frame, "head"))
    records = clinic.csv(HEADER, "PAT-1,1.2.840.1,,150,,", "PAT-1,1.2.840.1,xyzzy,150,,")
    first = clinic.caption(records)
    before = clinic.written()
    again = clinic.caption(records)
    assert (first.records.computed, first.captions.computed) == (1, 2)
    assert (again.records.computed, again.captions.computed) == (0, 0)
    assert (again.records.up_to_date, again.captions.up_to_date) == (1, 2)
    assert again.counts == first.counts
    assert clinic.written() == before


def test_a_changed_record_makes_only_its_frames_part_stale(clinic):
    clinic.frames("one", clinic.frame("a", study="1.1"))
    clinic.frames("two", clinic.frame("b", study="2.2", patient="PAT-2"))
    clinic.caption(clinic.csv(HEADER, "PAT-1,1.1,,150,,", "PAT-2,2.2,,150,,"))
    report = clinic.caption(clinic.csv(HEADER, "PAT-1,1.1,,150,,", "PAT-2,2.2,,157,,"))
    assert (report.captions.computed, report.captions.up_to_date) == (1, 1)
    assert sorted(text.split("-week")[0] for text in clinic.texts()) == ["A 21", "A 22"]
    assert len(clinic.records()) == 2


def test_captions_stand_in_the_order_of_frames_then_of_region_keys(clinic):
    frames = [clinic.frame(name) for name in "dacb"]
    clinic.frames("one", *frames)
    clinic.regions("one", *[clinic.region(frames[0], structure) for structure in ("thalami", "head", "falx")])
    clinic.caption(clinic.csv(HEADER, "PAT-1,1.2.840.1,,150,,"))
    rows = clinic.rows(CAPTIONS)
    assert [row["frame_id"] for row in rows if row["region_id"] is None] == [frame["frame_id"] for frame in frames]
    regions = [row["region_id"] for row in rows[1:4]]
    assert regions == sorted(regions)
    assert len(set(regions)) == 3


@pytest.mark.parametrize("name", ["global", "region"])
def test_either_changed_template_makes_captions_stale(clinic, tmp_path, name):
    from importlib import resources

    clinic.frames("one", clinic.frame("a"))
    records = clinic.csv(HEADER, "PAT-1,1.2.840.1,,150,,")
    clinic.caption(records)
    for template in ("global", "region"):
        text = resources.files("sono.captioning").joinpath("templates", f"{template}.jinja").read_text()
        changed = text.replace("ultrasound", "sonographic") if template == name else text
        (tmp_path / f"{template}.jinja").write_text(changed)
    assert clinic.caption(records, templates=tmp_path).captions.computed == 1
    assert clinic.caption(records, templates=tmp_path).captions.computed == 0


def test_a_changed_vocabulary_makes_captions_stale(clinic):
    from importlib import resources

    from sono.manifests.workspace import Workspace

    clinic.frames("one", clinic.frame("a"))
    records = clinic.csv(HEADER, "PAT-1,1.2.840.1,,150,,")
    clinic.caption(records)
    text = resources.files("sono.manifests").joinpath("planes.toml").read_text()
    (clinic.workspace.path / "own.toml").write_text(text.replace('name = "thalami"', 'name = "both thalami"'))
    with (clinic.workspace.path / "sono.toml").open("a") as file:
        file.write('\n[vocabulary]\nfile = "own.toml"\n')
    changed = type(clinic)(Workspace(clinic.workspace.path), clinic.folder)
    assert changed.caption(records).captions.computed == 1
    assert "both thalami" in changed.texts()[0]


def test_a_template_of_ones_own_writes_the_captions(clinic, tmp_path):
    clinic.frames("one", clinic.frame("a"))
    records = clinic.csv(HEADER, "PAT-1,1.2.840.1,,150,,")
    clinic.caption(records)
    templates = tmp_path / "templates"
    templates.mkdir()
    (templates / "global.jinja").write_text("{{ plane }} at {{ ga }} weeks: {{ anatomies | first }}\n")
    (templates / "region.jinja").write_text("{{ structure }} in {{ plane }}\n")
    report = clinic.caption(records, templates=templates)
    assert report.captions.computed == 1
    assert clinic.texts() == ["transthalamic at 21 weeks: head"]
    assert report.records.computed == 0


def test_the_same_input_gives_the_same_bytes(clinic):
    frame = clinic.frame("a")
    clinic.frames("one", frame, clinic.frame("b", plane=None))
    clinic.regions("one", clinic.region(frame, "thalami"), clinic.region(frame, "head"))
    records = clinic.csv(HEADER, "PAT-1,1.2.840.1,,150,175,", "PAT-1,1.2.840.1,xyzzy,150,,")
    clinic.caption(records)
    first = clinic.written()
    for table in (RECORDS, CAPTIONS, EXCLUSIONS):
        shutil.rmtree(clinic.workspace.store.folder(table), ignore_errors=True)
    clinic.caption(records)
    assert len(first) == 4
    assert clinic.written() == first


def test_pixels_are_not_read(clinic):
    clinic.frames("one", clinic.frame("a"))
    path = clinic.workspace.store.path(FRAMES, "one")
    group = pq.ParquetFile(path).metadata.row_group(0)
    columns = [group.column(index) for index in range(group.num_columns)]
    pixels = next(column for column in columns if column.path_in_schema == "image.bytes")
    content = bytearray(path.read_bytes())
    start = pixels.data_page_offset
    content[start : start + pixels.total_compressed_size] = b"\xff" * pixels.total_compressed_size
    path.write_bytes(content)
    with pytest.raises(OSError, match="page header"):
        pq.read_table(path, partitioning=None)
    assert clinic.caption(clinic.csv(HEADER, "PAT-1,1.2.840.1,,150,,")).counts.global_captions == 1


def test_without_frames_or_records_nothing_is_written(clinic):
    records = clinic.csv(HEADER, "PAT-1,1.2.840.1,,150,,")
    with pytest.raises(UserError, match="no frames to caption; run sono-curate ingest"):
        clinic.caption(records)
    clinic.frames("one", clinic.frame("a"))
    with pytest.raises(UserError, match="no records were named"):
        clinic.caption()
    assert clinic.written() == {}


def test_progress_is_told_for_both_stages(clinic):
    clinic.frames("one", clinic.frame("a"))
    told = []
    clinic.caption(clinic.csv(HEADER, "PAT-1,1.2.840.1,,150,,"), told=told)
    assert [(step.stage, step.parts_done, step.parts_total) for step in told] == [
        ("records", 0, 1),
        ("records", 1, 1),
        ("caption", 0, 1),
        ("caption", 1, 1),
    ]


def test_tasks_travel_to_other_processes(clinic):
    """An engine with processes pickles stage and part; both must come back able to work."""
    clinic.frames("one", clinic.frame("a"))

    def travelling(function, arguments):
        for argument in arguments:
            yield function(pickle.loads(pickle.dumps(argument)))

    from sono.captioning.caption import caption_workspace

    caption_workspace(clinic.workspace, [clinic.csv(HEADER, "PAT-1,1.2.840.1,,150,,")], engine=travelling)
    assert len(clinic.texts()) == 1


def test_several_files_and_a_folder_of_them(clinic):
    clinic.frames("one", clinic.frame("a", study="1.1"), clinic.frame("b", study="2.2"))
    first = clinic.csv(HEADER, "PAT-1,1.1,,150,,", name="a.csv")
    second = clinic.csv("patient_id,study_id,ga_weeks", "PAT-1,2.2,30", name="b.csv")
    clinic.caption(first, second)
    texts = clinic.texts()
    assert len(texts) == 2
    clinic.caption(Path(clinic.folder))
    assert clinic.texts() == texts
