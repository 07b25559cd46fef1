"""The names of a compartment, the same at every start: they are how a daemon knows its own again."""

import re
from dataclasses import dataclass
from hashlib import sha256

_UNFIT = re.compile(r"[^A-Za-z0-9._-]")  # for a file below /run/netns
_MOST_OF_A_NAME = 200
_KEY_DIGITS = 8
INTERFACE_PREFIXES = _INSIDE, _OUTSIDE = "tgi-", "tgo-"


@dataclass(frozen=True, slots=True)
class Names:
    """`namespace` is a file name below /run/netns; each leg has an interface outside and two MACs."""

    namespace: str
    inside: "LegNames"
    outside: "LegNames"


@dataclass(frozen=True, slots=True)
class LegNames:
    """`interface` is on the gateway's side; `mac` is the compartment's end, `gateway_mac` that side's."""

    interface: str
    mac: str
    gateway_mac: str


def names_of(gateway: str, routing_domain: str) -> Names:
    """Name the compartment of a gateway's routing domain."""
    digest = sha256(f"{gateway}\0{routing_domain}".encode()).digest()
    key = digest.hex()[:_KEY_DIGITS]
    return Names(
        namespace=f"{_prefix(gateway)}{key}",
        inside=LegNames(f"{_INSIDE}{key}", _mac(digest[0:5]), _mac(digest[5:10])),
        outside=LegNames(f"{_OUTSIDE}{key}", _mac(digest[10:15]), _mac(digest[15:20])),
    )


def is_ours(gateway: str, namespace: str) -> bool:
    """Tell whether a namespace of this name is one of this gateway's compartments."""
    return re.fullmatch(re.escape(_prefix(gateway)) + f"[0-9a-f]{{{_KEY_DIGITS}}}", namespace) is not None


def interfaces_of(namespace: str) -> tuple[str, str]:
    """Return the names that a compartment's interfaces have on the gateway's side."""
    key = namespace[-_KEY_DIGITS:]
    return f"{_INSIDE}{key}", f"{_OUTSIDE}{key}"


def file_name(gateway: str) -> str:
    """Return a name for files of this gateway, unlike that of any other."""
    fit = _UNFIT.sub("_", gateway)[:_MOST_OF_A_NAME]
    if fit != gateway:  # so that two names that become one here stay two
        fit += f"-{sha256(gateway.encode()).hexdigest()[:_KEY_DIGITS]}"
    return fit


def _prefix(gateway: str) -> str:
    return f"tgw-{file_name(gateway)}-"


def _mac(random: bytes) -> str:
    """A unicast address of local administration."""
    return (b"\x02" + random).hex("-").upper()
