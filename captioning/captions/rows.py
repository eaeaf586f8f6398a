"""Rows of the captions table, collected one by one."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from sono.captioning.sentences.writer import Sentence
from sono.manifests.schemas import CAPTIONS


class CaptionRows:
    """The captions of one part."""

    def __init__(self) -> None:
        self._frame_ids: list[str] = []
        self._region_ids: list[str | None] = []
        self._sentences: list[Sentence] = []
        self._facts: list[str] = []

    def add(self, frame_id: str, region_id: str | None, sentence: Sentence, facts_json: str) -> None:
        """A caption of a frame, or of one of its regions if ``region_id`` is not None."""
        self._frame_ids.append(frame_id)
        self._region_ids.append(region_id)
        self._sentences.append(sentence)
        self._facts.append(facts_json)

    def table(self) -> pa.Table:
        """The rows as a part of the captions table."""
        frames, regions = pa.array(self._frame_ids, pa.string()), pa.array(self._region_ids, pa.string())
        columns = {
            "caption_id": pc.coalesce(regions, frames),
            "frame_id": frames,
            "region_id": regions,
            "text": [sentence.text for sentence in self._sentences],
            "facts": self._facts,
            "template": [sentence.template.id for sentence in self._sentences],
            "template_sha256": [sentence.template.sha256 for sentence in self._sentences],
            "tokens": [sentence.tokens for sentence in self._sentences],
            "dropped": [sentence.dropped for sentence in self._sentences],
        }
        return pa.Table.from_pydict(columns, schema=CAPTIONS.schema)
