"""How many connections a block of ports serves: hardly one is refused before nearly all of it is lent."""

from collections.abc import Iterator
from dataclasses import replace
from socket import if_nametoindex

import pytest

from gateway.datapath.test_run import run
from gateway.policy.model import OutboundNat
from tests.datapath.cases import Gateway
from tests.datapath.loader_support import needs_root
from tests.unit.model.services import BALANCER, CLIENT, CLIENT6, SERVICE_PORTS, VM1, VM6, inside, udp, with_blue

pytestmark = needs_root

XDP_REDIRECT = 4
LENT, BLOCK = (OutboundNat("public", 6002, ports="8192-12287"), OutboundNat("public6", 6002, ports="8192-12287")), 2
HEADERS = {VM1: 14 + 20, VM6: 14 + 40}  # of what leaves to the Internet, by machine


@pytest.fixture(name="lender")
def gateway_that_lends(gateway: Gateway) -> Iterator[Gateway]:
    """One block for all machines of a virtual subnet; what passes is not captured."""
    gateway.hold(with_blue(load_balancers=(replace(BALANCER, outbound_nat=LENT),)), ports=SERVICE_PORTS)
    root = gateway.programs.datapath.maps["root"].records(gateway.programs.layout.struct("root"))
    root["capture"] = 0
    yield gateway
    root["capture"] = 1


def ports_lent(gateway: Gateway, machine: str, remote: str, connections: int) -> list[int | None]:
    """The ports that connections of a machine get, one after the other; None: it is refused."""
    program = gateway.programs.datapath.programs["gateway"]
    interface, frame = inside(udp(machine, 4000, remote, 53, chksum=0))
    at, given = len(frame) - len(b"payload") - 8, []
    for number in range(connections):
        port = (1024 + number).to_bytes(2)
        action, out = run(program, frame[:at] + port + frame[at + 2 :], if_nametoindex(interface))
        given.append(int.from_bytes(out[HEADERS[machine] :][:2]) if action == XDP_REDIRECT else None)
    return given


@pytest.mark.parametrize(
    ("machine", "remote", "connections"), [(VM1, CLIENT, 2400), (VM6, CLIENT6, 1200)], ids=["IPv4", "IPv6"]
)
def test_each_connection_has_a_port_of_its_own_of_the_block(
    lender: Gateway, machine: str, remote: str, connections: int
) -> None:
    given = ports_lent(lender, machine, remote, connections)
    assert len(set(given)) == connections
    assert {port and port >> 12 for port in given} == {BLOCK}


def test_few_are_refused_before_four_fifths_of_a_block_are_lent(lender: Gateway) -> None:
    given = ports_lent(lender, VM1, CLIENT, 3300)
    assert given.count(None) < 33
    assert len(set(given) - {None}) == 3300 - given.count(None)
