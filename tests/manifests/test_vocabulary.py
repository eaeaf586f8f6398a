"""The packaged vocabulary, what a replaced one must obey, and how names are found in it."""

from __future__ import annotations

import json
import unicodedata
from importlib import resources
from pathlib import Path

import pytest

from sono.manifests import vocabulary as vocabularies
from sono.manifests.errors import UserError
from sono.manifests.vocabulary import SYSTEMS, Vocabulary, load

IDS = [
    *("nt", "early_head", "transventricular", "transthalamic", "transcerebellar"),
    *("sideface", "eye", "crl"),
    *("four_chamber", "four_chamber_h", "lvot", "rvot", "three_vessel_trachea", "aortic_arch", "ductal_arch"),
    *("abdominal_circumference", "gallbladder", "bladder", "both_kidneys", "renal_sagittal"),
    *("forearm", "humerus"),
    *("femur", "leg"),
]

SMALL = """
version = 1

[[structures]]
id = "head"
name = "head"
synonyms = ["skull"]

[[structures]]
id = "femur"
name = "femur"

[[planes]]
id = "transthalamic"
name = "transthalamic"
synonyms = ["TT"]
system = "head"
ga_weeks = [14, 41]
structures = ["head"]
source = "a guideline"

[[planes]]
id = "femur"
name = "femur"
system = "lower_limb"
ga_weeks = [14, 41]
structures = ["femur"]
source = "a guideline"
"""


@pytest.fixture(scope="module")
def packaged() -> Vocabulary:
    return load()


def written(folder: Path, text: str) -> Path:
    path = folder / "planes.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_packaged_planes_are_the_24_in_order(packaged: Vocabulary) -> None:
    """The order is that of the class labels of published datasets: it must never change."""
    assert list(packaged.plane_ids) == IDS


def test_planes_are_grouped_by_system(packaged: Vocabulary) -> None:
    systems = [plane.system for plane in packaged.planes.values()]
    assert list(dict.fromkeys(systems)) == list(SYSTEMS)
    assert systems == sorted(systems, key=SYSTEMS.index)


def test_the_head_is_a_structure_of_every_head_plane(packaged: Vocabulary) -> None:
    heads = [plane for plane in packaged.planes.values() if plane.system == "head"]
    assert all("head" in plane.structures[:2] for plane in heads)
    assert packaged.planes["transthalamic"].structures[0] == "head"


def test_every_structure_belongs_to_a_plane(packaged: Vocabulary) -> None:
    used = {structure for plane in packaged.planes.values() for structure in plane.structures}
    assert used == set(packaged.structures)
    assert all(len(set(plane.structures)) == len(plane.structures) for plane in packaged.planes.values())


def test_names_fit_into_sentences(packaged: Vocabulary) -> None:
    """Lower case letters, hyphens and single spaces; no digits, since a caption's only number is its week."""
    names = [plane.name for plane in packaged.planes.values()]
    names += [structure.name for structure in packaged.structures.values()]
    assert all(name == name.lower().strip() and name.replace("-", " ").replace(" ", "a").isalpha() for name in names)
    assert not any("plane" in name or "view" in name for name in names)


def test_every_plane_cites_its_guidance(packaged: Vocabulary) -> None:
    assert all("Ultrasound Obstet Gynecol 20" in plane.source for plane in packaged.planes.values())


@pytest.mark.parametrize(
    ("text", "plane"),
    [
        ("three_vessel_trachea", "three_vessel_trachea"),
        ("3VT", "three_vessel_trachea"),
        ("3vt view", "three_vessel_trachea"),
        ("Three-Vessel & Trachea", "three_vessel_trachea"),
        ("THREE VESSEL AND TRACHEA", "three_vessel_trachea"),
        ("4CH", "four_chamber"),
        ("a4c", "four_chamber"),
        ("Four-chamber view.", "four_chamber"),
        ("4CH-H", "four_chamber_h"),
        ("4ch h", "four_chamber_h"),
        ("Trans-Thalamic", "transthalamic"),
        ("TRANSTHALAMIC", "transthalamic"),
        ("TT", "transthalamic"),
        ("  head_circumference ", "transthalamic"),
        ("FL", "femur"),
        ("AC", "abdominal_circumference"),
        ("nuchal translucency", "nt"),
        ("abdomen", None),  # several planes show it
        ("3VV", None),  # the three-vessel view is another plane
        ("", None),
        ("...", None),
    ],
)
def test_a_plane_is_found_by_any_of_its_names(packaged: Vocabulary, text: str, plane: str | None) -> None:
    assert packaged.find_plane(text) == plane


def test_a_structure_is_found_by_any_of_its_names(packaged: Vocabulary) -> None:
    assert packaged.find_structure("CSP") == "cavum_septi_pellucidi"
    assert packaged.find_structure("Thalamus") == "thalami"
    assert packaged.find_structure("fetal  HEAD") == "head"
    assert packaged.find_structure("aorta") is None  # ascending, descending or abdominal?
    assert packaged.require_structure("skull") == "head"


def test_the_nearest_name_is_offered_in_errors_only(packaged: Vocabulary) -> None:
    assert packaged.find_plane("transtalamic") is None
    assert packaged.nearest_plane("transtalamic") == "transthalamic"
    assert packaged.nearest_plane("qqqq") is None
    assert packaged.nearest_structure("thalamy") == "thalami"
    with pytest.raises(UserError, match=r"^unknown structure 'thalamy'; did you mean 'thalami'\?$"):
        packaged.require_structure("thalamy")
    with pytest.raises(UserError, match=r"^unknown structure 'qqqq'; see planes\.toml for the vocabulary$"):
        packaged.require_structure("qqqq")


