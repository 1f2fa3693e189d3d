"""Antivirus on Linux: what is installed of the products that watch a machine, and whether it runs."""

from __future__ import annotations

from typing import Final, NamedTuple

from agent_client.host import Host, text_of


class Product(NamedTuple):
    """`processes` as in /proc/<pid>/comm, which cuts names to 15 characters; any one of them will do."""

    name: str
    marks: tuple[str, ...]
    processes: frozenset[str]


class Antivirus(NamedTuple):
    """`is_enabled` None: nothing of the kind is installed."""

    is_enabled: bool | None
    name: str


PRODUCTS: Final = (
    Product("Microsoft Defender", ("/opt/microsoft/mdatp",), frozenset({"wdavdaemon", "mdatp"})),
    Product("CrowdStrike Falcon", ("/opt/CrowdStrike/falcond",), frozenset({"falcon-sensor", "falcon-sensor-b"})),
    Product("SentinelOne", ("/opt/sentinelone",), frozenset({"s1-agent", "sentinelone-age"})),
    Product(
        "Sophos", ("/opt/sophos-spl", "/opt/sophos-av"), frozenset({"sophos_watchdog", "av", "savd", "sspl_watchdog"})
    ),
    Product(
        "ESET", ("/opt/eset/eea", "/opt/eset/efs", "/opt/eset/esets"), frozenset({"oaeventd", "startd", "esets_daemon"})
    ),
    Product("Trend Micro", ("/opt/ds_agent",), frozenset({"ds_agent", "ds_am"})),
    Product("Bitdefender", ("/opt/bitdefender-security-tools",), frozenset({"bdsecd", "bdsrvscand"})),
    Product("ClamAV", ("/usr/sbin/clamd", "/usr/bin/clamd"), frozenset({"clamd"})),
)


def antivirus_of(host: Host) -> Antivirus:
    """Return the first installed product that runs, else the first installed one. A scanner run by hand is none."""
    installed = [product for product in PRODUCTS if any(host.path(mark).exists() for mark in product.marks)]
    if not installed:
        return Antivirus(is_enabled=None, name="")
    running = _running(host)
    for product in installed:
        if product.processes & running:
            return Antivirus(is_enabled=True, name=product.name)
    return Antivirus(is_enabled=False, name=installed[0].name)


def _running(host: Host) -> frozenset[str]:
    proc = host.path("/proc")
    return frozenset(text_of(host, f"/proc/{entry.name}/comm") for entry in proc.iterdir() if entry.name.isdecimal())
