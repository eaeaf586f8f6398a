"""Template packs: what they hold, and that everything a template must not do is refused before anything is written."""

from __future__ import annotations

import os
import pickle
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest

from sono.captioning.facts.facts import Fact, Facts
from sono.captioning.sentences import packs
from sono.captioning.sentences.packs import GLOBAL, REGION, Pack, load_pack
from sono.captioning.sentences.writer import Budget, Writer
from sono.manifests import vocabulary
from sono.manifests.errors import UserError

VOCABULARY = vocabulary.load()
PACKAGED = Path(packs.__file__).with_name("templates")


def a_pack(folder: Path, toml: str = 'language = "en"', **templates: str) -> Path:
    """A pack with ``global_NAME="text"`` and ``region_NAME="text"`` as templates, and a plain one for images."""
    (folder / "global").mkdir(parents=True)
    (folder / "region").mkdir()
    (folder / "pack.toml").write_text(toml, encoding="utf-8")
    for name, text in ({"global_plain": "{{ plane }} plane."} | templates).items():
        kind, _, stem = name.partition("_")
        (folder / kind / f"{stem}.jinja").write_text(text, encoding="utf-8")
    return folder


def loaded(folder: Path) -> Pack:
    return load_pack(str(folder), VOCABULARY)


def german(**sections: dict[str, str]) -> str:
    """A pack.toml that names everything, except what ``sections`` names otherwise."""
    whole = {
        "planes": dict.fromkeys(VOCABULARY.planes, "Ebene"),
        "structures": dict.fromkeys(VOCABULARY.structures, "Teil"),
    }
    lines = ['language = "de"']
    for section, names in (whole | sections).items():
        lines += [f"[{section}]", *(f'"{key}" = "{name}"' for key, name in names.items())]
    return "\n".join(lines)


def test_the_packaged_packs_hold_what_they_promise() -> None:
    english, paper = load_pack("en", VOCABULARY), load_pack("paper", VOCABULARY)
    assert [template.id for template in paper.templates] == ["global/paper", "region/paper"]
    ids = [template.id for template in english.templates]
    assert ids == sorted(ids)
    assert len([name for name in ids if name.startswith("global/")]) == 7
    assert len([name for name in ids if name.startswith("region/")]) == 6
    texts = {template.id: template.text for template in english.templates}
    assert all(template.text == texts[template.id] for template in paper.templates)
    assert english.planes == {plane.id: plane.name for plane in VOCABULARY.planes.values()}
    assert english.structures["falx"] == "midline falx"


def test_every_packaged_sentence_states_the_age_the_plane_and_what_is_shown() -> None:
    for template in load_pack("en", VOCABULARY).templates:
        assert template.needs == {"ga_days", "plane", "structures" if template.kind == GLOBAL else "structure"}


def test_what_a_template_needs_and_uses_is_found_in_it(tmp_path: Path) -> None:
    text = "{{ article }} {% if hc_mm is defined %}{{ hc_mm }}{% endif %}{% if trimester is undefined %}no{% endif %}"
    loop = "{% for name in structures %}{{ name }}{% if not loop.last %}, {% endif %}{% endfor %}"
    found = {template.id: template for template in loaded(a_pack(tmp_path, global_a=text, global_b=loop)).templates}
    assert found["global/a"].needs == {"ga_days"}
    assert found["global/a"].uses == {"article", "hc_mm", "trimester"}
    assert found["global/b"].needs == found["global/b"].uses == {"structures"}


def test_a_folder_is_found_beside_the_configuration(tmp_path: Path) -> None:
    a_pack(tmp_path / "ours", region_a="{{ structure }}")
    pack = load_pack("ours", VOCABULARY, tmp_path)
    assert pack.name == "ours"
    assert {template.kind for template in pack.templates} == {GLOBAL, REGION}
    assert pack.templates[0].where == f"{tmp_path}/ours/global/plain.jinja"


