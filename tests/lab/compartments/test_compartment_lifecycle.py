"""Compartments are made whole, adopted untouched, changed where they differ, and removed."""

import socket
import subprocess
import sys
import time
from dataclasses import replace
from itertools import count
from pathlib import Path

from compartment_rig import (
    BLUE,
    GATEWAY,
    NAME,
    OUTSIDE,
    PROBER,
    RED,
    ROUTER_MAC,
    SERVICE,
    VPN,
    at_gateway,
    interfaces,
    ip,
    many,
    reconcile,
    run,
    state,
)

from deploy.lab.processes import wait_until
from gateway.compartments import entering
from gateway.compartments.compartments import Compartments
from gateway.compartments.names import names_of
from gateway.compartments.specification import Compartment
from gateway.doctor.facts import XDP_TRANSMIT
from gateway.doctor.xdp_features import read_xdp_features
from gateway.underlay.netlink import Events


def default_device(compartment: Compartment, family: str = "-4") -> str:
    (route,) = ip(compartment.namespace, f"{family} route show default")
    return str(route["dev"])


def source_towards(compartment: Compartment, address: str) -> str:
    (way,) = ip(compartment.namespace, f"route get {address}")
    return str(way["prefsrc"])


def test_a_compartment_has_its_addresses_and_ways(compartment: Compartment) -> None:
    namespace = compartment.namespace
    addresses = {
        (link["ifname"], address["local"], address["prefixlen"])
        for link in ip(namespace, "address show")
        for address in link["addr_info"]
        if link["ifname"] != "lo"
    }
    assert addresses == {
        ("inside", SERVICE, 32),
        ("inside", "fd00:1::fe", 128),
        ("outside", OUTSIDE, 32),
        ("outside", "2001:db8::11", 128),
    }
    assert default_device(compartment) == default_device(compartment, "-6") == "outside"
    (way,) = ip(namespace, "route get 10.1.0.7")
    assert (way["dev"], way["gateway"], way["prefsrc"]) == ("inside", "169.254.0.1", SERVICE)
    (way,) = ip(namespace, "route get fd00:1::7")
    assert (way["dev"], way["gateway"], way["prefsrc"]) == ("inside", "fe80::1", "fd00:1::fe")


def test_without_outside_addresses_everything_goes_by_the_inside(compartments: Compartments) -> None:
    compartment = reconcile(compartments, PROBER)[RED]
    assert compartment.outside is None
    assert set(interfaces()) == {compartment.inside.interface}
    assert default_device(compartment) == default_device(compartment, "-6") == "inside"


def test_an_operator_finds_the_namespace_with_ip_netns(compartment: Compartment) -> None:
    name = Path(compartment.namespace).name
    assert name.startswith(f"tgw-{NAME}-")
    assert SERVICE in subprocess.run(["ip", "-n", name, "address"], capture_output=True, text=True, check=True).stdout


def test_the_legs_take_what_xdp_sends(compartment: Compartment) -> None:
    features = at_gateway(read_xdp_features)
    assert compartment.outside is not None
    for leg in (compartment.inside, compartment.outside):
        assert interfaces()[leg.interface] == leg.index
        assert features[leg.index] & XDP_TRANSMIT


def test_linux_takes_no_part_at_the_gateways_ends(compartment: Compartment) -> None:
    for link in ip(GATEWAY, "address show"):
        assert link["addr_info"] == []
    received = {link["ifname"]: link["stats64"]["rx"]["packets"] for link in ip(GATEWAY, "-s link show")}
    assert set(received.values()) == {0}  # it learns of nothing that a compartment does of its own accord


def test_a_restarted_daemon_adopts_without_touching_anything(compartment: Compartment) -> None:
    before = state(compartment)
    watchers = [entering.run_in(namespace, Events) for namespace in (GATEWAY, compartment.namespace)]
    later = Compartments(NAME, ROUTER_MAC)
    assert reconcile(later, VPN) == {RED: compartment}
    assert [watcher.receive() for watcher in watchers] == [[], []]
    assert state(compartment) == before


def test_an_added_address_changes_nothing_else(compartments: Compartments, compartment: Compartment) -> None:
    with_another = replace(VPN, inside_addresses=("10.1.1.254", *VPN.inside_addresses))
    events = entering.run_in(compartment.namespace, Events)
    assert reconcile(compartments, with_another) == {RED: replace(compartment, specification=with_another)}
    names = {name for message in events.receive() for name in [message.decode()["event"]]}
    assert names == {"RTM_NEWADDR", "RTM_NEWROUTE"}
    assert source_towards(compartment, "10.1.0.7") == "10.1.1.254"  # the first
    reconcile(compartments, VPN)
    assert "10.1.1.254" not in run(compartment.namespace, "ip address show dev inside")
    assert source_towards(compartment, "10.1.0.7") == SERVICE


