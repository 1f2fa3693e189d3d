"""Does a Linux machine refuse what it was not asked for? Told by its rules, not by what is installed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

import msgspec

from agent_client.host import Host, lines_of, text_of

_REFUSALS: Final = frozenset({"drop", "reject"})
# What a rule for everybody may look at: it still closes an interface, or a protocol, as a whole.
_BROAD_KEYS: Final = frozenset({"iif", "iifname", "l4proto", "nfproto", "protocol"})
_BROAD_STATEMENTS: Final = frozenset({"counter", "log"})
_BROAD_EXTENSIONS: Final = frozenset({"comment", "LOG", "NFLOG"})
_FAMILIES: Final = frozenset({"ip", "inet"})
_JUMPS_MAX: Final = 16

Chain = tuple[str, str, str]


class Firewall(NamedTuple):
    """`is_enabled` None: it cannot be told, as without root's rights."""

    is_enabled: bool | None
    name: str


def firewall_of(host: Host) -> Firewall:
    if re.search(r"^ENABLED\s*=\s*yes", text_of(host, "/etc/ufw/ufw.conf"), re.MULTILINE | re.IGNORECASE):
        return Firewall(is_enabled=True, name="ufw")
    state = lines_of(host, "firewall-cmd", "--state")
    if state and state[0].strip() == "running":
        return Firewall(is_enabled=True, name="firewalld")
    if not host.is_root():
        return Firewall(is_enabled=None, name="")
    return _by_rules(host)


def _by_rules(host: Host) -> Firewall:
    """Ask the kernel's rules: any that close the way in make it True, False only where all that is there was seen."""
    seen = [_nftables(host), _iptables(host)]
    for found in seen:
        if found.is_enabled:
            return found
    told = [found for found in seen if found.is_enabled is not None]
    return told[0] if told else Firewall(is_enabled=None, name="")


def _nftables(host: Host) -> Firewall:
    answer = host.ask("nft", "-j", "list", "ruleset")
    if answer is None or answer.exit_code != 0:
        return Firewall(is_enabled=None, name="nftables")
    try:
        ruleset: dict[str, list[dict[str, Any]]] = msgspec.json.decode(
            answer.output, type=dict[str, list[dict[str, Any]]]
        )
    except msgspec.MsgspecError:
        return Firewall(is_enabled=None, name="nftables")
    return Firewall(is_enabled=closes_the_way_in(ruleset.get("nftables", [])), name="nftables")


def closes_the_way_in(objects: Iterable[dict[str, Any]]) -> bool:
    """Tell whether a chain of hook `input` drops by policy, or ends in a rule that refuses whoever it is.

    A rule that refuses single addresses only (fail2ban) is no firewall, nor is one for forwarded packets (containers).
    """
    bases: list[Chain] = []
    rules: dict[Chain, list[list[dict[str, Any]]]] = {}
    for item in objects:
        chain, rule = item.get("chain"), item.get("rule")
        if chain and chain.get("hook") == "input" and chain.get("family") in _FAMILIES:
            if chain.get("policy") == "drop":
                return True
            bases.append((chain["family"], chain["table"], chain["name"]))
        elif rule:
            rules.setdefault((rule["family"], rule["table"], rule["chain"]), []).append(rule.get("expr", []))
    return any(_refuses(base, rules, _JUMPS_MAX) for base in bases)


def _refuses(chain: Chain, rules: dict[Chain, list[list[dict[str, Any]]]], jumps: int) -> bool:
    family, table, _ = chain
    for statements in rules.get(chain, []):
        verdict, target = _verdict_of(statements)
        if not verdict:
            continue
        if verdict in _REFUSALS:
            return True
        if jumps and _refuses((family, table, target), rules, jumps - 1):
            return True
    return False


def _verdict_of(statements: list[dict[str, Any]]) -> tuple[str, str]:
    """Return a rule's verdict and the chain it leads to; nothing where it is not for everybody."""
    verdict, target = "", ""
    for statement in statements:
        for kind, content in statement.items():
            if kind in _REFUSALS:
                verdict = kind
            elif kind in {"jump", "goto"}:
                verdict, target = kind, str(content.get("target", ""))
            elif kind == "xt" and content.get("name") == "REJECT":
                verdict = "reject"
            elif not _is_broad(kind, content):
                return "", ""
    return verdict, target


def _is_broad(kind: str, content: Any) -> bool:
    if kind == "match":
        left = content.get("left", {})
        key = left.get("meta", {}).get("key") if isinstance(left, dict) else None
        return key in _BROAD_KEYS and content.get("right") != "lo"
    return kind in _BROAD_STATEMENTS or (kind == "xt" and content.get("name") in _BROAD_EXTENSIONS)


def _iptables(host: Host) -> Firewall:
    """Ask for the older kernel tables only where they are loaded: asking would load them."""
    are_loaded = "filter" in text_of(host, "/proc/net/ip_tables_names").split()
    version = "".join(lines_of(host, "iptables", "--version") or [])
    if version and not are_loaded and "nf_tables" not in version:
        return Firewall(is_enabled=False, name="iptables")
    for tool in ("iptables-legacy", "iptables") if are_loaded else ("iptables",):
        rules = lines_of(host, tool, "-S")
        if rules is not None:
            return Firewall(is_enabled=_input_is_closed(rules), name="iptables")
    return Firewall(is_enabled=None, name="iptables")


def _input_is_closed(rules: list[str]) -> bool:
    if "-P INPUT DROP" in rules:
        return True
    return any(_ends_closed("INPUT", rules, _JUMPS_MAX))


def _ends_closed(chain: str, rules: list[str], jumps: int) -> Iterator[bool]:
    for rule in rules:
        found = re.fullmatch(
            rf"-A {re.escape(chain)}(?: -i (?!lo )\S+| -p \S+| -m comment --comment (?:\"[^\"]*\"|\S+))* -[jg] (\S+).*",
            rule,
        )
        if found and found[1] in {"DROP", "REJECT"}:
            yield True
        elif found and jumps:
            yield from _ends_closed(found[1], rules, jumps - 1)
