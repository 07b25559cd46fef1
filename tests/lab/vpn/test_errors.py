"""What keeps a tunnel from coming up, in words an administrator can act on."""

import signal
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest
import vpn_rig
from vpn_rig import PATIENCE, SITE, Domain, Rig, connection, swanctl, until

from vpn.status import LastError

PEER = "203.0.113.20"


@dataclass
class Scene:
    rig: Rig
    domain: Domain
    site: vpn_rig.Site

    def begin(self, **at_site: str) -> LastError:
        """Configure the site so, let us try, and return how it failed."""
        wanted = connection(self.domain, PEER)
        self.rig.service.reconcile({})
        self.site.load(swanctl(wanted, **at_site))
        self.domain.connections = (wanted,)
        self.rig.reconcile()
        return self.outcome()

    def outcome(self) -> LastError:
        status = self.rig.service.up("red", "site", PATIENCE)
        assert status.state == "failed"
        assert status.last_error
        assert status.last_error.text in status.text
        return status.last_error

    def when_the_site_tries(self) -> LastError:
        before = self.rig.status(self.domain).last_error
        self.site.control("--initiate --child site --timeout 2", check=False)
        until(lambda: self.rig.status(self.domain).last_error != before, "the site's attempt told nothing")
        error = self.rig.status(self.domain).last_error
        assert error
        return error


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with vpn_rig.rig() as rig:
        domain, site = rig.add_domain("red", "198.51.100.10"), rig.add_site("red", PEER)
        site.start(swanctl(connection(domain, PEER)))
        yield Scene(rig, domain, site)


def test_another_key_is_told_as_such_once_the_site_tries(scene: Scene) -> None:
    refused = scene.begin(remote_id="somebody.else")
    assert replace(scene.begin(secret="another"), at=refused.at) == refused, "IKEv2 does not tell them apart"
    assert refused.text == (
        "the peer rejected our pre-shared key, our identity red.gateway.example, or that it is site.red.example: "
        "IKEv2 answers all three alike, and only the peer's log tells which"
    )
    assert scene.when_the_site_tries().text == (
        "the pre-shared key of the peer site.red.example is not ours: set the same at both ends"
    )
    assert scene.outcome().code == "psk_mismatch"  # what is known for sure is not forgotten for a guess


def test_an_identity_that_the_site_does_not_know_is_named(scene: Scene) -> None:
    scene.begin(remote_id="somebody.else")
    assert scene.when_the_site_tries().text == (
        "the peer calls itself site.red.example and us somebody.else: "
        "policy says site.red.example and red.gateway.example"
    )


def test_a_site_that_calls_itself_otherwise_is_named(scene: Scene) -> None:
    scene.begin(local_id="somebody.else")
    assert "the peer calls itself somebody.else" in scene.when_the_site_tries().text


def test_no_common_ike_proposal_tells_what_the_site_offers(scene: Scene) -> None:
    refused = scene.begin(proposals="aes128-sha384-modp3072")
    assert refused.text == (
        "no common IKE proposal: peer offered AES_CBC_128/HMAC_SHA2_384_192/PRF_HMAC_SHA2_384/MODP_3072, "
        "we want aes256-sha256-ecp256"
    )


def test_another_group_alone_is_no_common_ike_proposal(scene: Scene) -> None:
    assert "MODP_3072, we want aes256-sha256-ecp256" in scene.begin(proposals="aes256-sha256-modp3072").text


def test_a_site_that_has_no_connection_for_us_is_told_from_one_with_other_proposals(scene: Scene) -> None:
    refused = scene.begin(our_address="198.51.100.99")
    assert refused.text == (
        "the peer has no connection configured for our address 198.51.100.10: it refuses every proposal"
    )


def test_no_common_esp_proposal_is_told(scene: Scene) -> None:
    assert scene.begin(esp_proposals="aes256-sha256").text == (
        "no common ESP proposal: the peer does not take ours, aes128gcm16"
    )
    assert "peer offered AES_CBC_256/HMAC_SHA2_256_128" in scene.when_the_site_tries().text


def test_an_ike_sa_without_a_child_is_not_connected(scene: Scene) -> None:
    scene.begin(esp_proposals="aes256-sha256")
    assert "ESTABLISHED" in scene.site.control("--list-sas")
    assert scene.rig.status(scene.domain).state == "failed"


def test_other_traffic_selectors_are_told(scene: Scene) -> None:
    refused = scene.begin(local_ts="10.9.0.0/24")
    assert "does not accept our traffic selectors" in refused.text
    assert SITE[0] in refused.text
    assert scene.when_the_site_tries().text.endswith("10.1.1.0/24 fd00:1::/64 === 10.9.0.0/24")


def test_a_site_that_is_silent_is_waited_for_and_then_named(scene: Scene) -> None:
    scene.rig.service.reconcile({})
    scene.site.send(signal.SIGSTOP)
    try:
        scene.rig.reconcile()
        waiting = scene.rig.service.up("red", "site", 1.0)
        refused = scene.outcome()
    finally:
        scene.site.send(signal.SIGCONT)
    assert (waiting.state, waiting.last_error) == ("connecting", None)
    assert refused.text == "the peer 203.0.113.20 does not answer: is it up, and are UDP 500 and 4500 open to it?"


def test_what_was_mended_connects_and_stays_in_the_log(scene: Scene) -> None:
    scene.begin(secret="another")
    scene.site.load(swanctl(connection(scene.domain, PEER)))
    assert scene.rig.service.up("red", "site", PATIENCE).state == "connected"
    status = scene.rig.status(scene.domain)
    assert status.last_error
    assert status.last_error.code == "authentication_rejected"
    lines = [line.text for line in scene.rig.service.log("red", "site")]
    assert "received AUTHENTICATION_FAILED notify error" in lines
    assert not any(vpn_rig.SECRET in line for line in lines)
