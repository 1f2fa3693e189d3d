from typing import Final

from msgspec import Struct

from protocol.actions import (
    AgentRestartData,
    ExecData,
    KillData,
    PackagesData,
    RebootData,
    ScriptData,
    ServiceData,
)
from protocol.codes import ErrorCode
from protocol.desired import AgentPolicy, CertificateTerms
from protocol.enrollment import (
    CaReply,
    EnrollmentSystemInformation,
    EnrollPending,
    EnrollReply,
    EnrollRequest,
    ErrorBody,
    ErrorReply,
    RecoverRequest,
    RegisterReply,
    RegisterRequest,
    SignInReply,
    SignInRequest,
)
from protocol.enumerations import Action
from protocol.envelope import IssuingAuthority, JobEnvelope, SignedTrust, SigningKey, TrustDocument
from tests.protocol.examples.events import AGENT_ID
from tests.protocol.examples.frames import COMMAND_ID, NOW_MS, SIGNATURES
from tests.protocol.examples.operations import CONFIG

CERTIFICATE: Final = "-----BEGIN CERTIFICATE-----\n"
REQUEST: Final = "-----BEGIN CERTIFICATE REQUEST-----\n"
TRUST: Final = SignedTrust(document="eyJraW5kIjoianRudC50cnVzdC52MSJ9", signatures=SIGNATURES)
POLICY: Final = AgentPolicy(version=3, allowed_actions=("exec", "script"))

REST_BODIES: Final[tuple[Struct, ...]] = (
    CaReply(ca_bundle_pem=CERTIFICATE, trust=TRUST),
    RecoverRequest(
        certificate_pem=CERTIFICATE,
        csr_pem=REQUEST,
        signed_at_ms=NOW_MS,
        signature="c2lnbmF0dXJl",
        agent_version="0.1.0",
        boot_id="5a1c9a6e-2f43-4c17-9d0b-6f3f1d7f2a55",
    ),
    EnrollRequest(
        token="jtnte_1LtQ8Jn3kZb.s.p.c",
        csr_pem=REQUEST,
        agent_version="0.1.0",
        boot_id="5a1c9a6e-2f43-4c17-9d0b-6f3f1d7f2a55",
        sysinfo=EnrollmentSystemInformation(
            hostname="web-01",
            os="linux",
            os_version="Debian 12",
            arch="x86_64",
            cpu_count=8,
            memory_total_bytes=16_777_216_000,
            ip_addresses=["192.0.2.10"],
        ),
    ),
    EnrollReply(
        agent_id=AGENT_ID,
        client_cert_pem=CERTIFICATE,
        ca_bundle_pem=CERTIFICATE,
        trust=TRUST,
        policy=POLICY,
        websocket_url="wss://hub.example:3001/ws/agents",
        next_heartbeat_sec=30,
    ),
    EnrollPending(agent_id=AGENT_ID, poll_after_sec=30),
    RegisterRequest(
        hostname="web-01",
        os_type="linux",
        agent_version="0.1.0",
        csr_pem=REQUEST,
        ip_address="192.0.2.10",
        os_version="Debian 12",
        config={"sampleIntervalSec": 5},
    ),
    RegisterReply(
        id=AGENT_ID,
        websocket_url="wss://hub.example:3001/ws/agents",
        certificate_pem=CERTIFICATE,
        ca_bundle_pem=CERTIFICATE,
        trust=TRUST,
        policy=POLICY,
    ),
    SignInRequest(username="ada", password="correct horse battery", otp="492039", organisation="Nordic Mills"),
    SignInReply(access_token="eyJhbGciOiJFZERTQSJ9.e30.c2ln", expires_in_sec=600, second_factor_needed=True),
    ErrorReply(
        error=ErrorBody(code=ErrorCode.RATE_LIMITED, message="too many attempts", path="$.token", retry_after_sec=60)
    ),
)
SIGNED_BODIES: Final[tuple[Struct, ...]] = (
    JobEnvelope(
        job_id=COMMAND_ID,
        organisation_id="acme",
        agent_id=AGENT_ID,
        action=Action.SCRIPT,
        argv=["uname", "-a"],
        issued_at=NOW_MS,
        expires_at=NOW_MS + 300_000,
        timeout_sec=60.0,
        environment={"LANG": "C"},
        working_directory="/tmp",
        run_as="nobody",
        interpreter="bash",
        script_sha256="9f86d081884c7d65",
        requested_by="user:alice",
        output_limit_bytes=65_536,
    ),
    TrustDocument(
        version=7,
        issued_at_ms=NOW_MS,
        trust_domain="hub.example",
        issuing_authorities=[IssuingAuthority(use="agents", certificate_pem=CERTIFICATE)],
        signers=[SigningKey(key_id="mfrggzdfmztwq2lk", public_key="a2V5", not_after_ms=NOW_MS + 1)],
        update_keys=[SigningKey(key_id="nfrggzdfmztwq2lk", public_key="a2V5", not_after_ms=NOW_MS + 1)],
        audit_keys=[SigningKey(key_id="pfrggzdfmztwq2lk", public_key="a2V5", not_after_ms=NOW_MS + 1)],
        operator_keys=[SigningKey(key_id="qfrggzdfmztwq2lk", public_key="a2V5", not_after_ms=NOW_MS + 1, name="ada")],
        revoked_key_ids=["ofrggzdfmztwq2lk"],
    ),
)
OPEN_BODIES: Final[tuple[Struct, ...]] = (
    CONFIG,
    POLICY,
    CertificateTerms(issuer_sha256="9f86d081884c7d65", over_sec=3600),
    ExecData(argv=["uname", "-a"], environment={"LANG": "C"}, working_directory="/tmp", run_as="nobody"),
    ScriptData(
        script="echo $1\n",
        interpreter="bash",
        arguments=["a b"],
        environment={"LANG": "C"},
        working_directory="/tmp",
        run_as="nobody",
    ),
    ServiceData(verb="restart", name="nginx.service"),
    KillData(pid=4711, signal="KILL"),
    PackagesData(verb="install", names=["jq", "libstdc++6"]),
    RebootData(delay_sec=60),
    AgentRestartData(),
)
