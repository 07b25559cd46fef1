"""What a domain's prefixes lead to: the lowest metric, equal next hops together, nothing that does not resolve."""

from gateway.policy.model import (
    ConnectionRoute,
    CustomerRoute,
    LookupRecord,
    NetworkConnection,
    RoutingDomain,
    VirtualSubnet,
)
from gateway.programming.routes import External, OnLink, Overlay, covering, routes_of

ONE = LookupRecord(6001, "10.1.1.11", "10-10-10-10-11-05", "192.168.1.10")
TWO = LookupRecord(6001, "10.1.1.12", "10-10-10-10-11-07", "192.168.2.20")
WILDCARD = LookupRecord(6001, "0.0.0.0", "10-10-10-10-17-00", "192.168.6.4", type="gateway_wildcard")


def domain(
    customer_routes: tuple[CustomerRoute, ...] = (),
    connections: tuple[NetworkConnection, ...] = (),
    records: tuple[LookupRecord, ...] = (ONE, TWO),
) -> RoutingDomain:
    return RoutingDomain(
        id="11111111-2222-3333-4444-000000000001",
        name="blue",
        virtual_subnets=(VirtualSubnet(6001, ("10.1.1.0/24",)),),
        lookup_records=records,
        customer_routes=customer_routes,
        network_connections=connections,
    )


def hops(of: RoutingDomain, prefix: str) -> tuple[object, ...]:
    return routes_of(of, {"corpnet": 30})[prefix].hops


def test_a_subnets_prefix_is_on_link_with_its_wildcard() -> None:
    assert hops(domain(), "10.1.1.0/24") == (OnLink(None),)
    assert hops(domain(records=(ONE, WILDCARD)), "10.1.1.0/24") == (OnLink(WILDCARD),)


def test_of_several_metrics_the_lowest_is_kept_in_whatever_order_they_come() -> None:
    routes = (CustomerRoute("172.16.0.0/12", "10.1.1.11", 20), CustomerRoute("172.16.0.0/12", "10.1.1.12", 10))
    for order in (routes, routes[::-1]):
        assert hops(domain(order), "172.16.0.0/12") == (Overlay(TWO),)


def test_equal_metrics_share_in_the_order_of_the_document() -> None:
    routes = (CustomerRoute("172.16.0.0/12", "10.1.1.12"), CustomerRoute("172.16.0.0/12", "10.1.1.11"))
    connection = NetworkConnection(
        "corpnet", "corpnet", ("157.1.0.254/16",), routes=(ConnectionRoute("172.16.0.0/12", "157.1.0.1"),)
    )
    away = External(("corpnet", 30), "157.1.0.1", "157.1.0.254")
    assert hops(domain(routes, (connection,)), "172.16.0.0/12") == (Overlay(TWO), Overlay(ONE), away)


def test_a_prefix_given_twice_counts_once() -> None:
    assert hops(domain((CustomerRoute("10.1.1.0/24", vsid=6001),)), "10.1.1.0/24") == (OnLink(None),)


def test_a_route_by_way_of_nobody_is_none() -> None:
    assert "172.16.0.0/12" not in routes_of(domain((CustomerRoute("172.16.0.0/12", "10.1.1.99"),)), {})


def test_a_route_by_way_of_nobody_leaves_a_worse_one_in_force() -> None:
    routes = (CustomerRoute("172.16.0.0/12", "10.1.1.99", 0), CustomerRoute("172.16.0.0/12", "10.1.1.11", 50))
    assert hops(domain(routes), "172.16.0.0/12") == (Overlay(ONE),)


def test_a_connections_own_vlan_goes_before_its_ports() -> None:
    for vlan, used in ((0, 30), (40, 40)):
        connection = NetworkConnection("corpnet", "corpnet", ("157.1.0.254/16",), vlan=vlan)
        assert hops(domain(connections=(connection,)), "157.1.0.0/16") == (
            External(("corpnet", used), None, "157.1.0.254"),
        )


def test_the_address_that_asks_for_a_neighbour_is_the_nearest_to_it() -> None:
    connection = NetworkConnection(
        "corpnet",
        "corpnet",
        ("157.1.0.254/16", "157.1.9.9/24"),
        routes=(ConnectionRoute("8.8.8.0/24", "157.1.9.1"), ConnectionRoute("8.8.4.0/24", "157.1.7.1")),
    )
    sources = [hops(domain(connections=(connection,)), prefix)[0].source for prefix in ("8.8.8.0/24", "8.8.4.0/24")]
    assert sources == ["157.1.9.9", "157.1.0.254"]


def test_a_route_out_of_a_subnet_knows_whose_addresses_it_takes() -> None:
    routes = (CustomerRoute("10.1.1.128/25", "10.1.1.11"), CustomerRoute("10.2.0.0/16", "10.1.1.11"))
    found = routes_of(domain(routes), {})
    assert [found[prefix].inside for prefix in ("10.1.1.0/24", "10.1.1.128/25", "10.2.0.0/16")] == [0, 6001, 0]


def test_the_longest_prefix_covers_an_address() -> None:
    routes = (CustomerRoute("0.0.0.0/0", "10.1.1.11"), CustomerRoute("10.1.1.128/25", "10.1.1.12"))
    found = routes_of(domain(routes), {})
    assert covering(found, "10.1.1.200") is found["10.1.1.128/25"]
    assert covering(found, "10.1.1.100") is found["10.1.1.0/24"]
    assert covering(found, "8.8.8.8") is found["0.0.0.0/0"]
    assert covering(found, "fd00::1") is None
