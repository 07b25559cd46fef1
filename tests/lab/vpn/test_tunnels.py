"""Tunnels to sites that plain strongSwan serves."""

from dataclasses import replace

from vpn_rig import PATIENCE, SERVER, VM, Rig, connection, swanctl

from deploy.lab.credentials import Authority
from gateway.policy.model import (
    CertificateAuthentication,
    ConnectionRoute,
    EspProposal,
    IkeProposal,
    TrafficSelectors,
)
from gateway.policy.secret import Secret

PEERS = ("203.0.113.20", "203.0.113.30")


def test_domains_with_equal_prefixes_reach_each_its_own_site(rig: Rig) -> None:
    suites = (
        {"ike": IkeProposal(encryption="aes128gcm16"), "esp": EspProposal(pfs_group="ecp256")},
        {"ike": IkeProposal(dh_group="modp2048"), "esp": EspProposal(encryption="aes256", integrity="sha256")},
    )
    spoken = (
        {"proposals": "aes128gcm16-prfsha256-ecp256", "esp_proposals": "aes128gcm16-ecp256"},
        {"proposals": "aes256-sha256-modp2048", "esp_proposals": "aes256-sha256"},
    )
    for number, name in enumerate(("red", "blue")):
        domain = rig.add_domain(name, f"198.51.100.{10 + number}")
        site = rig.add_site(name, PEERS[number])
        wanted = connection(domain, PEERS[number], **suites[number])
        domain.connections = (wanted,)
        site.start(swanctl(wanted, **spoken[number]))
    rig.reconcile()
    red, blue = rig.domains.values()
    assert rig.connected(red).esp_suite == "AES_GCM_16-128"
    assert rig.connected(blue).esp_suite == "AES_CBC-256/HMAC_SHA2_256_128"
    for domain, site in zip((red, blue), rig.sites, strict=True):
        for server, vm in zip(SERVER, VM, strict=True):
            assert domain.vm.replies(server) == 3
            assert site.namespace.replies(vm, source=server) == 3
    in_user_space = rig.service.backend.in_user_space  # then ESP is always in UDP, and nothing can be offloaded
    assert rig.status(red).udp_encapsulated == in_user_space
    assert rig.status(red).offloadable != in_user_space
    assert not rig.status(blue).offloadable
    before = rig.status(blue).packets_in
    assert red.vm.replies(SERVER[0], count=5) == 5
    assert rig.status(blue).packets_in == before
    assert rig.status(red).packets_in >= 17


def test_a_tunnel_over_ipv6_carries_both_families(rig: Rig) -> None:
    domain, site = rig.add_domain("red", "2001:db8:1::10"), rig.add_site("red", "2001:db8:2::20")
    wanted = connection(domain, "2001:db8:2::20")
    domain.connections = (wanted,)
    site.start(swanctl(wanted))
    rig.reconcile()
    rig.connected(domain)
    for server in SERVER:
        assert domain.vm.replies(server) == 3


def test_certificates_authenticate_and_are_renewed_without_a_gap(rig: Rig) -> None:
    domain, site = rig.add_domain("red", "198.51.100.10"), rig.add_site("red", PEERS[0])
    authority = Authority("ours")
    ours, theirs = authority.issue("red.gateway.example"), authority.issue("site.red.example")
    wanted = connection(
        domain, PEERS[0], authentication=CertificateAuthentication(ours[0], Secret(ours[1]), authority.certificate)
    )
    domain.connections = (wanted,)
    files = {"x509/site.pem": theirs[0], "private/site.pem": theirs[1]}
    site.start(
        swanctl(wanted, authentication="auth = pubkey", certificates="certs = site.pem", secret="unused"),
        {**files, "x509ca/ca.pem": authority.certificate},
    )
    rig.reconcile()
    since = rig.connected(domain).since
    assert domain.vm.replies(SERVER[0]) == 3
    renewed = authority.issue("red.gateway.example")
    domain.connections = (replace(wanted, authentication=CertificateAuthentication(*renewed, authority.certificate)),)
    rig.reconcile()
    assert rig.connected(domain).since == since
    rig.service.down("red", "site")
    assert rig.service.up("red", "site", PATIENCE).state == "connected"


def test_a_certificate_of_another_authority_is_told(rig: Rig) -> None:
    domain, site = rig.add_domain("red", "198.51.100.10"), rig.add_site("red", PEERS[0])
    authority, other = Authority("ours"), Authority("another")
    ours, theirs = authority.issue("red.gateway.example"), other.issue("site.red.example")
    wanted = connection(
        domain, PEERS[0], authentication=CertificateAuthentication(ours[0], Secret(ours[1]), authority.certificate)
    )
    domain.connections = (wanted,)
    site.start(
        swanctl(wanted, authentication="auth = pubkey", certificates="certs = site.pem", secret="unused"),
        {
            "x509/site.pem": theirs[0],
            "private/site.pem": theirs[1],
            "x509ca/ca.pem": authority.certificate,
        },
    )
    rig.reconcile()
    status = rig.service.up("red", "site", PATIENCE)
    assert status.last_error
    assert status.last_error.code == "peer_certificate"
    assert "the certificate of the peer site.red.example is not trusted" in status.text


