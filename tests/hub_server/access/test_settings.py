"""When a hub demands a second factor of people who may run commands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hub_server.config import Settings

TLS = {"certificate": "web.pem", "key": "web.key"}


@pytest.mark.parametrize(
    ("sections", "demanded"),
    [
        ({}, False),
        ({"people": {"host": "::1"}}, False),
        ({"people": {"host": "0.0.0.0", **TLS}}, True),
        ({"people": {"host": "192.0.2.1", **TLS}}, True),
        ({"people": {"trusted_proxies": ["127.0.0.1"]}}, True),
        ({"public": {"web_url": "https://jtnt.example"}}, True),
        ({"public": {"web_url": "http://localhost:3000"}}, False),
        ({"public": {"web_url": "http://127.0.0.1:3000"}}, False),
        ({"access": {"second_factor": "always"}}, True),
        ({"access": {"second_factor": "never"}, "public": {"web_url": "https://jtnt.example"}}, False),
    ],
)
def test_a_second_factor_is_demanded_once_others_reach_the_hub(
    tmp_path: Path, sections: dict[str, Any], demanded: bool
) -> None:
    assert Settings.model_validate({"data_dir": tmp_path, **sections}).demands_second_factor is demanded