def test_english_names_can_be_replaced_one_by_one(tmp_path: Path) -> None:
    pack = loaded(a_pack(tmp_path, 'language = "en-GB"\n[planes]\nfemur = "thigh bone"'))
    assert pack.planes["femur"] == "thigh bone"
    assert pack.planes["humerus"] == "humerus"


def test_another_language_names_every_plane_and_structure(tmp_path: Path) -> None:
    pack = loaded(a_pack(tmp_path / "whole", german()))
    assert set(pack.planes) == set(VOCABULARY.planes)
    some = german(planes={"nt": "Nackentransparenz"}, structures={})
    with pytest.raises(UserError, match=r"95 planes and structures have no name in 'de', the first is plane 'early_h"):
        loaded(a_pack(tmp_path / "some", some))


def test_another_language_names_the_words_that_its_templates_use(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"region/a\.jinja: the pack lacks words for 'laterality'; add \[lat"):
        loaded(a_pack(tmp_path / "a", german(laterality={"left": "links"}), region_a="{{ laterality }}"))
    with pytest.raises(UserError, match="undefined name 'article'"):
        loaded(a_pack(tmp_path / "b", german(), global_a="{{ article }} {{ ga }}"))
    with pytest.raises(UserError, match="the pack names no findings"):
        loaded(a_pack(tmp_path / "c", german(), global_a='{{ findings | join(", ") }}'))


def test_a_packs_fingerprint_follows_everything_that_decides_its_sentences(tmp_path: Path) -> None:
    same = [loaded(a_pack(tmp_path / name)) for name in ("a", "b")]
    others = [
        loaded(a_pack(tmp_path / "c", global_plain="{{ plane }} view.")),
        loaded(a_pack(tmp_path / "d", global_plane="{{ plane }} plane.")),
        loaded(a_pack(tmp_path / "e", 'language = "en"\n[planes]\nnt = "neck"')),
        loaded(a_pack(tmp_path / "f", 'language = "en"\n[findings]\n"HP:0001561" = "polyhydramnios"')),
        loaded(a_pack(tmp_path / "g", 'language = "en"\n[trimester]\n1 = "early pregnancy"')),
        loaded(a_pack(tmp_path / "h", 'language = "en-GB"')),
    ]
    assert same[0].sha256 == same[1].sha256
    assert len({pack.sha256 for pack in (*same, *others)}) == 1 + len(others)
    assert pickle.loads(pickle.dumps(same[0])) == same[0]


