"""A workspace: one folder with its configuration, its key and its tables."""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from . import pseudonyms, vocabulary
from .errors import UserError, did_you_mean
from .key_check import check_key, pseudonyms_id, record_key
from .outputs import refuse_inside_dataset, refuse_wildcards
from .projection import apply_decisions, decisions_applied
from .schemas import SCHEMA_VERSION, TABLES
from .store import TableStore, exclusive, write_atomically
from .toml import parse_toml
from .withdrawn import refuse_older_list, refuse_unfinished

SECTIONS = ("workspace", "vocabulary", "ingest", "cleaning", "qc", "review", "caption", "publish")
"""Each section has a model that validates it; unknown sections are refused."""

_FORMAT_FILE = "format.json"
"""Says which version of the tables a workspace holds, and in which scope its patients' numbers count."""

Section = TypeVar("Section", bound=BaseModel)


class WorkspaceSection(BaseModel):
    """``[workspace]`` of ``sono.toml``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    center: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[\w .()-]+$")] = "center"
    patient_scope: Literal["center", "global"] = "center"  # where one number is one patient


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
        """The key, once it is known to be the one that the workspace was filled with."""
        keys = pseudonyms.load_key(self._key_file, self.section("workspace", WorkspaceSection).patient_scope)
        check_key(self.path, keys)
        return keys

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
            section = model.model_validate(self._configuration.get(name, {}))
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join([name, *(str(part) for part in first["loc"])])
            if first["type"] != "extra_forbidden":
                raise UserError(f"{key}: {first['msg']}", where=str(self._file), fix="correct that value") from error
            similar = did_you_mean(str(first["loc"][-1]), model.model_fields)
            known = f"known keys of [{name}]: {', '.join(sorted(model.model_fields))}"
            raise UserError(f"{key}: unknown key", where=str(self._file), fix=similar or known) from error
        infinite = _not_finite(section.model_dump())
        if infinite:
            raise UserError(f"{name}.{infinite}: not a finite number", where=str(self._file), fix="correct that value")
        return section

    @property
    def pseudonyms_id(self) -> str:
        """Says in datasets whose pseudonyms they hold: patients of two datasets can be compared if it is the same.

        Raises:
            UserError: the workspace does not know its key.
        """
        return pseudonyms_id(self.path, self.section("workspace", WorkspaceSection).patient_scope)

    @contextlib.contextmanager
    def writing(self, *, withdrawing: bool = False) -> Iterator[None]:
        """Lock the workspace for writing, clear what killed runs left behind, and check the key.

        What people have decided meanwhile is in the tables when the block begins, and again when it has ended.

        Args:
            withdrawing: the block takes patients out, and so finishes a withdrawal that was interrupted.

        Raises:
            UserError: another command is writing to it, its key has been replaced, its list of who took back the
                consent is an older one, or a withdrawal was interrupted.
        """
        with exclusive(self.path, str(self.path)):
            self.store.clear_leftovers()
            refuse_older_list(self.path)
            if not withdrawing:
                refuse_unfinished(self.path)
            self.check_format()
            if self._key_file.exists():  # qc and build can do without it
                record_key(self.path, self.keys)
            self._write_format()
            apply_decisions(self.store)
            try:
                yield
                apply_decisions(self.store)
            finally:
                self.store.clear_leftovers()  # an interrupted engine stops its workers mid-write

    def apply_decisions(self) -> None:
        """Bring everything that people have decided into the tables, for a command that only reads them.

        Raises:
            UserError: another command is writing to the workspace; whoever reads now would miss decisions.
        """
        if not decisions_applied(self.store):
            with self.writing():
                pass

    def check_format(self) -> None:
        """Check that the tables are this version's, and that patients' numbers meant then what they mean now.

        Raises:
            UserError: they are not; nothing of an older workspace can be mixed with new tables.
        """
        if not any(next((self.path / name).glob("part-*.parquet"), None) for name in TABLES):
            return
        written = self._read_format()
        if written.get("schema") != SCHEMA_VERSION:
            raise UserError(
                "this workspace was written by another version of sono-curate",
                where=str(self.path),
                fix="run sono-curate init for a new folder, copy secret.key and sono.toml there, and ingest again",
            )
        scope = self.section("workspace", WorkspaceSection).patient_scope
        if written.get("patient_scope") != scope:
            raise UserError(
                f"workspace.patient_scope is now {scope!r}, and frames were ingested with another",
                where=str(self._file),
                fix="set it back, or run sono-curate init for a new folder and ingest there",
            )

    def _read_format(self) -> dict[str, object]:
        try:
            found = json.loads((self.path / _FORMAT_FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}

    def _write_format(self) -> None:
        scope = self.section("workspace", WorkspaceSection).patient_scope
        content = {"schema": SCHEMA_VERSION, "patient_scope": scope}
        if self._read_format() != content:
            write_atomically(self.path / _FORMAT_FILE, lambda file: file.write(json.dumps(content).encode() + b"\n"))

    @property
    def _key_file(self) -> Path:
        return self.path / "secret.key"

    @property
    def _file(self) -> Path:
        return self.path / "sono.toml"

    @cached_property
    def _configuration(self) -> dict[str, Any]:
        try:
            content = parse_toml(self._file.read_text(encoding="utf-8"), str(self._file))
        except UnicodeDecodeError as error:
            raise UserError("not UTF-8", where=str(self._file), fix="save it again as UTF-8") from error
        unknown = sorted(set(content) - set(SECTIONS))
        if unknown:
            known = f"known sections: {', '.join(SECTIONS)}"
            fix = did_you_mean(unknown[0], SECTIONS) or known
            raise UserError(f"unknown section [{unknown[0]}]", where=str(self._file), fix=fix)
        return content


def _not_finite(values: Mapping[str, object]) -> str | None:
    """The key of the first number that is infinite or not a number; TOML has both."""
    for key, value in values.items():
        if isinstance(value, float) and not math.isfinite(value):
            return key
        if isinstance(value, dict) and (inner := _not_finite(value)):
            return f"{key}.{inner}"
    return None


def create(path: Path, center: str) -> Workspace:
    """Create a workspace with a new key.

    Raises:
        UserError: the folder is not empty, or the center's name cannot be used.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UserError("not an empty folder", where=str(path), fix="name a new folder for the workspace")
    refuse_inside_dataset(path)
    try:
        WorkspaceSection(center=center)
    except ValidationError:
        raise UserError(
            f"{center!r} cannot be the name of a center", fix="use up to 64 letters, digits, spaces and . ( ) -"
        ) from None
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(0o700)
    record_key(path, pseudonyms.create_key(path / "secret.key"))
    text = re.sub(r"^center = .*$", f'center = "{center}"', _TEMPLATE, count=1, flags=re.MULTILINE)
    write_atomically(path / "sono.toml", lambda file: file.write(text.encode()))
    write_atomically(path / ".gitignore", lambda file: file.write(b"*\n"))  # a workspace does not belong in git
    Workspace(path)._write_format()
    return Workspace(path)  # which has not read the configuration yet


