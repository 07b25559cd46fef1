"""What is made of the daemon's SAs, events and log."""

import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from gateway.policy.model import CertificateAuthentication, IpsecConnection
from gateway.policy.secret import Secret
from vpn.associations import ChildSa, IkeSa, associations
from vpn.histories import Histories
from vpn.kernel import Backend
from vpn.specification import tunnels
from vpn.status import ConnectionStatus

Make = Callable[..., IpsecConnection]
KERNEL, USER_SPACE = Backend(False, "kernel"), Backend(True, "no ESP here")
CHILD = ChildSa(1, True, "AES_GCM_16-128", True, False, 100, 200, 1, 2)


class Scene:
    """One connection, followed."""

    def __init__(self, connection: IpsecConnection) -> None:
        self.histories = Histories()
        self.connection = connection
        self.follow(connection)

    def follow(self, connection: IpsecConnection) -> None:
        translated = tunnels([connection], in_user_space=False)
        self.histories.follow([connection], translated)
        self.key = translated[connection.name].key if translated else ""

    def says(self, line: str, name: str | None = None, number: str = "1") -> None:
        message = {"group": b"IKE", "ikesa-uniqueid": number.encode(), "msg": line.encode()}
        self.histories.heard(message | {"ikesa-name": (self.key if name is None else name).encode()})

    def has(self, *children: ChildSa, established_s: int | None = 0) -> None:
        self.histories.observed([IkeSa(self.key, 1, established_s, "IKE", children)])

    def status(self, backend: Backend = KERNEL) -> ConnectionStatus:
        (status,) = self.histories.statuses({}, backend)
        return status


@pytest.fixture
def scene(connection: Make) -> Scene:
    return Scene(connection())


def test_a_new_connection_is_connecting(scene: Scene) -> None:
    assert scene.status().state == "connecting"


def test_an_ike_sa_without_an_installed_child_is_not_connected(scene: Scene) -> None:
    scene.has(established_s=5)
    assert scene.status().state == "connecting"
    scene.has(replace(CHILD, installed=False), established_s=5)
    assert scene.status().state == "connecting"
    scene.has(CHILD)
    assert scene.status().state == "connected"


def test_an_adopted_tunnel_is_as_old_as_its_sa(connection: Make) -> None:
    scene = Scene(connection())
    scene.has(CHILD, established_s=3600)
    assert time.time() - scene.status().since == pytest.approx(3600, abs=5)


def test_a_failure_is_told_until_it_connects_and_then_remembered(scene: Scene) -> None:
    scene.says("giving up after 3 retransmits")
    failed = scene.status()
    assert failed.state == "failed"
    assert "does not answer" in failed.text
    scene.has(CHILD)
    connected = scene.status()
    assert connected.text.startswith("connected since ")
    assert connected.last_error == failed.last_error


def test_counters_go_on_over_rekeyings(scene: Scene) -> None:
    scene.has(CHILD)
    scene.has(CHILD, replace(CHILD, number=2, bytes_in=10, packets_in=1, bytes_out=0, packets_out=0))
    scene.has(replace(CHILD, number=2, bytes_in=30, packets_in=3, bytes_out=0, packets_out=0))
    status = scene.status()
    assert (status.bytes_in, status.packets_in, status.bytes_out, status.packets_out) == (130, 4, 200, 2)


def test_the_suite_is_that_of_the_newest_child(scene: Scene) -> None:
    scene.has(
        replace(CHILD, number=8), replace(CHILD, number=9, suite="new"), replace(CHILD, number=10, installed=False)
    )
    assert scene.status().esp_suite == "new"


def test_held_down_it_is_not_initiated_and_up_again_it_is(scene: Scene) -> None:
    name = scene.connection.name
    scene.histories.hold(name, True)
    assert scene.status().state == "down"
    assert scene.histories.due() == []
    scene.histories.hold(name, False)
    assert [tunnel.key for tunnel in scene.histories.due()] == [scene.key]


def test_ten_thousand_initiations_in_a_row_are_one(scene: Scene) -> None:
    scene.histories.hold(scene.connection.name, False)
    assert len(scene.histories.due()) == 1
    scene.has(established_s=None)
    for _ in range(10_000):
        scene.histories.hold(scene.connection.name, False)
        assert scene.histories.due() == []


