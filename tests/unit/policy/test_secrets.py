"""Secrets: never shown, encrypted at rest, kept where `***` comes back; and certificates that can be used."""

import json
import sqlite3
import stat
import zlib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from samples import TUNNEL

from gateway.configuration import Port
from gateway.policy.claims import Claims
from gateway.policy.difference import difference
from gateway.policy.document import parse_json, to_json, to_yaml
from gateway.policy.faults import PolicyFaults
from gateway.policy.held_secrets import with_held_secrets
from gateway.policy.model import CertificateAuthentication, Policy, PskAuthentication, RoutingDomain, Secret
from gateway.policy.sealing import Seal
from gateway.policy.snapshot import Changes, Owned
from gateway.policy.store import Store
from gateway.policy.store_errors import StoreError
from gateway.policy.validation import domain_faults, port_faults

Plain = dict[str, Any]
Found = Callable[[], dict[str, str]]

PSK = TUNNEL["authentication"]["secret"]
AT = "/routing_domains/0/network_connections/1/authentication"


@pytest.fixture
def policy(joined: Plain, document: Plain) -> Policy:
    return parse_json(json.dumps(document).encode())


@pytest.fixture
def domain(policy: Policy) -> RoutingDomain:
    return policy.routing_domains[0]


def changes(domain: RoutingDomain) -> Changes:
    return Changes({domain.id: Owned("policy", domain)})


def test_a_secret_is_in_nothing_that_is_written_or_printed(policy: Policy) -> None:
    added = difference(Policy(), policy)
    for text in (to_json(policy).decode(), to_yaml(policy), repr(policy), str(policy), f"{added}"):
        assert PSK not in text
        assert "***" in text
    assert policy.routing_domains[0].ipsec_connections()[0].authentication.secret.get_secret_value() == PSK


@pytest.mark.parametrize(
    "authentication",
    [
        PSK,
        [PSK],
        {"secret": PSK},
        {"method": PSK},
        {"method": "psk", "secret": [PSK]},
        {"method": "psk", "secret": {"x": PSK}},
        {"method": "psk", "secrets": PSK},
        {"method": "certificate", "private_key": PSK},
        {"method": "certificate", "certificate": 1, "private_key": PSK, "ca": PSK},
    ],
)
def test_no_refusal_shows_a_secret(joined: Plain, found: Found, authentication: Any) -> None:
    joined["network_connections"][1]["authentication"] = authentication
    faults = found()
    assert faults
    assert PSK not in str(faults)


def test_a_changed_secret_is_told_without_showing_it(joined: Plain, document: Plain, policy: Policy) -> None:
    joined["network_connections"][1]["authentication"]["secret"] = "another-secret"
    (change,) = difference(policy, parse_json(json.dumps(document).encode()))
    assert change.path == "routing domain blue, network connection headquarters, authentication, secret"
    assert (change.old, change.new) == ("***", "*** given anew")


def test_a_connection_of_another_type_is_another_one(document: Plain, policy: Policy) -> None:
    blue = document["routing_domains"][0]
    blue["network_connections"][1] = {"name": "headquarters", "port": "corpnet20", "local_addresses": ["10.9.0.1/24"]}
    changed = difference(policy, parse_json(json.dumps(document).encode()))
    assert [(change.kind, change.path) for change in changed] == [
        ("removed", "routing domain blue, network connection headquarters"),
        ("added", "routing domain blue, network connection headquarters"),
    ]
    assert changed[0].old["type"] == "ipsec"


def test_the_store_holds_no_secret_in_clear(domain: RoutingDomain, tmp_path: Path) -> None:
    store = Store(tmp_path / "policy.sqlite")
    store.commit(changes(domain), "policy", idempotency_key="k", request_digest=b"d" * 32)
    with sqlite3.connect(tmp_path / "policy.sqlite") as database:
        rows = [row for table in ("domains", "revisions") for row in database.execute(f"SELECT * FROM {table}")]
        documents = [zlib.decompress(held) for (held,) in database.execute("SELECT document FROM domains")]
    assert b"headquarters" in documents[0]
    assert PSK.encode() not in b"".join(documents)
    assert "d" * 32 not in str(rows)
    assert store.load().domains[domain.id].domain == domain
    acknowledged = store.idempotent("policy", "k")
    assert acknowledged is not None
    assert acknowledged.request_digest == b"d" * 32


