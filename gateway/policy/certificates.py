"""Whether certificate, key and CA of a connection can be used together (RFC 5280)."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import Certificate

from gateway.policy.connections import CertificateAuthentication
from gateway.policy.faults import Fault

Read = TypeVar("Read")


def certificate_faults(given: CertificateAuthentication, at: str, now: datetime | None = None) -> Iterator[Fault]:
    """Tell what is wrong with certificates, key and CA at this time, by default the present one."""
    now = now or datetime.now(UTC)
    chain = _read(lambda: x509.load_pem_x509_certificates(given.certificate.encode()))
    anchors = _read(lambda: x509.load_pem_x509_certificates(given.ca.encode()))
    if not chain:
        yield Fault(f"{at}/certificate", "is not a certificate in PEM: it begins with -----BEGIN CERTIFICATE-----")
    if not anchors:
        yield Fault(f"{at}/ca", "is not a certificate in PEM: it begins with -----BEGIN CERTIFICATE-----")
    yield from _key_faults(given, at, chain[0] if chain else None)
    for certificate in chain or ():
        yield from _date_faults(certificate, f"{at}/certificate", now)
    for certificate in anchors or ():
        yield from _date_faults(certificate, f"{at}/ca", now)
    if chain and anchors:
        yield from _chain_faults(chain, anchors, at)


def _read(load: Callable[[], Read]) -> Read | None:
    try:
        return load()
    except (ValueError, UnsupportedAlgorithm):
        return None


def _key_faults(given: CertificateAuthentication, at: str, certificate: Certificate | None) -> Iterator[Fault]:
    pointer = f"{at}/private_key"
    if given.private_key.is_placeholder():
        return
    try:
        key = _read(lambda: _load_key(given))
    except TypeError:
        yield Fault(pointer, "is encrypted: give it without a passphrase; the gateway encrypts what it stores")
        return
    if key is None:
        yield Fault(pointer, "is not a private key in PEM: it begins with -----BEGIN PRIVATE KEY-----")
    elif certificate is not None and _read(certificate.public_key) != key.public_key():
        yield Fault(pointer, "does not belong to the certificate: give the key that the certificate was made for")


def _load_key(given: CertificateAuthentication) -> PrivateKeyTypes:
    return load_pem_private_key(given.private_key.get_secret_value().encode(), password=None)


def _date_faults(certificate: Certificate, pointer: str, now: datetime) -> Iterator[Fault]:
    name = _name(certificate.subject)
    if now > certificate.not_valid_after_utc:
        yield Fault(pointer, f"{name} expired at {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC: renew it")
    if now < certificate.not_valid_before_utc:
        begin = f"{certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
        yield Fault(pointer, f"{name} is not valid before {begin}: wait, or set this machine's clock right")


def _chain_faults(chain: list[Certificate], anchors: list[Certificate], at: str) -> Iterator[Fault]:
    """Follow the issuers from the first certificate, through the others given with it, to one of the CA's."""
    current, left = chain[0], [*chain[1:], *anchors]
    while current not in anchors:
        issuer = next((one for one in left if _has_issued(one, current)), None)
        if issuer is None:
            detail = (
                f"there is no certificate of {_name(current.issuer)}, which issued {_name(current.subject)}: "
                "add that of an intermediate CA behind the certificate, and that of the root to ca"
            )
            yield Fault(f"{at}/ca", detail)
            return
        left.remove(issuer)
        current = issuer


def _has_issued(issuer: Certificate, certificate: Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
        return issuer.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm, x509.ExtensionNotFound):
        return False


def _name(name: x509.Name) -> str:
    return name.rfc4514_string() or "a certificate without a subject"
