"""The backends that ``masks propose`` knows: one file each in this room, listed here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from sono.manifests.errors import UserError

from .files import model_sha256

if TYPE_CHECKING:
    from .protocol import Backend

BACKENDS: Mapping[str, str] = {
    "grabcut": "OpenCV, without weights",
    "sam": "a checkpoint of the package segment-anything",
    "onnx": "an encoder and a decoder of SAM's family, exported to ONNX",
    "model": "what masks fit learned from accepted masks",
}
"""Names as ``--backend`` takes them, and what they run."""


@dataclass(frozen=True)
class BackendChoice:
    """A backend and its files. Picklable, so that each worker process opens its own.

    Attributes:
        decoder: the second file of ``onnx``.
        preprocessing: what images the model was trained on: sam, medsam, litemedsam.

    Raises:
        UserError: the backend is unknown, or its files are not those it needs.
    """

    name: str
    checkpoint: Path | None = None
    decoder: Path | None = None
    preprocessing: str = "sam"

    def __post_init__(self) -> None:
        if self.name not in BACKENDS:
            raise UserError(f"--backend {self.name} is not one of {', '.join(BACKENDS)}")
        wanted = {"grabcut": (), "sam": ("checkpoint",), "onnx": ("checkpoint", "decoder")}.get(
            self.name, ("checkpoint",)
        )
        for option in ("checkpoint", "decoder"):
            if (getattr(self, option) is None) == (option in wanted):
                what = "needs" if option in wanted else "takes no"
                raise UserError(
                    f"--backend {self.name} {what} --{option} FILE", fix="see sono-curate masks propose --help"
                )
        if self.preprocessing != "sam" and self.name not in ("sam", "onnx"):
            raise UserError(f"--backend {self.name} takes no --preprocessing", fix="leave it out")

    def model_sha256(self) -> str | None:
        """Of the model's files; None without weights.

        Raises:
            UserError: a file is missing or cannot be read.
        """
        files = [path for path in (self.checkpoint, self.decoder) if path is not None]
        return model_sha256(*files) if files else None

    @property
    def knows_structures(self) -> bool:
        """Whether the name of a structure is enough, because the model has learned what it looks like."""
        return self.name not in ("grabcut", "sam", "onnx")

    @property
    def uses_all_processors(self) -> bool:
        """Whether one process keeps every processor, or the GPU, busy."""
        return self.name != "grabcut"


def open_backend(choice: BackendChoice) -> Backend:
    """The backend, loaded once per process as long as its files stay the same.

    Raises:
        UserError: a package is missing, or a file is not a model that the backend can run.
    """
    return _open(choice, choice.model_sha256())


@lru_cache(maxsize=1)
def _open(choice: BackendChoice, sha256: str | None) -> Backend:
    del sha256  # a model in the place of another one is not that one
    # Imported here: each needs another library, and listing the backends must not load any.
    if choice.name == "sam":
        from .sam import SamBackend

        assert choice.checkpoint is not None
        return SamBackend(choice.checkpoint, choice.preprocessing)
    if choice.name == "onnx":
        from .onnx import OnnxBackend, OnnxFiles

        assert choice.checkpoint is not None
        assert choice.decoder is not None
        return OnnxBackend(OnnxFiles(choice.checkpoint, choice.decoder), choice.preprocessing)
    if choice.name == "model":
        from .model import FittedModel

        assert choice.checkpoint is not None
        return FittedModel.load(choice.checkpoint)
    from .grabcut import GrabCutBackend

    return GrabCutBackend()
