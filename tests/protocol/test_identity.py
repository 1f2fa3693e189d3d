import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.identity import (
    ALPHABET,
    AgentIdentity,
    EnrollmentToken,
    JoinString,
    MalformedIdentity,
    base62,
    from_base62,
    key_id_of,
    pin_of,
    pins_match,
)

NAMES = st.text(string.ascii_letters + string.digits + "._-", min_size=1, max_size=128).filter(
    lambda name: name[0].isalnum()
)
HOSTS = st.from_regex(
    r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?(\.[a-z0-9]{1,10}){0,3}", fullmatch=True
) | st.ip_addresses().map(str)
PORTS = st.integers(1, 65535)
TOKENS = st.builds(
    EnrollmentToken,
    id=st.binary(min_size=8, max_size=8).map(base62),
    secret=st.binary(min_size=32, max_size=32),
    pin=st.binary(min_size=16, max_size=16),
)
TOKEN = EnrollmentToken(id="1LtQ8Jn3kZb", secret=bytes(range(32)), pin=bytes(range(16)))


@given(st.binary(max_size=64))
def test_base62_gives_back_every_byte(data: bytes) -> None:
    text = base62(data)

    assert set(text) <= set(ALPHABET)
    assert from_base62(text) == data


@given(st.text(max_size=40))
def test_any_text_is_base62_of_bytes_or_refused(text: str) -> None:
    try:
        data = from_base62(text)
    except MalformedIdentity:
        return
    assert base62(data) == text.lstrip("0")


@given(TOKENS)
def test_a_token_comes_back_as_it_was(token: EnrollmentToken) -> None:
    assert EnrollmentToken.parse(token.text) == token
    assert EnrollmentToken.parse(f" {token.text}\n") == token


@given(TOKENS, st.data())
def test_a_token_with_one_character_mistyped_is_refused(token: EnrollmentToken, data: st.DataObject) -> None:
    mistyped = _mistyped(token.text, data)

    with pytest.raises(MalformedIdentity):
        EnrollmentToken.parse(mistyped)


@given(TOKENS, st.data())
def test_a_token_that_was_cut_is_refused(token: EnrollmentToken, data: st.DataObject) -> None:
    with pytest.raises(MalformedIdentity):
        EnrollmentToken.parse(token.text[: data.draw(st.integers(0, len(token.text) - 1))])


@given(st.text())
def test_any_text_is_a_token_or_refused(text: str) -> None:
    with pytest.raises(MalformedIdentity):
        EnrollmentToken.parse(text)


@pytest.mark.parametrize(("secret_bytes", "pin_bytes"), [(31, 16), (33, 16), (32, 15), (32, 17)])
def test_a_token_with_parts_of_a_wrong_length_is_refused(secret_bytes: int, pin_bytes: int) -> None:
    with pytest.raises(MalformedIdentity, match="wrong length"):
        EnrollmentToken.parse(EnrollmentToken("id", bytes(secret_bytes), bytes(pin_bytes)).text)


def test_generated_tokens_differ_and_keep_the_pin() -> None:
    one, other = EnrollmentToken.generate(TOKEN.pin), EnrollmentToken.generate(TOKEN.pin)

    assert one.pin == other.pin == TOKEN.pin
    assert one.secret != other.secret
    assert one.id != other.id
    assert one.secret_sha256 != one.secret


def test_a_token_does_not_show_its_secret_when_printed() -> None:
    assert repr(TOKEN) == "EnrollmentToken(id='1LtQ8Jn3kZb')"
    assert str(TOKEN) == repr(TOKEN)


def test_a_tokens_text_is_what_it_has_always_been() -> None:
    assert TOKEN.text == ("jtnte_1LtQ8Jn3kZb.yhnTFi6TIWSkvXUzVKQx0pUavwJozxFdUUM2897Qlah.7n4UlmTXBzjUOTX3nzfyYx.6GgEDN")


@given(HOSTS, PORTS, TOKENS)
def test_a_join_string_comes_back_as_it_was(host: str, port: int, token: EnrollmentToken) -> None:
    join = JoinString(host, port, token)

    assert JoinString.parse(join.text) == join
    assert JoinString.parse(f"\t{join.text} \n") == join


