"""Each rule for tunnels: what is done to a sound document, and the field that is named."""

from collections.abc import Callable
from typing import Any

import pytest
from samples import TUNNEL, edit

Found = Callable[[], dict[str, str]]
Plain = dict[str, Any]

D = "/routing_domains/0"
MACHINE = {"address": "198.51.100.10", "customer_address": "10.1.1.11"}
RED = "/routing_domains/1"
C = f"{D}/network_connections/1"
AGAIN = TUNNEL | {"name": "again", "traffic_selectors": None}
GCM = {"encryption": "aes128gcm16"}

# What is set where; the pointer of the fault, `=` if the same; a part of what is said of it.
FAULTS = [
    (f"{C}/name", "corpnet", "=", "two connections"),
    (f"{C}/remote_address", "224.0.0.5", "=", "multicast"),
    (f"{C}/remote_address", "0.0.0.0", "=", "of this network"),
    (f"{C}/remote_address", "127.0.0.1", "=", "loopback"),
    (f"{C}/remote_address", "198.51.100.10", "=", "an address of this gateway"),
    (f"{C}/remote_address", "198.51.100.1", "=", "an address of this gateway"),
    (f"{C}/remote_address", "192.168.6.2", "=", "provider address"),
    (f"{C}/remote_address", "192.168.2.20", "=", "provider address"),
    (f"{C}/remote_address", "192.168.6.4", "=", "provider address"),
    (f"{C}/remote_address", "10.1.6.77", "=", "in a virtual subnet"),
    (f"{C}/remote_address", "2001:db8::20", f"{C}/local_address", "different IP families"),
    (f"{C}/remote_address", "10.2.1.1", f"{C}/traffic_selectors/remote/0", "holds remote_address"),
    (f"{C}/local_address", "203.0.113.1", "=", "in no network of an external port"),
    (f"{C}/local_address", "198.51.100.1", "=", "the own address of port"),
    (f"{C}/local_address", "198.51.100.254", "=", "gateway of port"),
    (f"{D}/network_connections/-", AGAIN, f"{D}/network_connections/2/remote_address", "twice in this routing domain"),
    (f"{RED}/network_connections", [AGAIN], "=/0/remote_address", "blue too"),
    (f"{RED}/network_connections", [AGAIN | {"enabled": False}], "=/0/remote_address", "blue too"),
    (f"{D}/public_addresses", [MACHINE], "=/0/address", "local"),
    (
        f"{RED}/public_addresses",
        [MACHINE],
        "=/0/address",
        "local",
    ),
    (f"{C}/traffic_selectors/local", [], "=", "at least one prefix"),
    (f"{C}/traffic_selectors/local", ["10.9.0.0/24"], "=/0", "in no prefix of this routing domain"),
    (f"{C}/traffic_selectors/local", ["fd00:6::/64"], f"{C}/traffic_selectors/remote", "different IP families"),
    (f"{C}/traffic_selectors/remote", ["10.2.0.0/16", "203.0.113.0/24"], "=/1", "holds remote_address"),
    (f"{C}/traffic_selectors/remote", ["10.2.0.0/16", "224.0.0.0/4"], "=/1", "never routed"),
    (f"{C}/routes/0/prefix", "10.3.0.0/24", "=", "the tunnel would not carry it"),
    (f"{C}/routes/0/next_hop", "10.2.0.1", "=", "remove next_hop"),
    (f"{C}/authentication/secret", "", "=", "at least 8"),
    (f"{C}/authentication/secret", "1234567", "=", "at least 8"),
    (f"{C}/authentication/secret", "***", "=", "nothing is held"),
    (f"{C}/ike/encryption", "aes", "=", "aes128, aes192, aes256, aes128gcm16, aes256gcm16"),
    (f"{C}/ike/encryption", "3des", "=", "3DES is too weak"),
    (f"{C}/ike/integrity", "sha1", "=", "SHA-1 is too weak: write one of sha256, sha384, sha512"),
    (f"{C}/ike/dh_group", "modp1024", "=", "modp1024 is too weak"),
    (f"{C}/esp/pfs_group", "ecp1", "=", "curve25519"),
    (f"{C}/esp/integrity", "sha1", "=", "SHA-1 is too weak"),
    (f"{C}/esp/integrity", None, "=", "needs an integrity check"),
    (f"{C}/esp/encryption", "aes256gcm16", f"{C}/esp/integrity", "remove integrity"),
    (f"{C}/ike/lifetime_s", 0, "=", "1 and"),
    (f"{C}/esp/lifetime_s", -1, "=", "1 and"),
    (f"{C}/esp/lifetime_kb", 0, "=", "1 and"),
    (f"{C}/outbound_kbps", 7, "=", "8 and"),
    (f"{C}/inbound_kbps", 0, "=", "8 and"),
]


@pytest.mark.parametrize(("path", "value", "pointer", "words"), FAULTS, ids=[f"{f[0]}={f[1]!r}"[17:80] for f in FAULTS])
def test_a_fault_is_named_with_its_field(
    joined: Plain, document: Plain, found: Found, path: str, value: Any, pointer: str, words: str
) -> None:
    edit(document, path, value)
    faults = found()
    assert list(faults) == [pointer.replace("=", path)]
    assert words in faults[pointer.replace("=", path)]


