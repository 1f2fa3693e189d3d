from pathlib import Path

import pytest

from hub_server.storage.hub_id import HUB_ID_NAME, hub_id_in
from hub_server.storage.private_files import KeysRefused


def test_a_hub_keeps_its_id_and_another_has_another(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    assert hub_id_in(one) == hub_id_in(one) != hub_id_in(other)
    assert (one / HUB_ID_NAME).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("content", [b"", b"hub-1\n", b"\xff"])
def test_a_file_that_holds_no_id_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / HUB_ID_NAME).write_bytes(content)
    with pytest.raises(KeysRefused, match="does not hold the id"):
        hub_id_in(tmp_path)
