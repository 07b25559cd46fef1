"""Which next hops packets to peers take."""

from gateway.policy.internet import internet_domain
from gateway.programming.next_hops import NextHop, next_hops
from tests.unit.model.support import INTERNET_PORT

INTERNET = internet_domain([INTERNET_PORT])
ROUTER = NextHop(("internet", 0), "198.51.100.254", "198.51.100.1")
ROUTER6 = NextHop(("internet", 0), "2001:db8:100::fe", "2001:db8:100::1")


def of(*peers: str) -> frozenset[NextHop]:
    assert INTERNET
    return next_hops(INTERNET, {"internet": 0}, peers)


def test_peers_elsewhere_are_reached_by_the_ports_gateway() -> None:
    assert of("203.0.113.20", "203.0.113.21", "2001:db8:9::1") == {ROUTER, ROUTER6}


def test_a_peer_on_the_link_is_its_own_next_hop() -> None:
    assert of("198.51.100.7") == {NextHop(("internet", 0), "198.51.100.7", "198.51.100.1")}
