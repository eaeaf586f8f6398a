"""Build: from a workspace's tables to a dataset that ``datasets.load_dataset`` and ``sono-train`` read."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sono.curation.images.pixels import decode_png, encode_png
from sono.curation.qc.run import QcSection, QcStage, qc_parts
from sono.manifests import masks
from sono.manifests.errors import UserError
from sono.manifests.query import query
from sono.manifests.schemas import CAPTIONS, DATASET, FRAMES, QC, RECORDS, REGIONS, SPLITS, TableSpec
from sono.manifests.splits import SplitPlan, assign
from sono.manifests.stages import Engine, Part, Progress, StageOutput, run_stage, stale_parts
from sono.manifests.store import PartInfo, TableStore, exclusive, read_info, write_atomically, write_part
from sono.manifests.vocabulary import Vocabulary
from sono.manifests.workspace import Workspace

MARKER = "sono.json"  # written last: a folder with it is whole
_BUILDING = "sono.building"

_SHARD_ROWS = 1024
_ROW_GROUP_ROWS = 128  # a row group of frames stays far below the Hub viewer's limit of 286 MiB


@dataclass(frozen=True)
class BuildReport:
    """Rows by split, regions, and the frames left out by reason."""

    splits: Mapping[str, int]
    patients: Mapping[str, int]
    regions: int
    left_out: Mapping[str, int]
    shards_written: int
    shards_up_to_date: int


def build(
    workspace: Workspace,
    out: Path,
    *,
    plan: SplitPlan,
    max_side_px: int | None = None,
    allow_unchecked_text: bool = False,
    engine: Engine,
    progress: Callable[[Progress], None] = lambda _: None,
) -> BuildReport:
    """Write the dataset of all accepted, captioned frames into ``out``; again, to bring it up to date.

    Frames whose pixels were not checked for burned-in text are left out unless ``allow_unchecked_text`` says that the
    caller knows them to be clean.

    Args:
        max_side_px: frames with a longer side are scaled down to it, with their masks and pixel size.

    Raises:
        UserError: ``out`` holds something else, no frame is left to write, or the held-out center is unknown.
    """
    _check_inputs(workspace)
    selection, left_out = select(workspace, allow_unchecked_text=allow_unchecked_text)
    if selection.num_rows == 0:
        reasons = ", ".join(f"{count} {reason}" for reason, count in left_out.items()) or "the workspace has no frames"
        fix = "see sono-curate status"
        if set(left_out) == {"text_unchecked"}:
            fix = "if you know the pixels to be free of names, give --allow-unchecked-text"
        raise UserError(f"no frame is left to write: {reasons}", where=str(workspace.path), fix=fix)
    splits = _assign(selection, plan)
    if max_side_px is not None and max_side_px < 32:
        raise UserError(f"--max-side {max_side_px} leaves nothing to see", fix="give 32 px or more")
    stage = BuildStage(max_side_px, huggingface_metadata(workspace.vocabulary))
    parts = _shards(workspace.store, selection, splits, workspace.vocabulary)
    out.mkdir(parents=True, exist_ok=True)
    with exclusive(out, str(out)):
        _take(out)
        store = DatasetStore(out)
        if stale_parts(stage, parts, store) or set(store.parts(DATASET)) != {part.name for part in parts}:
            (out / MARKER).unlink(missing_ok=True)
        run = run_stage(stage, parts, store, engine=engine, progress=progress)
        counts = _finish(out, store, workspace.vocabulary, plan, left_out)
    patients: dict[str, set[str]] = {split: set() for split in SPLITS}
    for patient, split in splits.items():
        patients[split].add(patient)
    return BuildReport(
        splits=counts,
        patients={split: len(keys) for split, keys in patients.items()},
        regions=_count_regions(store),
        left_out=left_out,
        shards_written=run.computed,
        shards_up_to_date=run.up_to_date,
    )


def select(workspace: Workspace, *, allow_unchecked_text: bool) -> tuple[pa.Table, dict[str, int]]:
    """The frames that go into a dataset, in the order of the frames' parts; and the others, counted by reason.

    Columns: part, frame_id, patient_key, center, plane, ga_days, duplicate_group.
    """
    store = workspace.store
    rows = query(
        """
        SELECT parse_filename(f.filename, true)[6:] AS part, f.frame_id, f.patient_key, f.center, f.plane,
               r.ga_days, q.duplicate_group,
               CASE WHEN q.frame_id IS NULL THEN 'not_checked'
                    WHEN q.verdict <> 'accept' THEN 'qc_' || q.verdict
                    WHEN c.frame_id IS NULL THEN 'no_caption'
                    WHEN c.plane <> f.plane OR c.ga_days IS DISTINCT FROM r.ga_days
                    THEN 'caption_outdated'
                    WHEN f.burned_in_text = 'unchecked' AND NOT $unchecked THEN 'text_unchecked'
               END AS reason
        FROM read_parquet($frames, filename = true) f
        LEFT JOIN read_parquet($qc, filename = true) q
            ON q.frame_id = f.frame_id AND parse_filename(q.filename) = parse_filename(f.filename)
        LEFT JOIN captions c ON c.frame_id = f.frame_id
        LEFT JOIN records r ON r.study_key = f.study_key AND r.plane IS NULL
        ORDER BY part, f.source_key, f.frame_index
        """,
        {
            "frames": [str(path) for path in store.paths(FRAMES)],
            "qc": [str(path) for path in store.paths(QC)],
            "unchecked": allow_unchecked_text,
        },
        captions=_global_captions(store),
        records=store.read_all(RECORDS, ["study_key", "plane", "ga_days"]),
    )
    left_out = Counter(rows["reason"].drop_null().to_pylist())
    return rows.filter(pc.is_null(rows["reason"])).drop_columns(["reason"]), dict(sorted(left_out.items()))


@dataclass(frozen=True)
class DatasetStore:
    """The shards of a dataset: ``data/<split>-<number>-of-<count>.parquet``, a part's name being the file's."""

    root: Path

    def parts(self, table: TableSpec) -> dict[str, PartInfo]:
        assert table is DATASET
        return {path.stem: read_info(path) for path in sorted((self.root / "data").glob("*.parquet"))}

    def write(self, table: TableSpec, info: PartInfo, content: pa.Table) -> None:
        write_part(
            self._path(info.name),
            table,
            info,
            content.replace_schema_metadata(None),
            metadata=content.schema.metadata,
            row_group_rows=_ROW_GROUP_ROWS,
        )

    def write_exclusions(self, info: PartInfo, content: pa.Table) -> None:
        assert content.num_rows == 0, "build leaves frames out before it writes, not while it does"

    def remove(self, table: TableSpec, name: str, stage: str) -> None:
        self._path(name).unlink(missing_ok=True)

    def remove_other_exclusions(self, stage: str, scope: str, names: Set[str]) -> None:
        """There are none."""

    def _path(self, name: str) -> Path:
        return self.root / "data" / f"{name}.parquet"


@dataclass(frozen=True)
class BuildStage:
    """From the joined rows of a shard to the dataset's rows."""

    max_side_px: int | None
    huggingface: bytes = field(repr=False)  # the features, as ``datasets`` keeps them in a schema's metadata

    name = "build"
    version = 3

    @property
    def output(self) -> TableSpec:
        return DATASET

    def config(self) -> Mapping[str, object]:
        return {"max_side_px": self.max_side_px, "huggingface": hashlib.sha256(self.huggingface).hexdigest()}

    def __call__(self, part: pa.Table) -> StageOutput:
        rows = [self._row(row) for row in part.to_pylist()]
        table = DATASET.from_rows(rows).replace_schema_metadata({b"huggingface": self.huggingface})
        return StageOutput(table, [])

    def _row(self, row: dict[str, Any]) -> dict[str, object]:
        height, width = row.pop("height"), row.pop("width")
        x_mm, y_mm = row.pop("pixel_mm_x"), row.pop("pixel_mm_y")
        row["pixel_mm"] = [x_mm, y_mm] if x_mm and y_mm else None
        for name in ("source_key", "frame_index"):
            del row[name]
        for region in row["regions"]:
            masks.decode(region["mask"], (height, width))  # a mask of another size must not get into a dataset
        scale = self.max_side_px / max(height, width) if self.max_side_px else 1.0
        return _scaled(row, scale, height, width) if scale < 1 else row


