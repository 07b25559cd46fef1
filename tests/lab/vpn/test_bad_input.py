"""What comes from the Internet, or from an orchestrator that errs, and what it does not do."""

from dataclasses import replace

import pytest
from vpn_flood import Flood
from vpn_rig import CLOUD, PATIENCE, SERVER, Rig, connection, swanctl, until

from gateway.policy.model import EspProposal, IkeProposal, IpsecConnection, TrafficSelectors
from vpn.session import Commands

PEER = "203.0.113.20"
HALF_OPEN_AT_MOST = 60


def test_a_flood_of_first_messages_keeps_nobody_from_connecting(rig: Rig) -> None:
    domain, site = rig.add_domain("red", "198.51.100.10"), rig.add_site("red", PEER)
    wanted = connection(domain, PEER, ike=IkeProposal(dh_group="modp2048"))
    domain.connections = (wanted,)
    site.start(swanctl(wanted, proposals="aes256-sha256-modp2048"))
    rig.reconcile()
    rig.connected(domain)
    daemon = Commands(rig.directory / "vpn" / "red" / "vici")
    with Flood(site.namespace, PEER, "198.51.100.10") as flood:
        until(lambda: flood.sent > 2_000, "nothing was sent")
        assert 0 < int(daemon.call("stats")["ikesas"]["half-open"]) <= HALF_OPEN_AT_MOST
        assert domain.vm.replies(SERVER[0]) == 3
        rig.service.down("red", "site")
        assert rig.service.up("red", "site", PATIENCE).state == "connected"
        assert domain.vm.replies(SERVER[0]) == 3
    daemon.close()


def test_ten_thousand_initiations_in_a_row_change_nothing(rig: Rig) -> None:
    domain, site = rig.add_domain("red", "198.51.100.10"), rig.add_site("red", PEER)
    wanted = connection(domain, PEER)
    domain.connections = (wanted, to_nobody(wanted))
    site.start(swanctl(wanted))
    rig.reconcile()
    since = rig.connected(domain).since
    for _ in range(5_000):
        rig.service.up("red", "site", 0)
        rig.service.up("red", "unreachable", 0)
    assert rig.status(domain).since == since
    assert site.control("--list-sas").count("ESTABLISHED") == 1
    daemon = Commands(rig.directory / "vpn" / "red" / "vici")
    assert len(list(daemon.collect("list-sas", "list-sa"))) <= 2, "each initiation made an SA"
    daemon.close()


def to_nobody(wanted: IpsecConnection) -> IpsecConnection:
    """The same as another network's, where nobody answers."""
    elsewhere = TrafficSelectors(CLOUD, ("10.9.0.0/24", "fd00:9::/64"))
    nobody = {"name": "unreachable", "remote_address": "192.0.2.99", "remote_id": "nobody"}
    return replace(wanted, traffic_selectors=elsewhere, routes=(), **nobody)


def test_two_connections_of_which_one_cannot_work_leave_the_other_alone(rig: Rig) -> None:
    domain, site = rig.add_domain("red", "198.51.100.10"), rig.add_site("red", PEER)
    wanted = connection(domain, PEER)
    domain.connections = (to_nobody(wanted), wanted)
    site.start(swanctl(wanted))
    rig.reconcile()
    rig.connected(domain)
    assert rig.status(domain, "unreachable").state == "connecting"
    assert domain.vm.replies(SERVER[0]) == 3


def test_a_tunnel_that_would_be_rekeyed_every_two_megabytes_is_not_and_says_so(rig: Rig) -> None:
    domain, site = rig.add_domain("red", "198.51.100.10"), rig.add_site("red", PEER)
    wanted = connection(domain, PEER, esp=EspProposal(lifetime_kb=2000))
    domain.connections = (wanted,)
    site.start(swanctl(wanted))
    rig.reconcile()
    assert rig.connected(domain).notes == (
        "esp lifetime_kb is 1000000, not 2000: more frequent rekeying gains nothing",
    )
    daemon = Commands(rig.directory / "vpn" / "red" / "vici")
    ((listed,),) = ([*entry.values()] for entry in daemon.collect("list-conns", "list-conn"))
    (child,) = listed["children"].values()
    daemon.close()
    assert child["rekey_bytes"] == b"900000000"


def test_names_that_are_not_there_are_refused(rig: Rig) -> None:
    domain = rig.add_domain("red", "198.51.100.10")
    domain.connections = (connection(domain, PEER),)
    rig.reconcile()
    with pytest.raises(KeyError):
        rig.service.up("red", "nothing")
    with pytest.raises(KeyError):
        rig.service.down("green", "site")
