"""What a compartment is to be, and what it is."""

from dataclasses import dataclass

INSIDE, OUTSIDE = "inside", "outside"


@dataclass(frozen=True, slots=True)
class CompartmentSpecification:
    """What is wanted of a routing domain's compartment. Addresses are canonical and have no length.

    The first address of each family is the source where nothing else is said. `inside_prefixes` are reached by the
    inside; everything else by the outside, or by the inside too where there are no outside addresses. `mtu` is that of
    both legs, in bytes. With `for_fragments` nothing lives there: Linux puts fragments in order, and gives them back.
    """

    routing_domain: str
    inside_addresses: tuple[str, ...]
    outside_addresses: tuple[str, ...] = ()
    inside_prefixes: tuple[str, ...] = ()
    mtu: int = 1500
    for_fragments: bool = False

    @property
    def key(self) -> str:
        """What tells the compartments of a gateway apart: the RDID, but for those for fragments."""
        return key_for_fragments(self.routing_domain) if self.for_fragments else self.routing_domain


def key_for_fragments(routing_domain: str) -> str:
    """Return the key of the compartment that puts a routing domain's fragments in order."""
    return f"{routing_domain}, fragments"


@dataclass(frozen=True, slots=True)
class Leg:
    """A veth pair: `interface` and `index` on the gateway's side, `name` and `mac` (02-…) in the compartment."""

    interface: str
    index: int
    name: str
    mac: str


@dataclass(frozen=True, slots=True)
class Compartment:
    """A compartment that stands. `namespace` is the path of its network namespace, for nsenter and setns(2)."""

    specification: CompartmentSpecification
    namespace: str
    inside: Leg
    outside: Leg | None
