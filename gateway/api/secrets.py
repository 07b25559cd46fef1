"""What the first start makes in STATE_DIR: the administrator's token, a private CA, and the server's certificate."""

import datetime
import ipaddress
import os
import secrets
import socket
import ssl
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CA_LIFETIME = datetime.timedelta(days=3650)
SERVER_LIFETIME = datetime.timedelta(days=397)
RENEW_BEFORE = datetime.timedelta(days=30)


class CertificateError(Exception):
    """A certificate that the server cannot use; the text says why and how to mend it."""


class CertificateFiles(NamedTuple):
    """Paths of the server's certificate and of its key, both PEM."""

    certificate: Path
    private_key: Path


def admin_token(state_dir: Path) -> str:
    """Return the bearer token in STATE_DIR/admin.token; the first call makes it (mode 0600)."""
    path = state_dir / "admin.token"
    if not path.exists():
        _write(path, secrets.token_urlsafe(32).encode() + b"\n", 0o600)
    return path.read_text().strip()


def server_certificate(state_dir: Path, names: Iterable[str]) -> CertificateFiles:
    """Return STATE_DIR/tls/server.{pem,key}, signed by STATE_DIR/tls/ca.pem.

    Both are made when absent; the server's one anew too when it nears its end or lacks one of `names`
    (host names and addresses under which clients reach this gateway).
    """
    directory = state_dir / "tls"
    directory.mkdir(mode=0o755, exist_ok=True)
    ca_certificate, ca_key = _authority(directory)
    files = CertificateFiles(directory / "server.pem", directory / "server.key")
    wanted = {"localhost", socket.gethostname(), "127.0.0.1", "::1", *names}
    if _fault(files) or not _still_serves(files.certificate, ca_certificate, wanted):
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _server_certificate(key.public_key(), wanted, ca_certificate, ca_key)
        _write(files.private_key, _pem(key), 0o600)
        _write(files.certificate, certificate.public_bytes(serialization.Encoding.PEM), 0o644)
    return files


def given_certificate(files: CertificateFiles) -> CertificateFiles:
    """Return the files that an administrator gave. Errors: CertificateError if no server can use them."""
    if fault := _fault(files):
        raise CertificateError(
            f"api.certificate {files.certificate} with api.private_key {files.private_key}: {fault}: "
            "both are to be PEM, without a passphrase, and to belong together"
        )
    return files


def _fault(files: CertificateFiles) -> str | None:
    """Tell why a server cannot use these files, None if it can."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(*files, password="")
    except OSError as error:  # an ssl.SSLError too
        return error.strerror or str(error)
    return None


def _authority(directory: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    certificate_path, key_path = directory / "ca.pem", directory / "ca.key"
    if certificate_path.exists() and key_path.exists():
        return _read_authority(certificate_path, key_path)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Tenant gateway CA {socket.gethostname()}"[:64])])
    certificate = (
        _builder(name, name, key.public_key(), CA_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    _write(key_path, _pem(key), 0o600)
    _write(certificate_path, certificate.public_bytes(serialization.Encoding.PEM), 0o644)
    return certificate, key


def _read_authority(certificate: Path, key: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    try:
        read = serialization.load_pem_private_key(key.read_bytes(), password=None)
        if not isinstance(read, ec.EllipticCurvePrivateKey):
            raise ValueError("the key is not one of an elliptic curve")
        return x509.load_pem_x509_certificate(certificate.read_bytes()), read
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise CertificateError(
            f"{certificate} and {key}: are not what the gateway made: {error}: "
            "restore both from a backup, or remove both to have a new CA, which clients then need"
        ) from error


def _server_certificate(
    key: ec.EllipticCurvePublicKey, names: set[str], ca: x509.Certificate, ca_key: ec.EllipticCurvePrivateKey
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tenant-gateway")])
    alternatives = [_general_name(name) for name in sorted(names)]
    return (
        _builder(subject, ca.subject, key, SERVER_LIFETIME)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, lifetime: datetime.timedelta
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return x509.CertificateBuilder(
        subject_name=subject,
        issuer_name=issuer,
        public_key=key,
        serial_number=x509.random_serial_number(),
        not_valid_before=now - datetime.timedelta(hours=1),  # a client's clock may be a little behind
        not_valid_after=now + lifetime,
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _still_serves(path: Path, ca: x509.Certificate, names: set[str]) -> bool:
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    held = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return (
        certificate.issuer == ca.subject
        and certificate.not_valid_after_utc - RENEW_BEFORE > datetime.datetime.now(datetime.UTC)
        and {_general_name(name) for name in names} <= set(held)
    )


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(path: Path, content: bytes, mode: int) -> None:
    """Let the file appear whole or not at all, and never with a wider mode than `mode`."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, mode)
        file.write(content)
        file.flush()
        os.fsync(descriptor)
    Path(temporary).replace(path)
