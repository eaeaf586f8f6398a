"""From records and frames to captions, through the public entry."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from sono.manifests.errors import UserError
from sono.manifests.schemas import CAPTIONS, EXCLUSIONS, FRAMES, RECORDS, STATEMENTS
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
    assert (report.global_captions, report.region_captions) == (1, 2)
    assert report.captions.exclusions == {}
    assert report.matches.records_without_images == 0


def test_only_accepted_and_edited_regions_count(clinic):
    frame = clinic.frame("a")
    clinic.frames("one", frame)
    statuses = {"head": "proposed", "thalami": "rejected", "falx": "accepted"}
    clinic.regions("one", *[clinic.region(frame, structure, status) for structure, status in statuses.items()])
    report = clinic.caption(clinic.csv(HEADER, "PAT-1,1.2.840.1,,150,,"))
    assert report.region_captions == 1
    assert any("showing midline falx." in text for text in clinic.texts())


def test_without_evidence_the_planes_own_structures_are_named(clinic):
    clinic.frames("one", clinic.frame("a", plane="femur"))
    clinic.caption(clinic.csv(HEADER, "PAT-1,1.2.840.1,,150,,"))
    assert clinic.texts() == ["A 21-week fetal ultrasound image of femur plane showing femur, thigh."]
    assert json.loads(clinic.rows(CAPTIONS)[0]["facts"])["structures"]["source"] == "planes.toml"


def test_a_record_about_the_study_adds_only_structures_of_the_plane(clinic):
    clinic.frames("one", clinic.frame("a"))
    clinic.caption(clinic.csv(HEADER, "PAT-1,1.2.840.1,,150,,thalami;stomach;femur"))
    assert clinic.texts() == ["A 21-week fetal ultrasound image of transthalamic plane showing thalami."]


def test_a_patient_with_one_study_needs_no_study_id(clinic):
    clinic.frames("one", clinic.frame("a", study=None))
    clinic.caption(clinic.csv("patient_id,ga_weeks", " PAT-1 ,8+2"))
    assert clinic.texts()[0].startswith("An 8-week ")


def test_ingested_frames_find_their_records(clinic, tmp_path):
    """Both sides hash identifiers on their own; only a real ingest shows that they agree."""
    from PIL import Image

    from sono.curation.ingest.run import ingest

    source = tmp_path / "source"
    source.mkdir()
    for number, name in enumerate("ab"):
        Image.effect_noise((320 + number, 240), 60).save(source / f"{name}.png")
    metadata = tmp_path / "metadata.csv"
    metadata.write_text("file,patient_id,study_id,plane\na.png,P,,TT\nb.png,P,S1,FL\n")
    ingest(clinic.workspace, [source], engine=in_process, metadata=metadata, cropped=True)
    report = clinic.caption(clinic.csv("patient_id,study_id,ga_days", "P,,150", "P,S1,160"))
    assert report.matches.records_without_images == 0
    assert sorted(text[:50] for text in clinic.texts()) == [
        "A 21-week fetal ultrasound image of transthalamic ",
        "A 22-week fetal ultrasound image of femur plane sh",
    ]


def test_a_region_of_an_unknown_structure_is_excluded_but_its_frame_is_captioned(clinic):
    frame = clinic.frame("a")
    clinic.frames("one", frame)
    clinic.regions("one", clinic.region(frame, "gizzard"), clinic.region(frame, "head"))
    report = clinic.caption(clinic.csv(HEADER, "PAT-1,1.2.840.1,,150,,"))
    assert clinic.reasons("caption") == ["structure_unknown"]
    assert (report.global_captions, report.region_captions) == (1, 1)


def test_a_frame_whose_record_names_another_patient_is_left_out(clinic):
    clinic.frames("one", clinic.frame("a", patient="PAT-2"), clinic.frame("b"), clinic.frame("c"))
    report = clinic.caption(clinic.csv(HEADER, "PAT-1,1.2.840.1,,150,,"))
    assert report.captions.exclusions == {"another_patient": 1}
    assert report.global_captions == 2


def test_a_study_used_as_the_patient_is_not_a_contradiction(clinic):
    keys = clinic.workspace.keys
    frame = clinic.frame("a")
    frame["patient_key"] = keys.patient_of_study(str(frame["study_key"]))
    clinic.frames("one", frame)
    assert clinic.caption(clinic.csv(HEADER, "PAT-1,1.2.840.1,,150,,")).global_captions == 1


def test_captions_are_ordered_by_frame_then_by_region(clinic):
    frames = [clinic.frame(name) for name in "dacb"]
    clinic.frames("one", *frames)
    clinic.regions("one", *[clinic.region(frames[0], structure) for structure in ("thalami", "head", "falx")])
    clinic.caption(clinic.csv(HEADER, "PAT-1,1.2.840.1,,150,,"))
    rows = clinic.rows(CAPTIONS)
    assert [row["frame_id"] for row in rows if row["region_id"] is None] == [frame["frame_id"] for frame in frames]
    regions = [row["region_id"] for row in rows[1:4]]
    assert regions == sorted(regions)
    assert len(set(regions)) == 3


def own_pack(folder: Path, whole: str, region: str = "{{ structure }} in {{ plane }}") -> str:
    for kind, text in (("global", whole), ("region", region)):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        (folder / kind / "own.jinja").write_text(text)
    (folder / "pack.toml").write_text('language = "en"\n')
    return str(folder)


def test_a_custom_template_writes_the_captions(clinic, tmp_path):
    clinic.frames("one", clinic.frame("a"))
    records = clinic.csv(HEADER, "PAT-1,1.2.840.1,,150,,")
    clinic.caption(records)
    pack = own_pack(tmp_path / "pack", "{{ plane }} at {{ ga }} weeks: {{ structures | first }}")
    report = clinic.caption(records, templates=pack)
    assert (report.statements.computed, report.records.computed, report.captions.computed) == (0, 0, 1)
    assert clinic.texts() == ["Transthalamic at 21 weeks: head"]
    assert clinic.rows(CAPTIONS)[0]["template"] == "global/own"
    assert clinic.caption(records, templates=pack).captions.computed == 0
    own_pack(tmp_path / "pack", "{{ plane }} at {{ ga }} weeks: {{ structures | first }}", "{{ structure }}")
    assert clinic.caption(records, templates=pack).captions.computed == 1


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


def test_the_same_input_gives_the_same_bytes(clinic):
    frame = clinic.frame("a")
    clinic.frames("one", frame, clinic.frame("b", plane=None))
    clinic.regions("one", clinic.region(frame, "thalami"), clinic.region(frame, "head"))
    records = clinic.csv(HEADER, "PAT-1,1.2.840.1,,150,175,", "PAT-1,1.2.840.1,xyzzy,150,,")
    clinic.caption(records)
    first = clinic.written()
    for table in (STATEMENTS, RECORDS, CAPTIONS, EXCLUSIONS):
        shutil.rmtree(clinic.workspace.store.folder(table), ignore_errors=True)
    clinic.caption(records)
    assert len(first) == 5  # two of exclusions
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
    assert clinic.caption(clinic.csv(HEADER, "PAT-1,1.2.840.1,,150,,")).global_captions == 1


def test_without_frames_or_records_nothing_is_written(clinic):
    records = clinic.csv(HEADER, "PAT-1,1.2.840.1,,150,,")
    with pytest.raises(UserError, match="no frames to caption; run sono-curate ingest"):
        clinic.caption(records)
    clinic.frames("one", clinic.frame("a"))
    with pytest.raises(UserError, match="no records were named"):
        clinic.caption()
    assert clinic.written() == {}


@pytest.mark.slow
def test_the_stages_pickle(clinic):
    """An engine with processes pickles stage and part; both must come back able to work."""
    clinic.frames("one", clinic.frame("a"))

    def travelling(function, arguments):
        for argument in arguments:
            yield function(pickle.loads(pickle.dumps(argument)))

    from sono.captioning.captions.run import caption_workspace

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


def test_a_caption_row_says_what_it_was_made_from(clinic):
    frame = clinic.frame("a")
    clinic.frames("one", frame)
    clinic.regions("one", clinic.region(frame, "head"))
    clinic.caption(clinic.csv(HEADER, "PAT-1,1.2.840.1,,,175,", "PAT-1,1.2.840.1,TT,,,thalami"))
    whole, region = sorted(clinic.rows(CAPTIONS), key=lambda row: row["region_id"] or "")
    age = {"value": 140, "source": "column hc_mm via hadlock_1984_hc"}
    shared = {
        "plane": {"value": "transthalamic", "source": "frames.plane"},
        "ga_days": age,
        "trimester": {"value": 2, "source": age["source"]},
    }
    assert json.loads(whole["facts"]) == shared | {"structures": {"value": ["head"], "source": "regions"}}
    assert json.loads(region["facts"]) == shared | {"structure": {"value": "head", "source": "regions"}}
    assert (whole["template"], region["template"]) == ("global/paper", "region/paper")
    assert whole["region_id"] is None
    assert region["frame_id"] == whole["frame_id"] == frame["frame_id"]
    assert (whole["tokens"], region["tokens"]) == (18, 21)  # open_clip's tokenizer says the same
    assert whole["dropped"] == []


@pytest.mark.parametrize(
    ("regions", "recorded", "expected", "source"),
    [
        (["cavum_septi_pellucidi", "head"], "thalami", "head, cavum septi pellucidi", "regions"),
        ([], "Thalamus; skull;stomach", "head, thalami, stomach", "column structures_seen"),
        ([], "", "head, thalami, cavum septi pellucidi", "planes.toml"),
    ],
)
def test_structures_come_from_regions_else_records_else_the_plane(clinic, regions, recorded, expected, source):
    frame = clinic.frame("a")
    clinic.frames("one", frame)
    clinic.regions("one", *[clinic.region(frame, structure) for structure in regions])
    clinic.caption(clinic.csv(HEADER, "PAT-1,1.2.840.1,,150,,", f"PAT-1,1.2.840.1,TT,,,{recorded}"))
    whole = next(row for row in clinic.rows(CAPTIONS) if row["region_id"] is None)
    assert f" showing {expected}" in whole["text"]
    assert json.loads(whole["facts"])["structures"]["source"] == source


def test_frames_without_a_caption_are_excluded_with_a_reason(clinic):
    clinic.frames(
        "one",
        clinic.frame("a", plane=None),
        clinic.frame("b", plane="no_such_plane"),
        clinic.frame("c", study="9.9"),
        clinic.frame("d", study="8.8"),
        clinic.frame("e", study="6.6"),
    )
    lines = ["PAT-1,1.2.840.1,,150,,", "PAT-1,8.8,,,,head", "PAT-1,7.7,,150,,", "PAT-1,6.6,,150,,", "PAT-1,6.6,,180,,"]
    report = clinic.caption(clinic.csv(HEADER, *lines))
    keys = clinic.workspace.keys
    clinic.regions("one", clinic.region(clinic.frame("c", study="9.9"), "head"))
    assert clinic.caption(clinic.csv(HEADER, *lines)).captions.exclusions == report.captions.exclusions
    found = {(row["source_key"], row["reason"], row["frame_index"]) for row in clinic.exclusions("caption")}
    assert found == {
        (keys.source("a"), "plane_unknown", 0),
        (keys.source("b"), "plane_unknown", 0),
        (keys.source("c"), "no_record", 0),
        (keys.source("d"), "no_gestational_age", 0),
        (keys.source("e"), "gestational_age_conflict", 0),
    }
    assert report.captions.exclusions == {
        "plane_unknown": 2,
        "no_record": 1,
        "no_gestational_age": 1,
        "gestational_age_conflict": 1,
    }
    assert (report.matches.studies, report.matches.studies_with_record) == (4, 3)
    assert report.matches.records_without_images == 1
    assert report.global_captions == 0


def test_frames_without_an_age_get_captions_from_a_pack_that_needs_none(clinic, tmp_path):
    clinic.frames("one", clinic.frame("a"), clinic.frame("b", study="9.9"))
    folder = tmp_path / "pack"
    pack = own_pack(folder, "{{ plane }} at {{ ga }} weeks")
    (folder / "global" / "undated.jinja").write_text("{{ plane }} of unknown age")
    clinic.caption(clinic.csv(HEADER, "PAT-1,1.2.840.1,,150,,"), templates=pack)
    by_frame = {row["frame_id"]: row["text"] for row in clinic.rows(CAPTIONS)}
    keys = clinic.workspace.keys
    assert by_frame[keys.frame(keys.source("b"), 0)] == "Transthalamic of unknown age"


def test_running_again_computes_nothing(clinic):
    frame = clinic.frame("a")
    clinic.frames("one", frame)
    clinic.frames("two", clinic.frame("b", plane="femur"))
    clinic.regions("one", clinic.region(frame, "head"))
    records = clinic.csv(HEADER, "PAT-1,1.2.840.1,,150,,", "PAT-1,1.2.840.1,xyzzy,150,,")
    first = clinic.caption(records)
    before = clinic.written()
    again = clinic.caption(records)
    for stage in ("statements", "records", "captions"):
        assert getattr(first, stage).computed == getattr(again, stage).up_to_date == 1
        assert getattr(again, stage).computed == 0
    assert again.matches == first.matches
    assert clinic.written() == before


def test_only_captions_of_a_changed_record_are_rewritten(clinic, monkeypatch):
    monkeypatch.setattr("sono.captioning.exams.linkage._EXAMS_A_PART", 1)
    monkeypatch.setattr("sono.captioning.captions.join._PARTS_MEAN", 1)
    for number in range(8):
        clinic.frames(f"part{number}", clinic.frame(f"frame{number}", study=f"{number}", patient=f"P{number}"))
    clinic.caption(clinic.csv(HEADER, *[f"P{number},{number},,150,," for number in range(8)]))
    changed = [f"P{number},{number},,{157 if number == 3 else 150},," for number in range(8)]
    report = clinic.caption(clinic.csv(HEADER, *changed))
    assert (report.captions.computed, report.captions.up_to_date) == (1, 7)
    assert report.records.computed == 1
    assert report.records.up_to_date >= 2
    assert sorted(text.split("-week")[0] for text in clinic.texts()) == ["A 21"] * 7 + ["A 22"]


def test_captions_of_removed_frames_are_removed(clinic, monkeypatch):
    monkeypatch.setattr("sono.captioning.captions.join._PARTS_MEAN", 1)
    clinic.frames("one", clinic.frame("a"))
    clinic.frames("two", clinic.frame("b", plane=None))
    records = clinic.csv(HEADER, "PAT-1,1.2.840.1,,150,,")
    clinic.caption(records)
    clinic.workspace.store.remove(FRAMES, "two", "ingest")
    report = clinic.caption(records)
    assert report.captions.removed == 1
    assert clinic.reasons("caption") == []


def test_progress_is_reported_for_every_stage(clinic):
    clinic.frames("one", clinic.frame("a"))
    told = []
    clinic.caption(clinic.csv(HEADER, "PAT-1,1.2.840.1,,150,,"), told=told)
    assert [(step.stage, step.parts_done, step.parts_total) for step in told] == [
        (stage, done, 1) for stage in ("statements", "records", "caption") for done in (0, 1)
    ]


@pytest.mark.slow
def test_the_seed_decides_which_sentence_a_frame_gets(clinic):
    clinic.frames("one", *[clinic.frame(f"frame {number}") for number in range(60)])
    records = clinic.csv(HEADER, "PAT-1,1.2.840.1,,150,,")

    def texts(seed):
        clinic.caption(records, templates="en", seed=seed)
        return clinic.texts()

    first, other, again = texts(0), texts(1), texts(0)
    assert first == again != other
    assert len(set(first)) >= 5
    assert len({text.split()[0] for text in first}) >= 3  # the first words differ, too
    counts = [first.count(text) for text in set(first)]
    assert max(counts) < 25


@pytest.mark.slow
def test_another_seed_chooses_other_sentences_even_if_there_are_two(clinic, tmp_path):
    clinic.frames("one", *[clinic.frame(f"frame {number}") for number in range(60)])
    records = clinic.csv(HEADER, "PAT-1,1.2.840.1,,150,,")
    pack = own_pack(tmp_path / "pack", "{{ plane }}")
    (tmp_path / "pack" / "global" / "other.jinja").write_text("{{ plane }} plane")
    parted = set()
    for seed in range(6):
        clinic.caption(records, templates=pack, seed=seed)
        one = [row["template"] == "global/own" for row in clinic.rows(CAPTIONS)]
        assert 15 < sum(one) < 45
        parted.add(tuple(one if one[0] else [not chosen for chosen in one]))
    assert len(parted) == 6


def test_a_caption_with_a_word_of_the_patients_name_is_refused(clinic, tmp_path):
    clinic.frames("one", clinic.frame("a"), clinic.frame("b", study="2.2", patient="PAT-2"))
    lines = ['PAT-1,1.2.840.1,150,"Mustermann, Zaphodine"', "PAT-2,2.2,150,Else Anders"]
    pack = own_pack(tmp_path / "pack", "{{ plane }} of Zaphodine at {{ ga }} weeks")
    report = clinic.caption(clinic.csv("patient_id,study_id,ga_days,name", *lines), templates=pack)
    assert report.captions.exclusions == {"identity_in_caption": 1}
    assert len(clinic.texts()) == 1


@pytest.mark.parametrize(
    ("line", "remedy"),
    [
        (",1.2.840.1,,150,,", "run sono-curate exclusions to see what is wrong with each of 1 patient_missing"),
        ("PAT-9,9.9.9,,150,,", "check that records and images use the same identifiers for patients and studies"),
    ],
)
def test_records_about_no_image_leave_the_captions_alone(clinic, line, remedy):
    clinic.frames("one", clinic.frame("a"))
    clinic.caption(clinic.csv(HEADER, "PAT-1,1.2.840.1,,150,,"))
    before = clinic.written([RECORDS, CAPTIONS])
    with pytest.raises(UserError, match=f"no record matches an examination with images.* were kept; {remedy}"):
        clinic.caption(clinic.csv(HEADER, line))
    assert clinic.written([RECORDS, CAPTIONS]) == before
    assert before