@pytest.mark.parametrize(
    ("template", "line"),
    [
        ("{{ plain }}", "line 1: undefined name 'plain'; did you mean 'plane'?"),
        ("ok\n{{ anatomies }}", "line 2: undefined name 'anatomies'; the names are ac_mm, article"),
        ("{{ structure }}", "line 1: undefined name 'structure'; did you mean 'structures'?"),
        ("{{ structures | joint }}", "line 1: unknown filter 'joint'; did you mean 'join'?"),
        ("{% if plane %}", "line 1 is not a valid template: "),
        ("{{ ''.__class__ }}", "line 1: reads an attribute; only loop.first"),
        ("{{ plane['__class__'] }}", "line 1: reads an item by something other"),
        ("{{ structures[plane] }}", "line 1: reads an item by something other"),
        ("{{ structures | join(', ', '__class__') }}", "line 1: filter 'join' has too many arguments"),
        ("{{ structures | join(attribute='x') }}", "line 1: filter 'join' has too many arguments"),
        ("{{ plane.upper() }}", "line 1: calls something"),
        ("{{ range }}", "line 1: undefined name 'range'"),
        ("{{ self }}", "line 1: undefined name 'self'"),
        ("{{ loop }}", "line 1: undefined name 'loop'"),
        ("{% for ga in structures %}{{ ga }}{% endfor %}", "line 1: gives 'ga' another meaning"),
        ("{% for a in plane %}{% for b in plane %}x{% endfor %}{% endfor %}", "line 1: has a loop in a loop"),
        ("{% for a in plane recursive %}x{% endfor %}", "line 1: has a loop in a loop"),
        ("{{ 'ab' * 10**9 }}", "line 1: uses mul"),
        ("{{ ga + 1 }}", "line 1: uses add"),
        ("{% set ga = 'x' %}", "line 1: uses assign"),
        ("{% include 'other' %}", "line 1: uses include"),
        ("{% import 'other' as a %}", "line 1: uses import"),
        ("{% extends 'other' %}", "line 1: uses extends"),
        ("{% macro a() %}{% endmacro %}", "line 1: uses macro"),
        ("{{ plane | attr('x') }}", "line 1: unknown filter 'attr'"),
        ("{{ plane | center(ga) }}", "line 1: unknown filter 'center'"),
        ("{{ structures | random }}", "line 1: unknown filter 'random'"),
        ("{{ plane | replace('a', 'aaaaaaaaaaa') }}", "line 1: replaces more than single characters"),
        ("{{ plane | join('ab') | join('ab') }}", "line 1: joins something other than a list"),
        ("{{ 'ab' | join('ab') }}", "line 1: joins something other than a list"),
        ("{{ structures | join(structures | join('ab')) }}", "line 1: joins something other than a list"),
        ("{% for a in structures | join('ab') %}x{% endfor %}", "line 1: loops over something other than a list"),
        ("{% for a in plane ~ plane %}x{% endfor %}", "line 1: loops over something other than a list"),
        ("{{ plane is sameas plane }}", "line 1: tests something other"),
        ("{{ plane }}, seen in 2021", "its own text cannot be used: it contains a number"),
        ("{{ plane }}, grade Ⅳ", "its own text cannot be used: it contains a number"),
        ("{{ '7' }} days", "its own text cannot be used: it contains a number"),
        ("{{ plane }} in MARCH", "its own text cannot be used: it contains the name of a month"),
        ("{{ plane }}, août", "its own text cannot be used: it contains the name of a month"),
        ("{{ plane }} of jane@example", "its own text cannot be used: it contains a character"),
        (
            "{{ plane }} www example",
            "its own text cannot be used: it contains the name of a month or part of an address",
        ),
        ("{{ plane }} of clinic.example", "its own text cannot be used: it contains a full stop without a space"),
        ("{{ plane }}\u200b", "its own text cannot be used: it contains a character"),
        ("{{ plane }} <b>", "its own text cannot be used: it contains a character"),
    ],
)
def test_a_template_that_does_more_than_name_facts_is_refused_with_file_and_line(
    tmp_path: Path, template: str, line: str
) -> None:
    with pytest.raises(UserError) as error:
        loaded(a_pack(tmp_path, global_a=template))
    assert str(error.value).startswith(f"{tmp_path}/global/a.jinja: line ")
    assert line in str(error.value)
    assert "\n" not in str(error.value)


def test_a_template_cannot_keep_anyone_waiting(tmp_path: Path) -> None:
    start = time.monotonic()
    with pytest.raises(UserError):
        loaded(a_pack(tmp_path / "a", global_a="{% for i in range(10**9) %}x{% endfor %}"))
    with pytest.raises(UserError, match="nested too deeply"):
        loaded(a_pack(tmp_path / "b", global_a="{{ " + "(" * 8_000 + "plane" + ")" * 8_000 + " }}"))
    with pytest.raises(UserError, match="too large"):
        loaded(a_pack(tmp_path / "c", global_a="x" * 30_000))
    os.mkfifo(a_pack(tmp_path / "d") / "global" / "pipe.jinja")
    with pytest.raises(UserError, match=r"pipe\.jinja: the file is missing or cannot be read"):
        loaded(tmp_path / "d")
    assert time.monotonic() - start < 5


@pytest.mark.parametrize(
    ("template", "fault"),
    [
        ("{{ plane" + " | lower" * 200 + " }}", "nested too deeply"),
        ("{{ plane" + " | lower" * 2_000 + " }}", "nested too deeply"),
        ("{{ " + " or ".join(["plane"] * 1_000) + " }}", "nested too deeply"),
        ("{{ " + "-" * 300 + "ga }}", "nested too deeply"),
        ("{% if ga %}" * 99 + "x" + "{% endif %}" * 99, "nested too deeply"),
        ("{{ " + "1" * 5_000 + " }}", "a number in the template is too large"),
    ],
)
def test_a_template_that_python_cannot_compile_is_refused_before(tmp_path: Path, template: str, fault: str) -> None:
    with pytest.raises(UserError, match=rf"global/a\.jinja: .*{fault}"):
        loaded(a_pack(tmp_path, global_a=template))


