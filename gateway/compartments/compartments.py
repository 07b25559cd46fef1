"""The compartments of a gateway: made, adopted, changed and removed."""

import errno
import socket
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass

from gateway.compartments import changes, entering, firewall, namespaces, settings
from gateway.compartments.gateway_side import GatewaySide, gateway_side
from gateway.compartments.names import Names, interfaces_of, is_ours, names_of
from gateway.compartments.specification import INSIDE, OUTSIDE, Compartment, CompartmentSpecification, Leg
from gateway.compartments.wiring import wire
from gateway.underlay.netlink import Requests

_MEND = "the next change of policy tries again, as does a start of the gateway"
_MENDS = {
    errno.EPERM: "the gateway needs CAP_NET_ADMIN and CAP_SYS_ADMIN",
    errno.EROFS: "the gateway writes below /proc/sys/net: let its service do so (ProtectKernelTunables=no)",
}


@dataclass(frozen=True, slots=True)
class _Standing:
    """A compartment as this daemon left it, and the inode of its namespace."""

    compartment: Compartment
    identity: int


class Compartments:
    """A gateway's compartments. Their outer ends are in the network namespace of the thread that calls.

    For one thread at a time. Nothing ends with the daemon: a later one finds its own by their names.
    """

    def __init__(self, gateway: str, router_mac: str) -> None:
        """`gateway`: its name, unlike that of any other on the machine. `router_mac`: the datapath's MAC."""
        self._gateway = gateway
        self._router_mac = router_mac.replace("-", ":").lower()
        self._standing: dict[str, _Standing] = {}
        self._faults: dict[str, str] = {}

    @property
    def faults(self) -> Mapping[str, str]:
        """What kept a compartment from being as wanted at the last `reconcile`, and how to mend it, by key."""
        return self._faults

    def left_behind(self, wanted: Mapping[str, CompartmentSpecification]) -> dict[str, Compartment]:
        """Return, of those wanted, the ones that a former daemon left, by key; nobody has looked into them yet."""
        indexes = {name: index for index, name in socket.if_nameindex()}
        found = {}
        for key, name in self._names_of(wanted).items():
            specification = wanted[key]
            legs = {INSIDE: name.inside} | ({OUTSIDE: name.outside} if specification.outside_addresses else {})
            if namespaces.identity(name.namespace) and all(leg.interface in indexes for leg in legs.values()):
                there = {leg: Leg(n.interface, indexes[n.interface], leg, n.mac) for leg, n in legs.items()}
                path = namespaces.path(name.namespace)
                found[key] = Compartment(specification, path, there[INSIDE], there.get(OUTSIDE))
        return found

    def reconcile(self, wanted: Mapping[str, CompartmentSpecification]) -> dict[str, Compartment]:
        """Make the compartments be those wanted, by key; return those that are.

        What this daemon has seen to be right is looked into again only if its interfaces or its namespace changed. One
        that fails is in `faults`, holds up no other, and is taken up again by the next call. Raises OSError where no
        compartment can be made at all or one that is not wanted cannot be removed.
        """
        namespaces.prepare()
        self._faults = {}
        names = self._names_of(wanted)
        self._remove_others({name.namespace for name in names.values()})
        standing: dict[str, _Standing] = {}
        with gateway_side(self._router_mac) as gateway:
            for key, name in names.items():
                specification = wanted[key]
                try:
                    standing[key] = self._stand(specification, name, gateway)
                except OSError as error:
                    self._faults[key] = _fault(specification, name, error)
        self._standing = standing
        return {key: one.compartment for key, one in standing.items()}

    def _names_of(self, wanted: Mapping[str, CompartmentSpecification]) -> dict[str, Names]:
        """Name each, but for one whose names are another's already."""
        names = {key: names_of(self._gateway, key) for key in sorted(wanted)}
        holders: dict[str, str] = {}
        for key, name in names.items():
            holder = holders.setdefault(name.namespace, key)
            if holder != key:
                self._faults[key] = (
                    f"routing domain {key}: its compartment would be {name.namespace}, which is that of "
                    f"{holder}: give one of the two another RDID"
                )
        return {key: names[key] for key in holders.values()}

    def _remove_others(self, wanted: set[str]) -> None:
        others = [name for name in namespaces.names() if is_ours(self._gateway, name) and name not in wanted]
        with closing(Requests()) as requests:
            changes.remove_links(requests, [interface for name in others for interface in interfaces_of(name)])
        for name in others:  # by their names they are found, so they go last
            namespaces.forget(name)

    def _stand(self, specification: CompartmentSpecification, names: Names, gateway: GatewaySide) -> _Standing:
        """Make, adopt or change one. Raises OSError."""
        identity = namespaces.identity(names.namespace)
        before = self._standing.get(specification.key)
        if before and before.identity == identity and _unchanged(before.compartment, specification, gateway):
            return before

        def furnish() -> dict[str, Leg]:
            settings.set_defaults()
            firewall.ensure(specification)
            if specification.for_fragments:
                settings.set_fragments()
            return wire(specification, names, gateway)

        def furnish_and_keep() -> tuple[dict[str, Leg], int]:  # named last: until then it ends with whatever goes wrong
            return furnish(), namespaces.keep(names.namespace)

        path = namespaces.path(names.namespace)
        if identity is None:
            legs, identity = entering.run_in_new(furnish_and_keep)
        else:
            legs = entering.run_in(path, furnish)
        return _Standing(Compartment(specification, path, legs[INSIDE], legs.get(OUTSIDE)), identity)


def _unchanged(compartment: Compartment, specification: CompartmentSpecification, gateway: GatewaySide) -> bool:
    legs = [leg for leg in (compartment.inside, compartment.outside) if leg]
    return compartment.specification == specification and all(
        gateway.interfaces.get(leg.interface) == leg.index for leg in legs
    )


def _fault(specification: CompartmentSpecification, names: Names, error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    purpose = " for fragments" if specification.for_fragments else ""
    return (
        f"routing domain {specification.routing_domain}: its compartment{purpose} {names.namespace} "
        "is not as it should be: "
        f"{where}{error.strerror or error}; {_MENDS.get(error.errno or 0, _MEND)}"
    )