def huggingface_metadata(vocabulary: Vocabulary) -> bytes:
    """The features of the dataset as ``datasets`` keeps them: ``image`` an Image, ``plane`` a ClassLabel."""
    from datasets import ClassLabel, Features, Image

    features = Features.from_arrow_schema(DATASET.schema)
    features["image"] = Image()
    features["plane"] = ClassLabel(names=list(vocabulary.plane_ids))
    metadata: bytes = features.arrow_schema.metadata[b"huggingface"]
    return metadata


def _scaled(row: dict[str, Any], scale: float, height: int, width: int) -> dict[str, object]:
    """The row with image, masks, boxes, sector and pixel size at ``scale``."""
    size = max(1, round(width * scale)), max(1, round(height * scale))
    ratio_x, ratio_y = size[0] / width, size[1] / height
    pixels = cv2.resize(decode_png(row["image"]["bytes"]), size, interpolation=cv2.INTER_AREA)
    row["image"] = {"bytes": encode_png(np.asarray(pixels, dtype=np.uint8)), "path": None}
    for region in row["regions"]:
        shares = cv2.resize(masks.decode(region["mask"]).astype(np.float32), size, interpolation=cv2.INTER_AREA)
        mask = np.asarray(shares >= 0.5, dtype=np.bool_)
        region |= {"mask": masks.encode(mask), "area_px": masks.area_px(mask), "bbox": list(masks.bbox(mask))}
    if row["pixel_mm"]:
        row["pixel_mm"] = [row["pixel_mm"][0] / ratio_x, row["pixel_mm"][1] / ratio_y]
    if row["sector"] and row["sector"]["box"]:
        x, y, box_width, box_height = row["sector"]["box"]
        box = (x * ratio_x, y * ratio_y, box_width * ratio_x, box_height * ratio_y)
        row["sector"] |= {"box": [round(value) for value in box]}
        if row["sector"]["apex"]:
            row["sector"] |= {"apex": [row["sector"]["apex"][0] * ratio_x, row["sector"]["apex"][1] * ratio_y]}
        if row["sector"]["radii"]:
            row["sector"] |= {"radii": [radius * scale for radius in row["sector"]["radii"]]}
    return row


