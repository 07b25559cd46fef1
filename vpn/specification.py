"""Policy's connections as strongSwan takes them over VICI: pure functions.

A connection's name in the daemon carries a digest of all that its SAs were negotiated under. So a running daemon
itself says which connections are as policy wants them, and a changed one is a new one beside the old.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from ipaddress import ip_address
from typing import Any

from gateway.policy.model import CertificateAuthentication, IpsecConnection, PskAuthentication
from vpn.suites import esp_proposal, ike_proposal

# Below these a tunnel would be busy with rekeying; orchestrators ask for as little as 2 MB.
IKE_LIFETIME_FLOOR_S, ESP_LIFETIME_FLOOR_S, ESP_LIFETIME_FLOOR_KB = 600, 300, 1_000_000
_REKEY_AT = 0.9  # of the lifetime; the rest is what a rekeying may take
_DPD_SECONDS = 3
_GROUPS = "ecp256-ecp384-ecp521-curve25519-modp2048-modp3072-modp4096-modp1536-modp1024"
_EVERYTHING = (
    f"aes256-aes192-aes128-3des-sha256-sha384-sha512-sha1-{_GROUPS}",
    f"aes256gcm16-aes128gcm16-prfsha256-prfsha384-prfsha512-{_GROUPS}",
)
ANY = ("0.0.0.0/0", "::/0")


@dataclass(frozen=True, slots=True)
class EndpointSpecification:
    """A routing domain's compartment and the connections that end in it.

    `namespace` is the path of its network namespace, `inside` and `outside` its two interfaces there; other `legs`,
    the indexes of their ends on the gateway's side, mean that they were made anew. Each connection names its
    `local_address`. `path_mtu` is that of the outside, in bytes.
    """

    routing_domain: str
    namespace: str
    inside: str
    outside: str
    connections: tuple[IpsecConnection, ...]
    path_mtu: int = 1500
    legs: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Tunnel:
    """One connection, translated. `key` is its name in the daemon, of IKE_SA, CHILD_SA and secrets alike."""

    key: str
    connection: IpsecConnection
    local_selectors: tuple[str, ...]
    remote_selectors: tuple[str, ...]
    message: dict[str, Any]  # of load-conn
    floored: tuple[str, ...]

    @property
    def outer_version(self) -> int:
        """4 or 6: the outer packets' IP version."""
        return ip_address(self.connection.remote_address).version


def tunnels(connections: Iterable[IpsecConnection], in_user_space: bool) -> dict[str, Tunnel]:
    """Translate the enabled connections of one domain, by their names."""
    enabled = [connection for connection in connections if connection.enabled]
    any_to_any = sum(connection.traffic_selectors is None for connection in enabled)
    # libipsec has one TUN device for all and tells tunnels apart by their selectors alone
    by_routes = in_user_space and any_to_any > 1
    return {connection.name: _tunnel(connection, by_routes, in_user_space) for connection in enabled}


def interface_number(key: str) -> int:
    """Return the XFRM interface identifier of a tunnel: from its name, so that a later gateway finds it again."""
    return int.from_bytes(sha256(key.encode()).digest()[:4]) | 1


def identities(connection: IpsecConnection) -> tuple[str | None, str]:
    """Return our identity, None for the certificate's subject, and the peer's."""
    ours = connection.local_id
    if ours is None and isinstance(connection.authentication, PskAuthentication):
        ours = connection.local_address
    return ours, connection.remote_id or connection.remote_address


def secret_message(tunnel: Tunnel) -> dict[str, Any] | None:
    """Return load-shared's message, None where certificates are used. It holds the secret: never log it."""
    authentication = tunnel.connection.authentication
    if not isinstance(authentication, PskAuthentication):
        return None
    ours, theirs = identities(tunnel.connection)
    return {
        "id": tunnel.key,
        "type": "IKE",
        "data": authentication.secret.get_secret_value().encode(),
        "owners": [ours, theirs],
    }


def diagnosis_message(tunnel: Tunnel) -> dict[str, Any]:
    """Return load-conn's message of an attempt that offers everything, to learn what the peer would take.

    It ends before IKE_AUTH, since there is no key for it: nothing is ever authenticated under an algorithm that policy
    does not allow.
    """
    nobody = {"auth": "pubkey", "id": "diagnosis.invalid"}
    addresses = {field: tunnel.message[field] for field in ("version", "local_addrs", "remote_addrs")}
    return {**addresses, "proposals": list(_EVERYTHING), "keyingtries": "1", "local": nobody, "remote": nobody}


