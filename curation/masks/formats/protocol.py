"""What a mask format is to the rest of the program: it finds and reads the masks of a file, and writes masks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

from sono.manifests.masks import Mask
from sono.manifests.vocabulary import Vocabulary

Size = tuple[int, int]
"""Height and width in px."""

ReadMask = Callable[[str, Size], Mask]
"""Reads the mask at a place of one file, as a boolean array of shape [height, width].

The size is that of the image the mask was drawn on, for formats whose files do not say it. Raises ``ExcludedError``.
"""


class Found(NamedTuple):
    """A mask, or one of several shapes that make up a mask, that a file holds, before its pixels are read.

    Attributes:
        image: name of the image that it lies on, as the file says; None if it has the name of the file itself.
        labels: what the file calls it; several are other names of the same. Empty if the file does not say.
        place: where in the file it is, as the format's ``reader`` wants it.
        frame: which frame of the image, counted from 0, if the file says it apart from the name.
        may_be_absent: it is one value of a label map, which need not occur in it.
        otherwise: what it is called in other words, which count if none of ``labels`` is a structure.
        problem: why it cannot be used, one of ``reasons.MESSAGES``.
    """

    image: str | None = None
    labels: tuple[str, ...] = ()
    place: str = ""
    frame: int | None = None
    may_be_absent: bool = False
    problem: str | None = None
    otherwise: tuple[str, ...] = ()


@dataclass(frozen=True)
class ExportedRegion:
    """A structure's mask, and its caption where the workspace has one."""

    structure: str
    mask: Mask
    caption: str | None = None
    by_program: bool = False


@dataclass(frozen=True)
class ExportedFrame:
    """A frame with the regions to write, at most one per structure. ``png`` is there only for formats with images."""

    frame_id: str
    height: int
    width: int
    study_key: str
    plane: str | None
    pixel_mm: tuple[float, float] | None  # x, y
    regions: Sequence[ExportedRegion]
    png: bytes = field(default=b"", repr=False)
    caption: str | None = None


class Writer(Protocol):
    """Writes an export into an empty folder, frame by frame."""

    def add(self, frame: ExportedFrame) -> Sequence[Mask]:
        """Write a frame's masks.

        Returns:
            The masks as readers of the file will see them, in the order of the frame's regions.

        Raises:
            UserError: the format cannot hold them.
            ExcludedError: it cannot hold this frame's; the frame is left out, and counted.
        """
        ...

    def close(self) -> None:
        """Finish what was written. Not called after an error."""
        ...


class Format(Protocol):
    """One mask format, both ways. Implementations are frozen dataclasses without state."""

    @property
    def structures_from_folders(self) -> bool:
        """Whether a file does not say what its mask shows, so that its folder or the user does."""
        ...

    @property
    def with_images(self) -> bool:
        """Whether an export holds the images and their captions as well."""
        ...

    def is_beside(self, relative: str) -> bool:
        """Whether a file belongs to the format without holding masks, such as a list of labels."""
        ...

    def find(self, path: Path) -> Iterator[Found]:
        """The masks of a file, in its order; memory does not grow with the file.

        Raises:
            ExcludedError: it is not a file of this format.
        """
        ...

    def reader(self, path: Path) -> ReadMask:
        """Reads the file's masks; several of one file are read one after another.

        Raises:
            ExcludedError: the file as a whole cannot be used.
        """
        ...

    def writer(self, folder: Path, vocabulary: Vocabulary, structures: Sequence[str]) -> Writer:
        """``structures``: all that the export may contain, in the vocabulary's order."""
        ...
