"""Ways out of a routing domain: through an external port, or through an IPsec tunnel to another site."""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, Strict, Tag, model_serializer
from pydantic.dataclasses import dataclass

from gateway.policy import addresses
from gateway.policy.fields import (
    CONFIG,
    Address,
    InterfaceAddress,
    Metric,
    Name,
    NextHop,
    OneOf,
    Prefix,
    Vlan,
    Within,
)
from gateway.policy.secret import SecretText

Plain = dict[str, Any]
_WEAK_INTEGRITY = (("md5", "MD5 is too weak"), ("sha1", "SHA-1 is too weak"))
_WEAK_GROUPS = tuple((group, f"{group} is too weak") for group in ("modp768", "modp1024", "modp1536"))
_WEAK_ENCRYPTION = (("des", "DES is too weak"), ("3des", "3DES is too weak"), ("null", "null does not encrypt"))


def _peer_address(text: str) -> str:
    try:
        return addresses.address(text)
    except ValueError as error:
        raise ValueError(f"{error}: the other end is given by its address, not by a name") from None


PeerAddress = Annotated[str, AfterValidator(_peer_address)]
Switch = Annotated[bool, Strict()]
Word = Annotated[str, Field(max_length=64)]
Pem = Annotated[str, Field(max_length=1 << 16)]
Encryption = Annotated[Word, OneOf(("aes128", "aes192", "aes256", "aes128gcm16", "aes256gcm16"), _WEAK_ENCRYPTION)]
Integrity = Annotated[Word, OneOf(("sha256", "sha384", "sha512"), _WEAK_INTEGRITY)]
Group = Annotated[
    Word, OneOf(("modp2048", "modp3072", "modp4096", "ecp256", "ecp384", "ecp521", "curve25519"), _WEAK_GROUPS)
]
Seconds = Annotated[int, Strict(), Within(1, 2**31 - 1)]
Kilobytes = Annotated[int, Strict(), Within(1, 2**40)]
Rate = Annotated[int, Strict(), Within(8, 10**9)]


@dataclass(frozen=True, slots=True, config=CONFIG)
class ConnectionRoute:
    """A route through a network connection: to a router on its network, or on-link without a next hop."""

    prefix: Prefix
    next_hop: NextHop = None
    metric: Metric = 0


@dataclass(frozen=True, slots=True, config=CONFIG)
class NetworkConnection:
    """A way out of a routing domain through an external port; VLAN 0 means the port's own."""

    name: Name
    port: Name
    local_addresses: tuple[InterfaceAddress, ...]
    type: Literal["l3"] = "l3"
    vlan: Vlan = 0
    routes: tuple[ConnectionRoute, ...] = ()


@dataclass(frozen=True, slots=True, config=CONFIG)
class PskAuthentication:
    """A pre-shared key, the same at both ends (RFC 7296, 2.15)."""

    secret: SecretText
    method: Literal["psk"] = "psk"

    @model_serializer(mode="wrap")
    def _with_method(self, written: Callable[[Any], Plain]) -> Plain:
        return {"method": self.method, **written(self)}


@dataclass(frozen=True, slots=True, config=CONFIG)
class CertificateAuthentication:
    """In PEM: the gateway's certificate, which others of its chain may follow, its key, and the CA of both ends."""

    certificate: Pem
    private_key: SecretText
    ca: Pem
    method: Literal["certificate"] = "certificate"

    @model_serializer(mode="wrap")
    def _with_method(self, written: Callable[[Any], Plain]) -> Plain:
        return {"method": self.method, **written(self)}


@dataclass(frozen=True, slots=True, config=CONFIG)
class TrafficSelectors:
    """What the tunnel is negotiated for (RFC 7296, 2.9)."""

    local: tuple[Prefix, ...]
    remote: tuple[Prefix, ...]


@dataclass(frozen=True, slots=True, config=CONFIG)
class IkeProposal:
    """The suite of the IKE SA; with an AES-GCM suite `integrity` is the hash of its pseudo-random function."""

    encryption: Encryption = "aes256"
    integrity: Integrity = "sha256"
    dh_group: Group = "ecp256"
    lifetime_s: Seconds = 14400


@dataclass(frozen=True, slots=True, config=CONFIG)
class EspProposal:
    """The suite of the tunnel itself; an AES-GCM suite has no integrity of its own. Without a group there is no PFS."""

    encryption: Encryption = "aes128gcm16"
    integrity: Integrity | None = None
    pfs_group: Group | None = None
    lifetime_s: Seconds = 3600
    lifetime_kb: Kilobytes | None = None


def _tag(field: str, absent: str) -> Discriminator:
    """Tell objects of several types apart by a field; anything but an object has no tag."""

    def tag(value: Any) -> str | None:
        found = value.get(field, absent) if isinstance(value, dict) else getattr(value, field, None)
        return found if found is None or isinstance(found, str) else repr(found)

    return Discriminator(tag)


Authentication = Annotated[
    Annotated[PskAuthentication, Tag("psk")] | Annotated[CertificateAuthentication, Tag("certificate")],
    _tag("method", absent=""),
]


@dataclass(frozen=True, slots=True, config=CONFIG)
class IpsecConnection:
    """An IKEv2 tunnel to another site.

    Without `local_address` the gateway's end is the first address, of the other end's IP family, of its external port
    that has addresses. Without `traffic_selectors` the tunnel is negotiated for all traffic, and `routes` tell what
    takes it.
    Rates are in kbit/s of inner packets.
    """

    name: Name
    remote_address: PeerAddress
    authentication: Authentication
    type: Literal["ipsec"] = "ipsec"
    enabled: Switch = True
    local_address: Address | None = None
    local_id: Name | None = None
    remote_id: Name | None = None
    traffic_selectors: TrafficSelectors | None = None
    routes: tuple[ConnectionRoute, ...] = ()
    ike: IkeProposal = IkeProposal()
    esp: EspProposal = EspProposal()
    outbound_kbps: Rate | None = None
    inbound_kbps: Rate | None = None

    def reached(self) -> tuple[ConnectionRoute, ...]:
        """Return what is behind the other end: the routes, or where there are none the remote traffic selectors."""
        if self.routes or self.traffic_selectors is None:
            return self.routes
        return tuple(ConnectionRoute(prefix) for prefix in self.traffic_selectors.remote)

    @model_serializer(mode="wrap")
    def _with_type(self, written: Callable[[Any], Plain]) -> Plain:
        plain = written(self)
        return {"name": plain.pop("name"), "type": self.type, **plain}


Connection = Annotated[
    Annotated[NetworkConnection, Tag("l3")] | Annotated[IpsecConnection, Tag("ipsec")], _tag("type", absent="l3")
]