def test_a_route_based_tunnel_carries_what_its_routes_say(rig: Rig) -> None:
    domain, site = rig.add_domain("red", "198.51.100.10"), rig.add_site("red", PEERS[0])
    wanted = connection(domain, PEERS[0], traffic_selectors=None)
    domain.connections = (wanted,)
    site.start(swanctl(wanted, local_ts="0.0.0.0/0, ::/0", remote_ts="0.0.0.0/0, ::/0"))
    site.namespace.ip("rule add pref 100 iif lo from 203.0.113.20 lookup main")
    if rig.service.backend.in_user_space:  # there strongSwan 5.9 installs no IPv6 route beside an IPv4 peer
        site.namespace.ip("-6 route add fd00:1::/64 dev ipsec0")
    rig.reconcile()
    rig.connected(domain)
    for server in SERVER:
        assert domain.vm.replies(server) == 3


def test_one_domain_reaches_two_route_based_sites(rig: Rig) -> None:
    domain = rig.add_domain("red", "198.51.100.10")
    for number, peer in enumerate(PEERS, start=2):
        site = rig.add_site(f"site{number}", peer, servers=(f"10.{number}.0.10",))
        routes = (ConnectionRoute(f"10.{number}.0.0/24"),)
        wanted = connection(domain, peer, name=f"site{number}", traffic_selectors=None, routes=routes)
        domain.connections = (*domain.connections, wanted)
        site.start(swanctl(wanted, local_ts=f"10.{number}.0.0/24", remote_ts="10.1.1.0/24"))
    rig.reconcile()
    for number in (2, 3):
        rig.connected(domain, f"site{number}")
        assert domain.vm.replies(f"10.{number}.0.10") == 3


def test_a_site_may_have_an_address_of_a_prefix_that_the_cloud_has_too(rig: Rig) -> None:
    domain, site = rig.add_domain("red", "198.51.100.10"), rig.add_site("red", PEERS[0], servers=("10.1.1.5",))
    moved = (ConnectionRoute("10.1.1.5/32"),)
    selectors = TrafficSelectors(("10.1.1.0/24",), ("10.1.1.5/32",))
    wanted = connection(domain, PEERS[0], traffic_selectors=selectors, routes=moved)
    domain.connections = (wanted,)
    site.start(swanctl(wanted, local_ts="10.1.1.5/32", remote_ts="10.1.1.0/24"))
    rig.reconcile()
    rig.connected(domain)
    assert domain.vm.replies("10.1.1.5") == 3


def test_a_server_that_moved_to_the_cloud_keeps_its_address_and_its_subnet_at_the_site(rig: Rig) -> None:
    domain, site = rig.add_domain("red", "198.51.100.10"), rig.add_site("red", PEERS[0], servers=("10.1.1.20",))
    selectors = TrafficSelectors(("10.1.1.11/32",), ("10.1.1.0/24",))
    wanted = connection(domain, PEERS[0], traffic_selectors=selectors, routes=(ConnectionRoute("10.1.1.0/24"),))
    domain.connections = (wanted,)
    site.start(swanctl(wanted, local_ts="10.1.1.0/24", remote_ts="10.1.1.11/32"))
    rig.reconcile()
    rig.connected(domain)
    assert domain.vm.replies("10.1.1.20") == 3
    assert site.namespace.replies("10.1.1.11", source="10.1.1.20") == 3


def test_domains_share_one_address_where_peers_are_told_apart(rig: Rig) -> None:
    for name, peer in zip(("red", "blue"), PEERS, strict=True):
        domain, site = rig.add_domain(name, "198.51.100.10", only_peer=peer), rig.add_site(name, peer)
        wanted = connection(domain, peer)
        domain.connections = (wanted,)
        site.start(swanctl(wanted))
    rig.reconcile()
    for domain, site in zip(rig.domains.values(), rig.sites, strict=True):
        rig.connected(domain)
        assert domain.vm.replies(SERVER[0]) == 3
        site.control("--terminate --ike site")
        site.control("--initiate --child site", check=False)  # unless we were faster
        assert site.namespace.replies(VM[0], source=SERVER[0]) == 3


def test_a_nat_in_the_path_is_crossed_and_told(rig: Rig) -> None:
    domain, site = rig.add_domain("red", "198.51.100.10"), rig.add_site("red", PEERS[0])
    wanted = connection(domain, PEERS[0])
    domain.connections = (wanted,)
    site.start(swanctl(wanted, our_address="192.0.2.7"))
    rig.internet.ip("addr add 192.0.2.7/32 dev lo")
    rig.internet.run("nft add table ip nat")
    rig.internet.run("nft add chain ip nat post { type nat hook postrouting priority srcnat ; }")
    rig.internet.run("nft add rule ip nat post ip saddr 198.51.100.10 snat to 192.0.2.7")
    rig.reconcile()
    rig.connected(domain)
    assert rig.status(domain).udp_encapsulated
    assert not rig.status(domain).offloadable
    assert domain.vm.replies(SERVER[0]) == 3
