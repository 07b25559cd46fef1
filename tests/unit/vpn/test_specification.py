"""Policy's connections as strongSwan takes them."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from gateway.policy.model import (
    CertificateAuthentication,
    ConnectionRoute,
    EspProposal,
    IkeProposal,
    IpsecConnection,
    PskAuthentication,
)
from gateway.policy.secret import Secret
from vpn.specification import Tunnel, diagnosis_message, secret_message, tunnels
from vpn.suites import esp_proposal, ike_proposal, overhead

Make = Callable[..., IpsecConnection]


def only(connection: IpsecConnection, in_user_space: bool = False) -> Tunnel:
    (tunnel,) = tunnels([connection], in_user_space).values()
    return tunnel


@pytest.mark.parametrize(
    ("ike", "words"),
    [
        (IkeProposal(), "aes256-sha256-ecp256"),
        (IkeProposal(encryption="aes128gcm16"), "aes128gcm16-prfsha256-ecp256"),
        (IkeProposal(integrity="sha384", dh_group="modp2048"), "aes256-sha384-modp2048"),
    ],
)
def test_an_ike_proposal_has_strongswans_words(ike: IkeProposal, words: str) -> None:
    assert ike_proposal(ike) == words


@pytest.mark.parametrize(
    ("esp", "words"),
    [
        (EspProposal(), "aes128gcm16"),
        (EspProposal(pfs_group="ecp256"), "aes128gcm16-ecp256"),
        (EspProposal(encryption="aes256"), "aes256-sha256"),
        (EspProposal(encryption="aes256", integrity="sha512", pfs_group="modp2048"), "aes256-sha512-modp2048"),
    ],
)
def test_an_esp_proposal_has_strongswans_words(esp: EspProposal, words: str) -> None:
    assert esp_proposal(esp) == words


@pytest.mark.parametrize(
    ("esp", "outer_version", "encapsulated", "inner", "outer"),
    [
        (EspProposal(), 4, True, 1402, 1464),
        (EspProposal(encryption="aes256"), 4, True, 1406, 1476),
        (EspProposal(), 4, False, 1446, 1500),
        (EspProposal(encryption="aes256", integrity="sha512"), 6, False, 1390, 1488),
    ],
)
def test_the_largest_inner_packet_fills_the_outer_one(
    esp: EspProposal, outer_version: int, encapsulated: bool, inner: int, outer: int
) -> None:
    assert overhead(esp, outer_version, encapsulated).inner_mtu(outer) == inner
    assert overhead(esp, outer_version, encapsulated).inner_mtu(outer - 1) < inner


def test_short_lifetimes_are_floored_and_it_is_told(connection: Make) -> None:
    tunnel = only(connection(ike=IkeProposal(lifetime_s=5), esp=EspProposal(lifetime_s=1, lifetime_kb=2000)))
    (child,) = tunnel.message["children"].values()
    assert (child["life_time"], child["life_bytes"]) == ("300s", "1000000000")
    assert tunnel.message["rekey_time"] == "540s"
    assert [note.split(":")[0] for note in tunnel.floored] == [
        "ike lifetime_s is 600, not 5",
        "esp lifetime_s is 300, not 1",
        "esp lifetime_kb is 1000000, not 2000",
    ]


def test_lifetimes_above_the_floor_are_kept(connection: Make) -> None:
    tunnel = only(connection(esp=EspProposal(lifetime_kb=10_000_000)))
    (child,) = tunnel.message["children"].values()
    assert (child["rekey_time"], child["life_time"]) == ("3240s", "3600s")
    assert (child["rekey_bytes"], child["life_bytes"]) == ("9000000000", "10000000000")
    assert (tunnel.message["rekey_time"], tunnel.message["over_time"]) == ("12960s", "1440s")
    assert tunnel.floored == ()


def test_what_was_negotiated_names_the_tunnel(connection: Make) -> None:
    key = only(connection()).key
    others = [
        connection(name="other"),
        connection(remote_address="203.0.113.21"),
        connection(local_id="other"),
        connection(ike=IkeProposal(dh_group="modp2048")),
        connection(esp=EspProposal(encryption="aes256")),
        connection(traffic_selectors=None),
    ]
    assert len({key, *(only(other).key for other in others)}) == 7


def test_secrets_rates_routes_and_lifetimes_change_without_another_tunnel(connection: Make) -> None:
    key = only(connection()).key
    for same in (
        connection(authentication=PskAuthentication(secret=Secret("another"))),
        connection(outbound_kbps=1000),
        connection(routes=(ConnectionRoute("10.3.0.0/24"),)),
        connection(esp=EspProposal(lifetime_s=7200, lifetime_kb=5_000_000)),
    ):
        assert only(same).key == key


def test_a_renewed_certificate_is_not_another_tunnel(connection: Make) -> None:
    first = CertificateAuthentication("certificate", Secret("key"), "ca")
    renewed = replace(first, certificate="renewed", private_key=Secret("another"))
    assert only(connection(authentication=first)).key == only(connection(authentication=renewed)).key


def test_a_key_is_short_and_of_plain_characters(connection: Make) -> None:
    key = only(connection(name="Zentrale Köln/" + "x" * 200)).key
    assert len(key) <= 60
    assert key.replace("-", "").replace("_", "").isascii()


def test_the_secret_is_in_no_message_but_its_own(connection: Make) -> None:
    tunnel = only(connection())
    secret = secret_message(tunnel)
    assert secret
    assert secret["data"] == b"correct-horse"
    assert secret["owners"] == ["red.gateway.example", "203.0.113.20"]
    assert "correct-horse" not in repr(tunnel)
    assert "correct-horse" not in str(tunnel.message)


def test_a_disabled_connection_is_no_tunnel(connection: Make) -> None:
    assert tunnels([connection(enabled=False)], in_user_space=False) == {}


def test_without_selectors_everything_is_negotiated(connection: Make) -> None:
    (child,) = only(connection(traffic_selectors=None)).message["children"].values()
    assert child["local_ts"] == child["remote_ts"] == ["0.0.0.0/0", "::/0"]


def test_in_user_space_two_route_based_tunnels_are_told_apart_by_their_routes(connection: Make) -> None:
    pair = [
        connection(name="a", traffic_selectors=None),
        connection(name="b", traffic_selectors=None, routes=(ConnectionRoute("10.3.0.0/24"),)),
    ]
    remote = [
        child["remote_ts"]
        for tunnel in tunnels(pair, in_user_space=True).values()
        for child in tunnel.message["children"].values()
    ]
    assert remote == [["10.2.0.0/24"], ["10.3.0.0/24"]]


def test_only_in_user_space_esp_is_forced_into_udp(connection: Make) -> None:
    assert only(connection(), in_user_space=True).message["encap"] == "yes"
    assert only(connection(), in_user_space=False).message["encap"] == "no"


def test_with_the_kernels_esp_each_tunnel_has_an_interface_of_its_own(connection: Make) -> None:
    pair = tunnels([connection(name="a"), connection(name="b")], in_user_space=False).values()
    numbers = {child["if_id_in"] for tunnel in pair for child in tunnel.message["children"].values()}
    assert len(numbers) == 2


def test_a_diagnosis_has_no_credentials(connection: Make) -> None:
    message = diagnosis_message(only(connection()))
    assert message["local"] == message["remote"] == {"auth": "pubkey", "id": "diagnosis.invalid"}
    assert "children" not in message