def test_pauses_between_attempts_grow(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("vpn.histories.time.monotonic", lambda: now)
    attempts = []
    for _ in range(120):
        if scene.histories.due():
            attempts.append(now)
        now += 1.0
    pauses = [later - earlier for earlier, later in zip(attempts, attempts[1:], strict=False)]
    assert pauses == [2, 4, 8, 16, 30, 30]


def test_a_disabled_connection_is_neither_connecting_nor_due(connection: Make) -> None:
    scene = Scene(connection(enabled=False))
    assert scene.status().text == "disabled in policy"
    assert scene.histories.due() == []
    assert scene.histories.settled()


def test_what_a_peer_begins_is_known_by_its_address(scene: Scene) -> None:
    scene.says("203.0.113.20 is initiating an IKE_SA", name="", number="7")
    scene.says("received proposals: IKE:AES_CBC_128/MODP_1024", name="", number="7")
    scene.says("received proposals unacceptable", name="", number="7")
    error = scene.status().last_error
    assert error
    assert error.text == "no common IKE proposal: peer offered AES_CBC_128/MODP_1024, we want aes256-sha256-ecp256"


def test_what_a_stranger_begins_is_nobodys(scene: Scene) -> None:
    scene.says("203.0.113.99 is initiating an IKE_SA", name="", number="7")
    scene.says("received proposals unacceptable", name="", number="7")
    assert scene.status().last_error is None
    assert scene.histories.log(scene.connection.name) == []


def test_an_answer_that_may_be_diagnosed_waits_for_it(scene: Scene) -> None:
    scene.says("received NO_PROPOSAL_CHOSEN notify error")
    assert scene.status().last_error is None
    (tunnel,) = scene.histories.undiagnosed()
    scene.histories.diagnosed(tunnel, ["selected proposal: IKE:AES_CBC_128/MODP_2048"])
    assert "peer offered AES_CBC_128/MODP_2048" in scene.status().text
    assert scene.histories.undiagnosed() == []


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["received NO_PROPOSAL_CHOSEN notify error"], "no connection configured for our address 198.51.100.10"),
        ([], "the peer does not take ours, aes256-sha256-ecp256"),
    ],
)
def test_a_diagnosis_tells_a_peer_that_does_not_know_us(scene: Scene, lines: list[str], words: str) -> None:
    scene.says("received NO_PROPOSAL_CHOSEN notify error")
    (tunnel,) = scene.histories.undiagnosed()
    scene.histories.diagnosed(tunnel, lines)
    assert words in scene.status().text


def test_a_refused_certificate_is_told_as_such(connection: Make) -> None:
    certificate = CertificateAuthentication("a certificate", Secret("a key"), "an authority")
    scene = Scene(connection(authentication=certificate, local_id=None))
    scene.says("received AUTHENTICATION_FAILED notify error")
    error = scene.status().last_error
    assert error
    assert error.code == "certificate_rejected"
    assert "rejected our certificate, whose issuer it must trust, our identity in it, or that it is" in error.text


def test_another_definition_begins_anew_and_keeps_the_log(scene: Scene, connection: Make) -> None:
    scene.says("giving up after 3 retransmits")
    scene.follow(connection(local_id="another"))
    assert scene.status().state == "connecting"
    assert len(scene.histories.log(scene.connection.name)) == 1


def test_what_strongswan_refuses_to_load_is_told(scene: Scene) -> None:
    scene.histories.refused({scene.key: "unsupported DH group"})
    assert scene.status().text.endswith("strongSwan refused the connection: unsupported DH group")


@pytest.mark.parametrize(
    ("child", "backend", "why_not"),
    [
        (CHILD, KERNEL, None),
        (replace(CHILD, udp_encapsulated=True), KERNEL, "a NAT is in the path: ESP in UDP cannot be offloaded"),
        (CHILD, USER_SPACE, "no ESP here"),
        (
            replace(CHILD, aes_gcm_128=False, suite="AES_CBC-256"),
            KERNEL,
            "AES_CBC-256 was negotiated: only AES-GCM with 128 bits can be offloaded",
        ),
    ],
)
def test_it_is_told_whether_a_tunnel_can_be_offloaded(
    scene: Scene, child: ChildSa, backend: Backend, why_not: str | None
) -> None:
    scene.has(child)
    status = scene.status(backend)
    assert (status.offloadable, status.why_not) == (why_not is None, why_not)


def test_strongswans_listing_is_read() -> None:
    child = {
        "uniqueid": b"4",
        "state": b"INSTALLED",
        "encr-alg": b"AES_GCM_16",
        "encr-keysize": b"128",
        "dh-group": b"ECP_256",
        "encap": b"yes",
        "bytes-in": b"84",
        "packets-in": b"1",
    }
    ike = {
        "uniqueid": b"3",
        "state": b"ESTABLISHED",
        "established": b"12",
        "encr-alg": b"AES_CBC",
        "encr-keysize": b"256",
    }
    (sa,) = associations([{"site-1": {**ike, "child-sas": {"site-1-4": child}}}])
    assert (sa.name, sa.number, sa.established_s, sa.suite) == ("site-1", 3, 12, "AES_CBC-256")
    assert sa.installed() == ChildSa(4, True, "AES_GCM_16-128/ECP_256", True, True, 84, 0, 1, 0)
