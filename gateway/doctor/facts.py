"""What the checks judge: plain data, read once."""

from collections.abc import Mapping
from dataclasses import dataclass, field

XDP_BASIC, XDP_REDIRECT, XDP_TRANSMIT, XDP_FRAGMENTS = 1 << 0, 1 << 1, 1 << 2, 1 << 5  # linux/netdev.h


@dataclass(frozen=True, slots=True)
class Feature:
    """An offload as `ethtool -k` shows it; a fixed one cannot be switched."""

    active: bool
    fixed: bool = False


@dataclass(frozen=True, slots=True)
class Channels:
    """Queues as `ethtool -l` shows them; combined ones count on both sides."""

    receive: int
    transmit: int
    most: int


@dataclass(frozen=True, slots=True)
class Interface:
    """An interface. What this machine does not tell is None; `features` is empty without ethtool.

    `peer` names the other end of a veth pair if that is in the same network namespace. `device` is "bus/name".
    """

    name: str
    index: int
    up: bool
    carrier: bool
    mtu: int
    kind: str = ""
    driver: str = ""
    device: str = ""
    peer: str | None = None
    xdp_program: int | None = None
    xdp_features: int | None = None
    channels: Channels | None = None
    virtual_functions: int = 0
    features: Mapping[str, Feature] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine, as far as it can be told from this process and its network namespace.

    `jit` is None where a network namespace hides the switch. `missing_bpf` names map types and helpers that the kernel
    lacks, None where libbpf, which asks for them, is missing. `pin_file_system` is the type of the file system that
    would hold the pins. `forwarding_guard` is None where nft cannot be asked.
    """

    kernel: tuple[int, int]
    cpus: int
    jit: bool | None
    btf: bool
    pin_file_system: str
    missing_bpf: tuple[str, ...] | None
    membarrier: bool
    missing_capabilities: tuple[str, ...]
    forwarding: tuple[str, ...]
    forwarding_guard: bool | None
    policy_rules: int
