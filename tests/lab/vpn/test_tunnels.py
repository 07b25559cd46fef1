"""Tunnels to sites that plain strongSwan serves."""

from vpn_rig import SERVER, VM, Rig, connection, swanctl

from gateway.policy.model import EspProposal, IkeProposal

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
    before = rig.status(blue).packets_in
    assert red.vm.replies(SERVER[0], count=5) == 5
    assert rig.status(blue).packets_in == before
    assert rig.status(red).packets_in >= 17