def test_a_prefix_comes_and_goes(compartments: Compartments, compartment: Compartment) -> None:
    reconcile(compartments, replace(VPN, inside_prefixes=("10.9.0.0/16",)))
    assert {route["dst"] for route in ip(compartment.namespace, "route show")} == {"default", "10.9.0.0/16"}
    reconcile(compartments, VPN)
    assert {route["dst"] for route in ip(compartment.namespace, "route show")} == {"default", "10.1.0.0/24"}


def test_an_outside_comes_and_goes_beside_an_inside_that_stays(compartments: Compartments) -> None:
    alone = reconcile(compartments, PROBER)[RED]
    both = reconcile(compartments, VPN)[RED]
    assert both.inside == alone.inside
    assert default_device(both) == "outside"
    assert reconcile(compartments, PROBER)[RED] == alone
    assert default_device(alone) == default_device(alone, "-6") == "inside"
    assert set(interfaces()) == {alone.inside.interface}


def test_the_mtu_follows_on_both_ends(compartments: Compartments, compartment: Compartment) -> None:
    reconcile(compartments, replace(VPN, mtu=1400))
    for namespace in (GATEWAY, compartment.namespace):
        assert {link["mtu"] for link in ip(namespace, "link show") if link["ifname"] != "lo"} == {1400}


def test_what_others_set_in_a_compartment_stays(compartments: Compartments, compartment: Compartment) -> None:
    for command in (
        "tuntap add ipsec0 mode tun",
        "link set ipsec0 up",
        "address add 169.254.21.1/30 dev ipsec0",
        "route add 10.2.0.0/24 dev ipsec0",
        "route add 10.3.0.0/24 dev ipsec0 table 220",
    ):
        run(compartment.namespace, f"ip {command}")
    before = ip(compartment.namespace, "route show table all dev ipsec0")
    reconcile(Compartments(NAME, ROUTER_MAC), replace(VPN, inside_prefixes=("10.1.0.0/16",)))
    assert ip(compartment.namespace, "route show table all dev ipsec0") == before


def test_damage_is_mended_by_a_restarted_daemon(compartment: Compartment) -> None:
    before = state(compartment)
    namespace = compartment.namespace
    for command in (
        f"ip address del {SERVICE}/32 dev inside",
        "ip address add 10.1.0.99/24 dev inside",
        "ip route del default",
        "ip neighbour replace 169.254.0.1 lladdr 02:00:00:00:00:01 dev inside nud permanent",
        "ip link set outside address 02:00:00:00:00:02",
        "nft add rule inet tenant_gateway forward accept",
        "sysctl -q net.ipv4.conf.inside.rp_filter=1 net.ipv6.conf.all.forwarding=0",
        "ethtool -K inside tx on gro off",
    ):
        run(namespace, command)
    run(GATEWAY, f"ip link set {compartment.inside.interface} down")
    reconcile(Compartments(NAME, ROUTER_MAC), VPN)
    after = state(compartment)
    for kind in ("namespace", "links", "neighbours", "sysctls", "features", "gateway"):
        assert after[kind] == before[kind], kind
    assert default_device(compartment) == "outside"
    assert SERVICE in run(namespace, "ip address show dev inside")
    assert "10.1.0.99" not in run(namespace, "ip address show dev inside")
    assert after["rules"].count("accept") == before["rules"].count("accept")


def test_a_leg_that_someone_removed_is_made_again(compartments: Compartments, compartment: Compartment) -> None:
    run(GATEWAY, f"ip link del {compartment.inside.interface}")
    again = reconcile(compartments, VPN)[RED]
    assert again.inside.mac == compartment.inside.mac
    assert again.outside == compartment.outside
    assert interfaces()[again.inside.interface] == again.inside.index
    assert SERVICE in run(again.namespace, "ip address show dev inside")


def test_a_leg_that_someone_led_elsewhere_is_made_again(compartments: Compartments, compartment: Compartment) -> None:
    run(GATEWAY, f"ip link set {compartment.inside.interface} down name elsewhere")
    run(GATEWAY, f"ip link add {compartment.inside.interface} type veth peer name other")
    again = reconcile(compartments, VPN)[RED]
    assert compartments.faults == {}
    (inner,) = [link for link in ip(again.namespace, "link show") if link["ifname"] == "inside"]
    assert inner["link_index"] == again.inside.index == interfaces()[again.inside.interface]
    assert "elsewhere" not in interfaces()


def test_a_namespace_that_someone_removed_is_made_again(compartments: Compartments, compartment: Compartment) -> None:
    with socket_inside(compartment):  # it lives on, unnamed, and its legs with it
        subprocess.run(["ip", "netns", "del", Path(compartment.namespace).name], check=True)
        again = reconcile(compartments, VPN)[RED]
    assert compartments.faults == {}
    assert interfaces()[again.inside.interface] == again.inside.index
    assert default_device(again) == "outside"


