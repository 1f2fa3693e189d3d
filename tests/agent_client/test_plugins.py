"""Plugins: what `plugins.toml` may say, what a plugin may write, and what becomes of one that misbehaves."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from agent_client.cadence import Cadence
from agent_client.children import ChildFailed
from agent_client.cli import main
from agent_client.clock import SystemClock
from agent_client.collectors.failures import Failures
from agent_client.collectors.rounds import Rounds
from agent_client.ownership import Untrusted
from agent_client.paths import Places
from agent_client.plugins.collector import plugin_collectors
from agent_client.plugins.figures import BadOutput, figures_of
from agent_client.plugins.runner import PluginFailed, run_plugin
from agent_client.plugins.settings import Plugin, PluginsUnusable, load_plugins
from agent_client.spool.database import Database
from agent_client.spool.spool import Spool, SpoolBound
from tests.agent_client.alive import until
from tests.agent_client.clock import DrivenClock


@pytest.fixture
def spooled(places: Places) -> Iterator[tuple[Spool, Failures]]:
    places.state.mkdir(mode=0o700, exist_ok=True)
    database = Database(places.database)
    spool = Spool(database, DrivenClock(), SpoolBound(2**26, 72 * 3600))
    yield spool, Failures(spool, database)
    database.close()


def written(places: Places, text: str) -> None:
    places.config.mkdir(mode=0o700, exist_ok=True)
    places.plugins_file.write_text(text)
    places.plugins_file.chmod(0o644)


def program(places: Places, name: str, script: str) -> Path:
    places.plugins.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = places.plugins / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_the_file_names_plugins_with_their_times_and_labels(places: Places) -> None:
    assert load_plugins(places) == []
    written(
        places,
        """
        [[plugin]]
        name = "queue"
        command = ["queue-depth", "--all"]
        interval_seconds = 30
        labels = { team = "mail" }
        [[plugin]]
        name = "py.depth"
        entry_point = "queues:depth"
        """,
    )
    assert load_plugins(places) == [
        Plugin(name="queue", command=["queue-depth", "--all"], interval_seconds=30, labels={"team": "mail"}),
        Plugin(name="py.depth", entry_point="queues:depth"),
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[plugin]]\nname = 3", "plugin[0].name"),
        ('[[plugin]]\nname = "a"\ncomand = ["x"]', "comand"),
        ('[[plugin]]\nname = "a"', "either `command` or `entry_point`"),
        ('[[plugin]]\nname = "a"\ncommand = ["x"]\n[[plugin]]\nname = "a"\ncommand = ["x"]', "two plugins"),
        ('[[plugin]]\nname = "a"\ncommand = ["x"]\ninterval_seconds = 1', "interval_seconds"),
        ('[[plugin]]\nname = "a"\ncommand = ["x"]\ntimeout_seconds = 90', "above `interval_seconds`"),
        ('[[plugin]]\nname = "a/../b"\ncommand = ["x"]', "plugin[0].name"),
        ("[[plugin", "not TOML"),
    ],
)
def test_what_the_file_may_not_say_is_named(places: Places, text: str, said: str) -> None:
    written(places, text)
    with pytest.raises(PluginsUnusable) as refused:
        load_plugins(places)
    assert said in str(refused.value)


def test_json_and_prometheus_text_are_figures() -> None:
    assert figures_of(b'{"depth": 4, "ok": true, "state": "idle", "load": 0.5}', {"team": "mail"}) == {
        "depth": 4,
        "ok": True,
        "state": "idle",
        "load": 0.5,
        "label.team": "mail",
    }
    assert figures_of(b'{"metrics": {"depth": 4}}', {}) == {"depth": 4}
    text = b'# HELP depth Jobs\n# TYPE depth gauge\ndepth 4\n\nhttp_total{code="200"} 1.5e3 1395066363000\nlost NaN\n'
    assert figures_of(text, {}) == {"depth": 4, 'http_total{code="200"}': 1500}


@pytest.mark.parametrize(
    ("output", "said"),
    [
        (b"", "no figures"),
        (b"\xff", "UTF-8"),
        (b"depth: 4", "line 1"),
        (b"{", "JSON object"),
        (b'{"a": [1]}', "`a`"),
        (b'{"a": null}', "`a`"),
        (b'{"a": 1e999}', "JSON object"),
        (b'{"a": 99999999999999999999}', "64 bits"),
        (b'{"a": "x\\u0000"}', "NUL"),
        (b'{"\\u001b[31m": 1}', "no name"),
        (b'{"a": "' + b"x" * 1025 + b'"}', "1024"),
        (b"{" + b",".join(b'"a%d": 1' % number for number in range(256)) + b"}", "257 values"),
        (b'{"metrics": 4}', "no object"),
    ],
)
def test_what_is_no_figure_is_named(output: bytes, said: str) -> None:
    with pytest.raises(BadOutput) as refused:
        figures_of(output, {"team": "mail"})
    assert said in str(refused.value)


async def test_a_program_and_a_function_give_figures(places: Places) -> None:
    program(places, "depth", 'echo "{\\"depth\\": $1, \\"name\\": \\"$JTNT_PLUGIN\\"}"')
    (places.plugins / "queues.py").write_text("def depth():\n    print('noise')\n    return {'depth': 5}\n")
    found = await run_plugin(Plugin(name="queue", command=["depth", "4"], labels={"team": "mail"}), places)
    assert found == {"depth": 4, "name": "queue", "label.team": "mail"}
    assert await run_plugin(Plugin(name="py", entry_point="queues:depth"), places) == {"depth": 5}


async def test_a_plugin_that_takes_too_long_is_killed_with_its_whole_group(places: Places) -> None:
    program(places, "slow", 'sleep 60 & echo $! > "$1"; wait')
    noted = places.config / "pid"
    with pytest.raises(ChildFailed, match=r"longer than 0\.5 s"):
        await run_plugin(Plugin(name="slow", command=["slow", str(noted)], timeout_seconds=0.5), places)
    await until(lambda: not _runs(int(noted.read_text())))


async def test_an_agent_that_stops_leaves_no_plugin_behind(places: Places) -> None:
    program(places, "slow", 'sleep 60 & echo $! > "$1"; wait')
    noted = places.config / "pid"
    plugin = Plugin(name="slow", command=["slow", str(noted)], timeout_seconds=60)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(run_plugin(plugin, places), name="plugin")
        await until(lambda: noted.exists() and noted.read_text().endswith("\n"))
        task.cancel()
    await until(lambda: not _runs(int(noted.read_text())))


async def test_a_plugin_that_writes_without_end_is_killed(places: Places) -> None:
    program(places, "loud", "exec yes depth 4")
    with pytest.raises(ChildFailed, match="more than 65536 bytes"):
        await run_plugin(Plugin(name="loud", command=["loud"], timeout_seconds=20), places)


async def test_a_plugin_that_fails_is_quoted_by_its_last_words(places: Places) -> None:
    program(places, "sad", "echo trace >&2; echo 'no such queue' >&2; exit 3")
    with pytest.raises(PluginFailed, match="exit code 3: no such queue"):
        await run_plugin(Plugin(name="sad", command=["sad"]), places)
    (places.plugins / "queues.py").write_text("def depth():\n    raise KeyError('depth')\n")
    with pytest.raises(PluginFailed, match="KeyError: 'depth'"):
        await run_plugin(Plugin(name="py", entry_point="queues:depth"), places)


@pytest.mark.parametrize("command", [["no-such"], ["sub/file"], ["../depth"], ["/etc/passwd"]])
async def test_what_is_no_program_of_ours_is_not_run(places: Places, command: list[str]) -> None:
    places.plugins.mkdir(parents=True)
    with pytest.raises(PluginFailed):
        await run_plugin(Plugin(name="a", command=command), places)


async def test_what_others_could_change_is_not_run(places: Places) -> None:
    path = program(places, "depth", "echo depth 4")
    path.chmod(0o775)
    with pytest.raises(Untrusted, match="chmod go-w"):
        await run_plugin(Plugin(name="a", command=["depth"]), places)
    path.chmod(0o755)
    places.plugins.chmod(0o777)
    with pytest.raises(Untrusted, match="plugins can be written"):
        await run_plugin(Plugin(name="a", command=["depth"]), places)
    places.plugins.chmod(0o700)
    module = places.plugins / "queues.py"
    module.write_text(f"open({str(places.plugins / 'ran')!r}, 'w')\ndef depth():\n    return {{'a': 1}}\n")
    module.chmod(0o666)
    with pytest.raises(PluginFailed, match="can be written by others"):
        await run_plugin(Plugin(name="a", entry_point="queues:depth"), places)
    assert not (places.plugins / "ran").exists()
    written(places, "")
    places.plugins_file.chmod(0o666)
    with pytest.raises(PluginsUnusable, match="can be written by others"):
        load_plugins(places)


async def test_a_folder_where_others_could_exchange_a_link_or_add_a_module_is_not_used(places: Places) -> None:
    elsewhere = places.config / "elsewhere"
    program(places, "depth", "echo depth 4")
    places.plugins.rename(elsewhere)
    places.plugins.mkdir()
    (places.plugins / "depth").symlink_to(elsewhere / "depth")
    depth = Plugin(name="a", command=["depth"])
    assert await run_plugin(depth, places) == {"depth": 4}
    places.plugins.chmod(0o777)
    with pytest.raises(Untrusted, match="plugins can be written"):
        await run_plugin(depth, places)
    with pytest.raises(PluginFailed, match="plugins can be written"):
        await run_plugin(Plugin(name="a", entry_point="os:getpid"), places)


async def test_what_a_plugin_leaves_running_ends_with_it(places: Places) -> None:
    program(places, "depth", "sleep 600 >/dev/null 2>&1 &\necho pid $!")
    left = await run_plugin(Plugin(name="a", command=["depth"]), places)
    await until(lambda: not _runs(int(str(left["pid"]))))


async def test_a_failing_plugin_is_said_recovers_and_harms_no_other(
    places: Places, spooled: tuple[Spool, Failures], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent_client.plugins.collector.FIRST_WITHIN_SECONDS", 0.0)
    spool, failures = spooled
    program(places, "good", "echo depth 4")
    program(places, "bad", "exit 1")
    both = '[[plugin]]\nname = "good"\ncommand = ["good"]\n[[plugin]]\nname = "bad"\ncommand = ["bad"]\n'
    written(places, both)
    rounds = Rounds(
        lambda: plugin_collectors(places, failures, lambda: True), spool, Cadence(), SystemClock(), failures
    )
    async with asyncio.TaskGroup() as group:
        task = group.create_task(rounds.run(), name="rounds")
        await until(lambda: spool.samples("backfill") and failures.names())
        assert failures.names() == ["custom.bad"]
        sample = spool.samples("backfill")[0]
        assert (sample.metric_type, sample.metric_data) == ("custom.good", {"depth": 4})
        program(places, "bad", "echo depth 5")
        rounds.reconsider()
        await until(lambda: not failures.names())
        program(places, "bad", "exit 1")
        rounds.reconsider()
        await until(lambda: failures.names() == ["custom.bad"])
        written(places, "[[")
        rounds.reconsider()
        await until(lambda: failures.names() == ["plugins"])
        written(places, "")
        rounds.reconsider()
        await until(lambda: not failures.names())
        task.cancel()
    told = [(event.kind, event.data["collector"]) for event in spool.events()]
    assert told == [
        ("collector_failing", "custom.bad"),
        ("collector_recovered", "custom.bad"),
        ("collector_failing", "custom.bad"),
        ("collector_failing", "plugins"),
        ("collector_recovered", "custom.bad"),
        ("collector_recovered", "plugins"),
    ]


def test_plugins_are_shown_and_tried_on_the_command_line(places: Places, capsys: pytest.CaptureFixture[str]) -> None:
    place = ["--data-dir", str(places.state)]
    assert main(["plugins", "list", *place]) == 0
    program(places, "depth", "echo depth 4")
    program(places, "bad", "exit 1")
    written(places, '[[plugin]]\nname = "queue"\ncommand = ["depth"]\n[[plugin]]\nname = "bad"\ncommand = ["bad"]\n')
    capsys.readouterr()
    assert main(["plugins", "list", *place]) == 0
    assert "every 60 s, at most 10 s: depth" in capsys.readouterr().out
    assert main(["plugins", "test", "queue", *place]) == 0
    assert capsys.readouterr().out == "depth = 4\n"
    assert main(["plugins", "test", "queue", "--json", *place]) == 0
    assert json.loads(capsys.readouterr().out) == {"depth": 4}
    assert main(["plugins", "test", "bad", *place]) == 1
    assert "exit code 1" in capsys.readouterr().err
    assert main(["plugins", "test", "none", *place]) == 64
    assert "queue, bad" in capsys.readouterr().err
    written(places, "[[")
    assert main(["plugins", "list", *place]) == 78
