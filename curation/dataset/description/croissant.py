"""croissant.json: the dataset for machines, in Croissant 1.0 with its RAI vocabulary.

Specifications: https://docs.mlcommons.org/croissant/docs/croissant-spec.html and croissant-rai-spec.html.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from sono.curation.dataset.config import PublishSection
from sono.curation.dataset.description.card.content import Content
from sono.curation.dataset.description.card.curated import Curated
from sono.curation.dataset.licences import licence_url
from sono.curation.dataset.shards.configurations import CONFIGURATIONS, Configuration

_PARQUET = "application/x-parquet"
_TYPES: Mapping[pa.DataType, str] = {
    pa.string(): "sc:Text",
    pa.int32(): "sc:Integer",
    pa.int64(): "sc:Integer",
    pa.float32(): "sc:Float",
    pa.float64(): "sc:Float",
}
_CONTEXT: Mapping[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}


def croissant(
    name: str, section: PublishSection, content: Content, curated: Curated, listed: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """The metadata as JSON-LD.

    Args:
        listed: by configuration and split the rows and files, as ``sono.json`` lists them.
    """
    present = [each for each in CONFIGURATIONS if listed[each.name]]
    return {
        "@context": dict(_CONTEXT),
        "@type": "sc:Dataset",
        "conformsTo": ["http://mlcommons.org/croissant/1.0", "http://mlcommons.org/croissant/RAI/1.0"],
        "name": name,
        "description": f"{section.title}: {content.total.frames:,} frames of {content.total.patients:,} patients.",
        **({"license": licence_url(section.licence) or section.licence} if section.licence else {}),
        **({"citeAs": section.citation} if section.citation else {}),
        **({"creator": {"@type": "sc:Organization", "name": section.contact}} if section.contact else {}),
        "keywords": ["fetal ultrasound", "standard planes", "segmentation", "captions"],
        **_rai(content, curated),
        "distribution": [each for configuration in present for each in _distribution(configuration)],
        "recordSet": [_record_set(configuration) for configuration in present],
    }


def _rai(content: Content, curated: Curated) -> dict[str, Any]:
    """Responsible AI: https://docs.mlcommons.org/croissant/docs/croissant-rai-spec.html."""
    machines = [each.source for each in curated.masks if each.source not in ("import", "manual")]
    thresholds = ", ".join(f"{name} {value}" for name, value in curated.thresholds.items())
    audit = "no audit was made"
    if curated.audit is not None:
        audit = (
            f"an audit of tables and images against the archive {'passed' if curated.audit.report.passed else 'failed'}"
        )
    return {
        "rai:dataCollection": "Ultrasound examinations of routine care, exported from the archives of the centers.",
        "rai:dataCollectionType": ["Secondary Data Analysis"],
        "rai:dataPreprocessingProtocol": [
            "Frames are cropped to the ultrasound; everything outside of its sectors is black, and text and marks over "
            "it are painted over.",
            f"Quality control with these thresholds: {thresholds}.",
        ],
        "rai:dataAnnotationProtocol": (
            "Masks were drawn, imported, or proposed by a program; those that a person accepted or edited are here."
            " Captions are written by templates from clinical records."
        ),
        **({"rai:machineAnnotationTools": machines} if machines else {}),
        "rai:personalSensitiveInformation": [
            "Health data of pregnant patients under pseudonyms; age, scanner and center as far as published.",
            f"De-identified by sono-curate; {audit}.",
        ],
        "rai:dataBiases": [
            f"{len(content.centers)} centers and {len(content.scanners)} scanners; frames without a caption, of "
            "doubtful text or of poor quality are left out.",
        ],
        "rai:dataLimitations": [
            "Not a sample of all examinations. A structure without a mask may be in the image.",
            "Not for decisions on the care of a patient.",
        ],
        "rai:dataUseCases": ["Pretraining of image-text models, classification of standard planes, segmentation."],
    }


def _distribution(configuration: Configuration) -> list[dict[str, Any]]:
    return [
        {
            "@type": "cr:FileSet",
            "@id": f"files-{configuration.name}",
            "name": f"files-{configuration.name}",
            "description": configuration.says,
            "encodingFormat": _PARQUET,
            "includes": f"{configuration.folder}/*.parquet",
        }
    ]


def _record_set(configuration: Configuration) -> dict[str, Any]:
    fields = [_field(configuration, field) for field in configuration.table.schema]
    return {
        "@type": "cr:RecordSet",
        "@id": configuration.name,
        "name": configuration.name,
        "description": configuration.says,
        "key": {"@id": f"{configuration.name}/{configuration.table.key}"},
        "field": fields,
    }


def _field(configuration: Configuration, field: pa.Field, parents: Sequence[str] = ()) -> dict[str, Any]:
    """A column, or a field in one; structs have their fields below them."""
    path = [*parents, field.name]
    kind, repeated = field.type, False
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        kind, repeated = kind.value_type, True
    described: dict[str, Any] = {
        "@type": "cr:Field",
        "@id": "/".join([configuration.name, *path]),
        "name": field.name,
        **({"repeated": True} if repeated else {}),
        "source": _source(configuration, path),
    }
    if field.name in configuration.images and not parents:
        described["source"]["transform"] = {"jsonPath": "bytes"}
        return {**described, "dataType": "sc:ImageObject"}
    if pa.types.is_struct(kind):
        return {**described, "subField": [_field(configuration, each, path) for each in kind]}
    return {**described, "dataType": _TYPES.get(kind, "sc:Text")}


def _source(configuration: Configuration, path: Sequence[str]) -> dict[str, Any]:
    source: dict[str, Any] = {"fileSet": {"@id": f"files-{configuration.name}"}, "extract": {"column": path[0]}}
    return {**source, "transform": {"jsonPath": ".".join(path[1:])}} if len(path) > 1 else source
