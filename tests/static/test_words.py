"""The dashboard has words for all that the hub knows by name, where its types do not see to it."""

import re
from pathlib import Path

import hatch_build
from hub_server.access.model import Permission

WORDS = Path(hatch_build.__file__).parent / hatch_build.SOURCE / "src/text/permissions.ts"


def test_every_permission_has_its_words() -> None:
    listed = re.search(r"PERMISSION_WORDS = \{(.*?)\}", WORDS.read_text(encoding="utf-8"), re.DOTALL)
    assert listed
    assert set(re.findall(r"^ +'?([a-z:-]+)'?: '", listed.group(1), re.MULTILINE)) == set(Permission)
