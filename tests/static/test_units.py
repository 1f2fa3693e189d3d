"""The dashboard's own unit tests, by Node's test runner."""

from pathlib import Path

import hatch_build


def test_the_dashboards_units_pass() -> None:
    npm = hatch_build.npm_here()
    source = Path(hatch_build.__file__).parent / hatch_build.SOURCE
    hatch_build.install_packages(npm, source)
    said = hatch_build.run_npm(npm, source, "test")
    assert "fail 0" in said, said
    assert "pass 0" not in said, said
