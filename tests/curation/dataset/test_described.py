"""What describes a dataset to machines: croissant.json, provenance.json and the list of revisions."""

from __future__ import annotations

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from sono.curation.dataset.store import MARKER

from .curated import Curation, rows_of


@pytest.mark.filterwarnings("ignore")
def test_croissant_validates_and_reads_every_configuration(curation: Curation, tmp_path: Path) -> None:
    mlcroissant = pytest.importorskip("mlcroissant")
    curation.publish(licence="CC-BY-4.0", citation="Hospital A, 2026", contact="data@hospital.example")
    curation.build(tmp_path / "out")
    dataset = mlcroissant.Dataset(jsonld=str(tmp_path / "out" / "croissant.json"))
    assert not dataset.metadata.ctx.issues.errors
    frames = {row["frame_id"]: row for row in rows_of(tmp_path / "out")}
    for name, rows in (("default", 12), ("regions", 6), ("metadata", 12)):
        records = list(dataset.records(name))
        assert len(records) == rows
        for record in records:
            frame = frames[record[f"{name}/frame_id"].decode()]
            assert record[f"{name}/ga_days"] == frame["ga_days"]
            assert record[f"{name}/caption_id"].decode() in {
                frame["caption_id"], *(region["caption_id"] for region in frame["regions"])
            }  # fmt: skip
    content = json.loads((tmp_path / "out" / "croissant.json").read_bytes())
    assert content["license"] == "https://spdx.org/licenses/CC-BY-4.0.html"
    assert {key for key in content if key.startswith("rai:")} >= {
        *("rai:dataCollection", "rai:dataAnnotationProtocol", "rai:personalSensitiveInformation", "rai:dataBiases"),
        "rai:dataLimitations",
    }


def test_provenance_tells_which_tables_it_was_made_from_to_their_owner_alone(
    curation: Curation, tmp_path: Path
) -> None:
    def provenance(out: Path) -> dict[str, dict[str, object]]:
        content: dict[str, dict[str, object]] = json.loads((out / "provenance.json").read_bytes())
        return content

    curation.build(tmp_path / "one")
    curation.build(tmp_path / "two")
    one, two = provenance(tmp_path / "one"), provenance(tmp_path / "two")
    assert one["versions"] == two["versions"]
    assert not set(one["tables"].values()) & set(two["tables"].values())
    curation.records.write_text(curation.records.read_text().replace("P1,140", "P1,147"))
    curation.run()
    curation.build(tmp_path / "one")
    changed = {name for name, value in provenance(tmp_path / "one")["tables"].items() if value != one["tables"][name]}
    assert changed >= {"records", "captions"}
    assert not changed & {"frames", "regions", "qc"}
    text = (tmp_path / "one" / "provenance.json").read_text()
    assert str(tmp_path) not in text
    assert "Hospital A" not in text
    assert (curation.workspace.path / "secret.key").read_text().strip() not in text


def test_every_revision_is_listed_once_with_what_it_changed(curation: Curation, tmp_path: Path) -> None:
    out = tmp_path / "out"

    def fingerprint() -> str:
        return str(json.loads((out / MARKER).read_bytes())["fingerprint"])[:12]

    curation.build(out)
    first = fingerprint()
    curation.build(out)
    assert (out / "CHANGELOG.md").read_text() == (
        f"# Revisions\n\n## Revision 1 ({first})\n\n12 frames of 4 patients, with 6 regions.\n"
    )
    picture = cv2.imread(str(curation.archive / "P1/scan0.png"), cv2.IMREAD_GRAYSCALE)
    cv2.imwrite(str(curation.archive / "P1" / "scan9.png"), np.roll(picture, 9))
    (curation.archive / "P2" / "scan1.png").unlink()
    curation.describe()
    curation.run()

    def killed(function: object, arguments: object) -> object:
        raise KeyboardInterrupt

    from sono.curation.dataset.run import build

    from .curated import PLAN

    with pytest.raises(KeyboardInterrupt):
        build(curation.workspace, out, plan=PLAN, allow_unchecked_text=True, engine=killed)  # type: ignore[arg-type]
    curation.build(out)
    text = (out / "CHANGELOG.md").read_text()
    assert re.findall(r"## Revision (\d) \((\w+)\)", text) == [("1", first), ("2", fingerprint())]
    assert "Since revision 1: 1 frames added, 1 removed, and " in text
    assert not [path for path in out.iterdir() if path.name.startswith(".") and path.name != ".lock"]
