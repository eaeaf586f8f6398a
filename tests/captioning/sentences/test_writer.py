"""Sentences: which template is used, what it says, what is left out for length, and what is never let through."""

from __future__ import annotations

import pickle
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from sono.captioning.facts.facts import Fact, Facts, trimester
from sono.captioning.sentences.guard import RefusedError
from sono.captioning.sentences.pack_check import check_pack
from sono.captioning.sentences.packs import load_pack
from sono.captioning.sentences.values import article
from sono.captioning.sentences.writer import Budget, Writer
from sono.manifests import vocabulary
from sono.manifests.errors import UserError

VOCABULARY = vocabulary.load()
HEAD = ("head", "thalami", "cavum_septi_pellucidi")
AGE = "{{ ga }} weeks, {{ plane }}."

MakeWriter = Callable[..., Writer]


def fact(value: int | float | str | tuple[str, ...]) -> Fact:
    return Fact(value, "column of a test")


def frame(plane: str = "transthalamic", ga_days: int | None = 147, structures: Sequence[str] = HEAD) -> Facts:
    age = None if ga_days is None else fact(ga_days)
    part = None if ga_days is None else fact(trimester(ga_days))
    return Facts(fact(plane), age, part, structures=fact(tuple(structures)))


def region(plane: str = "transthalamic", ga_days: int = 147, structure: str = "thalami") -> Facts:
    return replace(frame(plane, ga_days), structures=None, structure=fact(structure))


@pytest.fixture
def writer_of(tmp_path: Path) -> MakeWriter:
    """Makes a pack of the given templates, its texts by id, and the writer for it."""

    def make(context_length: int = 77, toml: str = "", **templates: str) -> Writer:
        for kind in ("global", "region"):
            (tmp_path / kind).mkdir()
        (tmp_path / "pack.toml").write_text(f'language = "en"\n{toml}', encoding="utf-8")
        for name, text in templates.items():
            kind, _, stem = name.partition("_")
            (tmp_path / ("region" if kind == "region" else "global") / f"{stem}.jinja").write_text(text, "utf-8")
        return Writer(load_pack(str(tmp_path), VOCABULARY), VOCABULARY, Budget(context_length=context_length))

    return make


@pytest.fixture(scope="module")
def english() -> Writer:
    return Writer(load_pack("en", VOCABULARY), VOCABULARY, Budget())


@pytest.fixture(scope="module")
def paper() -> Writer:
    return Writer(load_pack("paper", VOCABULARY), VOCABULARY, Budget())


def text(writer: Writer, facts: Facts, draw: int = 0) -> str:
    sentence = writer.about(facts, draw)
    assert sentence is not None
    return sentence.text


def test_the_papers_sentences_are_word_for_word_the_papers(paper: Writer) -> None:
    assert text(paper, frame()) == (
        "A 21-week fetal ultrasound image of transthalamic plane showing head, thalami, cavum septi pellucidi."
    )
    assert text(paper, region(ga_days=18 * 7)) == (
        "An 18-week fetal ultrasound transthalamic plane. The segmentation highlights the thalami."
    )


@pytest.mark.parametrize("pack", ["en", "paper"])
@pytest.mark.slow
def test_the_packaged_packs_pass_the_check(pack: str) -> None:
    check_pack(Writer(load_pack(pack, VOCABULARY), VOCABULARY, Budget()))


def test_the_papers_sentences_are_as_long_as_published(paper: Writer) -> None:
    counts = []
    for number in (1, 8, 14):
        sentence = paper.about(frame(structures=tuple(VOCABULARY.structures)[20 : 20 + number]), 0)
        assert sentence is not None
        counts.append(sentence.tokens)
    for found, published in zip(counts, (21, 51, 68), strict=True):
        assert abs(found - published) <= 15


def test_english_offers_many_orders_of_age_plane_and_structures(english: Writer) -> None:
    plane, shown = "transthalamic", "head"
    orders = set()
    for template in english.templates_for(frame()):
        lower = english.write(template, frame()).text.lower()
        places = {"age": lower.index("21"), "plane": lower.index(plane), "structures": lower.index(shown)}
        orders.add(tuple(sorted(places, key=lambda name: places[name])))
    assert len(orders) == 6