def open_workspace(path: Path) -> Workspace:
    """Open a workspace.

    Raises:
        UserError: the folder is missing or not a workspace, or another version wrote its tables.
    """
    workspace = open_unchecked(path)
    workspace.check_format()
    return workspace


def open_to_read(path: Path) -> Workspace:
    """Open a workspace of which nothing but the tables is read: they have everything that people have decided.

    Raises:
        UserError: as of ``open_workspace``, or another command is writing while decisions wait.
    """
    workspace = open_workspace(path)
    workspace.apply_decisions()
    return workspace


def open_unchecked(path: Path) -> Workspace:
    """Open a workspace whatever its configuration and its tables are like, to find out what is wrong with them.

    Raises:
        UserError: the folder is missing, not a workspace, or has a path that is taken for a pattern.
    """
    refuse_wildcards(path)
    if not path.is_dir():
        raise UserError("folder not found", where=str(path), fix=f"run: sono-curate init {path}")
    if not (path / "sono.toml").is_file():
        raise UserError("not a workspace: it has no sono.toml", where=str(path), fix=f"run: sono-curate init {path}")
    return Workspace(path)


_TEMPLATE = """\
# Configuration of this workspace. Every key is optional; unknown keys are errors. See docs/configuration.md.

[workspace]
center = "center"
# patient_scope = "center"   # or "global": one number is one patient in all centers

[ingest]
# missing_patient = "exclude"   # or "study": use the study as the patient if the header names none
# plane_fields = ["ViewCodeSequence", "SeriesDescription", "ProtocolName"]

[cleaning]
# modes = ["b_mode", "color_doppler", "dual"]   # frames of other modes are left out
# search_share = 0.005  # of frames that a slow second reader searches for burned-in text, too

[qc]
# min_short_side_px = 128

[review]
# second_share = 0.0   # of masks, read by a second reader as well, blinded
# repeat_share = 0.0   # of masks, read again by the same reader

[caption]
# templates = "en"        # or "paper", or a folder with templates of your own
# context_length = 77     # of the text tower that will be trained; FetalCLIP's is 117
# text = "ignore"         # or "rules": also take facts from prose in the records

[publish]
# licence = "CC-BY-NC-4.0"  # an SPDX identifier; nothing is published without one
# citation = ""
# contact = ""
# ga_days = "exact"         # or "weeks"
# k_anonymity = 0           # patients that must share the center, scanner and age of every frame
"""
