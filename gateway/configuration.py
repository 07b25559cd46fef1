"""The gateway's own configuration: what an administrator sets, never an orchestrator."""

import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from annotated_types import Ge, Le
from pydantic import AfterValidator, BaseModel, ConfigDict, StrictInt, ValidationError, model_validator
from pydantic_core import ErrorDetails

from gateway.policy.addresses import AddressRange, address_range, family, ordinal
from gateway.policy.fields import Address, InterfaceAddress, MacAddress, Name, Vlan

MOST_OF_AN_INTERFACE_NAME = 15  # bytes: IFNAMSIZ, without the zero


class ConfigurationError(Exception):
    """A configuration that cannot be used; the text names the file, each field and how to mend it."""


def _endpoint(text: str) -> str:
    split_endpoint(text)
    return text


def split_endpoint(text: str) -> tuple[str, int]:
    """Host and port of "127.0.0.1:8443" or "[::1]:8443". Raises ValueError."""
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or not host or (":" in host and not bracketed) or not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"{text!r} is not an address and a port, such as 127.0.0.1:8443 or [::1]:8443")
    return host.strip("[]"), int(port)


Endpoint = Annotated[str, AfterValidator(_endpoint)]


def _interface(text: str) -> str:
    if len(text.encode()) > MOST_OF_AN_INTERFACE_NAME or text in (".", "..") or re.search(r"[/:\s]", text):
        raise ValueError(f"{text!r} is not a name that an interface can have: see ip link")
    return text


Interface = Annotated[Name, AfterValidator(_interface)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Api(_Section):
    """Where the API listens, with a certificate of its own making unless one is given."""

    listen: Endpoint = "127.0.0.1:8443"
    certificate: Path | None = None
    private_key: Path | None = None

    @model_validator(mode="after")
    def _whole_key_pair(self) -> Self:
        if (self.certificate is None) != (self.private_key is None):
            raise ValueError("certificate and private_key belong together: give both or neither")
        return self


class Plugins(_Section):
    """The orchestrator plug-ins that run, by their entry point names."""

    enabled: tuple[Name, ...] = ("policy",)


class Hosts(_Section):
    """Where host agents connect."""

    listen: Endpoint | None = None


class Datapath(_Section):
    """Memory of the maps in MB, what becomes of the DSCP (RFC 2983), and where programs and maps are pinned.

    `connections_per_domain`: the most that a routing domain may have of each IP family; the next power of two counts.
    """

    memory_mb: Annotated[StrictInt, Ge(1)] = 192
    connections_per_domain: Annotated[StrictInt, Ge(16384), Le(262144)] = 65536
    dscp: Literal["uniform", "pipe"] = "uniform"
    pin_dir: Path = Path("/sys/fs/bpf/tenant-gateway")


class Port(_Section):
    """One interface, or one VLAN of it, that the datapath works on. VLAN 0 is untagged.

    An external port with `addresses` leads to the Internet: public addresses of the policy lie in their networks, and
    `gateways` are its default next hops there, at most one of each IP family.
    """

    name: Name
    role: Literal["provider", "external"]
    interface: Interface
    vlan: Vlan = 0
    addresses: tuple[InterfaceAddress, ...] = ()
    gateways: tuple[Address, ...] = ()

    def own_addresses(self) -> tuple[str, ...]:
        """Return the port's own addresses without prefix lengths."""
        return tuple(entry.partition("/")[0] for entry in self.addresses)

    def network_around(self, address: str) -> AddressRange | None:
        """Return the network of the port that an address lies in, the smallest if several, None if in none."""
        value = ordinal(address)
        networks = (address_range(entry) for entry in self.addresses)
        around = [network for network in networks if network.first <= value <= network.last]
        return max(around, key=lambda network: network.length, default=None)

    @model_validator(mode="after")
    def _gateways_are_neighbours(self) -> Self:
        if self.gateways and (self.role != "external" or not self.addresses):
            raise ValueError("gateways belong to an external port that has addresses: add addresses or remove them")
        for gateway in self.gateways:
            if gateway in self.own_addresses() or not self.network_around(gateway):
                raise ValueError(f"gateways: {gateway} is not another address in a network of the port's addresses")
        for number, times in Counter(map(family, self.gateways)).items():
            if times > 1:
                raise ValueError(f"gateways: {times} of them are IPv{number}: keep one of each IP family")
        return self


class GatewayConfiguration(_Section):
    """The whole file. Ports are in its order."""

    name: Name = "gateway"
    state_dir: Path = Path("/var/lib/tenant-gateway")
    router_mac: MacAddress = "00-1D-D8-B7-1C-00"
    api: Api = Api()
    plugins: Plugins = Plugins()
    hosts: Hosts = Hosts()
    datapath: Datapath = Datapath()
    ports: tuple[Port, ...] = ()

    @model_validator(mode="after")
    def _distinct_ports(self) -> Self:
        for name, times in Counter(port.name for port in self.ports).items():
            if times > 1:
                raise ValueError(f"ports: the name {name!r} is given to {times} ports: names must differ")
        for (role, interface, vlan), times in Counter((p.role, p.interface, p.vlan) for p in self.ports).items():
            if times > 1:
                raise ValueError(
                    f"ports: {times} {role} ports join interface {interface!r}, VLAN {vlan}: keep one of them"
                )
        return self

    def provider_addresses(self) -> tuple[str, ...]:
        """Return the gateway's provider addresses, IPv4 and IPv6, each once, without prefix lengths."""
        of_ports = (entry for port in self.ports if port.role == "provider" for entry in port.own_addresses())
        return tuple(dict.fromkeys(of_ports))

    def provider_links(self) -> frozenset[tuple[str, int]]:
        """Return the interfaces and VLANs of the provider ports."""
        return frozenset((port.interface, port.vlan) for port in self.ports if port.role == "provider")

    def ports_by_name(self) -> dict[str, Port]:
        """Return the ports, by the name that network connections use."""
        return {port.name: port for port in self.ports}


def load(path: Path) -> GatewayConfiguration:
    """Read the configuration in a TOML file. Raises ConfigurationError."""
    try:
        document = tomllib.loads(path.read_bytes().decode())
    except OSError as error:
        raise ConfigurationError(
            f"{path}: cannot be read: {error.strerror}: give the path of the gateway's TOML file"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: is not TOML: {error}: correct this place") from error
    try:
        return GatewayConfiguration.model_validate(document)
    except ValidationError as error:
        complaints = "\n".join(f"{path}: {text}" for text in _complaints(error))
        raise ConfigurationError(complaints) from error


_MENDS = {
    "missing": "is missing: add it",
    "extra_forbidden": "is not a known field: remove or rename it",
    "literal_error": "must be {expected}, not {given!r}",
}


def _complaints(error: ValidationError) -> Iterator[str]:
    for detail in error.errors(include_url=False):
        field = "".join(f"[{token}]" if isinstance(token, int) else f".{token}" for token in detail["loc"]).lstrip(".")
        yield f"{field}: {_mend(detail)}" if field else _mend(detail)


def _mend(detail: ErrorDetails) -> str:
    context: dict[str, Any] = detail.get("ctx", {})
    if detail["type"] == "value_error":
        return str(context["error"])
    if detail["loc"][-1:] == ("role",) and detail["input"] == "vm":
        return "'vm' is a role of ports of hosts: a gateway's ports are 'provider' or 'external'"
    if detail["type"] in _MENDS:
        return _MENDS[detail["type"]].format(given=detail["input"], **context)
    message = detail["msg"]
    return f"{message[0].lower()}{message[1:]}, not {detail['input']!r}"
