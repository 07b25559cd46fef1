"""What is told of the connection table is what the programs keep there."""

import time

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6

from gateway.datapath.connection_use import ConnectionUse, Use
from gateway.policy.model import AccessControlList, AppliesTo
from tests.datapath.cases import Gateway
from tests.datapath.loader_support import needs_root
from tests.unit.model.support import BLUE, changed, tunnelled

pytestmark = needs_root
UDP_LIFE_NS = 22 << 33  # three minutes, in whole ticks
PLACES = 4 * 4096 + 2048
ENDS = {IP: ("10.1.6.21", "157.1.0.9"), IPv6: ("fd00:6::21", "fd00:157::9")}


@pytest.mark.parametrize("version", [IP, IPv6])
def test_each_flow_is_an_entry_until_it_expires(gateway: Gateway, version: type[IP] | type[IPv6]) -> None:
    gateway.hold(changed(access_control_lists=(AccessControlList("open", (AppliesTo(6002),)),)))
    use = ConnectionUse(gateway.programs.datapath, gateway.programs.layout)
    numbers, now = gateway.programs.programmer.numbers(), time.monotonic_ns()
    assert use.read(numbers, now)[BLUE] == Use(0, PLACES)
    source, destination = ENDS[version]
    for port in (4000, 4001, 4002, 4002):
        packet = version(src=source, dst=destination) / UDP(sport=port, dport=53)
        assert gateway.send("p0", tunnelled(packet, 6002, "192.168.6.4")).action == "forwarded"
    now = time.monotonic_ns()
    assert use.read(numbers, now)[BLUE] == Use(3, PLACES)
    assert use.read(numbers, now + UDP_LIFE_NS)[BLUE] == Use(0, PLACES)


def test_a_domain_without_connections_is_not_told_of(gateway: Gateway) -> None:
    use = ConnectionUse(gateway.programs.datapath, gateway.programs.layout)
    gateway.hold(changed())
    assert use.read(gateway.programs.programmer.numbers(), time.monotonic_ns()) == {}
