"""The parts of a policy that Linux serves: compartments, and what lives in them, follow what the datapath holds.

    programmed policy ─▶ compartments ─▶ probes, tunnels

The datapath holds a policy before anything here is done for it, and nothing here holds up the next one: the policies
that came meanwhile are left out, but for the last.
"""

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import structlog

from gateway.api.services import DomainServices
from gateway.compartments.compartments import Compartments
from gateway.compartments.names import file_name
from gateway.compartments.specification import Compartment
from gateway.configuration import GatewayConfiguration
from gateway.policy.model import Policy, RoutingDomain
from gateway.programming.programmer import Programmer
from gateway.services import plans, reports
from gateway.underlay.network import Link
from lb.service import HealthService
from vpn.service import VpnService
from vpn.status import ConnectionStatus, LogLine

log = structlog.get_logger(__name__)

_RUN = Path("/run/tenant-gateway")


def vpn_directory(configuration: GatewayConfiguration) -> Path:
    """Return where the tunnels' daemons of this gateway are found again."""
    return _RUN / f"vpn-{file_name(configuration.name)}"


class Services:
    """Programs policies, and has them served. Compartments, tunnels and member states outlive it."""

    def __init__(
        self, configuration: GatewayConfiguration, programmer: Programmer, links: Callable[[], Mapping[str, Link]]
    ) -> None:
        """`links`: the machine's interfaces by name. The calling thread's network namespace is the gateway's."""
        self._ports = configuration.ports_by_name()
        self._programmer = programmer
        self._links = links
        self._policy: Policy | None = None
        self._standing: Mapping[str, Compartment] = {}
        self._failure: str | None = None
        self._compartments = Compartments(configuration.name, configuration.router_mac)
        self._vpn = VpnService(vpn_directory(configuration))
        self._following = ThreadPoolExecutor(1, thread_name_prefix="services")
        self._health = HealthService(lambda rdid: None)

    def apply(self, policy: Policy) -> dict[str, str]:
        """Make the datapath hold exactly this policy, then serve it; {RDID: why} for domains whose old state stays."""
        errors = self._programmer.apply(policy)
        self._follow(policy)
        return errors

    def apply_domain(self, policy: Policy, domain_id: str) -> dict[str, str]:
        """The same where only this domain was added, changed or deleted since."""
        errors = self._programmer.apply_domain(policy, domain_id)
        self._follow(policy)
        return errors

    def links_changed(self, changes: Mapping[str, Link | None]) -> None:
        """Look after the compartments again if one lost its interface, or the way of tunnels takes other packets."""
        legs = [leg for one in self._standing.values() for leg in (one.inside, one.outside) if leg]
        lost = any(
            leg.interface in changes and (link is None or link.index != leg.index)
            for leg in legs
            for link in (changes.get(leg.interface),)
        )
        if self._policy is not None and (lost or any(port.interface in changes for port in self._ports.values())):
            self._follow(self._policy)

    def close(self) -> None:
        """Stop looking after what runs; it runs on."""
        self._following.shutdown(cancel_futures=True)
        self._health.close()
        self._vpn.close()

    def _follow(self, policy: Policy) -> None:
        self._policy = policy
        self._submit(self._serve, policy)

    def _serve(self, policy: Policy) -> None:
        if policy is not self._policy:
            return  # a later one waits already
        standing = self._compartments.reconcile(plans.compartments_for(policy, self._ports))
        self._standing = standing
        self._health.reconcile(plans.probed_domains(policy, standing))
        mtus = {name: link.mtu for name, link in self._links().items()}
        self._vpn.reconcile(plans.endpoints_for(policy, standing, self._ports, mtus))
        self._failure = None

    def _submit(self, function: Callable[..., None], *arguments: Any) -> None:
        def work() -> None:
            try:
                function(*arguments)
            except Exception as error:  # the thread's edge: status tells it, and the next change of policy tries again
                log.exception("services_failed")
                self._failure = f"{type(error).__name__}: {error}"

        self._following.submit(work)

    def faults(self) -> list[str]:
        """Return what keeps all domains from being served."""
        return [f"load balancers and tunnels are not as policy says: {self._failure}"] if self._failure else []

    def report(self, domains: Iterable[RoutingDomain]) -> dict[str, DomainServices]:
        """Return the state of pools and tunnels of each of these domains, by RDID."""
        asked = {domain.id: domain for domain in domains}
        health, endpoints = self._health.health(), self._vpn.status(asked.keys())
        return {
            domain_id: reports.of_domain(
                domain,
                self._health.pool_states(domain),
                health.get(domain_id, {}),
                endpoints.get(domain_id),
                self._compartments.faults.get(domain_id),
            )
            for domain_id, domain in asked.items()
        }

    def up(self, domain_id: str, tunnel: str) -> ConnectionStatus:
        """Connect a tunnel; return when it is up or has failed. Raises KeyError where nothing looks after it."""
        return self._vpn.up(domain_id, tunnel)

    def down(self, domain_id: str, tunnel: str) -> ConnectionStatus:
        """Close a tunnel until `up`. Raises KeyError where nothing looks after it."""
        return self._vpn.down(domain_id, tunnel)

    def log(self, domain_id: str, tunnel: str) -> list[LogLine]:
        """Return the latest lines of a tunnel's log. Raises KeyError where nothing looks after it."""
        return self._vpn.log(domain_id, tunnel)