def _check_inputs(workspace: Workspace) -> None:
    store, path = workspace.store, str(workspace.path)
    for table, command in ((FRAMES, "ingest"), (QC, "qc"), (CAPTIONS, "caption")):
        if not store.paths(table):
            raise UserError(
                f"the workspace has no {table.name} yet", where=path, fix=f"run sono-curate {command} first"
            )
    for table, command in ((FRAMES, "ingest"), (REGIONS, "masks import"), (CAPTIONS, "caption")):
        if _has_twins(store, table):
            # Old parts go when the new ones are there; between the two a frame may even have two patients.
            raise UserError(f"sono-curate {command} was interrupted", where=path, fix="run it again, to its end")
    if stale_parts(QcStage(workspace.section("qc", QcSection)), qc_parts(store), store):
        # A verdict on other pixels, or by other thresholds, must not decide what is trained on.
        raise UserError("quality control is out of date", where=path, fix=f"run sono-curate qc {path} first")


def _has_twins(store: TableStore, table: TableSpec) -> bool:
    paths = [str(path) for path in store.paths(table)]
    sql = f"SELECT count(*) > count(DISTINCT {table.key}) AS twins FROM read_parquet($paths)"
    return bool(paths) and bool(query(sql, {"paths": paths})["twins"][0].as_py())


def _global_captions(store: TableStore) -> pa.Table:
    """frame_id, and the plane and the age that the caption is about."""
    return query(
        """
        SELECT frame_id, facts ->> '$.plane.value' AS plane, CAST(facts ->> '$.ga_days.value' AS INTEGER) AS ga_days
        FROM read_parquet($captions) WHERE region_id IS NULL
        """,
        {"captions": [str(path) for path in store.paths(CAPTIONS)]},
    )


def _assign(selection: pa.Table, plan: SplitPlan) -> dict[str, str]:
    pairs = selection.group_by(["patient_key", "center"]).aggregate([])
    grouped = selection.filter(pc.is_valid(selection["duplicate_group"]))
    return assign(
        zip(pairs["patient_key"].to_pylist(), pairs["center"].to_pylist(), strict=True),
        zip(grouped["duplicate_group"].to_pylist(), grouped["patient_key"].to_pylist(), strict=True),
        plan,
    )


