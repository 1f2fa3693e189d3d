import subprocess
import sys

import pytest
from msgspec import structs

from hub_server.operator.address import HubAddress
from hub_server.operator.cli import orders
from hub_server.operator.cli.arguments import parsed
from hub_server.operator.cli.job_table import summary_of
from hub_server.operator.cli.main import run
from hub_server.operator.cli.outcome import Exit, Failed, cut_of, exit_code_of, sentence_of
from hub_server.operator.errors import BadAddress
from protocol.commands import CommandView
from protocol.enumerations import CommandReason, CommandStatus, OutputStream
from tests.hub_server.operator.test_printing import VIEW
from tests.system.programs import ROOT


def test_what_follows_the_dashes_is_the_jobs_own() -> None:
    options = parsed(["run", "web-1", "web-2", "--timeout", "5m", "--", "sh", "-c", "--help", "--", "--json"])
    assert options.agents == ["web-1", "web-2"]
    assert options.rest == ["sh", "-c", "--help", "--", "--json"]
    assert (options.timeout, options.wait, options.as_json) == (300, True, False)
    assert parsed(["reboot", "web-1", "--no-wait"]).wait is False


@pytest.mark.parametrize(
    "arguments",
    [
        ["agents", "--", "x"],
        ["run"],
        ["run", "web-1", "--timeout", "soon", "--", "true"],
        ["nothing"],
        ["jobs", "--lim", "3"],
        [],
    ],
)
def test_wrong_usage_ends_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run(arguments)
    assert ended.value.code == Exit.USAGE
    said = capsys.readouterr().err
    assert "usage: jtnt" in said
    assert "--help` has examples" in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "web-1"], "behind --"),
        (["run", "web-1", "--interpreter", "bash", "--", "true"], "for --script"),
        (["run", "web-1", "--env", "A", "--", "true"], "NAME=VALUE"),
        (["run", "web-1", "--as=-x", "--", "true"], "(--as)"),
        (["run", "web-1", "--script", "/nowhere.sh"], "cannot be read"),
        (["run", "web-1", "--script", str(ROOT / "docs/asyncapi.json")], "and may have 98304"),
        (["run", "web-1", "--", ""], "program"),
        (["run", "web-1", "--timeout", "0", "--", "true"], "'0' is not from 1s to 1d"),
        (["run", "web-1", "--timeout", "25h", "--", "true"], "'25h' is not from 1s to 1d"),
        (["run", "web-1", "--expires", "8d", "--", "true"], "'8d' is not from 1s to 7d"),
        (["kill", "web-1", "1"], "pid"),
        (["service", "web-1", "burn", "nginx"], "'reload'"),
        (["packages", "web-1", "install"], "which packages"),
        (["service", "web-1", "restart", "x", "--", "-x"], "nothing may follow"),
    ],
)
async def test_what_cannot_be_ordered_is_said_before_any_hub_is_asked(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async def order() -> None:
        options = parsed(arguments)
        await getattr(orders, options.function)(options)

    with pytest.raises((Failed, SystemExit)) as refused:
        await order()
    assert words in str(refused.value) + capsys.readouterr().err


def ended(
    status: CommandStatus, reason: CommandReason | None, code: int | None = None, result: str = ""
) -> CommandView:
    return structs.replace(VIEW, status=status, reason=reason, exit_code=code, result=result)


@pytest.mark.parametrize(
    ("view", "code"),
    [
        (ended(CommandStatus.COMPLETED, None, 0), 0),
        (ended(CommandStatus.FAILED, CommandReason.EXIT_CODE, 3, "ended with exit code 3"), 3),
        (ended(CommandStatus.FAILED, CommandReason.EXIT_CODE, -9), 137),
        (ended(CommandStatus.FAILED, CommandReason.EXIT_CODE, 256), 1),
        (ended(CommandStatus.FAILED, CommandReason.TIMEOUT, -15), 124),
        (ended(CommandStatus.FAILED, CommandReason.EXPIRED), 125),
        (ended(CommandStatus.FAILED, CommandReason.DENIED_BY_AGENT), 125),
        (ended(CommandStatus.FAILED, CommandReason.INTERRUPTED), 125),
        (ended(CommandStatus.FAILED, CommandReason.UNKNOWN), 125),
        (ended(CommandStatus.FAILED, CommandReason.START_FAILED), 126),
        (ended(CommandStatus.FAILED, None), 1),
        (ended(CommandStatus.CANCELLED, None, -15), 130),
    ],
)
def test_the_exit_code_says_how_the_job_ended(view: CommandView, code: int) -> None:
    assert exit_code_of(view) == code
    is_plain = view.reason in {None, CommandReason.EXIT_CODE} and view.status is not CommandStatus.CANCELLED
    assert (sentence_of(view) == "") is is_plain


def test_an_end_is_told_once_and_as_its_machine_tells_it() -> None:
    failed = CommandStatus.FAILED
    waited = "the order expired while it waited for its turn; it has not run"
    assert sentence_of(ended(failed, CommandReason.EXPIRED, result=waited)) == waited
    assert sentence_of(ended(failed, CommandReason.EXPIRED)).startswith("it expired: its machine did not come in time")
    assert sentence_of(ended(failed, CommandReason.DENIED_BY_AGENT, result="why")) == "the machine refused it: why"
    left = "killed: a person cancelled it; 1 of its processes did not end: 4711"
    assert sentence_of(ended(CommandStatus.CANCELLED, CommandReason.CANCELLED_BY_PERSON, result=left)) == left


@pytest.mark.parametrize(
    ("status", "reason", "code", "result"),
    [
        (CommandStatus.COMPLETED, None, 0, "ended with exit code 0; 1 of its processes went on: 4711"),
        (CommandStatus.FAILED, CommandReason.EXIT_CODE, 3, "ended with exit code 3; 1 of its processes went on: 4711"),
        (CommandStatus.FAILED, CommandReason.EXIT_CODE, -9, "ended by signal 9 (SIGKILL)"),
        (CommandStatus.COMPLETED, None, 0, "SIGTERM was sent to process 4711"),
    ],
)
def test_what_the_exit_code_does_not_say_of_a_jobs_own_end_is_said(
    status: CommandStatus, reason: CommandReason | None, code: int, result: str
) -> None:
    assert sentence_of(ended(status, reason, code, result)) == result


def test_what_was_ordered_is_shown_as_it_would_be_typed() -> None:
    assert summary_of(structs.replace(VIEW, command_data={"argv": ["sh", "-c", "a | b"]})) == "sh -c 'a | b'"
    reboot = structs.replace(VIEW, command_type="reboot", command_data={"delaySec": 5})
    assert summary_of(reboot) == "reboot 5"


def test_output_that_was_cut_is_said() -> None:
    sizes = {"output_bytes": {OutputStream.STDOUT: 100}, "kept_bytes": {OutputStream.STDOUT: 10}}
    assert cut_of(structs.replace(VIEW, truncated=False, **sizes)) == ""
    assert (
        cut_of(structs.replace(VIEW, truncated=True, **sizes)) == "its output was too long: 10 of 100 bytes were kept"
    )
    assert cut_of(structs.replace(VIEW, truncated=True, output_bytes={}, kept_bytes={})) == "its output was cut"


def test_help_needs_nothing_of_the_hub_and_little_of_the_client() -> None:
    heavy = {"sqlalchemy", "aiohttp", "cyclopts", "socketio", "websockets", "cryptography"}
    script = (
        "import sys; from hub_server.operator.cli.main import run\n"
        "try: run(['run', '--help'])\nexcept SystemExit: pass\n"
        f"print(sorted({heavy!r} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert "examples:" in done.stdout
    assert done.stdout.endswith("[]\n")


def test_the_client_needs_no_package_that_only_the_hub_installs() -> None:
    script = (
        "import sys, hub_server.operator.cli.orders, hub_server.operator.cli.listing, hub_server.operator.cli.keys\n"
        "import hub_server.operator.cli.signing_in\n"
        "print(sorted({'sqlalchemy', 'aiohttp', 'cyclopts', 'socketio', 'pydantic', 'structlog'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[]\n"


def test_an_address_is_https_or_this_machine() -> None:
    assert HubAddress.parse("hub.example:3000").url == "https://hub.example:3000"
    assert HubAddress.parse("https://hub.example/").socket_url.startswith("wss://hub.example/ws/agents/?EIO=4")
    assert HubAddress.parse("http://[::1]:3000").url == "http://[::1]:3000"
    assert HubAddress.parse("http://localhost:3000").port == 3000
    for url in ("http://hub.example", "http://192.0.2.1:3000", "ftp://x", "https://", "https://x/path", "https://x:y"):
        with pytest.raises(BadAddress):
            HubAddress.parse(url)