@given(TOKENS, st.data())
def test_a_mistyped_join_string_is_refused_or_leads_elsewhere_with_the_same_pin(
    token: EnrollmentToken, data: st.DataObject
) -> None:
    """Only the token has a checksum: a wrong host has no root of this pin, so it never hears the secret."""
    join = JoinString("hub.example", 3001, token)
    try:
        parsed = JoinString.parse(_mistyped(join.text, data))
    except MalformedIdentity:
        return
    assert parsed.token == token


@given(st.text() | st.text().map("jtnt://".__add__) | st.text().map("jtnt://[".__add__))
def test_any_text_is_a_join_string_or_refused(text: str) -> None:
    with pytest.raises(MalformedIdentity):
        JoinString.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        f"https://hub:3001/#{TOKEN.text}",
        f"jtnt://hub/#{TOKEN.text}",
        f"jtnt://:3001/#{TOKEN.text}",
        f"jtnt://hub:65536/#{TOKEN.text}",
        f"jtnt://hub:port/#{TOKEN.text}",
        f"jtnt://[::1:3001/#{TOKEN.text}",
        "jtnt://hub:3001/",
        f"jtnt://hub:3001/{TOKEN.text}",
    ],
)
def test_a_text_that_is_nearly_a_join_string_is_refused(text: str) -> None:
    with pytest.raises(MalformedIdentity):
        JoinString.parse(text)


def test_a_join_string_names_the_hubs_address() -> None:
    assert JoinString("hub.example", 3001, TOKEN).hub_url == "https://hub.example:3001"
    assert JoinString("::1", 3001, TOKEN).hub_url == "https://[::1]:3001"


@given(NAMES, NAMES, NAMES)
def test_an_identity_comes_back_as_it_was(trust_domain: str, organisation_id: str, agent_id: str) -> None:
    identity = AgentIdentity(trust_domain, organisation_id, agent_id)

    assert AgentIdentity.parse(identity.uri) == identity


@given(st.data())
def test_a_changed_identity_is_refused_or_another(data: st.DataObject) -> None:
    identity = AgentIdentity("hub.example", "acme", "01K9TZTWY2")
    mistyped = _mistyped(identity.uri, data)
    try:
        parsed = AgentIdentity.parse(mistyped)
    except MalformedIdentity:
        return
    assert parsed != identity
    assert parsed.uri == mistyped


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "spiffe://d/org/o/agent/",
        "spiffe://d/org//agent/a",
        "spiffe://d/org/o/agent/a/",
        "spiffe://d/org/o/agent/a\n",
        "spiffe://d/org/o/agent/../a",
        "spiffe://d/org/o/agent/a?x",
        "spiffe://d/org/o/agent/a#x",
        "spiffe://d:1/org/o/agent/a",
        "spiffe://u@d/org/o/agent/a",
        "SPIFFE://d/org/o/agent/a",
        "spiffe://d/org/o/hub/a",
        "spiffe://d/org/o/agent/%61",
        f"spiffe://d/org/o/agent/{'a' * 129}",
    ],
)
def test_a_uri_of_another_form_is_no_identity(uri: str) -> None:
    with pytest.raises(MalformedIdentity):
        AgentIdentity.parse(uri)


def test_a_pin_is_the_first_half_of_the_keys_digest() -> None:
    assert pin_of(b"key").hex() == "2c70e12b7a0646f92279f427c7b38e73"
    assert pins_match(pin_of(b"key"), pin_of(b"key"))
    assert not pins_match(pin_of(b"key"), pin_of(b"kez"))


def test_a_key_id_is_a_short_word_that_depends_on_the_whole_key() -> None:
    assert key_id_of(bytes(32)) == "mzuhvlpymk6xo3ep"
    assert key_id_of(bytes(31) + b"\1") != key_id_of(bytes(32))


def _mistyped(text: str, data: st.DataObject) -> str:
    position = data.draw(st.integers(0, len(text) - 1))
    typed = data.draw(st.characters(min_codepoint=32, max_codepoint=126) | st.characters())
    if typed == text[position]:
        typed = "!" if text[position] != "!" else "?"
    return text[:position] + typed + text[position + 1 :]
