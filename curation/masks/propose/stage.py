"""Proposals of one part: frames with what is wanted of each in, regions that await a person's decision out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from sono.curation.masks.backends.registry import BackendChoice, reopen_backend
from sono.curation.masks.backends.scores import for_json
from sono.manifests import masks
from sono.manifests.pseudonyms import Pseudonymizer
from sono.manifests.schemas import REGIONS, TableSpec
from sono.manifests.stages import Exclusion, StageOutput

if TYPE_CHECKING:
    from .embedding_cache import EmbeddingCache, Encoder, Tally

NO_CANDIDATE = Exclusion("", "no_candidate", "the backend found nothing where a structure was expected")


@dataclass(frozen=True)
class Wanted:
    """What a run was asked to propose.

    Attributes:
        structures: None for all structures of each frame's plane.
        keep_others: earlier proposals for other structures stay.
        all_frames: False if only some were tried.
    """

    structures: Sequence[str] | None
    keep_others: bool
    all_frames: bool


@dataclass(frozen=True)
class ProposeStage:
    """From frames to proposed regions. Input columns: ``plan.INPUT``.

    Attributes:
        model_sha256: of the files of ``backend``.
        wanted: what of the frames was asked for, which the input of the parts follows from.
    """

    keys: Pseudonymizer
    backend: BackendChoice
    model_sha256: str | None
    cache: EmbeddingCache | None
    tally: Tally
    wanted: Wanted

    name = "masks-propose"
    version = 2

    @property
    def output(self) -> TableSpec:
        return REGIONS

    def config(self) -> Mapping[str, object]:
        return self.backend.as_config(self.model_sha256)

    def made_with(self) -> Mapping[str, object]:
        return {**self.config(), "wanted": asdict(self.wanted)}

    def __call__(self, part: pa.Table) -> StageOutput:
        from sono.curation.images.pixels import ExcludedError

        from .embedding_cache import Encoder

        encoder = Encoder(reopen_backend(self.backend, self.model_sha256), self.cache)
        rows: list[dict[str, object]] = []
        exclusions: list[Exclusion] = []
        for frame in part.to_pylist():
            rows += frame["kept"]
            try:
                found = list(self._propose(frame, encoder)) if frame["requests"] else []
            except ExcludedError as error:
                exclusions.append(Exclusion(frame["source_key"], error.reason, error.message, frame["frame_index"]))
                continue
            rows += [row for row in found if row is not None]
            if None in found:
                exclusions.append(Exclusion(frame["source_key"], NO_CANDIDATE.reason, NO_CANDIDATE.message,
                                            frame["frame_index"]))  # fmt: skip
        self.tally.add(encoder)
        return StageOutput(REGIONS.from_rows(rows), exclusions)

    def _propose(self, frame: Mapping[str, Any], encoder: Encoder) -> Iterator[dict[str, object] | None]:
        """The row of each structure; None where the backend found nothing."""
        from sono.curation.cleaning.sectors.geometry import Sector, sector_mask
        from sono.curation.images.stored_png import decode_png

        from .choose import choose
        from .prompts import Asked, ask_by_name, ask_for

        pixels = decode_png(frame["image"])
        size = (pixels.shape[0], pixels.shape[1])
        sectors = [Sector.from_row(row) for row in frame["sectors"] or []]
        shown = sector_mask(sectors, *size) if sectors else None
        neighbours = {each["region_id"]: each["mask"] for each in frame["neighbours"]}
        embedding = None
        for request in frame["requests"]:
            rle = neighbours.get(request["region_id"])
            neighbour = masks.decode(rle) if rle is not None and tuple(rle["size"]) == size else None
            if self.backend.knows_structures:
                asked: Asked | None = ask_by_name(request["structure"])
            else:
                asked = ask_for(request, tuple(frame["field"]), size, neighbour)
            if asked is None:
                continue
            embedding = embedding or encoder.embed(pixels, frame["pixel_digest"])
            chosen = choose(encoder.backend, embedding, asked.prompts, shown)
            if chosen is None:
                yield None
            else:
                yield self._row(frame, request["structure"], *chosen, {"from": asked.origin, **asked.record})

    def _row(
        self, frame: Mapping[str, Any], structure: str, candidate: Any, prompts: Any, record: Mapping[str, object]
    ) -> dict[str, object]:
        scores = {"score": candidate.score, **candidate.scores}
        box = {"box": [round(side) for side in prompts.box]} if prompts.box is not None else {}
        return {
            # Not that of an imported mask of the same source: both may be there until the proposal is decided on.
            "region_id": self.keys.region(frame["frame_id"], structure, f"proposed/{self.backend.name}"),
            "frame_id": frame["frame_id"],
            "pixel_digest": frame["pixel_digest"],
            "structure": structure,
            "mask": masks.encode(candidate.mask),
            "area_px": masks.area_px(candidate.mask),
            "bbox": list(masks.bbox(candidate.mask)),
            "source": self.backend.name,
            "prompt": json.dumps({**record, **box}, sort_keys=True),
            "scores": json.dumps(for_json(scores), sort_keys=True),
            "status": "proposed",
            "model_sha256": self.model_sha256,
        }