def test_a_custom_file_replaces_the_packaged_one(tmp_path: Path) -> None:
    own = load(written(tmp_path, SMALL))
    assert own.plane_ids == ("transthalamic", "femur")
    assert own.find_plane("tt") == "transthalamic"
    assert own.planes["femur"].ga_weeks == (14, 41)


@pytest.mark.parametrize(
    ("before", "after", "error"),
    [
        ("version = 1", "version = one", "not valid TOML: "),
        ("version = 1", "", "version: Field required"),
        ("version = 1", "version = 1\ncolour = 2", "colour: Extra inputs are not permitted"),
        ('id = "head"', 'id = "Head"', "structures.0.id: String should match pattern"),
        ('system = "head"', 'system = "brain"', "planes.0.system: Input should be 'head', 'face'"),
        ('system = "head"', 'system = "head"\nga = 3', "planes.0.ga: Extra inputs are not permitted"),
        ('structures = ["head"]', "structures = []", "planes.0.structures: Tuple should have at least 1 item"),
        ('structures = ["head"]', 'structures = ["brain"]', "plane transthalamic: structure 'brain' is not listed"),
        (
            "ga_weeks = [14, 41]",
            "ga_weeks = [41, 14]",
            "plane transthalamic: ga_weeks 41-14 is not a valid gestational window",
        ),
        (
            "ga_weeks = [14, 41]",
            "ga_weeks = [14, 14]",
            "plane transthalamic: ga_weeks 14-14 is not a valid gestational window",
        ),
        (
            "ga_weeks = [14, 41]",
            "ga_weeks = [0, 41]",
            "plane transthalamic: ga_weeks 0-41 is not a valid gestational window",
        ),
        (
            "ga_weeks = [14, 41]",
            "ga_weeks = [14, 46]",
            "plane transthalamic: ga_weeks 14-46 is not a valid gestational window",
        ),
        ("ga_weeks = [14, 41]", "ga_weeks = [14]", "planes.0.ga_weeks.1: Field required"),
        ('["TT"]', '["TT", "Femur!"]', "two planes are called 'femur': transthalamic and femur"),
        ('["skull"]', '["femur"]', "two structures are called 'femur': head and femur"),
        ('["skull"]', '["..."]', "structure head: a name has no letters or digits"),
        (
            'structures = ["head"]',
            'structures = ["head", "head"]',
            "plane transthalamic: structure 'head' is listed twice",
        ),
        ('id = "femur"\nname = "femur"\n\n', 'id = "head"\nname = "head"\n\n', "a structure id is listed twice"),
        ('source = "a guideline"', "", "planes.0.source: Field required"),
    ],
)
def test_a_broken_rule_is_named(tmp_path: Path, before: str, after: str, error: str) -> None:
    assert before in SMALL
    text = SMALL.replace(before, after, 1)
    if "is listed twice" in error:  # the plane that used the structure goes with it
        text = text.replace('structures = ["femur"]', 'structures = ["head"]')
    path = written(tmp_path, text)
    with pytest.raises(UserError) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}: {error}")
    assert len(str(caught.value).splitlines()) == 1


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "none.toml"
    with pytest.raises(UserError) as caught:
        load(path)
    assert str(caught.value) == f"{path}: vocabulary file not found; check [vocabulary] in sono.toml"


def test_the_packaged_file_is_beside_the_code() -> None:
    assert resources.files("sono.manifests").joinpath("planes.toml").is_file()
    assert vocabularies.normalise("Trans-Thalamic_(TT)") == "trans thalamic tt"


def test_names_in_any_script_are_found_and_told_apart(tmp_path: Path) -> None:
    names = {
        "head": ("Головка плода", "κεφαλή", "رأس", "頭部", "mắt", "दिल", "cráneo"),
        "femur": ("Бедро", "μηρός", "فخذ", "大腿骨", "mặt", "दाल", "cráneos"),
    }
    text = SMALL
    for structure, synonyms in names.items():
        given = f'id = "{structure}"\nname = "{structure}"\nsynonyms = {json.dumps(synonyms, ensure_ascii=False)}\n'
        synonyms_before = 'synonyms = ["skull"]\n' if structure == "head" else ""
        text = text.replace(f'id = "{structure}"\nname = "{structure}"\n{synonyms_before}', given, 1)
    vocabulary = load(written(tmp_path, text))
    for structure, synonyms in names.items():
        for name in synonyms:
            for form in (name, name.upper(), f" {name.replace(' ', '_')}.", unicodedata.normalize("NFD", name)):
                assert vocabulary.find_structure(form) == structure, form
    assert vocabulary.find_structure("Головка") is None
    assert vocabulary.find_structure("head 頭") is None  # not understood is not left out
    assert vocabulary.nearest_structure("Головка плоде") == "head"


def test_the_documented_table_is_the_packaged_vocabulary(packaged: Vocabulary) -> None:
    page = Path(__file__).parents[2] / "docs" / "planes.md"
    rows = [line for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    assert rows == [
        f"| `{plane.id}` | {plane.name} | {plane.ga_weeks[0]}–{plane.ga_weeks[1]} | "
        f"{', '.join(packaged.structures[structure].name for structure in plane.structures)} |"
        for plane in packaged.planes.values()
    ]
