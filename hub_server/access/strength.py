"""How easily a new password is guessed. zxcvbn stops here."""

from __future__ import annotations

from typing import Final

from zxcvbn import zxcvbn

from hub_server.errors import InvalidRequest

MIN_CHARS: Final = 12
MAX_CHARS: Final = 1024
JUDGED_CHARS: Final = 24
"""zxcvbn's time grows with the square of the length, and faster where many signs may stand for letters."""
SCORE_MIN: Final = 3
"""Of 0 to 4: at least 10⁸ guesses."""
NAME_MIN_CHARS: Final = 3


def check_strength(password: str, username: str, path: str = "$.password") -> None:
    """Raises InvalidRequest, with the reason, for a password that is short, common, or made of the user's name.

    Takes up to 0.3 s of a thread.
    """
    if len(password) < MIN_CHARS:
        raise InvalidRequest(f"the password needs {MIN_CHARS} characters at least", path=path)
    if len(password) > MAX_CHARS:
        raise InvalidRequest(f"the password may have {MAX_CHARS} characters at most", path=path)
    if len(username) >= NAME_MIN_CHARS and username.casefold() in password.casefold():
        raise InvalidRequest("the password is easy to guess: it contains the user name", path=path)
    judged = zxcvbn(password[:JUDGED_CHARS], user_inputs=[username])
    if judged["score"] < SCORE_MIN:
        feedback = judged["feedback"]
        reason = feedback["warning"] or "it is too short or too regular"
        advice = " ".join(feedback["suggestions"])
        raise InvalidRequest(f"the password is easy to guess: {reason.rstrip('.')}. {advice}".rstrip(), path=path)
