"""Texts of enrollment tokens and organisation keys: exactly what the hub wrote is read, and nothing else."""

import string
import zlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hub_server.enrollment.keys import OrganisationKey
from protocol.identity import ALPHABET, EnrollmentToken, MalformedIdentity, base62

IDS = st.binary(min_size=8, max_size=8).map(base62)
SECRETS = st.binary(min_size=32, max_size=32)
KEYS = st.builds(OrganisationKey, IDS, SECRETS)
TOKENS = st.builds(EnrollmentToken, IDS, SECRETS, st.binary(min_size=16, max_size=16))
CHARACTERS = st.sampled_from(string.printable + "é٣０\0\u202e")


@st.composite
def altered(draw: st.DrawFn, text: str) -> str:
    """Return `text` with characters put in, taken out or changed."""
    characters = list(text)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(characters) - 1))
        match draw(st.sampled_from(["in", "out", "other"])):
            case "in":
                characters.insert(at, draw(CHARACTERS))
            case "out":
                del characters[at]
            case _:
                characters[at] = draw(CHARACTERS)
    return "".join(characters)


def read_key(text: str) -> OrganisationKey | None:
    try:
        return OrganisationKey.parse(text)
    except MalformedIdentity:
        return None


def read_token(text: str) -> EnrollmentToken | None:
    try:
        return EnrollmentToken.parse(text)
    except MalformedIdentity:
        return None


@given(KEYS)
def test_a_key_comes_back_as_it_was(key: OrganisationKey) -> None:
    assert OrganisationKey.parse(key.text) == key
    assert key.text.split(".")[1] not in repr(key)


@given(st.text() | st.text().map("itsk_".__add__) | st.from_regex(r"itsk_[0-9A-Za-z]{0,40}\.[0-9A-Za-z]{0,70}"))
@example("itsk_a." + "0" * 20 + base62(bytes(32)))
@example("itsk_a." + base62(bytes(32)) + "\n")
def test_a_text_is_a_key_exactly_as_it_is_written_or_refused(text: str) -> None:
    key = read_key(text)
    assert key is None or (key.text == text and len(key.secret) == 32)


@given(KEYS, st.data())
def test_an_altered_key_is_another_key_or_refused(key: OrganisationKey, data: st.DataObject) -> None:
    text = data.draw(altered(key.text))
    found = read_key(text)
    assert found is None or found.text == text
    assert found != key or text == key.text


@given(TOKENS, st.data())
def test_an_altered_token_is_refused_or_is_still_the_same_text(token: EnrollmentToken, data: st.DataObject) -> None:
    text = data.draw(altered(token.text))
    found = read_token(text)
    assert found is None or found.text == text.strip()
    assert found != token or text.strip() == token.text


@given(
    st.text()
    | st.text().map("jtnte_".__add__)
    | st.from_regex(r"jtnte_[0-9A-Za-z]{0,40}\.[0-9A-Za-z]{0,70}\.[0-9A-Za-z]{0,40}\.[0-9A-Za-z]{0,10}")
)
def test_a_text_is_a_token_exactly_as_it_is_written_or_refused(text: str) -> None:
    found = read_token(text)
    assert found is None or found.text == text.strip()


@given(TOKENS, st.sampled_from(["id", "secret", "pin"]))
def test_a_token_written_in_another_way_is_refused_although_its_checksum_is_right(
    token: EnrollmentToken, part: str
) -> None:
    """A leading zero changes no base62 number."""
    parts = {"id": token.id, "secret": base62(token.secret), "pin": base62(token.pin)}
    if part == "id":
        assert EnrollmentToken.parse(EnrollmentToken(f"0{token.id}", token.secret, token.pin).text) != token
        return
    body = ".".join(f"0{value}" if name == part else value for name, value in parts.items())
    with pytest.raises(MalformedIdentity, match="another way"):
        EnrollmentToken.parse(with_checksum(body))


def with_checksum(body: str) -> str:
    """Return `jtnte_<body>.<crc>` with the checksum that makes it well-formed."""
    checksum = base62(zlib.crc32(body.encode()).to_bytes(4))
    assert set(checksum) <= set(ALPHABET)
    return f"jtnte_{body}.{checksum}"


def test_generated_keys_differ() -> None:
    one, other = OrganisationKey.generate(), OrganisationKey.generate()
    assert (one.id != other.id, one.secret != other.secret, len(one.secret)) == (True, True, 32)
