"""Files of real scanners go through the commands: nothing stops the run, and everything is counted."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import duckdb
from pydicom.data import get_testdata_file

from .conftest import Command

EXAMPLES = ("examples_ybr_color.dcm", "examples_rgb_color.dcm", "examples_palette.dcm", "examples_jpeg2k.dcm")


def test_every_file_becomes_frames_or_is_excluded(us_dicom: Path, tmp_path: Path, command: Command) -> None:
    source = tmp_path / "scans"
    shutil.copytree(us_dicom, source)
    for name in (*EXAMPLES, "CT_small.dcm"):
        path = get_testdata_file(name)
        assert isinstance(path, str)
        shutil.copy(path, source / name)
    (tmp_path / "metadata.csv").write_text("file,patient_id\nJPGLosslessP14SV1_1s_1f_8b,who was named elsewhere\n")
    command("sono-curate", "init", "archive")
    done = command("sono-curate", "ingest", "archive", source, "--metadata", "metadata.csv", "--json")
    report = json.loads(done.stdout)["sources"][0]
    assert report["files"] == 13
    # The license, the CT, and two headers of which a region leaves the image; their frames stay.
    assert report["run"]["exclusions"] == {"not_an_image": 1, "not_ultrasound": 1, "unreadable_region": 2}
    assert report["run"]["rows"] == 41  # 8 stills, 2 frames, 30 frames, and the still named in the CSV
    command("sono-curate", "qc", "archive", "--json")
    times = duckdb.sql(
        f"SELECT frame_index, frame_time_ms FROM '{tmp_path}/archive/frames/*.parquet' "
        "WHERE frame_count = 30 ORDER BY ALL"
    ).fetchall()
    assert len(times) == 30
    assert times[29] == (29, 29 * 33.333)
    listed = command("sono-curate", "exclusions", "archive", "--source", source).stdout
    assert "CT_small.dcm: ingest: not_ultrasound" in listed
