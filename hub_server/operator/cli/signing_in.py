"""`jtnt login` and `logout`."""

from __future__ import annotations

import argparse
import getpass
import hmac
import sys
from typing import Final

from msgspec import structs

from hub_server.operator.address import Anchors, HubAddress, anchors_in, certificate_shown_at, fingerprint_of
from hub_server.operator.cli.asking import leavable
from hub_server.operator.cli.outcome import Exit, Failed
from hub_server.operator.cli.session import meant_hub
from hub_server.operator.doors import SignedIn, SignInDoor
from hub_server.operator.errors import NotTrusted, Refused
from hub_server.operator.saved import HubBook, SavedHub, config_folder, with_sign_in, without_sign_in
from protocol.codes import ErrorCode
from protocol.enrollment import SignInRequest

YES: Final = frozenset({"y", "yes"})


async def login(options: argparse.Namespace) -> int:
    with leavable():
        return _login(options)


async def logout(options: argparse.Namespace) -> int:
    with leavable():
        return _logout(options)


def _login(options: argparse.Namespace) -> int:
    address = HubAddress.parse(options.url)
    book = HubBook(config_folder())
    before = book.find(address.url)
    anchors = anchors_in(options.ca)
    if options.ca is None and options.fingerprint is None and before is not None:
        anchors = before.anchors
    if options.fingerprint is not None:
        anchors = _pinned_as(address, options.fingerprint)
    username = options.username or _asked("User name: ")
    password = sys.stdin.readline().rstrip("\r\n") if options.password_stdin else getpass.getpass("Password: ")
    request = SignInRequest(username=username, password=password, otp=options.otp, organisation=options.organisation)
    try:
        signed_in = _with_code(SignInDoor(address, anchors), request)
    except NotTrusted as error:
        if options.ca is not None or options.fingerprint is not None:
            raise
        anchors = _pinned_by_person(address, error, was_pinned=anchors.pinned_pem is not None)
        signed_in = _with_code(SignInDoor(address, anchors), request)
    hub = SavedHub(url=address.url, username=username, ca_pem=anchors.ca_pem, pinned_pem=anchors.pinned_pem)
    book.save(with_sign_in(hub, signed_in), is_current=True)
    print(f"Signed in to {address.url} as {username}.")
    if signed_in.second_factor_needed:
        print("You may do nothing yet: set up an authenticator on the dashboard first.", file=sys.stderr)
    return Exit.DONE


def _logout(options: argparse.Namespace) -> int:
    book = HubBook(config_folder())
    hub = meant_hub(options, book)
    if not hub.refresh_cookie:
        print(f"You are not signed in to {hub.url}.")
        return Exit.DONE
    SignInDoor(HubAddress.parse(hub.url), hub.anchors).sign_out(hub.refresh_cookie)
    book.save(without_sign_in(hub), is_current=False)
    print(f"Signed out of {hub.url}.")
    return Exit.DONE


def _with_code(door: SignInDoor, request: SignInRequest) -> SignedIn:
    """Sign in; ask for the authenticator's code when the hub wants one. Raises Failed for a wrong password."""
    try:
        return door.sign_in(request)
    except Refused as error:
        if error.code == ErrorCode.OTP_REQUIRED and request.otp is None:
            code = _asked("Code of your authenticator: ")
            return _with_code(door, structs.replace(request, otp=code))
        wait = f"; try again in {error.retry_after_seconds} s" if error.retry_after_seconds else ""
        raise Failed(f"{error.message}{wait}", Exit.NOT_SIGNED_IN) from error


def _pinned_by_person(address: HubAddress, why: NotTrusted, *, was_pinned: bool) -> Anchors:
    """Show the certificate's fingerprint; return it as trusted when a person says so. Raises NotTrusted."""
    pem = certificate_shown_at(address)
    if was_pinned:
        print(f"{address.url} shows ANOTHER certificate than the one you trusted before.", file=sys.stderr)
        print("Unless it was renewed, somebody may stand between you and the hub.", file=sys.stderr)
    else:
        print(f"{address.url} shows a certificate of its own, which no authority vouches for.", file=sys.stderr)
    print(f"SHA-256: {fingerprint_of(pem)}", file=sys.stderr)
    print("On the hub's machine: openssl x509 -in CERTIFICATE -noout -fingerprint -sha256", file=sys.stderr)
    if not sys.stdin.isatty() or _asked("Is it this one? Trust it from now on [y/N] ").strip().lower() not in YES:
        raise NotTrusted(f"{why.message}; without a person, give --fingerprint")
    return Anchors(pinned_pem=pem)


def _pinned_as(address: HubAddress, fingerprint: str) -> Anchors:
    """Return the hub's certificate as trusted when it has this fingerprint. Raises NotTrusted."""
    pem = certificate_shown_at(address)
    wanted, shown = (text.replace(":", "").strip().upper() for text in (fingerprint, fingerprint_of(pem)))
    if not hmac.compare_digest(wanted.encode(), shown.encode()):
        raise NotTrusted(f"{address.url} shows another certificate: its SHA-256 is {fingerprint_of(pem)}")
    return Anchors(pinned_pem=pem)


def _asked(question: str) -> str:
    """Ask the person at the terminal; the question is not part of what this program prints."""
    print(question, end="", file=sys.stderr, flush=True)
    answer = sys.stdin.readline()
    if not answer:
        raise Failed("there is nobody to ask; give it as an option, see `jtnt login --help`", Exit.USAGE)
    return answer.rstrip("\r\n")
