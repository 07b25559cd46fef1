"""The probes, as an independent implementation reads them."""

import pytest
from scapy.layers.inet6 import ICMPv6ND_NS, ICMPv6NDOptSrcLLAddr, IPv6
from scapy.layers.l2 import ARP, Dot1Q, Ether

from gateway.underlay.neighbour_probe import Probe, probe_frame

OURS, THEIRS = bytes.fromhex("020000000001"), bytes.fromhex("020000000002")


def test_an_ipv4_probe_is_a_unicast_arp_request() -> None:
    frame = Ether(probe_frame(OURS, Probe(0, "10.0.0.1", "10.0.0.9", THEIRS)))
    assert (frame.dst, frame.src, frame.type) == ("02:00:00:00:00:02", "02:00:00:00:00:01", 0x0806)
    request = frame[ARP]
    assert (request.op, request.hwsrc, request.psrc) == (1, "02:00:00:00:00:01", "10.0.0.1")
    assert (request.hwdst, request.pdst) == ("00:00:00:00:00:00", "10.0.0.9")


def test_an_ipv6_probe_is_a_unicast_neighbour_solicitation_with_a_right_checksum() -> None:
    raw = probe_frame(OURS, Probe(0, "fd00::1", "fd00::9", THEIRS))
    frame = Ether(raw)
    assert (frame[IPv6].src, frame[IPv6].dst, frame[IPv6].hlim) == ("fd00::1", "fd00::9", 255)
    assert frame[ICMPv6ND_NS].tgt == "fd00::9"
    assert frame[ICMPv6NDOptSrcLLAddr].lladdr == "02:00:00:00:00:01"
    del frame[ICMPv6ND_NS].cksum
    assert bytes(frame) == raw


@pytest.mark.parametrize(("source", "target"), [("10.0.0.1", "10.0.0.9"), ("fd00::1", "fd00::9")])
def test_a_vlan_is_in_the_frame_where_xdp_sees_it(source: str, target: str) -> None:
    tagged = probe_frame(OURS, Probe(20, source, target, THEIRS))
    untagged = probe_frame(OURS, Probe(0, source, target, THEIRS))
    assert Ether(tagged)[Dot1Q].vlan == 20
    assert tagged[:12] + tagged[16:] == untagged


def test_addresses_of_two_families_are_refused() -> None:
    with pytest.raises(ValueError, match="one family"):
        probe_frame(OURS, Probe(0, "10.0.0.1", "fd00::9", THEIRS))
