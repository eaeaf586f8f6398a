"""A workspace: one folder with its configuration, its key and its tables."""

from __future__ import annotations

import contextlib
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from . import pseudonyms, vocabulary
from .errors import UserError, did_you_mean
from .store import TableStore, exclusive, write_atomically

SECTIONS = ("workspace", "vocabulary", "ingest", "qc", "caption")
"""Each section has a model that validates it; unknown sections are refused."""

Section = TypeVar("Section", bound=BaseModel)


class WorkspaceSection(BaseModel):
    """``[workspace]`` of ``sono.toml``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    center: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[\w .()-]+$")] = "center"


class VocabularySection(BaseModel):
    """``[vocabulary]`` of ``sono.toml``: a file, relative to the workspace, that replaces the packaged one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: Path | None = None


@dataclass(frozen=True)
class Workspace:
    """An existing workspace; get one from ``create`` or ``open_workspace``."""

    path: Path

    @property
    def store(self) -> TableStore:
        return TableStore(self.path)

    @property
    def reports(self) -> Path:
        return self.path / "reports"

    @cached_property
    def keys(self) -> pseudonyms.Pseudonymizer:
        return pseudonyms.load_key(self.path / "secret.key")

    @cached_property
    def center(self) -> str:
        return self.section("workspace", WorkspaceSection).center

    @cached_property
    def vocabulary(self) -> vocabulary.Vocabulary:
        file = self.section("vocabulary", VocabularySection).file
        return vocabulary.load(self.path / file if file else None)

    def section(self, name: str, model: type[Section]) -> Section:
        """One section of ``sono.toml``, validated by the model of the code that owns it.

        Raises:
            UserError: an unknown key or an invalid value; the text names the key.
        """
        assert name in SECTIONS, name
        try:
            return model.model_validate(self._configuration.get(name, {}))
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join([name, *(str(part) for part in first["loc"])])
            if first["type"] != "extra_forbidden":
                raise UserError(f"{key}: {first['msg']}", where=str(self._file), fix="correct that value") from error
            similar = did_you_mean(str(first["loc"][-1]), model.model_fields)
            known = f"known keys of [{name}]: {', '.join(sorted(model.model_fields))}"
            raise UserError(f"{key}: unknown key", where=str(self._file), fix=similar or known) from error

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Lock the workspace for writing, and remove what killed runs left behind.

        Raises:
            UserError: another command is writing to it.
        """
        with exclusive(self.path, str(self.path)):
            self.store.clear_leftovers()
            try:
                yield
            finally:
                self.store.clear_leftovers()  # an interrupted engine stops its workers mid-write

    @property
    def _file(self) -> Path:
        return self.path / "sono.toml"

    @cached_property
    def _configuration(self) -> dict[str, Any]:
        try:
            content = tomllib.loads(self._file.read_text(encoding="utf-8"))
        except UnicodeDecodeError as error:
            raise UserError("not UTF-8", where=str(self._file), fix="save it again as UTF-8") from error
        except tomllib.TOMLDecodeError as error:
            raise UserError(f"not valid TOML: {error}", where=str(self._file), fix="correct that line") from error
        unknown = sorted(set(content) - set(SECTIONS))
        if unknown:
            known = f"known sections: {', '.join(SECTIONS)}"
            fix = did_you_mean(unknown[0], SECTIONS) or known
            raise UserError(f"unknown section [{unknown[0]}]", where=str(self._file), fix=fix)
        return content


def create(path: Path, center: str) -> Workspace:
    """Create a workspace with a new key.

    Raises:
        UserError: the folder is not empty, or the center's name cannot be used.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UserError("not an empty folder", where=str(path), fix="name a new folder for the workspace")
    try:
        WorkspaceSection(center=center)
    except ValidationError:
        raise UserError(
            f"{center!r} cannot be the name of a center", fix="use up to 64 letters, digits, spaces and . ( ) -"
        ) from None
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(0o700)
    pseudonyms.create_key(path / "secret.key")
    text = re.sub(r"^center = .*$", f'center = "{center}"', _TEMPLATE, count=1, flags=re.MULTILINE)
    write_atomically(path / "sono.toml", lambda file: file.write(text.encode()))
    write_atomically(path / ".gitignore", lambda file: file.write(b"*\n"))  # a workspace does not belong in git
    return Workspace(path)


def open_workspace(path: Path) -> Workspace:
    """Open a workspace.

    Raises:
        UserError: the folder is missing or not a workspace.
    """
    if not path.is_dir():
        raise UserError("folder not found", where=str(path), fix=f"run: sono-curate init {path}")
    if not (path / "sono.toml").is_file():
        raise UserError("not a workspace: it has no sono.toml", where=str(path), fix=f"run: sono-curate init {path}")
    return Workspace(path)


_TEMPLATE = """\
# Configuration of this workspace. Every key is optional; unknown keys are errors. See docs/configuration.md.

[workspace]
center = "center"

[ingest]
# missing_patient = "exclude"   # or "study": use the study as the patient if the header names none
# plane_fields = ["ViewCodeSequence", "SeriesDescription", "ProtocolName"]

[qc]
# min_short_side_px = 128

[caption]
# templates = "en"        # or "paper", or a folder with templates of your own
# context_length = 77     # of the text tower that will be trained; FetalCLIP's is 117
# text = "ignore"         # or "rules": also take facts from prose in the records
"""
