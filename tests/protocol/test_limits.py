import base64

from protocol import limits
from protocol.codec import decode_agent_frame, encode
from protocol.enumerations import Lane, OutputStream, TextEncoding
from protocol.frames import CommandOutput, Metrics, MetricValue, Sample
from tests.protocol.examples.frames import COMMAND_ID, NOW_MS

SYSTEM_SAMPLE: dict[str, MetricValue] = {
    "cpu_percent": 12.345678,
    "cpu_count": 128,
    "load_1m": 12.34,
    "load_5m": 12.34,
    "load_15m": 12.34,
    "memory_percent": 50.123456,
    "memory_used_bytes": 2**45,
    "memory_total_bytes": 2**46,
    "swap_percent": 50.123456,
    "disk_percent": 50.123456,
    "disk_mount": "/srv/data/volumes/primary",
    "disk_used_bytes": 2**50,
    "disk_total_bytes": 2**51,
    "network_bytes_sent": 2**50,
    "network_bytes_recv": 2**50,
    "network_sent_bytes_per_sec": 123456789.123456,
    "network_recv_bytes_per_sec": 123456789.123456,
    "uptime_seconds": 10**8,
    "process_count": 32768,
}


def test_a_full_frame_of_system_samples_fits() -> None:
    samples = [
        Sample(seq=2**53 - number, ts=NOW_MS, metric_type="system", metric_data=dict(SYSTEM_SAMPLE))
        for number in range(limits.SAMPLES_PER_FRAME_MAX)
    ]
    frame = Metrics(epoch=2**53, lane=Lane.BACKFILL, samples=samples)

    assert decode_agent_frame(encode(frame)) == frame


def test_a_full_chunk_of_output_fits_as_base64() -> None:
    data = base64.b64encode(b"\xff" * limits.OUTPUT_CHUNK_MAX_BYTES).decode()
    frame = CommandOutput(
        command_id=COMMAND_ID, stream=OutputStream.STDOUT, offset=2**53, data=data, encoding=TextEncoding.BASE64
    )

    assert decode_agent_frame(encode(frame)) == frame


def test_what_waits_for_a_peer_holds_more_than_one_frame() -> None:
    assert limits.HELLO_MAX_BYTES <= limits.FRAME_MAX_BYTES < limits.OUTBOX_MAX_BYTES
    assert limits.OUTPUT_CHUNK_MAX_BYTES * 4 // 3 < limits.FRAME_MAX_BYTES
    assert limits.OUTPUT_STORED_MAX_BYTES >= limits.OUTPUT_CHUNK_MAX_BYTES


def test_an_agent_is_pinged_before_it_is_called_offline_and_misses_three_heartbeats_at_most() -> None:
    pinged_after_seconds = limits.PING_AFTER_HEARTBEATS * limits.HEARTBEAT_SECONDS

    assert limits.HEARTBEAT_SECONDS < pinged_after_seconds < limits.OFFLINE_AFTER_SECONDS
    assert limits.OFFLINE_AFTER_SECONDS > limits.AGENT_SILENCE_HEARTBEATS * limits.HEARTBEAT_SECONDS
    assert limits.SAMPLE_SECONDS < limits.HEARTBEAT_SECONDS


def test_backoff_grows_from_its_start_to_its_end() -> None:
    assert 0 < limits.BACKOFF_INITIAL_SECONDS < limits.BACKOFF_MAX_SECONDS <= limits.SLOW_LANE_SECONDS
    assert 0 < limits.BACKOFF_JITTER < 1
    assert limits.BACKOFF_STABLE_SECONDS >= limits.BACKOFF_INITIAL_SECONDS


def test_an_agents_steady_frames_stay_far_below_its_rate() -> None:
    steady_per_second = 1 / limits.HEARTBEAT_SECONDS + 1 / limits.SAMPLE_SECONDS

    assert steady_per_second * 10 < limits.FRAMES_PER_SECOND <= limits.FRAMES_BURST
