"""Certificates that a lab makes when it is built, and policies that name them."""

import json
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from deploy.lab.topology import Lab

LIFETIME = timedelta(days=30)


def make(lab: Lab) -> dict[str, str]:
    """Return certificates and keys in PEM, by the words that policies have for them: OFFICE-authority and so on."""
    made = {}
    for office in lab.offices:
        if office.certified:
            authority = Authority(f"authority of {office.domain}")
            made[f"{office.name}-authority"] = authority.certificate
            for end, name in zip(("office", "gateway"), office.certified, strict=True):
                certificate, key = authority.issue(name)
                made |= {f"{office.name}-{end}-certificate": certificate, f"{office.name}-{end}-key": key}
    return made


def fill_in(policy: str, credentials: dict[str, str]) -> str:
    """Return the text of a policy with `$WORD` replaced; PEM is quoted as JSON, which YAML understands."""
    for word, pem in credentials.items():
        policy = policy.replace(f"${word}", json.dumps(pem))
    return policy


class Authority:
    """Issues P-256 certificates for host names."""

    def __init__(self, name: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named(name)
        self.certificate = self._sign(self._name, self._key, x509.BasicConstraints(ca=True, path_length=0))

    def issue(self, name: str) -> tuple[str, str]:
        """Return a certificate for a host and its private key."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign(_named(name), key, x509.SubjectAlternativeName([x509.DNSName(name)]))
        return certificate, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()

    def _sign(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, extension: x509.ExtensionType) -> str:
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder(
            issuer_name=self._name,
            subject_name=subject,
            public_key=key.public_key(),
            serial_number=x509.random_serial_number(),
            not_valid_before=now - timedelta(hours=1),
            not_valid_after=now + LIFETIME,
        )
        certificate = builder.add_extension(extension, critical=True).sign(self._key, SHA256())
        return certificate.public_bytes(Encoding.PEM).decode()


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
