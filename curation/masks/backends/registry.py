"""The backends that ``masks propose`` knows: one file each in this room, listed here."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from sono.manifests.errors import UserError

from .files import model_sha256

if TYPE_CHECKING:
    from .protocol import Backend


@dataclass(frozen=True)
class BackendKind:
    """What a backend runs, and the options that name its files.

    Attributes:
        takes_preprocessing: whether its files do not say what images the model was trained on.
        knows_structures: whether the name of a structure is enough, because the model has learned what it looks like.
    """

    runs: str
    files: tuple[str, ...]
    takes_preprocessing: bool = False
    knows_structures: bool = False


BACKENDS: Mapping[str, BackendKind] = {
    "grabcut": BackendKind("OpenCV, without weights", ()),
    "sam": BackendKind("a checkpoint of the package segment-anything", ("checkpoint",), takes_preprocessing=True),
    "onnx": BackendKind(
        "an encoder and a decoder of SAM's family, exported to ONNX",
        ("checkpoint", "decoder"),
        takes_preprocessing=True,
    ),
    "model": BackendKind("what masks fit learned from accepted masks", ("checkpoint",), knows_structures=True),
}
"""By name, as ``--backend`` takes it."""


@dataclass(frozen=True)
class BackendChoice:
    """A backend and its files. Picklable, so that each worker process opens its own.

    Attributes:
        checkpoint: of ``model``, also the folder that ``masks fit`` wrote.
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
        kind = BACKENDS[self.name]
        for option in ("checkpoint", "decoder"):
            if (getattr(self, option) is None) == (option in kind.files):
                what = "needs" if option in kind.files else "takes no"
                raise UserError(
                    f"--backend {self.name} {what} --{option} FILE", fix="see sono-curate masks propose --help"
                )
        if self.preprocessing != "sam" and not kind.takes_preprocessing:
            raise UserError(f"--backend {self.name} takes no --preprocessing", fix="leave it out")

    def model_sha256(self) -> str | None:
        """Of the model's files; None without weights.

        Raises:
            UserError: a file is missing or cannot be read.
        """
        files = [path for path in (self.checkpoint, self.decoder) if path is not None]
        if self.knows_structures:
            from sono.curation.masks.fit.model_file import FILE

            files = [path / FILE if path.is_dir() else path for path in files]
        return model_sha256(*files) if files else None

    def as_config(self, sha256: str | None) -> Mapping[str, object]:
        """What decides its answers, as JSON values; ``sha256`` is that of the model's files."""
        return {"backend": self.name, "model_sha256": sha256, "preprocessing": self.preprocessing}

    @property
    def knows_structures(self) -> bool:
        """Whether the name of a structure is enough."""
        return BACKENDS[self.name].knows_structures

    @property
    def uses_all_processors(self) -> bool:
        """Whether one process keeps every processor, or the GPU, busy, as networks do."""
        return bool(BACKENDS[self.name].files)


def prefix_of(name: str) -> str:
    """What the names of the parts of ``regions`` begin with that a backend proposed."""
    return f"proposed-{name}-"


def open_backend(choice: BackendChoice) -> Backend:
    """The backend, loaded once per process as long as its files stay the same.

    Raises:
        UserError: a package is missing, or a file is not a model that the backend can run.
    """
    return _open(choice, choice.model_sha256())


def reopen_backend(choice: BackendChoice, sha256: str | None) -> Backend:
    """The backend in a worker process, if its files are still those that the command started with.

    Raises:
        UserError: they are not.
    """
    backend = open_backend(choice)
    if backend.model_sha256 != sha256:
        raise UserError(
            "the model has changed since this command started", where=str(choice.checkpoint), fix="run it again"
        )
    return backend


def known_structures(choice: BackendChoice) -> Sequence[str] | None:
    """What a backend has learned to find, as ids of the vocabulary; None if it looks where it is told to.

    Raises:
        UserError: the model cannot be loaded.
    """
    if not choice.knows_structures:
        return None
    from .model import FittedModel

    backend = open_backend(choice)
    assert isinstance(backend, FittedModel)
    return backend.structures


def refuse_unknown(structures: Collection[str], choice: BackendChoice) -> None:
    """Refuse structures that a backend has not learned to find.

    Raises:
        UserError: there is one, or the model cannot be loaded.
    """
    known = known_structures(choice) if structures else None
    unknown = [] if known is None else [name for name in structures if name not in known]
    if known is not None and unknown:
        raise UserError(
            f"this model does not know {', '.join(unknown)}: it was fitted to {', '.join(known)}",
            where=str(choice.checkpoint),
            fix="leave out --structure, or fit a model to more with sono-curate masks fit",
        )


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
