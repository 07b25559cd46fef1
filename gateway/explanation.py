"""What would become of a packet on this gateway now: the reference model amid the machine's real surroundings."""

from collections.abc import Mapping
from typing import Any

from gateway.api.services import Serving
from gateway.configuration import GatewayConfiguration
from gateway.datapath.model.compartments import TunnelState
from gateway.datapath.model.ethernet import mac_text
from gateway.datapath.model.explain import Question, explain, to_json
from gateway.datapath.model.world import Interface, UnderlayHop, World
from gateway.policy.model import Policy
from gateway.underlay.hop import Hop
from gateway.underlay.network import Link
from vpn.status import ConnectionStatus

MISSING_MAC = "02-00-00-00-00-01"
MISSING_MTU = 1500


def explanation(
    question: Question,
    policy: Policy,
    configuration: GatewayConfiguration,
    links: Mapping[str, Link],
    hops: Mapping[str, Hop | None],
    serving: Serving,
) -> dict[str, Any]:
    """Explain as JSON types. A port whose interface is missing is taken as an Ethernet one. Raises QuestionError."""
    world = World(
        policy=policy,
        ports=configuration.ports,
        router_mac=configuration.router_mac,
        interfaces={port.interface: _interface(port.interface, links) for port in configuration.ports},
        underlay={address: _hop(hop) for address, hop in hops.items()},
        dscp=configuration.datapath.dscp,
        member_states=serving.pools,
        compartments=serving.compartments,
        tunnels={of: _tunnel(status) for of, status in serving.tunnels.items()},
    )
    return to_json(explain(world, question))


def _interface(name: str, links: Mapping[str, Link]) -> Interface:
    link = links.get(name)
    return Interface(name, mac_text(link.mac), link.mtu) if link else Interface(name, MISSING_MAC, MISSING_MTU)


def _tunnel(status: ConnectionStatus) -> TunnelState:
    if status.state == "connected":
        return TunnelState(True, f"The tunnel is {status.text}; packets of up to {status.mtu} bytes fit.")
    return TunnelState(False, f"The tunnel carries nothing: {status.text}.")


def _hop(hop: Hop | None) -> UnderlayHop | None:
    if hop is None or hop.destination_mac is None:
        return None
    return UnderlayHop(hop.interface, hop.vlan, hop.source, mac_text(hop.destination_mac), hop.mtu)
