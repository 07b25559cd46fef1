"""Checks of the other end of a veth pair: what it sends, and whether it can take what XDP sends."""

from collections.abc import Iterator, Mapping

from gateway.doctor.facts import XDP_TRANSMIT, Interface
from gateway.doctor.finding import Finding


def examine_peer(interface: Interface, interfaces: Mapping[str, Interface], vlans: bool) -> Iterator[Finding]:
    """Judge the peer of a veth; nothing of other interfaces."""
    if interface.kind != "veth":
        return
    peer = interfaces.get(interface.peer or "")
    yield _napi(interface, peer)
    yield _checksums(interface, peer)
    if vlans:
        yield _tags(interface, peer)


def _napi(interface: Interface, peer: Interface | None) -> Finding:
    name = interface.name
    if interface.xdp_features is not None:
        has_napi: bool | None = bool(interface.xdp_features & XDP_TRANSMIT)
    else:
        has_napi = None if peer is None else peer.xdp_program is not None or _is_on(peer, "generic-receive-offload")
    mend = _at_peer(peer, "gro on")
    if has_napi is None:
        detail = "whether the peer takes redirected frames (GRO or an XDP program there) is not seen from here"
        return Finding(name, "peer napi", "unknown", detail, mend)
    if not has_napi:
        detail = "the peer has neither GRO nor an XDP program: every frame that XDP sends here is dropped"
        return Finding(name, "peer napi", "failed", detail, mend)
    return Finding(name, "peer napi", "ok", "the peer takes frames that XDP sends")


def _checksums(interface: Interface, peer: Interface | None) -> Finding:
    detail = "partial checksums of the peer's own stack do not survive XDP (ping works, TCP does not)"
    return _must_be_off(interface, peer, "peer checksums", "tx-checksumming", "tx off", detail)


def _tags(interface: Interface, peer: Interface | None) -> Finding:
    detail = "tags of the peer's 802.1Q devices travel beside the frame, unseen by XDP"
    return _must_be_off(interface, peer, "peer vlan tags", "tx-vlan-offload", "txvlan off", detail)


def _must_be_off(
    interface: Interface, peer: Interface | None, check: str, feature: str, switch: str, detail: str
) -> Finding:
    mend = _at_peer(peer, switch)
    if peer is None or not peer.features:
        return Finding(interface.name, check, "unknown", f"{detail}; the peer's offload is not seen from here", mend)
    if _is_on(peer, feature):
        return Finding(interface.name, check, "failed", detail, mend)
    return Finding(interface.name, check, "ok", f"{feature} of {peer.name} is off")


def _is_on(interface: Interface, feature: str) -> bool:
    state = interface.features.get(feature)
    return state is not None and state.active


def _at_peer(peer: Interface | None, switch: str) -> str:
    return f"ethtool -K {peer.name} {switch}" if peer else f"in the peer's network namespace: ethtool -K PEER {switch}"
