"""Pseudonyms are keyed, tell kinds apart, and their key neither leaks nor gets lost."""

from __future__ import annotations

import hashlib
import hmac
import os
import pickle
import re
import stat
from dataclasses import asdict
from pathlib import Path

import pytest

from sono.manifests.errors import UserError
from sono.manifests.pseudonyms import Pseudonymizer, create_key, load_key, without_extension

KEY = bytes(range(32))


@pytest.fixture
def keys() -> Pseudonymizer:
    return Pseudonymizer(KEY)


def of_every_kind(keys: Pseudonymizer, text: str) -> dict[str, str]:
    return {
        "patient": keys.patient("", text),
        "study": keys.study(text),
        "only_study": keys.only_study(text),
        "series": keys.series(text),
        "source": keys.source(text),
        "name": keys.name(text),
        "frame": keys.frame(text, 0),
        "region": keys.region(text, "head", "import"),
        "folder": keys.folder(text),
        "content": keys.content(text),
    }


def test_a_pseudonym_is_128_bits_in_hex(keys: Pseudonymizer) -> None:
    assert all(re.fullmatch(r"[0-9a-f]{32}", pseudonym) for pseudonym in of_every_kind(keys, "4711").values())


def test_a_pseudonym_is_the_truncated_hmac_of_kind_and_value(keys: Pseudonymizer) -> None:
    """Pinned, so that a workspace made last year finds its patients again."""
    assert keys.patient("", "4711") == hmac.new(KEY, b"patient\x004711", hashlib.sha256).hexdigest()[:32]


def test_the_same_key_gives_the_same_pseudonym_and_another_key_another(keys: Pseudonymizer) -> None:
    same, other = Pseudonymizer(bytes(KEY)), Pseudonymizer(KEY[::-1])
    assert of_every_kind(keys, "4711") == of_every_kind(same, "4711")
    assert not set(of_every_kind(keys, "4711").values()) & set(of_every_kind(other, "4711").values())


def test_equal_identifiers_of_different_kinds_cannot_be_linked(keys: Pseudonymizer) -> None:
    pseudonyms = of_every_kind(keys, "4711")
    assert len(set(pseudonyms.values())) == len(pseudonyms)


def test_different_parts_give_different_pseudonyms(keys: Pseudonymizer) -> None:
    assert keys.frame("a", 1) != keys.frame("a", 2)
    assert keys.frame("a", 1) != keys.frame("b", 1)
    regions = {
        keys.region(frame, structure, source)
        for frame in ("a", "b")
        for structure in ("head", "femur")
        for source in ("import", "sam")
    }
    assert len(regions) == 8


def test_surrounding_spaces_do_not_change_a_patient(keys: Pseudonymizer) -> None:
    """DICOM pads values to even length with spaces."""
    assert keys.patient("", "4711 ") == keys.patient("", "4711")
    assert keys.study(" 1.2.3") == keys.study("1.2.3")
    assert keys.series("1.2.3 ") == keys.series("1.2.3")


@pytest.mark.parametrize("empty", ["", "   "])
def test_an_empty_identifier_is_refused(keys: Pseudonymizer, empty: str) -> None:
    """It would join all patients without one."""
    with pytest.raises(ValueError, match="an empty patient identifier has no pseudonym"):
        keys.patient("", empty)
    with pytest.raises(ValueError, match="an empty source identifier has no pseudonym"):
        keys.source(empty.strip())


@pytest.mark.parametrize(
    ("path", "stem"),
    [
        ("scan.dcm", "scan"),
        ("a/b.c.dcm", "a/b.c"),
        ("a.b/c", "a.b/c"),
        ("a.b/c.png", "a.b/c"),
        ("scan", "scan"),
        ("deep/down/scan", "deep/down/scan"),
        ("./a//b.png", "a/b"),
        (".hidden", ".hidden"),
        ("a/.hidden.png", "a/.hidden"),
        ("scan.PNG", "scan"),
        ("scan.j2k", "scan"),
        ("a b (1).jpeg", "a b (1)"),
        ("Fötus.tif", "Fötus"),
        # DICOM files are often named by their UID alone; its last number is no extension.
        ("1.2.840.113619.2.1", "1.2.840.113619.2.1"),
        ("1.2.840.113619.2.1.dcm", "1.2.840.113619.2.1"),
        ("archive/1.2.3/1.2.3.4", "archive/1.2.3/1.2.3.4"),
    ],
)
def test_only_the_last_extension_is_removed(path: str, stem: str) -> None:
    assert without_extension(path) == stem