def test_every_kept_revision_has_its_own_secret(domain: RoutingDomain, tmp_path: Path) -> None:
    store = Store(tmp_path / "policy.sqlite")
    tunnel = domain.ipsec_connections()[0]
    later = replace(tunnel, authentication=PskAuthentication(Secret("another-secret")))
    store.commit(changes(domain), "policy")
    store.commit(changes(replace(domain, network_connections=(*domain.l3_connections(), later))), "policy")
    store.close()
    again = Store(tmp_path / "policy.sqlite")
    held = [again.load(revision).domains[domain.id].domain.ipsec_connections()[0] for revision in (1, 2)]
    assert held == [tunnel, later]


def test_the_key_is_private_and_made_once(tmp_path: Path) -> None:
    sealed = Seal(tmp_path / "secrets.key").seal(PSK)
    assert stat.S_IMODE((tmp_path / "secrets.key").stat().st_mode) == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["secrets.key"]
    assert Seal(tmp_path / "secrets.key").unseal(sealed) == PSK


def test_a_lost_key_is_named(domain: RoutingDomain, tmp_path: Path) -> None:
    store = Store(tmp_path / "policy.sqlite")
    store.commit(changes(domain), "policy")
    store.close()
    (tmp_path / "secrets.key").unlink()
    with pytest.raises(StoreError, match=r"secrets.key: is not the key .* restore it from a backup"):
        Store(tmp_path / "policy.sqlite").load()
    (tmp_path / "secrets.key").write_text("x")
    with pytest.raises(StoreError, match=r"secrets.key: is not a key"):
        Store(tmp_path / "policy.sqlite")


def test_a_store_of_the_former_format_is_read_and_its_digests_are_encrypted(tmp_path: Path) -> None:
    path = tmp_path / "policy.sqlite"
    store = Store(path)
    store.commit(changes(RoutingDomain(id="00000000-0000-0000-0000-000000000001", name="a")), "a", idempotency_key="k")
    store.close()
    with sqlite3.connect(path) as database:
        database.execute("UPDATE revisions SET request_digest = ?", (b"d" * 32,))
        database.execute("PRAGMA user_version = 1")
    again = Store(path)
    assert again.load().revision == 1
    acknowledged = again.idempotent("a", "k")
    assert acknowledged is not None
    assert acknowledged.request_digest == b"d" * 32
    with sqlite3.connect(path) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (2,)
        assert database.execute("SELECT request_digest FROM revisions").fetchone() != (b"d" * 32,)


def test_what_was_shown_can_be_pushed_back(policy: Policy) -> None:
    shown = parse_json(to_json(policy))
    assert shown != policy
    assert with_held_secrets(shown.routing_domains[0], policy.routing_domains[0]) == policy.routing_domains[0]


def test_a_placeholder_of_another_connection_or_method_stands_for_nothing(policy: Policy) -> None:
    shown = parse_json(to_json(policy)).routing_domains[0]
    (tunnel,) = shown.ipsec_connections()
    renamed = replace(shown, network_connections=(replace(tunnel, name="other"),))
    certificate = CertificateAuthentication(certificate="a", private_key=Secret("***"), ca="b")
    other_method = replace(shown, network_connections=(replace(tunnel, authentication=certificate),))
    for domain in (renamed, other_method):
        assert with_held_secrets(domain, policy.routing_domains[0]) == domain
    assert with_held_secrets(shown, None) == shown


Key = ec.EllipticCurvePrivateKey
NOW = datetime.now(UTC)


@cache
def key(name: str) -> Key:
    return ec.generate_private_key(ec.SECP256R1())


def pem_of_key(name: str) -> str:
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)
    return key(name).private_bytes(*form, serialization.NoEncryption()).decode()


