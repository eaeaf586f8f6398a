"""The section ``[caption]`` of ``sono.toml``, and what it decides: how records are read and captions are written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from sono.captioning.facts.statements import Prose, Reading
from sono.captioning.prose.endpoint import LanguageModelSection
from sono.captioning.prose.language_model import ModelProse
from sono.captioning.prose.rules import RuleBasedProse
from sono.captioning.sentences.packs import load_pack
from sono.captioning.sentences.writer import Budget, Writer
from sono.manifests.errors import UserError
from sono.manifests.filenames import ANSWERS_FILE
from sono.manifests.workspace import Workspace


class CaptionSection(BaseModel):
    """``[caption]`` of ``sono.toml``.

    Attributes:
        templates: a packaged pack's name, or a folder relative to the workspace.
        seed: decides which of a pack's sentences a frame gets.
        tokenizer: ``clip``, or a Hugging Face ``tokenizer.json`` relative to the workspace.
        context_length: tokens that the model reads, start and end included: CLIP 77, FetalCLIP 117.
        patient_system: the FHIR identifier system whose values are the PatientID of the images.
        text: how free text is read: not at all, by rules, or by a language model.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    templates: str = "en"
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    tokenizer: str = "clip"
    context_length: Annotated[int, Field(ge=16, le=4096)] = 77
    patient_system: str | None = None
    text: Literal["ignore", "rules", "model"] = "ignore"
    language_model: LanguageModelSection | None = None


def load_section(workspace: Workspace) -> CaptionSection:
    """The section, checked.

    Raises:
        UserError: an unknown or impossible value, or ``text = "model"`` without a language model.
    """
    section = workspace.section("caption", CaptionSection)
    if section.text == "model" and section.language_model is None:
        raise UserError(
            'caption.text is "model", but no language model is named',
            where=str(workspace.path / "sono.toml"),
            fix="add [caption.language_model] with base_url and model",
        )
    return section


def reading_of(workspace: Workspace, section: CaptionSection) -> Reading:
    """How the workspace's records are read."""
    return Reading(workspace.keys, workspace.vocabulary, _prose(workspace, section), section.patient_system)


def statement_settings(section: CaptionSection) -> Mapping[str, object]:
    """What of the section decides which statements are read, besides ``patient_system``; part of their fingerprint."""
    model = section.language_model if section.text == "model" else None
    asked = model.model_dump(mode="json", include={"base_url", "model"}) if model else None  # the rest is how, not what
    return {"text": section.text, "model": asked}


def writer_of(workspace: Workspace, section: CaptionSection, templates: str | None = None) -> Writer:
    """The workspace's writer of sentences, with ``templates`` in place of the section's if given."""
    pack = load_pack(templates or section.templates, workspace.vocabulary, None if templates else workspace.path)
    return Writer(pack, workspace.vocabulary, Budget(section.tokenizer, section.context_length, workspace.path))


def _prose(workspace: Workspace, section: CaptionSection) -> Prose | None:
    if section.text == "rules":
        return RuleBasedProse(workspace.vocabulary)
    if section.text == "model" and section.language_model is not None:
        return ModelProse(section.language_model, workspace.vocabulary, workspace.path / ANSWERS_FILE)
    return None