def test_a_template_may_be_as_deep_as_it_needs(tmp_path: Path) -> None:
    """What is not refused for its depth compiles and renders."""
    facts = Facts(Fact("femur", "column of a test"), Fact(147, "column of a test"))
    for number, template in enumerate(
        [
            "{% if ga %}" * 35 + "{{ plane }}" + "{% endif %}" * 35,
            "{{ plane" + " | lower" * 35 + " }}",
            "{{ " + "(" * 15 + "plane" + ")" * 15 + " }}",
            "{% if ga < 9 %}x" + "{% elif ga < 9 %}x" * 90 + "{% endif %}{{ plane }}",
            '{% for name in structures[:2] %}{{ structures[1:] | join(", ") }}, {% endfor %}',
        ]
    ):
        pack = loaded(a_pack(tmp_path / str(number), global_plain=template))
        writer = Writer(pack, VOCABULARY, Budget())
        sentence = writer.about(replace(facts, structures=Fact(("head", "femur"), "column of a test")), 0)
        assert sentence is not None


@pytest.mark.parametrize(
    ("toml", "line"),
    [
        ("", "language: Field required"),
        ('language = "English"', "language: String should match"),
        ('language = "en"\nplane = "x"', "unknown key 'plane'; did you mean 'planes'?"),
        (
            'language = "en"\n[planes]\nfemurr = "x"',
            "[planes] names 'femurr', which is not in the vocabulary; did you mean 'femur'?",
        ),
        ('language = "en"\n[laterality]\nlinks = "x"', "[laterality] names 'links', which is not in the vocabulary"),
        ('language = "en"\n[trimester]\n4 = "x"', "[trimester] names '4', which is not in the vocabulary"),
        ('language = "en"\n[planes]\nfemur = 3', "planes.femur: Input should be a valid string"),
        (
            'language = "en"\n[findings]\npolyhydramnios = "x"',
            '[findings] has a key that is not a code; use "SYSTEM:CODE"',
        ),
        (
            'language = "en"\n[planes]\nfemur = "femur 2021"',
            "the name of 'femur' in [planes] cannot be used: it contains a n",
        ),
        ('language = "en"\n[planes]\nfemur = " femur"', "it is empty or has spaces"),
        ('language = "en"\n[planes]\nfemur = "a\\nb"', "it contains a character"),
        ('language = "en"\n[trimester]\n1 = "May"', "it contains the name of a month"),
        ('language = "en', "not valid TOML: "),
    ],
)
def test_a_wrong_pack_toml_is_explained_in_one_line(tmp_path: Path, toml: str, line: str) -> None:
    with pytest.raises(UserError) as error:
        loaded(a_pack(tmp_path, toml))
    assert str(error.value).startswith(f"{tmp_path}/pack.toml: ")
    assert line in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("system", "codes", "no_codes"),
    [
        ("DCM", ["121071", "12107"], ["1210", "1210711", "12107A"]),
        ("HP", ["0001561"], ["1561", "00015611", "HP:0001561", "JANEROE"]),
        ("ICD10", ["O40", "Q25.1", "O35.00X1", "Z3A.20"], ["ROE", "O4", "O40.", "O40.ABCDE", "o40", "Q25.1-1"]),
        ("ICD11", ["LA88.4", "KA00"], ["NGOZI", "LA88.123", "JANE"]),
        ("LN", ["11525-3"], ["11525", "12345678-9", "11525-33"]),
        ("MONDO", ["0008608"], ["8608", "JANEROE"]),
        ("OMIM", ["190685"], ["19068", "JANE", "1906850"]),
        ("ORPHA", ["870"], ["", "8700000", "ROE"]),
        (
            "SCT",
            ["30288003", "123456789012345678"],
            ["12345", "1234567890123456789", "3028800A", "30288003\n", "٣٠٢٨٨٠٠٣"],
        ),
        ("XYZ", [], ["30288003"]),
        ("hp", [], ["0001561"]),
    ],
)
def test_a_finding_is_written_as_its_system_writes_codes(
    tmp_path: Path, system: str, codes: list[str], no_codes: list[str]
) -> None:
    for number, code in enumerate(codes):
        toml = f'language = "en"\n[findings]\n"{system}:{code}" = "something"'
        assert loaded(a_pack(tmp_path / f"code {number}", toml)).findings == {f"{system}:{code}": "something"}
    for number, code in enumerate(no_codes):
        written = code.replace("\n", "\\n")
        toml = f'language = "en"\n[findings]\n"{system}:{written}" = "something"'
        with pytest.raises(UserError, match=r"has a key that is not a code"):
            loaded(a_pack(tmp_path / f"no code {number}", toml))


