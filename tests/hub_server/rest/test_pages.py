"""Health, metrics, the dashboard's files, and what is not there."""

from pathlib import Path

import pytest

from tests.hub_server.rest.conftest import Client


async def test_health_tells_alive_and_ready(people: Client, reasons: list[str]) -> None:
    for path in ("/healthz", "/readyz"):
        answer = await people.get(path)
        assert (answer.status, await answer.json()) == (200, {"status": "ok", "reasons": []})
    reasons.append("the database does not answer")
    answer = await people.get("/readyz")
    assert (answer.status, await answer.json()) == (503, {"status": "unavailable", "reasons": reasons})
    assert (await people.get("/healthz")).status == 200


async def test_metrics_are_prometheus_text(people: Client) -> None:
    answer = await people.get("/metrics")
    assert await answer.text() == "jtnt_up 1\n"
    assert answer.content_type == "text/plain"


async def test_a_missing_bundle_says_how_to_build_it(people: Client) -> None:
    answer = await people.get("/")
    assert (answer.status, answer.content_type) == (503, "text/html")
    assert "python3 hatch_build.py" in await answer.text()


async def test_the_page_is_asked_for_and_its_files_are_kept(people: Client, bundle: Path) -> None:
    (bundle / "index.html").write_text("<!doctype html>dashboard")
    (bundle / "assets").mkdir()
    (bundle / "assets" / "index-Ab12_-x.js").write_text("start()")
    (bundle / "assets" / "inter.woff2").write_bytes(b"font")
    page = await people.get("/")
    assert (page.status, page.content_type, page.headers["Cache-Control"]) == (200, "text/html", "no-cache")
    again = await people.get("/", headers={"If-None-Match": page.headers["ETag"]})
    assert again.status == 304
    script = await people.get("/assets/index-Ab12_-x.js")
    assert (await script.text(), script.content_type) == ("start()", "text/javascript")
    assert script.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    font = await people.get("/assets/inter.woff2")
    assert font.headers["Content-Type"] == "font/woff2"


async def test_the_seeds_address_leads_to_the_dashboard(people: Client) -> None:
    answer = await people.get("/agent-dashboard.html", allow_redirects=False)
    assert (answer.status, answer.headers["Location"]) == (302, "/")


async def test_every_answer_keeps_browsers_careful(people: Client, bundle: Path) -> None:
    (bundle / "index.html").write_text("page")
    for path in ("/", "/healthz", "/nowhere", "/agent-dashboard.html"):
        headers = (await people.get(path, allow_redirects=False)).headers
        assert headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'self';")
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert headers["Server"] == "JTNT"


@pytest.mark.parametrize(
    "path",
    [
        "/nowhere",
        "/api/v1/nothing",
        "/assets/",
        "/assets/none.js",
        "/assets/..%2fsecret.json",
        "/..%2fsecret.json",
        "/.stamp",
        "/assets",
        "/page.py",
        "/assets/a%00.js",
        f"/{'x' * 300}.js",
    ],
)
async def test_what_is_not_there_is_not_found(people: Client, bundle: Path, path: str) -> None:
    (bundle.parent / "secret.json").write_text("{}")
    (bundle / ".stamp").write_text("x")
    (bundle / "page.py").write_text("x")
    (bundle / "assets").mkdir()
    answer = await people.get(path)
    assert (answer.status, (await answer.json())["error"]["code"]) == (404, "not_found")


async def test_a_wrong_method_is_not_found(people: Client) -> None:
    for method, path in (("POST", "/"), ("GET", "/api/v1/auth/sign-in"), ("DELETE", "/metrics")):
        answer = await people.request(method, path)
        assert (answer.status, (await answer.json())["error"]["code"]) == (404, "not_found")
