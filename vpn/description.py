"""A connection's record in words."""

from datetime import UTC, datetime

from vpn.associations import ChildSa
from vpn.kernel import Backend
from vpn.record import Record
from vpn.status import ConnectionStatus


def describe(record: Record, mtu: int, backend: Backend, fault: str | None) -> ConnectionStatus:
    """Put a connection's record into words."""
    child = record.sa.installed() if record.sa else None
    bytes_in, bytes_out, packets_in, packets_out = record.counted.total()
    why_not = _why_not_offloadable(child, backend)
    return ConnectionStatus(
        name=record.connection.name,
        state=record.state,
        text=_text(record, fault),
        since=record.since,
        last_error=record.last_error,
        local_address=record.connection.local_address,
        remote_address=record.connection.remote_address,
        mtu=mtu,
        bytes_in=bytes_in,
        bytes_out=bytes_out,
        packets_in=packets_in,
        packets_out=packets_out,
        ike_rekeys=record.counted.ike_rekeys,
        esp_rekeys=record.counted.esp_rekeys,
        ike_suite=record.sa.suite if record.sa and child else None,
        esp_suite=child.suite if child else None,
        udp_encapsulated=child.udp_encapsulated if child else False,
        offloadable=why_not is None,
        why_not=why_not,
        notes=record.tunnel.floored if record.tunnel else (),
    )


def _text(record: Record, fault: str | None) -> str:
    since = datetime.fromtimestamp(record.since, UTC).strftime("since %Y-%m-%d %H:%M:%S UTC")
    if record.state == "connected":
        return f"connected {since}"
    if record.state == "disabled":
        return "disabled in policy"
    if record.state == "down":
        return f"taken down by an administrator {since}"
    if record.state == "standby":
        other = record.stands_by_for
        return (
            f"stands by for {other} {since}, and connects when that is not connected: "
            "this kernel has no ESP, and in user space their selectors cannot be told apart"
        )
    if fault:
        return f"not connected {since}: {fault}"
    if record.state == "failed" and record.last_error:
        return f"not connected {since}: {record.last_error.text}"
    return f"connecting {since}"


def _why_not_offloadable(child: ChildSa | None, backend: Backend) -> str | None:
    if child is None:
        return "not connected"
    if not child.aes_gcm_128:
        return f"{child.suite} was negotiated: only AES-GCM with 128 bits can be offloaded"
    if backend.in_user_space:
        return backend.why
    if child.udp_encapsulated:
        return "a NAT is in the path: ESP in UDP cannot be offloaded"
    return None