def test_a_name_of_the_vocabulary_that_no_sentence_may_hold_is_refused(tmp_path: Path) -> None:
    femur = VOCABULARY.structures["femur"].model_copy(update={"name": "femur of 12.03.1987"})
    words = vocabulary.Vocabulary(VOCABULARY.planes, {**VOCABULARY.structures, "femur": femur})
    with pytest.raises(
        UserError, match=r"the name of 'femur' in \[structures\] cannot be used: it contains a number"
    ) as error:
        load_pack("en", words)
    assert "1987" not in str(error.value)


def test_nothing_leads_out_of_the_folder(tmp_path: Path) -> None:
    outside = tmp_path / "outside.jinja"
    outside.write_text("{{ plane }}", encoding="utf-8")
    pack = a_pack(tmp_path / "pack")
    (pack / "global" / "link.jinja").symlink_to(outside)
    with pytest.raises(UserError, match=r"global/link\.jinja: a link leads out of the pack"):
        loaded(pack)
    shutil.rmtree(pack / "global")
    (pack / "global").symlink_to(PACKAGED / "en" / "global")
    with pytest.raises(UserError, match="pack/global: a link leads out of the pack"):
        loaded(pack)


def test_a_template_that_would_not_be_found_is_named(tmp_path: Path) -> None:
    pack = a_pack(tmp_path)
    (pack / "globl").mkdir()
    with pytest.raises(UserError, match="globl: unexpected file or folder in a pack"):
        loaded(pack)
    (pack / "globl").rmdir()
    (pack / "global.jinja").write_text("x", encoding="utf-8")
    with pytest.raises(UserError, match=r"global\.jinja: unexpected file or folder in a pack"):
        loaded(pack)


def test_files_that_are_no_templates_do_not_matter(tmp_path: Path) -> None:
    pack = a_pack(tmp_path)
    (pack / "README.md").write_text("ours", encoding="utf-8")
    (pack / "global" / "plain.jinja~").write_text("{{ old }}", encoding="utf-8")
    assert [template.id for template in loaded(pack).templates] == ["global/plain"]


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"template pack not found; did you mean 'paper'"):
        load_pack("papr", VOCABULARY, tmp_path)
    with pytest.raises(UserError, match=r"pack\.toml: the file is missing"):
        loaded(tmp_path)
    (tmp_path / "pack.toml").write_text('language = "en"', encoding="utf-8")
    with pytest.raises(UserError, match="no template for whole images; add global/NAME"):
        loaded(tmp_path)


def test_a_file_in_another_encoding_is_named(tmp_path: Path) -> None:
    pack = a_pack(tmp_path)
    (pack / "global" / "plain.jinja").write_bytes("Übersicht".encode("latin-1"))
    with pytest.raises(UserError, match=r"plain\.jinja: not UTF-8 text; save it as UTF-8"):
        loaded(pack)
    (pack / "global" / "plain.jinja").rename(pack / "global" / "Jane Roe.jinja")
    with pytest.raises(UserError, match="lower-case letters, digits"):
        loaded(pack)