def _tunnel(connection: IpsecConnection, by_routes: bool, in_user_space: bool) -> Tunnel:
    local, remote = _selectors(connection, by_routes)
    ike_lifetime, esp_lifetime, esp_kilobytes, floored = _lifetimes(connection)
    child = {
        "mode": "tunnel",
        "local_ts": list(local),
        "remote_ts": list(remote),
        "esp_proposals": [esp_proposal(connection.esp)],
        "start_action": "none",
        "dpd_action": "restart",
        "close_action": "start",
    }
    message: dict[str, Any] = {
        "version": "2",
        "local_addrs": [connection.local_address],
        "remote_addrs": [connection.remote_address],
        "proposals": [ike_proposal(connection.ike)],
        "encap": "yes" if in_user_space else "no",
        "mobike": "no",  # both ends have one address: RFC 4555 would only move a tunnel off it
        "keyingtries": "0",
        "unique": "replace",
        "dpd_delay": f"{_DPD_SECONDS}s",
    }
    key = _key(connection, (message, child))
    if not in_user_space:
        child |= dict.fromkeys(("if_id_in", "if_id_out"), str(interface_number(key)))
    child |= {"rekey_time": f"{int(esp_lifetime * _REKEY_AT)}s", "life_time": f"{esp_lifetime}s"}
    if esp_kilobytes:
        child |= {"rekey_bytes": str(int(esp_kilobytes * 1000 * _REKEY_AT)), "life_bytes": str(esp_kilobytes * 1000)}
    rekey_ike = int(ike_lifetime * _REKEY_AT)
    message |= {"rekey_time": f"{rekey_ike}s", "over_time": f"{ike_lifetime - rekey_ike}s", "children": {key: child}}
    message |= _authentication(connection)
    return Tunnel(key, connection, local, remote, message, floored)


def _selectors(connection: IpsecConnection, by_routes: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if connection.traffic_selectors is not None:
        return connection.traffic_selectors.local, connection.traffic_selectors.remote
    return ANY, tuple(route.prefix for route in connection.routes) if by_routes else ANY


def _lifetimes(connection: IpsecConnection) -> tuple[int, int, int | None, tuple[str, ...]]:
    """Return IKE's and ESP's in seconds, ESP's in kilobytes, and what of them is not as policy has it."""
    floored: list[str] = []

    def at_least(floor: int, wanted: int, field: str) -> int:
        if wanted < floor:
            floored.append(f"{field} is {floor}, not {wanted}: more frequent rekeying gains nothing")
        return max(wanted, floor)

    ike = at_least(IKE_LIFETIME_FLOOR_S, connection.ike.lifetime_s, "ike lifetime_s")
    esp = at_least(ESP_LIFETIME_FLOOR_S, connection.esp.lifetime_s, "esp lifetime_s")
    kilobytes = connection.esp.lifetime_kb
    if kilobytes is not None:
        kilobytes = at_least(ESP_LIFETIME_FLOOR_KB, kilobytes, "esp lifetime_kb")
    return ike, esp, kilobytes, tuple(floored)


def _authentication(connection: IpsecConnection) -> dict[str, Any]:
    ours, theirs = identities(connection)
    if isinstance(connection.authentication, CertificateAuthentication):
        local: dict[str, Any] = {"auth": "pubkey", "certs": [connection.authentication.certificate.encode()]}
        remote: dict[str, Any] = {"auth": "pubkey", "cacerts": [connection.authentication.ca.encode()]}
    else:
        local, remote = {"auth": "psk"}, {"auth": "psk"}
    if ours is not None:
        local["id"] = ours
    return {"local": local, "remote": remote | {"id": theirs}}


def _key(connection: IpsecConnection, negotiated: object) -> str:
    """Name a connection. Secrets and certificates are left out: these change without dropping the tunnel."""
    readable = re.sub(r"[^A-Za-z0-9_-]+", "_", connection.name)[:40]
    content = (connection.name, connection.authentication.method, identities(connection), negotiated)
    return f"{readable}-{sha256(repr(content).encode()).hexdigest()[:12]}"