def test_every_english_sentence_reads_well(english: Writer) -> None:
    """States the age; one capital first, one full stop last; no doubled space, article or comma."""
    for plane in VOCABULARY.planes.values():
        for facts in (frame(plane.id, 8 * 7, plane.structures[:1]), frame(plane.id, 250, plane.structures)):
            about_regions = [region(plane.id, 8 * 7, structure) for structure in plane.structures]
            for each in (facts, *about_regions):
                for template in english.templates_for(each):
                    said = english.write(template, each).text
                    assert re.search(r"\b(8|35)(-week| weeks of gestation)", said)
                    assert re.fullmatch(r"[A-Z].*[a-z]\.", said)
                    assert not re.search(r"  |\b[Aa] (8|11|18)\b|\b(\w+) \1\b|,,| ,|plane plane", said)


@pytest.mark.parametrize(("weeks", "expected"), [(4, "A"), (8, "An"), (11, "An"), (12, "A"), (18, "An"), (28, "A")])
def test_the_article_suits_the_number(weeks: int, expected: str) -> None:
    assert article(weeks) == expected


def test_ages_are_completed_weeks_and_days(writer_of: MakeWriter) -> None:
    writer = writer_of(global_a="{{ ga }} weeks are less than {{ ga_days }} days.")
    assert text(writer, frame(ga_days=146)) == "20 weeks are less than 146 days."
    assert text(writer, frame(ga_days=147)) == "21 weeks are less than 147 days."


def test_a_template_whose_facts_are_not_all_known_is_not_used(writer_of: MakeWriter) -> None:
    writer = writer_of(global_age=AGE, global_plane="{{ plane }}.", global_size="{{ plane }}, {{ hc_mm }} mm.")
    without_age = frame(ga_days=None)
    assert [template.id for template in writer.templates_for(without_age)] == ["global/plane"]
    assert [template.id for template in writer.templates_for(frame())] == ["global/age", "global/plane"]
    measured = replace(frame(), measurements={"hc_mm": fact(175.3)})
    assert text(writer, measured, draw=2) == "Transthalamic, 175.3 mm."


def test_a_fact_that_is_only_asked_for_is_not_needed(writer_of: MakeWriter) -> None:
    writer = writer_of(global_a="{{ plane }}{% if presentation is defined %}, {{ presentation }}{% endif %}.")
    assert text(writer, frame()) == "Transthalamic."
    assert text(writer, replace(frame(), presentation=fact("breech"))) == "Transthalamic, breech."


def test_no_template_no_sentence(writer_of: MakeWriter) -> None:
    writer = writer_of(global_age=AGE)
    assert writer.about(frame(ga_days=None), 0) is None
    assert writer.about(region(), 0) is None


def test_draws_go_round_evenly(english: Writer) -> None:
    templates = english.templates_for(frame())
    used = [sentence.template for draw in range(2 * len(templates)) if (sentence := english.about(frame(), draw))]
    assert used == [*templates, *templates]


def test_words_and_findings_are_the_packs(writer_of: MakeWriter) -> None:
    writer = writer_of(
        toml='[findings]\n"HP:0001561" = "polyhydramnios"\n[laterality]\nleft = "left-sided"',
        global_a='{{ trimester }}, {{ laterality }}, {{ findings | join(", ") }}.',
    )
    facts = replace(frame(), laterality=fact("left"), findings=fact(("HP:0000001", "HP:0001561")))
    assert text(writer, facts) == "Second trimester, left-sided, polyhydramnios."
    assert writer.about(replace(facts, findings=fact(("HP:0000001",))), 0) is None


def test_structures_are_dropped_whole_from_the_end_until_the_sentence_fits(writer_of: MakeWriter) -> None:
    shown = VOCABULARY.planes["four_chamber"].structures
    writer = writer_of(30, global_a='{{ ga }} weeks: {{ structures | join(", ") }}.')
    sentence = writer.about(frame("four_chamber", structures=shown), 0)
    assert sentence is not None
    kept = len(shown) - len(sentence.dropped)
    assert sentence.dropped == tuple(reversed(shown[kept:]))
    assert sentence.tokens == writer.tokenizer.count(sentence.text) <= 30
    names = ", ".join(VOCABULARY.structures[structure].name for structure in shown[:kept])
    assert sentence.text == f"21 weeks: {names}."
    one_more = f"21 weeks: {names}, {VOCABULARY.structures[shown[kept]].name}."
    assert writer.tokenizer.count(one_more) > 30


def test_eighteen_structures_do_not_fit_clip_and_do_fit_fetalclip(paper: Writer) -> None:
    facts = frame(structures=tuple(VOCABULARY.structures)[29:47])
    short = paper.about(facts, 0)
    long = Writer(paper.pack, VOCABULARY, Budget(context_length=117)).about(facts, 0)
    assert short is not None
    assert long is not None
    assert short.dropped
    assert short.tokens <= 77 < long.tokens
    assert not long.dropped