def _shards(store: TableStore, selection: pa.Table, splits: Mapping[str, str], vocabulary: Vocabulary) -> list[Part]:
    """The parts of the build. Neighbours in the tables stay neighbours, so that a shard reads few parts."""
    labels = {plane: index for index, plane in enumerate(vocabulary.plane_ids)}
    rows = selection.append_column("split", pa.array([splits[key] for key in selection["patient_key"].to_pylist()]))
    plane = pa.array([labels.get(name) for name in rows["plane"].to_pylist()], pa.int64())
    rows = rows.set_column(rows.schema.get_field_index("plane"), "plane", plane)
    region_parts, caption_parts = _parts_of(store, REGIONS), _parts_of(store, CAPTIONS)
    fingerprints = {
        (table.name, name): info.fingerprint
        for table in (FRAMES, CAPTIONS, REGIONS)
        for name, info in store.parts(table).items()
    }
    parts = []
    for split in SPLITS:
        mine = rows.filter(pc.equal(rows["split"], split))
        count = -(-mine.num_rows // _SHARD_ROWS)
        for number in range(count):
            shard = mine.slice(number * _SHARD_ROWS, _SHARD_ROWS).select(["part", "frame_id", "plane", "ga_days"])
            names = pc.unique(shard["part"]).to_pylist()
            regions = sorted({name for part in names for name in region_parts.get(part, ())})
            captions = sorted({name for part in names for name in caption_parts.get(part, ())})
            inputs = [fingerprints[FRAMES.name, name] for name in names]
            inputs += [fingerprints[CAPTIONS.name, name] for name in captions]
            inputs += [fingerprints[REGIONS.name, name] for name in regions]
            digest = hashlib.sha256(json.dumps([inputs, shard.to_pylist()]).encode()).hexdigest()
            name = f"{split}-{number:05d}-of-{count:05d}"
            parts.append(Part(name, digest, partial(_load, store, shard.combine_chunks(), regions, captions)))
    return parts


def _parts_of(store: TableStore, table: TableSpec) -> dict[str, list[str]]:
    """For each part of frames the parts of ``table``, of regions or captions, that are about its frames."""
    if not store.paths(table):
        return {}
    rows = query(
        """
        SELECT DISTINCT parse_filename(f.filename, true)[6:] AS part, parse_filename(t.filename, true)[6:] AS other
        FROM read_parquet($others, filename = true) t JOIN read_parquet($frames, filename = true) f USING (frame_id)
        ORDER BY ALL
        """,
        {
            "others": [str(path) for path in store.paths(table)],
            "frames": [str(path) for path in store.paths(FRAMES)],
        },
    )
    found: dict[str, list[str]] = {}
    for row in rows.to_pylist():
        found.setdefault(row["part"], []).append(row["other"])
    return found


_FRAME_COLUMNS = [
    *("frame_id", "image", "height", "width", "patient_key", "study_key", "source_key", "frame_index"),
    *("center", "manufacturer", "model", "sector", "pixel_mm_x", "pixel_mm_y", "pixel_sha256"),
]


def _load(store: TableStore, shard: pa.Table, region_parts: Sequence[str], caption_parts: Sequence[str]) -> pa.Table:
    """The rows of a shard with everything joined: called in the worker."""
    rows: list[dict[str, Any]] = []
    chosen = {row["frame_id"]: row for row in shard.to_pylist()}
    regions = _regions_of(store, region_parts, chosen)
    captions = _captions_of(store, caption_parts, chosen)
    for name in pc.unique(shard["part"]).to_pylist():
        frames = store.read(FRAMES, name, _FRAME_COLUMNS)
        wanted = pc.is_in(frames["frame_id"], value_set=pa.array(list(chosen), pa.string()))
        for frame in frames.filter(wanted).to_pylist():
            frame_id = frame["frame_id"]
            frame |= {"plane": chosen[frame_id]["plane"], "ga_days": chosen[frame_id]["ga_days"]}
            frame |= captions[frame_id, None]
            frame["regions"] = [
                {**region, **captions[frame_id, region_id]}
                for region_id, region in regions.get((frame_id, frame["pixel_sha256"]), ())
                if (frame_id, region_id) in captions
            ]
            rows.append(frame)
    return pa.Table.from_pylist(rows, schema=_JOINED)


_JOINED = pa.schema(
    [
        *(field for field in DATASET.schema if field.name != "pixel_mm"),
        *(
            FRAMES.schema.field(name)
            for name in ("height", "width", "source_key", "frame_index", "pixel_mm_x", "pixel_mm_y")
        ),
    ]
)


def _regions_of(
    store: TableStore, region_parts: Sequence[str], frames: Mapping[str, object]
) -> dict[tuple[str, str], list[tuple[str, dict[str, object]]]]:
    """By frame and the pixels a mask was drawn on: a mask of other pixels than the frame's is not one of it."""
    columns = ["region_id", "frame_id", "pixel_sha256", "structure", "mask", "bbox", "area_px", "source", "status"]
    found: dict[tuple[str, str], list[tuple[str, dict[str, object]]]] = {}
    for name in region_parts:
        for region in store.read(REGIONS, name, columns).to_pylist():
            status = region.pop("status")
            if region["frame_id"] in frames and status in ("accepted", "edited"):
                if status == "edited":
                    region["source"] = "manual"  # a hand drew what is there now, whoever proposed it
                key = region.pop("frame_id"), region.pop("pixel_sha256")
                found.setdefault(key, []).append((region.pop("region_id"), region))
    for regions in found.values():
        regions.sort(key=lambda item: (str(item[1]["structure"]), item[0]))
    return found


def _captions_of(
    store: TableStore, caption_parts: Sequence[str], frames: Mapping[str, object]
) -> dict[tuple[str, str | None], dict[str, object]]:
    """Caption and its id by frame and region; the region is None where the caption is about the whole image."""
    columns = ["frame_id", "region_id", "text", "caption_id"]
    return {
        (row["frame_id"], row["region_id"]): {"caption": row["text"], "caption_id": row["caption_id"]}
        for name in caption_parts
        for row in store.read(CAPTIONS, name, columns).to_pylist()
        if row["frame_id"] in frames
    }


def _take(out: Path) -> None:
    """Make sure that ``out`` is ours to write to, and say that it is being written."""
    present = {path.name for path in out.iterdir()} - {".lock"}
    if present and not present & {MARKER, _BUILDING}:
        raise UserError("the folder holds something that build did not write", where=str(out), fix="name a new folder")
    write_atomically(out / _BUILDING, lambda file: file.write(b"sono-curate build is at work, or was interrupted\n"))
    for leftover in (out / "data").glob(".tmp-*"):
        leftover.unlink(missing_ok=True)


def _finish(
    out: Path, store: DatasetStore, vocabulary: Vocabulary, plan: SplitPlan, left_out: Mapping[str, int]
) -> dict[str, int]:
    infos = store.parts(DATASET)
    shards: dict[str, dict[str, int]] = {split: {} for split in SPLITS}
    for name, info in infos.items():
        shards[name.partition("-")[0]][f"data/{name}.parquet"] = info.rows
    counts = {split: sum(rows.values()) for split, rows in shards.items()}
    manifest = {
        "format": 1,
        "planes": {plane.id: plane.name for plane in vocabulary.planes.values()},
        "structures": {structure.id: structure.name for structure in vocabulary.structures.values()},
        "splits": {split: {"rows": counts[split], "shards": shards[split]} for split in SPLITS if counts[split]},
        "split_plan": asdict(plan),
        "left_out": dict(left_out),
        "fingerprint": hashlib.sha256(json.dumps([info.fingerprint for info in infos.values()]).encode()).hexdigest(),
        "created_by": f"sono-curate {version('sono-curate')}",
    }
    card = _card(counts, left_out)
    write_atomically(out / "README.md", lambda file: file.write(card.encode()))
    write_atomically(out / MARKER, lambda file: file.write(json.dumps(manifest, indent=2).encode()))
    (out / _BUILDING).unlink(missing_ok=True)
    return counts


def _card(counts: Mapping[str, int], left_out: Mapping[str, int]) -> str:
    """The README.md. It names no ``configs``: ``datasets`` finds the splits by the files' names, and would otherwise
    key its cache by the folder's name alone, and give one dataset's rows for another's.
    """
    from jinja2 import Environment, StrictUndefined

    source = resources.files(__package__).joinpath("card.jinja").read_text(encoding="utf-8")
    template = Environment(undefined=StrictUndefined, autoescape=False, trim_blocks=True).from_string(source)
    return template.render(counts=counts, left_out=left_out)


def _count_regions(store: DatasetStore) -> int:
    paths = [str(path) for path in sorted((store.root / "data").glob("*.parquet"))]
    return int(query("SELECT sum(len(regions)) AS n FROM read_parquet($paths)", {"paths": paths})["n"][0].as_py() or 0)