def socket_inside(compartment: Compartment) -> socket.socket:
    return entering.socket_in(compartment.namespace, socket.AF_INET, socket.SOCK_DGRAM)


def test_removal_leaves_nothing_even_with_a_socket_inside(compartments: Compartments, compartment: Compartment) -> None:
    with socket_inside(compartment):
        assert reconcile(compartments) == {}
        assert not Path(compartment.namespace).exists()
        assert interfaces() == {}


def test_only_the_gateways_own_are_removed(compartments: Compartments, compartment: Compartment) -> None:
    neighbour = Compartments(f"{NAME}-b", ROUTER_MAC)
    theirs = reconcile(neighbour, PROBER)[RED]
    reconcile(compartments)
    try:
        assert Path(theirs.namespace).exists()
        assert set(interfaces()) == {theirs.inside.interface}
    finally:
        reconcile(neighbour)


def test_a_gateways_name_may_be_any_text(compartments: Compartments) -> None:
    odd = Compartments(f"{NAME}/../the gateway of München" + "x" * 250, ROUTER_MAC)
    made = reconcile(odd, PROBER)[RED]
    try:
        assert SERVICE in run(made.namespace, "ip address show dev inside")
    finally:
        reconcile(odd)
    assert not Path(made.namespace).exists()


def test_one_that_cannot_be_made_is_named_and_holds_up_no_other(compartments: Compartments) -> None:
    impossible = replace(VPN, routing_domain=BLUE, mtu=70_000)
    assert reconcile(compartments, VPN, impossible).keys() == {RED}
    assert compartments.faults.keys() == {BLUE}
    assert BLUE in compartments.faults[BLUE]
    assert "making inside" in compartments.faults[BLUE]
    assert reconcile(compartments, VPN, replace(impossible, mtu=1500)).keys() == {RED, BLUE}
    assert compartments.faults == {}


def test_two_domains_never_share_a_compartment(compartments: Compartments) -> None:
    one, other = alike_in_name()
    made = reconcile(compartments, replace(PROBER, routing_domain=one), replace(PROBER, routing_domain=other))
    assert made.keys() == {min(one, other)}
    assert compartments.faults.keys() == {max(one, other)}
    assert min(one, other) in compartments.faults[max(one, other)]


def alike_in_name() -> tuple[str, str]:
    """Two RDIDs with the same hash, found by trying some 100,000."""
    seen: dict[str, str] = {}
    for rdid in map("{:08x}-0000-4000-8000-000000000000".format, count()):
        other = seen.setdefault(names_of(NAME, rdid).namespace, rdid)
        if other != rdid:
            return other, rdid
    raise AssertionError


def test_what_a_killed_daemon_left_half_made_is_made_whole(compartments: Compartments) -> None:
    program = (
        "import sys; sys.path[:0] = sys.argv[2:]\n"
        "from compartment_rig import ROUTER_MAC, Compartments, many\n"
        "Compartments(sys.argv[1], ROUTER_MAC).reconcile(many(60))"
    )
    paths = (str(Path(__file__).parent), str(Path.cwd()))
    daemon = subprocess.Popen(entering.command_in(GATEWAY, sys.executable, "-c", program, NAME, *paths))
    try:
        wait_until(lambda: len(named()) >= 7, "some compartments are made")
    finally:
        daemon.kill()
        daemon.wait()
    assert len(named()) < 60
    made = at_gateway(lambda: compartments.reconcile(many(60)))
    assert compartments.faults == {}
    assert named() == {Path(one.namespace) for one in made.values()}
    legs = [leg for one in made.values() for leg in (one.inside, one.outside) if leg]
    assert interfaces() == {leg.interface: leg.index for leg in legs}
    assert {default_device(one) for one in made.values()} == {"outside"}


def named() -> set[Path]:
    return set(Path("/run/netns").glob(f"tgw-{NAME}-*"))


def test_a_name_that_a_killed_daemon_left_empty_is_taken_over(compartments: Compartments) -> None:
    compartment = reconcile(compartments, PROBER)[RED]
    reconcile(compartments)
    Path(compartment.namespace).touch()
    assert reconcile(compartments, PROBER).keys() == {RED}
    assert SERVICE in run(compartment.namespace, "ip address show dev inside")


def test_fifty_compartments_take_less_than_five_seconds_of_the_processor(compartments: Compartments) -> None:
    start = time.process_time()
    made = at_gateway(lambda: compartments.reconcile(many(50)))
    assert time.process_time() - start < 5
    assert len(made) == 50
    assert len({one.namespace for one in made.values()}) == 50