SOUND = [
    (f"{C}/enabled", False),
    (f"{C}/local_address", ...),
    (f"{C}/local_id", "blue.gateway.example"),
    (f"{C}/traffic_selectors", ...),
    (f"{C}/traffic_selectors/local", ["0.0.0.0/0"]),
    (f"{C}/traffic_selectors/local", ["10.1.6.128/25", "172.16.5.0/24"]),
    (f"{C}/traffic_selectors/remote", ["0.0.0.0/0"]),
    (f"{C}/routes", []),
    (f"{C}/esp", {}),
    (f"{C}/esp", GCM),
    (f"{C}/ike", GCM),
    (f"{C}/ike", ...),
    (f"{C}/esp/lifetime_s", 1),
    (f"{C}/esp/lifetime_kb", 2000),
    (f"{C}/inbound_kbps", 8),
    (f"{D}/network_connections/-", AGAIN | {"remote_address": "203.0.113.21"}),
    (f"{D}/network_connections/-", AGAIN | {"local_address": "198.51.100.11"}),
    (f"{RED}/network_connections", [AGAIN | {"remote_address": "203.0.113.21"}]),
    (f"{RED}/network_connections", [AGAIN | {"local_address": "198.51.100.11"}]),
    (f"{D}/network_connections/-", AGAIN | {"local_address": None, "remote_address": "2001:db8::20"}),
]


@pytest.mark.parametrize(("path", "value"), SOUND, ids=[f"{f[0]}={f[1]!r}"[17:80] for f in SOUND])
def test_what_may_be_written_is_accepted(joined: Plain, document: Plain, found: Found, path: str, value: Any) -> None:
    assert found() == {}
    edit(document, path, value)
    assert found() == {}


def test_a_route_may_be_more_specific_than_a_virtual_subnet(joined: Plain, found: Found) -> None:
    joined["network_connections"][1] |= {"traffic_selectors": None, "routes": [{"prefix": "10.1.1.77/32"}]}
    assert found() == {}


@pytest.mark.parametrize("prefix", ["0.0.0.0/0", "::/0"])
def test_a_default_route_may_hold_the_other_end(joined: Plain, found: Found, prefix: str) -> None:
    joined["network_connections"][1] |= {"traffic_selectors": None, "routes": [{"prefix": prefix}]}
    assert found() == {}


def test_a_route_that_holds_the_other_end_is_refused(joined: Plain, found: Found) -> None:
    joined["network_connections"][1] |= {"traffic_selectors": None, "routes": [{"prefix": "203.0.0.0/8"}]}
    joined["network_connections"][1]["routes"] = [{"prefix": "203.0.112.0/20"}]
    assert list(found()) == [f"{C}/routes/0/prefix"]


def test_a_tunnel_leads_somewhere(joined: Plain, found: Found) -> None:
    joined["network_connections"][1] |= {"traffic_selectors": None, "routes": []}
    assert list(found()) == [f"{C}/routes"]


def test_a_tunnel_without_a_local_address_needs_one_port_with_addresses(
    joined: Plain, ports: Any, found: Found
) -> None:
    del joined["network_connections"][1]["local_address"]
    assert found() == {}
    second = ports["internet"].model_copy(update={"name": "second", "addresses": ("192.0.2.1/24",), "gateways": ()})
    ports["second"] = second
    assert list(found()) == [f"{C}/local_address"]
    del ports["second"], ports["internet"]
    assert list(found()) == [f"{C}/local_address"]


def test_two_domains_may_not_share_a_peer_at_the_address_that_is_taken_where_none_is_given(
    joined: Plain, red: Plain, found: Found
) -> None:
    del joined["network_connections"][1]["local_address"]
    red["network_connections"] = [TUNNEL | {"local_address": None, "traffic_selectors": None}]
    assert list(found()) == [f"{RED}/network_connections/0/remote_address"]


def test_a_public_address_is_no_other_end(joined: Plain, found: Found) -> None:
    joined["public_addresses"] = [MACHINE | {"address": "198.51.100.20"}]
    joined["network_connections"][1]["remote_address"] = "198.51.100.20"
    assert list(found()) == [f"{C}/remote_address"]


def test_faults_of_a_tunnel_are_told_at_once(joined: Plain, document: Plain, found: Found) -> None:
    edits = {
        f"{C}/remote_address": "127.0.0.1",
        f"{C}/local_address": "203.0.113.1",
        f"{C}/authentication/secret": "short",
        f"{C}/traffic_selectors/local/0": "10.9.0.0/24",
        f"{C}/routes/0/prefix": "10.77.0.0/24",
        f"{C}/ike/integrity": "sha1",
        f"{C}/ike/lifetime_s": 0,
        f"{C}/esp/pfs_group": "modp1024",
        f"{C}/outbound_kbps": 1,
    }
    for path, value in edits.items():
        edit(document, path, value)
    assert set(found()) == set(edits)