@cache
def certificate(name: str, issuer: str = "root", begins: int = -1, ends: int = 1, is_ca: bool = False) -> str:
    """Make a certificate, in PEM, that is valid between these days from now; a CA's key has its name."""
    subject, of_issuer = (x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, one)]) for one in (name, issuer))
    built = (
        x509.CertificateBuilder(of_issuer, subject, key(name).public_key(), x509.random_serial_number())
        .not_valid_before(NOW + timedelta(days=begins))
        .not_valid_after(NOW + timedelta(days=ends))
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        .sign(key(issuer), hashes.SHA256())
    )
    return built.public_bytes(serialization.Encoding.PEM).decode()


ROOT = certificate("root", is_ca=True)
OTHER_ROOT = certificate("other", "other", is_ca=True)
MIDDLE = certificate("middle", is_ca=True)
NOT_A_CA = certificate("machine")
ENCRYPTED_KEY = (
    key("gateway")
    .private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"passphrase"),
    )
    .decode()
)
GOOD = {
    "method": "certificate",
    "certificate": certificate("gateway"),
    "private_key": pem_of_key("gateway"),
    "ca": ROOT,
}
UNUSABLE = [
    ({"certificate": "no certificate"}, "certificate", "not a certificate in PEM"),
    ({"certificate": certificate("gateway", ends=0, begins=-2)}, "certificate", "CN=gateway expired at"),
    ({"certificate": certificate("gateway", begins=1, ends=2)}, "certificate", "CN=gateway is not valid before"),
    ({"private_key": "no key"}, "private_key", "not a private key in PEM"),
    ({"private_key": ENCRYPTED_KEY}, "private_key", "is encrypted"),
    ({"private_key": pem_of_key("another")}, "private_key", "does not belong to the certificate"),
    ({"private_key": "***"}, "private_key", "nothing is held"),
    ({"ca": ""}, "ca", "not a certificate in PEM"),
    ({"ca": OTHER_ROOT}, "ca", "no certificate of CN=root, which issued CN=gateway"),
    ({"ca": certificate("root", ends=0, begins=-2, is_ca=True)}, "ca", "CN=root expired at"),
    ({"certificate": certificate("gateway", "middle")}, "ca", "no certificate of CN=middle"),
    ({"certificate": certificate("gateway", "machine") + NOT_A_CA}, "ca", "no certificate of CN=machine"),
]


@pytest.mark.parametrize(("given", "field", "words"), UNUSABLE, ids=[fault[2] for fault in UNUSABLE])
def test_an_unusable_certificate_is_named_with_its_reason(
    joined: Plain, found: Found, given: Plain, field: str, words: str
) -> None:
    joined["network_connections"][1]["authentication"] = GOOD | given
    faults = found()
    assert list(faults) == [f"{AT}/{field}"]
    assert words in faults[f"{AT}/{field}"]


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"certificate": certificate("gateway", "middle") + MIDDLE},
        {"certificate": certificate("gateway", "middle"), "ca": MIDDLE},
        {"certificate": certificate("gateway", "middle"), "ca": ROOT + MIDDLE},
        {"ca": OTHER_ROOT + ROOT},
    ],
)
def test_a_certificate_that_leads_to_its_ca_is_accepted(joined: Plain, found: Found, given: Plain) -> None:
    joined["network_connections"][1]["authentication"] = GOOD | given
    assert found() == {}


def test_a_certificate_that_expired_meanwhile_keeps_nothing_from_being_changed(
    joined: Plain, document: Plain, ports: dict[str, Port]
) -> None:
    expired = certificate("gateway", ends=0, begins=-2)
    joined["network_connections"][1]["authentication"] = GOOD | {"certificate": expired}
    held = parse_json(json.dumps(document).encode()).routing_domains[0]
    changed = replace(held, tenant="another")
    assert domain_faults(changed, ports, Claims(ports), held) == []
    assert len(domain_faults(changed, ports, Claims(ports))) == 1
    assert list(port_faults(held, ports)) == []


def test_no_key_is_in_a_refusal(joined: Plain, document: Plain) -> None:
    joined["network_connections"][1]["authentication"] = GOOD | {"private_key": pem_of_key("another")}
    with pytest.raises(PolicyFaults) as raised:
        parse_json(
            json.dumps(document).encode(), lambda policy: domain_faults(policy.routing_domains[0], {}, Claims({}))
        )
    assert pem_of_key("another").splitlines()[1] not in str(raised.value)
