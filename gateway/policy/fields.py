"""The fields that values of the policy are made of, each in its canonical form, and bounds that are checked later."""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any

from annotated_types import Ge, Le
from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    PlainValidator,
    Strict,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from gateway.policy import addresses

CONFIG = ConfigDict(extra="forbid")
_GUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}").fullmatch
PROTOCOL_NUMBERS = {"icmp": 1, "tcp": 6, "udp": 17, "icmpv6": 58}
_PROTOCOL_NAMES = {number: name for name, number in PROTOCOL_NUMBERS.items()}


def _guid(text: str) -> str:
    canonical = (text[1:-1] if text.startswith("{") and text.endswith("}") else text).lower()
    if not _GUID(canonical):
        raise ValueError(f"{text!r} is not a GUID such as 11111111-2222-3333-4444-000000000001")
    return canonical


def _mac(value: Any) -> Any:
    """Take a MAC of twelve decimal digits, which YAML reads as a number; other types are left to be refused."""
    return str(value) if type(value) is int and 10**11 <= value < 10**12 else value


def _next_hop(text: str) -> str | None:
    canonical = addresses.address(text)
    return None if canonical in addresses.UNSPECIFIED else canonical  # HNV writes an on-link route so


def _protocol(value: Any) -> str | int | None:
    if value is None or (isinstance(value, str) and value in PROTOCOL_NUMBERS):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 255:
        return _PROTOCOL_NAMES.get(value, value)
    raise ValueError(f"{value!r} is not a protocol: write {', '.join(PROTOCOL_NUMBERS)} or a number from 0 to 255")


@lru_cache(maxsize=1 << 12)
def port_ranges(text: str) -> tuple[tuple[int, int], ...]:
    """Return the (first, last) ports of a list such as "80,443,8080-8089", in its order. Raises ValueError."""
    return tuple(_port_range(part) for part in text.split(","))


def _port_range(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"\s*([0-9]{1,5})\s*(?:-\s*([0-9]{1,5})\s*)?", text)
    if not match:
        raise ValueError(f"{text!r} is not a port or a range of ports such as 8080-8089")
    first, last = int(match[1]), int(match[2] or match[1])
    if not first <= last <= 65535:
        raise ValueError(
            f"{text.strip()!r} is not a range of ports: the first must not exceed the last, nor the last 65535"
        )
    return first, last


def _ports(value: Any) -> Any:
    """Take a single port that is written as a number; other types are left for the type check to refuse."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        return value
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in port_ranges(value))


Name = Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]
Guid = Annotated[str, AfterValidator(_guid)]
Address = Annotated[str, AfterValidator(addresses.address)]
NextHop = Annotated[str, AfterValidator(_next_hop)] | None
Prefix = Annotated[str, AfterValidator(addresses.prefix)]
AddressOrPrefix = Annotated[str, AfterValidator(addresses.address_or_prefix)]
InterfaceAddress = Annotated[str, AfterValidator(addresses.interface_address)]
MacAddress = Annotated[str, BeforeValidator(_mac), AfterValidator(addresses.mac)]
Vsid = Annotated[int, Strict()]
Vlan = Annotated[int, Strict(), Ge(0), Le(4094)]
PrefixLength = Annotated[int, Strict(), Ge(0), Le(128)]
Metric = Annotated[int, Strict(), Ge(0), Le(2**32 - 1)]
Priority = Annotated[int, Strict(), Ge(0), Le(65535)]
Protocol = Annotated[str | int | None, PlainValidator(_protocol)]
Ports = Annotated[str | None, BeforeValidator(_ports)]


@dataclass(frozen=True, slots=True)
class Within:
    """Bounds of a number, both inclusive.

    They are described in the schema and checked in `bounds`, so that a number beyond them hides no other fault.
    """

    low: int
    high: int

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {**handler(core), "minimum": self.low, "maximum": self.high}


@dataclass(frozen=True, slots=True)
class OneOf:
    """The names that a text may be, and those that it may not be, with the reason. Checked in `bounds`."""

    known: tuple[str, ...]
    refused: tuple[tuple[str, str], ...] = ()

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {**handler(core), "enum": list(self.known)}


PortNumber = Annotated[int, Strict(), Within(1, 65535)]
