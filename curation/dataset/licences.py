"""Licences of datasets, by their SPDX identifiers (https://spdx.org/licenses/), and the Hub's names for them."""

from __future__ import annotations

from collections.abc import Mapping

from sono.manifests.errors import did_you_mean

_HUB: Mapping[str, str] = {
    "Apache-2.0": "apache-2.0",
    "BSD-2-Clause": "bsd-2-clause",
    "BSD-3-Clause": "bsd-3-clause",
    "CC-BY-2.0": "cc-by-2.0",
    "CC-BY-3.0": "cc-by-3.0",
    "CC-BY-4.0": "cc-by-4.0",
    "CC-BY-NC-2.0": "cc-by-nc-2.0",
    "CC-BY-NC-3.0": "cc-by-nc-3.0",
    "CC-BY-NC-4.0": "cc-by-nc-4.0",
    "CC-BY-NC-ND-3.0": "cc-by-nc-nd-3.0",
    "CC-BY-NC-ND-4.0": "cc-by-nc-nd-4.0",
    "CC-BY-NC-SA-2.0": "cc-by-nc-sa-2.0",
    "CC-BY-NC-SA-3.0": "cc-by-nc-sa-3.0",
    "CC-BY-NC-SA-4.0": "cc-by-nc-sa-4.0",
    "CC-BY-ND-4.0": "cc-by-nd-4.0",
    "CC-BY-SA-3.0": "cc-by-sa-3.0",
    "CC-BY-SA-4.0": "cc-by-sa-4.0",
    "CC0-1.0": "cc0-1.0",
    "CDLA-Permissive-1.0": "cdla-permissive-1.0",
    "CDLA-Permissive-2.0": "cdla-permissive-2.0",
    "CDLA-Sharing-1.0": "cdla-sharing-1.0",
    "C-UDA-1.0": "c-uda",
    "MIT": "mit",
    "ODbL-1.0": "odbl",
    "ODC-By-1.0": "odc-by",
    "PDDL-1.0": "pddl",
    "Unlicense": "unlicense",
}

SPDX_IDS = frozenset(_HUB)
"""The licences that a dataset may name; any other one is named ``LicenseRef-`` and something."""


def hub_licence(licence: str) -> str:
    """What the Hub calls a licence in a card."""
    return _HUB.get(licence, "other")


def licence_url(licence: str) -> str | None:
    """The page of a licence; None for one of one's own."""
    return f"https://spdx.org/licenses/{licence}.html" if licence in SPDX_IDS else None


def licence_fix(licence: str) -> str:
    """What to write in place of an identifier that is not known."""
    similar = did_you_mean(licence, SPDX_IDS)
    return similar or "name one such as CC-BY-4.0, or LicenseRef- and a name of your own"
