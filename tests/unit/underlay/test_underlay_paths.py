"""From routes, links and addresses to a hop, without a kernel."""

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from gateway.underlay.network import Link, Network, NextHop, Route, RoutingTable
from gateway.underlay.paths import find_path

ETH1 = Link("eth1", 2, bytes.fromhex("020000000001"), 1600, up=True)
ETH1_10 = Link("eth1.10", 3, bytes.fromhex("020000000010"), 1596, up=True, parent_index=2, vlan=10)
ETH1_10_20 = Link("eth1.10.20", 4, bytes.fromhex("020000000020"), 1592, up=True, parent_index=3, vlan=20)
TUN0 = Link("tun0", 5, b"", 1400, up=True)


def route(prefix: str, *next_hops: NextHop, metric: int = 0, mtu: int = 0, source: str | None = None) -> Route:
    return Route(ip_network(prefix), metric, next_hops, source, mtu)


def network(*routes: Route) -> Network:
    return Network(
        links={link.index: link for link in (ETH1, ETH1_10, ETH1_10_20, TUN0)},
        addresses={1: {"10.60.255.1": None}, 2: {"192.168.6.2": None}, 3: {"192.168.10.2": None}},
        routes=RoutingTable(routes),
    )


def test_the_longest_prefix_wins_then_the_lowest_metric_then_the_first() -> None:
    default = route("0.0.0.0/0", NextHop(2, "192.168.6.1"))
    costly = route("10.60.0.0/16", NextHop(2, "192.168.6.3"), metric=20)
    cheap = route("10.60.0.0/16", NextHop(2, "192.168.6.4"), metric=10)
    later = route("10.60.0.0/16", NextHop(2, "192.168.6.5"), metric=10)
    exact = route("10.60.0.7/32")
    table = RoutingTable([default, costly, cheap, later, exact])
    assert table.lookup(ip_address("192.0.2.1")) is default
    assert table.lookup(ip_address("10.60.0.1")) is cheap
    assert table.lookup(ip_address("10.60.0.7")) is exact
    assert table.lookup(ip_address("2001:db8::1")) is None


def test_an_8021q_device_is_its_parent_and_a_vlan() -> None:
    path = find_path(network(route("192.168.10.0/24", NextHop(3, None))), ["192.168.10.2"], "192.168.10.4")
    assert path is not None
    assert (path.hop.interface, path.hop.interface_index, path.hop.vlan) == ("eth1", 2, 10)
    assert (path.hop.source_mac, path.hop.mtu) == (ETH1_10.mac, 1596)
    assert path.neighbour == (3, "192.168.10.4"), "Linux resolves it on the 802.1Q device"


@pytest.mark.parametrize("index", [4, 5, 6], ids=["tag inside a tag", "no Ethernet", "link unknown"])
def test_a_device_that_we_cannot_send_through_is_no_way(index: int) -> None:
    assert find_path(network(route("10.60.0.0/16", NextHop(index, None))), ["192.168.6.2"], "10.60.0.1") is None


def test_the_route_mtu_counts_where_it_is_set_and_never_more_than_the_device() -> None:
    for mtu, expected in ((0, 1600), (1400, 1400), (9000, 1600)):
        path = find_path(network(route("10.60.0.0/16", NextHop(2, None), mtu=mtu)), ["192.168.6.2"], "10.60.0.1")
        assert path is not None and path.hop.mtu == expected


@pytest.mark.parametrize(
    ("provider_addresses", "preferred", "expected"),
    [
        (["10.60.255.1", "192.168.6.2"], "10.60.255.1", "10.60.255.1"),
        (["10.60.255.1", "192.168.6.2"], "192.168.6.99", "192.168.6.2"),
        (["fd06::2", "10.60.255.1", "192.168.10.2"], None, "10.60.255.1"),
    ],
    ids=["preferred source", "address of the interface", "first of the family"],
)
def test_the_source_is_always_a_provider_address(
    provider_addresses: list[str], preferred: str | None, expected: str
) -> None:
    mirrored = network(route("10.61.0.0/16", NextHop(2, "192.168.6.1"), source=preferred))
    path = find_path(mirrored, provider_addresses, "10.61.0.1")
    assert path is not None and path.hop.source == expected


def test_without_a_provider_address_of_the_family_there_is_no_way() -> None:
    assert find_path(network(route("10.60.0.0/16", NextHop(2, None))), ["fd06::2"], "10.60.0.1") is None


def test_our_own_addresses_and_blackholes_are_no_way() -> None:
    mirrored = network(route("0.0.0.0/0", NextHop(2, "192.168.6.1")), route("10.61.0.0/16"))
    for address in ("192.168.6.2", "192.168.10.2", "10.60.255.1", "10.61.0.1"):
        assert find_path(mirrored, ["192.168.6.2"], address) is None


def test_a_next_hop_that_dies_moves_only_its_own_addresses() -> None:
    ways = tuple(NextHop(2, f"192.168.6.{number}") for number in range(4, 8))
    addresses = [f"10.60.{number}.1" for number in range(200)]

    def choices(next_hops: tuple[NextHop, ...]) -> dict[str, str]:
        paths = {
            address: find_path(network(route("10.60.0.0/16", *next_hops)), ["192.168.6.2"], address)
            for address in addresses
        }
        return {address: path.neighbour[1] for address, path in paths.items() if path is not None}

    before, after = choices(ways), choices(ways[:-1])
    assert set(before.values()) == {way.gateway for way in ways}
    assert all(after[address] == way for address, way in before.items() if way != ways[-1].gateway)
    assert choices(tuple(reversed(ways))) == before


def test_a_link_that_changes_its_mac_changes_the_source_mac() -> None:
    mirrored = network(route("10.60.0.0/16", NextHop(2, None)))
    mirrored.links[2] = replace(ETH1, mac=bytes.fromhex("0200000000ff"))
    path = find_path(mirrored, ["192.168.6.2"], "10.60.0.1")
    assert path is not None and path.hop.source_mac == bytes.fromhex("0200000000ff")
