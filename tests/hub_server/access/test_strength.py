import time

import pytest

from hub_server.access.strength import MAX_CHARS, check_strength
from hub_server.errors import InvalidRequest


@pytest.mark.parametrize(
    ("password", "reason"),
    [
        ("short", "12 characters"),
        ("x" * (MAX_CHARS + 1), "at most"),
        ("changemechangeme", "Repeats"),
        ("qwertyuiopasdfghjkl", "keyboard|easy"),
        ("password123456", "common|easy"),
        ("correct-ADALOVELACE-9", "user name"),
        ("aaaaaaaaaaaaaaaaaaaaaaaaaaaa", "Repeats"),
        ("abcdefghijkl", "Sequences|easy"),
    ],
)
def test_a_weak_password_is_refused_with_its_reason(password: str, reason: str) -> None:
    with pytest.raises(InvalidRequest, match=reason) as refused:
        check_strength(password, "adalovelace", "$.new")
    assert refused.value.path == "$.new"


@pytest.mark.parametrize(
    "password", ["marzipan-bicycle-42", "correct horse battery staple 7", "gxnyc-j93gb-tr6de-ip8kj"]
)
def test_a_good_password_is_taken(password: str) -> None:
    check_strength(password, "adalovelace")


def test_no_text_takes_long_to_judge() -> None:
    """zxcvbn tries every letter that a sign may stand for."""
    started = time.process_time()
    check_strength("4@8({[<369&#!1/|0$5+7%2" * 40, "ada")
    assert time.process_time() - started < 2
