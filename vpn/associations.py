"""Security associations as the daemon lists them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

_OFFLOADED = ("AES_GCM_16", "128")  # what network cards and the datapath know


@dataclass(frozen=True, slots=True)
class ChildSa:
    """A pair of ESP SAs. `number` is the daemon's own, new at each rekeying."""

    number: int
    installed: bool
    suite: str
    aes_gcm_128: bool
    udp_encapsulated: bool
    bytes_in: int
    bytes_out: int
    packets_in: int
    packets_out: int


@dataclass(frozen=True, slots=True)
class IkeSa:
    """An IKE_SA and its children; `established_s` is its age in seconds, None while it is none yet."""

    name: str
    number: int
    established_s: int | None
    suite: str
    children: tuple[ChildSa, ...]

    def installed(self) -> ChildSa | None:
        """Return the newest child that carries traffic; right after a rekeying the old one is still listed."""
        return max((child for child in self.children if child.installed), key=lambda child: child.number, default=None)


def associations(events: Iterable[Mapping[str, Any]]) -> list[IkeSa]:
    """Read list-sas's stream."""
    return [_ike_sa(name, entry) for event in events for name, entry in event.items()]


def _ike_sa(name: str, entry: Mapping[str, Any]) -> IkeSa:
    age = _number(entry, "established") if entry.get("state") == b"ESTABLISHED" else None
    words = ("encr-alg", "encr-keysize", "integ-alg", "prf-alg", "dh-group")
    children = tuple(_child_sa(child) for child in entry.get("child-sas", {}).values())
    return IkeSa(name, _number(entry, "uniqueid"), age, _suite(entry, words), children)


def _child_sa(entry: Mapping[str, Any]) -> ChildSa:
    return ChildSa(
        number=_number(entry, "uniqueid"),
        installed=entry.get("state") == b"INSTALLED",
        suite=_suite(entry, ("encr-alg", "encr-keysize", "integ-alg", "dh-group")),
        aes_gcm_128=(_text(entry, "encr-alg"), _text(entry, "encr-keysize")) == _OFFLOADED,
        udp_encapsulated=entry.get("encap") == b"yes",
        bytes_in=_number(entry, "bytes-in"),
        bytes_out=_number(entry, "bytes-out"),
        packets_in=_number(entry, "packets-in"),
        packets_out=_number(entry, "packets-out"),
    )


def _suite(entry: Mapping[str, Any], words: Iterable[str]) -> str:
    """Write a suite such as AES_GCM_16-128/PRF_HMAC_SHA2_256/ECP_256."""
    found = {word: _text(entry, word) for word in words if word in entry}
    if size := found.pop("encr-keysize", ""):
        found["encr-alg"] += f"-{size}"
    return "/".join(found.values())


def _text(entry: Mapping[str, Any], key: str) -> str:
    value = entry.get(key, b"")
    return value.decode() if isinstance(value, bytes) else ""


def _number(entry: Mapping[str, Any], key: str) -> int:
    return int(_text(entry, key) or 0)
