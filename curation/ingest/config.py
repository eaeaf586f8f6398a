"""``[ingest]`` of ``sono.toml``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict
from pydantic_core import PydanticCustomError

from sono.manifests.errors import did_you_mean


def _dicom_keyword(keyword: str) -> str:
    from pydicom.datadict import keyword_dict  # here, because the defaults need no check and pydicom loads slowly

    if keyword not in keyword_dict:
        similar = did_you_mean(keyword, keyword_dict)
        raise PydanticCustomError(
            "dicom_keyword", "not the keyword of a DICOM attribute{hint}", {"hint": f"; {similar}" if similar else ""}
        )
    return keyword


class IngestSection(BaseModel):
    """``[ingest]`` of ``sono.toml``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    missing_patient: Literal["exclude", "study"] = "exclude"  # study: it stands for the patient
    plane_fields: tuple[Annotated[str, AfterValidator(_dicom_keyword)], ...] = (
        *("ViewCodeSequence", "SeriesDescription", "ProtocolName"),
    )
