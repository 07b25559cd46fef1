"""The neighbours that Linux keeps resolved for us: managed entries (NTF_EXT_MANAGED, Linux 5.16)."""

import errno
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import structlog

from gateway.underlay.messages import forgotten_neighbour, managed_neighbour
from gateway.underlay.netlink import Requests
from gateway.underlay.network import Neighbour, NeighbourKey, Network

_log = structlog.get_logger(__name__)
_GONE = {errno.ENOENT, errno.ENODEV, errno.ENETDOWN}  # the link or the entry went first; its event follows


class ManagedNeighbours:
    """Makes the managed entries marked as ours be exactly those of the wanted next hops.

    The entries outlive this program; a later one finds its own by their mark. An administrator's permanent entries stay
    as they are.
    """

    def __init__(self, requests: Requests) -> None:
        self._requests = requests
        self._refused: set[NeighbourKey] = set()

    def reconcile(self, network: Network, wanted: Collection[NeighbourKey]) -> Mapping[NeighbourKey, Neighbour]:
        """Install what is missing and remove what is no longer wanted.

        Return what was installed, since Linux tells of an entry only when it is resolved or has failed.
        """
        ours = {key for key, neighbour in network.neighbours.items() if neighbour.ours}
        missing = [key for key in wanted if key not in self._refused and _is_missing(network, key)]
        self._change(sorted(ours - set(wanted)), forgotten_neighbour)
        installed = self._change(missing, managed_neighbour)
        self._refused.intersection_update(wanted)
        unresolved = Neighbour(mac=None, managed=False, fixed=False, ours=False)
        return {key: replace(network.neighbours.get(key, unresolved), managed=True, ours=True) for key in installed}

    def _change(self, keys: Sequence[NeighbourKey], request: Callable[[NeighbourKey], Any]) -> list[NeighbourKey]:
        changed: list[NeighbourKey] = []
        for key, code in zip(keys, self._requests.change([request(key) for key in keys]), strict=True):
            if not code:
                changed.append(key)
            elif code not in _GONE:
                self._refused.add(key)
                _log.error(
                    "Linux refused a managed neighbour; it needs kernel 5.16 or later and CAP_NET_ADMIN",
                    interface_index=key[0],
                    address=key[1],
                    error=os.strerror(code),
                )
        return changed


def _is_missing(network: Network, key: NeighbourKey) -> bool:
    link = network.links.get(key[0])
    neighbour = network.neighbours.get(key)
    return link is not None and link.up and (neighbour is None or not (neighbour.managed or neighbour.fixed))