def test_a_mask_with_another_extension_finds_its_frame(keys: Pseudonymizer) -> None:
    assert keys.source("P1/scan.dcm") == keys.source("P1/scan.png") == keys.source("P1/scan")
    assert keys.source("P1/scan.dcm") != keys.source("P2/scan.dcm")
    assert keys.source("P1/1.2.3.4") != keys.source("P1/1.2.3.5")


def test_a_bare_name_ignores_folders(keys: Pseudonymizer) -> None:
    assert keys.name("P1/scan.dcm") == keys.name("P2/deep/scan.png") == keys.name("scan")
    assert keys.name("P1/scan.dcm") != keys.name("P1/other.dcm")


def test_digests_of_files_and_pixels_are_keyed_and_depend_on_values_and_shape(keys: Pseudonymizer) -> None:
    values, stranger = bytes(range(12)), Pseudonymizer(b"\1" * 32)
    digests = [
        keys.pixels((3, 4), values),
        keys.pixels((4, 3), values),
        keys.pixels((3, 4), values[::-1]),
        stranger.pixels((3, 4), values),
        keys.file(values),
        stranger.file(values),
        hashlib.sha256(values).hexdigest()[:32],
    ]
    assert len(set(digests)) == len(digests)
    assert keys.pixels((3, 4), memoryview(values)) == digests[0]
    assert keys.file(values) == hmac.new(keys.key, b"file\0" + values, "sha256").hexdigest()[:32]


def test_the_key_is_not_shown_in_representations(keys: Pseudonymizer) -> None:
    for text in (repr(keys), str(keys), f"{keys}", repr([keys]), repr({"keys": keys})):
        assert text.strip("[]{}").endswith("Pseudonymizer()")
        assert KEY.hex() not in text
        assert repr(KEY)[2:-1] not in text
    assert asdict(keys)["key"] == KEY  # the test above compares with the right bytes


def test_a_pseudonymizer_pickles(keys: Pseudonymizer) -> None:
    assert pickle.loads(pickle.dumps(keys)).patient("", "4711") == keys.patient("", "4711")


def test_a_new_key_is_random_and_can_be_loaded(tmp_path: Path) -> None:
    made, other = create_key(tmp_path / "one"), create_key(tmp_path / "two")
    assert load_key(tmp_path / "one") == made
    assert made != other
    assert len(made.key) == 32


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_only_the_owner_may_read_the_key_file(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        create_key(tmp_path / "secret.key")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "secret.key").stat().st_mode) == 0o600


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "secret.key"
    made = create_key(path)
    with pytest.raises(UserError, match="a key already exists; keep it: every pseudonym depends on it"):
        create_key(path)
    assert load_key(path) == made


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o620, 0o601])
def test_a_key_readable_by_others_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "secret.key"
    create_key(path)
    path.chmod(mode)
    with pytest.raises(UserError, match=rf"other users can read the key \(mode {mode:04o}\); run: chmod 600 {path}"):
        load_key(path)


def test_a_read_only_key_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "secret.key"
    made = create_key(path)
    path.chmod(0o400)
    assert load_key(path) == made


def test_a_missing_key_is_not_replaced(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the workspace's key is missing; restore it from your backup"):
        load_key(tmp_path / "secret.key")
    assert not (tmp_path / "secret.key").exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"no hex at all", KEY.hex()[:-2].encode(), KEY.hex().encode() + b"00", bytes(range(128, 160))],
    ids=["empty", "not hex", "too short", "too long", "not ascii"],
)
def test_a_malformed_key_is_refused_without_quoting_it(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "secret.key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(UserError) as caught:
        load_key(path)
    assert str(caught.value) == f"{path}: not a workspace key; restore it from your backup"


def test_a_patients_number_counts_in_its_namespace() -> None:
    keys = Pseudonymizer(KEY)
    north, south = (keys.patient_keys("4711", center=center) for center in ("north", "south"))
    issued = keys.patient_keys("4711", issuer="NORTH", center="north")
    assert len({north.patient, south.patient, issued.patient, north.number}) == 4
    assert north.number == south.number == issued.number == keys.patient_keys("4711").patient
    assert issued.center == north.center == north.patient
    assert issued == keys.patient_keys(" 4711", issuer=" north  ", center="North ")
    everywhere = Pseudonymizer(KEY, "global")
    assert set(everywhere.patient_keys("4711", issuer="NORTH", center="north")) == {north.number}