def test_a_sentence_that_cannot_fit_is_refused_and_never_cut(writer_of: MakeWriter) -> None:
    writer = writer_of(16, global_a='{{ structures | join(", ") }}', region_a="The {{ structure }} " + "in view " * 10)
    with pytest.raises(RefusedError, match=r"has 2. tokens where the model reads 16") as refused:
        writer.about(region(), 0)
    assert refused.value.reason == "sentence_too_long"
    with pytest.raises(UserError, match=r"region/a\.jinja: the sentence about plane 'nt' has 2. tokens .*; correct"):
        check_pack(writer)


@pytest.mark.parametrize(
    ("template", "fault"),
    [
        ("{{ plane | length }}.", "a number"),
        ("{{ ga_days | round(1) }} {{ ga }}{{ ga }}", "a number"),
        ("{{ hc_mm | int }}", "a number"),
        ("{{ plane[:4] }}", "a word"),
        ("{{ ga is defined }}", "a word"),
        ("{{ structures }}", "a mark"),
        ("{% if ga > 99 %}never{% endif %}", "is empty"),
        ("first\nsecond", "several lines"),
        ("{{ structures | round }}", "line 1: the sentence .* cannot be written"),
        ("{% if hc_mm is defined %}a{% endif %}\n{{ hc_mm }}", "line 2: the sentence .* cannot be written"),
        ("{% for name in structures %}" + "long " * 500 + "{% endfor %}", "more than 2,000"),
    ],
)
def test_the_check_names_file_and_plane_of_what_would_say_something_wrong(
    writer_of: MakeWriter, template: str, fault: str
) -> None:
    writer = writer_of(global_a=template)
    with pytest.raises(UserError, match=r"global/a\.jinja: .*about plane '\w+'.*; correct") as error:
        check_pack(writer)
    assert re.search(fault, str(error.value))


def test_the_check_looks_at_every_plane_in_every_week(writer_of: MakeWriter) -> None:
    writer = writer_of(global_a='{% if plane == "femur" and ga == 44 %}{{ structures[9] }}{% endif %}{{ plane }}.')
    with pytest.raises(UserError, match=r"global/a\.jinja: .*about plane 'femur' cannot be written"):
        check_pack(writer)


def test_a_rounded_measurement_passes(writer_of: MakeWriter) -> None:
    writer = writer_of(global_a='{{ hc_mm | round(1) | replace(".", ",") }} mm, {{ ac_mm | round | int }} mm.')
    check_pack(writer)
    facts = replace(frame(), measurements={"hc_mm": fact(175.345), "ac_mm": fact(160.7)})
    assert text(writer, facts) == "175,3 mm, 161 mm."


def test_an_id_that_the_pack_does_not_know_is_refused_without_being_repeated(english: Writer) -> None:
    with pytest.raises(RefusedError) as refused:
        english.about(frame(structures=("head", "jane_roe")), 0)
    assert refused.value.reason == "name_unknown"
    assert "roe" not in repr(refused.value) + str(refused.value)


def test_a_refusal_crosses_processes() -> None:
    back = pickle.loads(pickle.dumps(RefusedError("sentence_word", "holds a word", 3)))
    assert (back.reason, back.text, back.line) == ("sentence_word", "holds a word", 3)


def test_a_writer_crosses_processes_also_after_use(english: Writer) -> None:
    before = text(english, frame(), draw=3)
    assert text(pickle.loads(pickle.dumps(english)), frame(), draw=3) == before


def test_equal_facts_give_one_sentence_which_other_facts_do_not_get(english: Writer) -> None:
    assert english.about(frame(ga_days=147), 1) is english.about(frame(ga_days=153), 1)  # both 21 completed weeks
    assert text(english, frame(ga_days=154), 1) != text(english, frame(ga_days=153), 1)
    assert text(english, frame("transventricular"), 1) != text(english, frame(), 1)


def test_a_known_sentence_is_found_in_microseconds(english: Writer) -> None:
    facts = frame("four_chamber", structures=VOCABULARY.planes["four_chamber"].structures)
    english.about(facts, 0)
    best = min(_seconds(lambda: english.about(facts, 0), 2_000) for _ in range(5))
    assert best < 20e-6  # 2 microseconds on an idle machine


def _seconds(run: Callable[[], object], times: int) -> float:
    start = time.perf_counter()
    for _ in range(times):
        run()
    return (time.perf_counter() - start) / times
