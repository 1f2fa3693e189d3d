"""All rules by name, and the few places where one makes the code worse."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tests.architecture import behaviour, dependencies, messages, shape, words
from tests.architecture.source import Rule

RULES: Final[Mapping[str, Rule]] = {
    rule.__name__: rule
    for rule in (
        dependencies.packages,
        dependencies.subjects_apart,
        dependencies.roles,
        dependencies.plain_models,
        dependencies.gateway_asks_services,
        dependencies.below_the_gateway,
        dependencies.one_file_for_socketio,
        dependencies.no_cycles,
        shape.file_names,
        shape.telling_names,
        shape.file_length,
        shape.function_length,
        behaviour.pure_files,
        behaviour.tasks_in_groups,
        behaviour.broad_except,
        behaviour.cancellation_goes_on,
        behaviour.bounded_queues,
        behaviour.no_blocking_sleep,
        behaviour.engines_in_storage,
        messages.one_handler_a_frame_on_the_hub,
        messages.one_handler_a_frame_on_the_agent,
        messages.one_entry_an_operation,
        words.no_registry_host,
        words.no_leftovers,
        words.documents_exist,
    )
}

EXCEPTIONS: Final[Mapping[tuple[str, str], str]] = {
    ("file_names", "hub_server/access/authorization.py"): "the one question that every subject asks",
    ("file_names", "hub_server/access/accounts.py"): "what people do with their own account, apart from signing in",
    ("file_names", "hub_server/access/api_keys.py"): "what scripts connect with, apart from people",
    (
        "file_names",
        "hub_server/access/credentials.py",
    ): "passwords and codes are checked by several; attempts count once",
    ("file_names", "hub_server/access/second_factor.py"): "the library for one-time codes stops here",
    ("file_names", "hub_server/access/session_store.py"): "what sessions stand on; in store.py it would pass 400 lines",
    ("file_names", "hub_server/access/standings.py"): "who is let in, in memory only, asked at every operation",
    ("file_names", "hub_server/access/strength.py"): "the library that judges passwords stops here",
    ("file_names", "hub_server/access/users.py"): "administration of people, apart from signing in",
    ("file_names", "hub_server/access/limits.py"): "counts of attempts, in memory only; enrollment counts with it too",
    ("file_names", "hub_server/access/organisations.py"): "what is asked of organisations, apart from people",
    ("file_names", "hub_server/access/quotas.py"): "the bounds that other subjects check by a port",
    ("file_names", "hub_server/access/passwords.py"): "argon2 stops here",
    ("file_names", "hub_server/access/tokens.py"): "the library for signed tokens stops here",
    ("file_names", "hub_server/audit/evidence.py"): "the audit's tables as they are, whoever wrote them",
    ("file_names", "hub_server/audit/record.py"): "the one row that every subject writes",
    ("file_names", "hub_server/audit/verification.py"): "the walk along the chains; signatures are checked here",
    ("file_names", "hub_server/pki/audit_keys.py"): "which keys the root named for checkpoints, from every document",
    ("file_names", "hub_server/pki/news.py"): "how the command line tells a hub beside it that keys changed",
    (
        "file_names",
        "hub_server/commands/ledger.py",
    ): "what agents say of commands; in service.py it would pass 400 lines",
    ("file_names", "hub_server/enrollment/approvals.py"): "the queue of machines that wait, for people and machines",
    ("file_names", "hub_server/enrollment/joining.py"): "one transaction's part in it; service.py would pass 400 lines",
    ("file_names", "hub_server/enrollment/keys.py"): "what people do with organisation keys, and their text",
    ("file_names", "hub_server/enrollment/ports.py"): "what joining and recovery both need of other subjects",
    ("file_names", "hub_server/enrollment/proof.py"): "the X.509 library of this subject stops here",
    ("file_names", "hub_server/enrollment/recovery.py"): "the way back of an agent whose certificate expired",
    ("file_names", "hub_server/enrollment/tokens.py"): "what people do with tokens, apart from how machines join",
    (
        "file_names",
        "hub_server/fleet/trust.py",
    ): "who is kept out, by people and by the hub, apart from the fleet's index",
    ("file_names", "hub_server/pki/register.py"): "what is known of certificates in memory; no engine, for it changes",
    ("file_names", "hub_server/pki/archive.py"): "the hub's own keys in the database, apart from what they issue",
    ("file_names", "hub_server/pki/authority.py"): "the one object that issues and signs, whatever is behind it",
    ("file_names", "hub_server/pki/certificates.py"): "the X.509 library stops here",
    ("file_names", "hub_server/pki/files.py"): "the folder of keys, and what an earlier version left there",
    ("file_names", "hub_server/pki/founding.py"): "how an authority begins, which happens once",
    ("file_names", "hub_server/pki/keyring.py"): "the keys in memory, which a rotation exchanges as a whole",
    ("file_names", "hub_server/pki/rotation.py"): "one transaction that exchanges keys, apart from who asks for it",
    ("file_names", "hub_server/pki/server_certificate.py"): "the one certificate that lives in a file",
    ("file_names", "hub_server/pki/trust.py"): "the root-signed document",
    ("file_names", "hub_server/pki/listener.py"): "the TLS context of the agents' listener and what its peers show",
    ("file_names", "hub_server/telemetry/partitions/__init__.py"): "the store on PostgreSQL, a package of its own",
    ("file_names", "hub_server/telemetry/partitions/catalogue.py"): "which partitions there are",
    ("file_names", "hub_server/telemetry/partitions/deletion.py"): "everything of one agent, in slices",
    ("file_names", "hub_server/telemetry/partitions/driver.py"): "the driver without SQLAlchemy, for bulk",
    ("file_names", "hub_server/telemetry/partitions/faults.py"): "the errors of the driver stop here",
    ("file_names", "hub_server/telemetry/partitions/folding.py"): "what packing writes, pure",
    ("file_names", "hub_server/telemetry/partitions/intake.py"): "how samples get in",
    ("file_names", "hub_server/telemetry/partitions/metric_store.py"): "what the others are put together in",
    ("file_names", "hub_server/telemetry/partitions/packer.py"): "rounds of packing",
    ("file_names", "hub_server/telemetry/partitions/periods.py"): "which day or month a moment belongs to, pure",
    ("file_names", "hub_server/telemetry/partitions/reading.py"): "what history is asked",
    ("function_length", "hub_server/composition/subjects.py::subjects_on"): "a list of constructors",
    ("bounded_queues", "hub_server/access/limits.py"): "note_bad keeps no more than bad_allowed",
    ("bounded_queues", "hub_server/bus/in_process.py"): "a subscription holds its own capacity and says what overflows",
    (
        "bounded_queues",
        "hub_server/gateway/agents/session.py",
    ): "the handler ends a session that passes HELD_FRAMES_MAX",
    (
        "no_blocking_sleep",
        "agent_client/enrollment/enroll.py",
    ): "a command of a person at a terminal; no event loop runs",
}
"""(rule, where) → why it is better so. One that is no longer needed fails a test."""
