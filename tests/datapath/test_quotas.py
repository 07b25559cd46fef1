"""A flood of first packets to one tenant's address: its own connections stand, and so do those of others."""

from dataclasses import replace
from socket import if_nametoindex

from gateway.datapath.test_run import run
from gateway.policy.model import BackendPool, BalancingRule, PoolMember
from tests.datapath.cases import Gateway
from tests.datapath.loader_support import needs_root
from tests.datapath.test_connection_regions import row
from tests.unit.model.services import (
    BALANCER,
    CLIENT,
    SERVICE_PORTS,
    SERVICES,
    VIP,
    VM1,
    VM3,
    ends,
    inside,
    outside,
    tcp,
    with_balancer,
)

pytestmark = needs_root

FLOOD = 60_000  # three times what the region has places for
ESTABLISHED = range(2000, 2100)
BEFORE = with_balancer(
    backend_pools=(*BALANCER.backend_pools, BackendPool("two", (PoolMember(VM1), PoolMember(VM3)))),
    rules=(*BALANCER.rules, BalancingRule("flooded", "public", "two", "tcp", 9000)),
)


def answered_connections(gateway: Gateway) -> dict[int, str]:
    """The members that connections have, by the client's port."""
    members = {}
    for port in ESTABLISHED:
        members[port] = ends(gateway.forwards(*outside(tcp(CLIENT, port, VIP, 9000))))[2]
        assert ends(gateway.forwards(*inside(tcp(members[port], 9000, CLIENT, port, "SA")))) == (
            VIP,
            9000,
            CLIENT,
            port,
        )
    return members


def flood(gateway: Gateway) -> None:
    interface, frame = outside(tcp("192.0.2.1", 4000, VIP, 9000))
    program, source = gateway.programs.datapath.programs["gateway"], 14 + 12
    root = gateway.programs.datapath.maps["root"].records(gateway.programs.layout.struct("root"))
    root["capture"] = 0
    for number in range(FLOOD):
        address = (0x32000000 + number * 0x9E37).to_bytes(4)
        run(program, frame[:source] + address + frame[source + 4 :], if_nametoindex(interface))
    root["capture"] = 1


def test_a_flood_ends_no_connection_that_was_answered_and_takes_no_memory(gateway: Gateway) -> None:
    gateway.hold(BEFORE, ports=SERVICE_PORTS)
    members = answered_connections(gateway)
    assert set(members.values()) == {VM1, VM3}
    flood(gateway)
    gateway.programs.programmer.widen_connections()
    assert int(row(gateway)["connections4_lines"]) == int(row(gateway)["connections4_used"]) == 4096
    blue, red = BEFORE.routing_domains
    (balancer,) = blue.load_balancers
    drained = BackendPool("two", (PoolMember(VM1, state="draining"), PoolMember(VM3)))
    pools = tuple(drained if one.name == "two" else one for one in balancer.backend_pools)
    after = replace(
        SERVICES, routing_domains=(replace(blue, load_balancers=(replace(balancer, backend_pools=pools),)), red)
    )
    assert gateway.programs.apply(after) == {}
    for port, member in members.items():
        assert ends(gateway.forwards(*outside(tcp(CLIENT, port, VIP, 9000, "A"))))[2] == member
    assert ends(gateway.forwards(*outside(tcp(CLIENT, 3000, VIP, 9000))))[2] == VM3
