"""Templates: the packaged ones, replaced ones, what is refused before a run, and the guard."""

from __future__ import annotations

import pytest

from sono.captioning.sentences import TemplatePack, Writer, article, check_templates, load_templates
from sono.manifests import vocabulary as vocabularies
from sono.manifests.errors import UserError

GOOD = "{{ article }} {{ ga }}-week {{ plane }}"


@pytest.fixture(scope="module")
def vocabulary():
    return vocabularies.load()


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "global.jinja").write_text(GOOD)
    (tmp_path / "region.jinja").write_text(GOOD + " {{ structure }}")
    return tmp_path


def test_the_packaged_templates_are_the_papers(vocabulary):
    writer = Writer(load_templates(), vocabulary)
    assert writer.frame(21, "transthalamic", ("head", "thalami")) == (
        "A 21-week fetal ultrasound image of transthalamic plane showing head, thalami."
    )
    assert writer.region(18, "four_chamber", "left_ventricle") == (
        "An 18-week fetal ultrasound four-chamber plane. The segmentation highlights the left ventricle."
    )
    check_templates(load_templates(), vocabulary)


def test_the_article_follows_the_spoken_number():
    assert [week for week in range(4, 46) if article(week) == "An"] == [8, 11, 18]


def test_a_changed_template_has_another_digest(folder):
    assert load_templates(folder).frame.sha256 != load_templates().frame.sha256
    assert len(load_templates().region.sha256) == 64


@pytest.mark.parametrize("name", ["global.jinja", "region.jinja"])
def test_a_missing_template_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(UserError, match=f"{name}: there is no such template; a template folder holds"):
        load_templates(folder)


def test_a_template_that_is_no_text_is_named(folder):
    (folder / "global.jinja").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"global\.jinja: not UTF-8 text"):
        load_templates(folder)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("{{ plane", "line 1 is no valid template"),
        ("{{ patient }}", "does not render: 'patient' is undefined"),
        ("{{ plane.__class__.__mro__ }}", "does not render: access to attribute '__class__' of 'str' object is unsafe"),
        ("{{ ''.__class__.__base__.__subclasses__() }}", "does not render: access to attribute '__class__'"),
        ("{% include '/etc/passwd' %}", "does not render: no loader"),
        ("{% set w = ['x'] %}{{ w.append('y') }}", "does not render: access to attribute 'append' of 'list' object is"),
        ("{{ ga / 0 }}", "does not render: division by zero"),
        ("{{ ga + plane }}", "does not render: unsupported operand"),
        ("{% for i in range(10 ** 8) %}x{% endfor %}", "does not render: Range too big"),
        ("{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}", "does not render: maximum recursion depth"),
        ("  \n", "sentence is empty"),
        ("{{ plane }}\n{{ ga }}", "sentence has several lines"),
        ("{{ plane }} in 2D", "sentence holds a number besides the gestational age"),
        ("{{ plane }} at {{ ga + 1 }} weeks", "sentence holds a number besides the gestational age"),
        ("{{ plane }}{{ ga }}{{ ga }}", "sentence holds a number besides the gestational age"),
        ("{{ plane | reverse }}", "sentence holds a word that is neither the template's nor the vocabulary's"),
        ("{{ plane }}{% if ga > 43 %} 3 {% endif %}", "sentence holds a number besides the gestational age"),
    ],
)
@pytest.mark.parametrize("name", ["global.jinja", "region.jinja"])
def test_a_template_that_cannot_be_used_is_refused_before_the_run(folder, vocabulary, name, text, error):
    (folder / name).write_text(text)
    with pytest.raises(UserError) as caught:
        check_templates(load_templates(folder), vocabulary)
    assert error in str(caught.value)
    assert str(caught.value).startswith(str(folder / name))
    assert len(str(caught.value).splitlines()) == 1


def test_each_template_sees_its_own_words_only(folder, vocabulary):
    (folder / "global.jinja").write_text(GOOD + " {{ structure }}")
    with pytest.raises(UserError, match="'structure' is undefined"):
        check_templates(load_templates(folder), vocabulary)
    (folder / "global.jinja").write_text(GOOD)
    (folder / "region.jinja").write_text(GOOD + " {{ anatomies }}")
    with pytest.raises(UserError, match="'anatomies' is undefined"):
        check_templates(load_templates(folder), vocabulary)


def test_a_refused_template_leaves_the_workspace_alone(clinic, folder):
    clinic.frames("one", clinic.frame("a"))
    (folder / "region.jinja").write_text("{{ nothing }}")
    with pytest.raises(UserError, match="'nothing' is undefined"):
        clinic.caption(clinic.csv("patient_id,ga_days", "P,150"), templates=folder)
    assert clinic.written() == {}


def test_a_vocabulary_whose_names_hold_numbers_is_refused(tmp_path):
    from importlib import resources

    text = resources.files("sono.manifests").joinpath("planes.toml").read_text(encoding="utf-8")
    path = tmp_path / "planes.toml"
    path.write_text(
        text.replace('name = "third ventricle"', 'name = "3rd ventricle"').replace('["3rd ventricle"]', "[]")
    )
    with pytest.raises(UserError, match="holds a number besides the gestational age"):
        check_templates(load_templates(), vocabularies.load(path))


def test_default_captions_fit_the_text_tower(vocabulary):
    """77 tokens with start and end, the plane with the most words and all of its structures included."""
    tokenizer = pytest.importorskip("open_clip.tokenizer").SimpleTokenizer()
    writer = Writer(load_templates(), vocabulary)
    for plane in vocabulary.planes.values():
        text = writer.frame(38, plane.id, plane.structures)
        assert len(tokenizer.encode(text)) + 2 <= 77, text


def test_a_pack_names_both_templates():
    pack = load_templates()
    assert isinstance(pack, TemplatePack)
    assert (pack.frame.name, pack.region.name) == ("global", "region")
