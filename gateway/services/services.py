"""The parts of a policy that Linux serves: compartments, and what lives in them, follow what the datapath holds.

    programmed policy ─▶ compartments ─▶ datapath ─▶ probes, tunnels
                             member's health changes ─▶ datapath

The datapath holds a policy before anything here is done for it, and nothing here holds up the next one: the policies
that came meanwhile are left out, but for the last.
"""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeAlias

import structlog

from gateway.api.services import DomainServices, Serving
from gateway.compartments.compartments import Compartments
from gateway.compartments.names import file_name
from gateway.compartments.specification import Compartment, CompartmentSpecification, key_for_fragments
from gateway.configuration import GatewayConfiguration
from gateway.policy.balancing import LoadBalancer
from gateway.policy.model import Policy, RoutingDomain
from gateway.programming.programmer import Programmer
from gateway.services import plans, reports
from gateway.underlay.network import Link
from lb.drains import Drains
from lb.pools import Choice, PoolState
from lb.service import HealthService
from vpn.kernel import Backend
from vpn.service import VpnService
from vpn.specification import EndpointSpecification
from vpn.status import ConnectionStatus, LogLine

log = structlog.get_logger(__name__)

Pools: TypeAlias = Mapping[Choice, PoolState]

NEXT_HOPS_FOUND_S = 0.1  # at the latest: one that is silent keeps no tunnel from being tried
DRAINS = "drains.json"  # in the state directory
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
        self._closing = False
        self._lock = threading.Lock()  # of the latter, as links may change while all is closed
        self._standing: Mapping[str, Compartment] = {}
        self._endpoints: Mapping[str, EndpointSpecification] = {}
        self._failure: str | None = None
        self._not_joined: Mapping[str, str] = {}  # compartments that the datapath does not lead to, and why
        self._health_untold: Mapping[str, str] = {}  # domains whose members it takes to be as they were
        self._health_told: Mapping[str, tuple[Sequence[LoadBalancer], Pools]] = {}
        self._compartments = Compartments(configuration.name, configuration.router_mac)
        self._vpn = VpnService(vpn_directory(configuration))
        self._tunnelling = ThreadPoolExecutor(1, thread_name_prefix="tunnels")
        self._following = ThreadPoolExecutor(1, thread_name_prefix="services")
        self._telling = ThreadPoolExecutor(1, thread_name_prefix="health")
        drains = Drains(configuration.state_dir / DRAINS)
        self._health = HealthService(self._tell_health_soon, drains, lambda: plans.members(programmer.members_down()))

    def apply(self, policy: Policy) -> dict[str, str]:
        """Make the datapath hold exactly this policy, then serve it; {RDID: why} for domains whose old state stays."""
        first = self._policy is None
        if first:
            self._recognize(policy)
        errors = self._programmer.apply(policy)
        if first:  # before anybody asks: members are as they were
            self._health.reconcile(plans.probed_domains(policy, self._standing))
        self._follow(policy)
        return errors

    def apply_domain(self, policy: Policy, domain_id: str) -> dict[str, str]:
        """The same where only this domain was added, changed or deleted since."""
        errors = self._programmer.apply_domain(policy, domain_id)
        self._follow(policy)
        return errors

    def links_changed(self, changes: Mapping[str, Link | None]) -> None:
        """Look after the compartments again if one lost its interface, or the way of tunnels takes other packets."""
        legs = {leg.interface: leg.index for one in self._standing.values() for leg in (one.inside, one.outside) if leg}
        outside = {port.interface for port in self._ports.values()}
        lost = any(
            name in outside or (name in legs and (link is None or link.index != legs[name]))
            for name, link in changes.items()
        )
        with self._lock:
            if lost and self._policy is not None and not self._closing:
                self._submit(self._following, self._serve, self._policy)

    def close(self) -> None:
        """Stop looking after what runs; it runs on."""
        with self._lock:
            self._closing = True
        self._following.shutdown(cancel_futures=True)
        self._health.close()
        self._telling.shutdown(cancel_futures=True)
        self._tunnelling.shutdown(cancel_futures=True)
        self._vpn.close()

    def _recognize(self, policy: Policy) -> None:
        """Let the datapath know what a former daemon left, so that it goes on to lead there."""
        self._standing = self._compartments.left_behind(plans.compartments_for(policy, self._ports))
        self._programmer.compartments_changed(self._standing)

    def _follow(self, policy: Policy) -> None:
        self._policy = policy
        self._submit(self._following, self._serve, policy)

    def _serve(self, policy: Policy) -> None:
        if policy is not self._policy:
            return  # a later one waits already
        self._failure = None
        self._health.drain(policy.routing_domains)
        wanted = plans.compartments_for(policy, self._ports)
        self._let_go(wanted)
        for part in plans.steps(wanted, self._standing):
            self._stand(policy, part)
            if policy is not self._policy:
                return  # that one's turn will go on from here
        balanced = {domain.id for domain in policy.routing_domains if domain.load_balancers}
        self._health_told = {rdid: told for rdid, told in self._health_told.items() if rdid in balanced}
        for rdid in balanced:
            self._tell_health_soon(rdid)

    def _stand(self, policy: Policy, wanted: Mapping[str, CompartmentSpecification]) -> None:
        """Have these compartments, and what lives in them."""
        self._standing = standing = self._compartments.reconcile(wanted)
        self._not_joined = self._programmer.compartments_changed(standing)
        self._health.reconcile(plans.probed_domains(policy, standing))
        mtus = {name: link.mtu for name, link in self._links().items()}
        self._endpoints = plans.endpoints_for(policy, standing, self._ports, mtus)
        self._submit(self._tunnelling, self._tunnel, self._endpoints)

    def _tunnel(self, endpoints: Mapping[str, EndpointSpecification]) -> None:
        self._programmer.find_peers(NEXT_HOPS_FOUND_S)
        self._vpn.reconcile(endpoints)

    def _let_go(self, wanted: Mapping[str, CompartmentSpecification]) -> None:
        """End what is not wanted any more from its end: peers are told, then the datapath, then legs may go."""
        kept = plans.kept(self._standing, wanted)
        remaining = {rdid: one for rdid, one in self._endpoints.items() if rdid in kept and kept[rdid].outside}
        if remaining != self._endpoints:
            self._endpoints = remaining
            self._submit(self._tunnelling, self._vpn.reconcile, remaining).result()
        if kept != self._standing:
            self._programmer.compartments_changed(kept)

    def _tell_health_soon(self, domain_id: str) -> None:
        self._submit(self._telling, self._tell_health, domain_id)

    def _tell_health(self, domain_id: str) -> None:
        policy = self._policy
        domain = next((one for one in policy.routing_domains if one.id == domain_id), None) if policy else None
        if domain is not None:
            pools = self._health.pool_states(domain)
            errors = self._programmer.health_changed(domain_id, pools)
            self._health_untold = {rdid: why for rdid, why in self._health_untold.items() if rdid != domain_id} | errors
            if not errors:
                self._health_told = {**self._health_told, domain_id: (domain.load_balancers, pools)}

    def _pools(self, domain: RoutingDomain) -> Pools:
        """Return the pools as packets meet them: what probes found reaches the datapath a moment later."""
        balancers, pools = self._health_told.get(domain.id, ((), {}))
        return pools if balancers == domain.load_balancers else self._health.pool_states(domain)

    def _submit(self, thread: ThreadPoolExecutor, function: Callable[..., None], *arguments: Any) -> Future[None]:
        def work() -> None:
            try:
                function(*arguments)
            except Exception as error:  # the thread's edge: status tells it, and the next change of policy tries again
                log.exception("services_failed")
                self._failure = f"{type(error).__name__}: {error}"

        return thread.submit(work)

    def ipsec(self) -> Backend:
        """Return how tunnels are encrypted on this machine, and why so."""
        return self._vpn.backend

    def faults(self) -> list[str]:
        """Return what keeps all domains from being served."""
        return [f"load balancers and tunnels are not as policy says: {self._failure}"] if self._failure else []

    def report(self, domains: Iterable[RoutingDomain]) -> dict[str, DomainServices]:
        """Return the state of pools and tunnels of each of these domains, by RDID."""
        asked = {domain.id: domain for domain in domains}
        faults = {**self._health_untold, **self._not_joined, **self._compartments.faults}
        health, endpoints = self._health.health(), self._vpn.status(asked.keys())
        return {
            domain_id: reports.of_domain(
                domain,
                self._pools(domain),
                health.get(domain_id, {}),
                endpoints.get(domain_id),
                faults.get(domain_id),
                faults.get(key_for_fragments(domain_id)),
            )
            for domain_id, domain in asked.items()
        }

    def serving(self, domains: Iterable[RoutingDomain]) -> Serving:
        """Return what packets of these domains meet now."""
        asked = {domain.id: domain for domain in domains}
        endpoints = self._vpn.status(asked.keys())
        return Serving(
            pools={rdid: self._pools(one) for rdid, one in asked.items() if one.load_balancers},
            compartments={rdid: one for rdid, one in self._standing.items() if rdid not in self._not_joined},
            tunnels={(rdid, each.name): each for rdid, one in endpoints.items() for each in one.connections},
        )

    def up(self, domain_id: str, tunnel: str) -> ConnectionStatus:
        """Connect a tunnel; return when it is up or has failed. Raises KeyError where nothing looks after it."""
        return self._vpn.up(domain_id, tunnel)

    def down(self, domain_id: str, tunnel: str) -> ConnectionStatus:
        """Close a tunnel until `up`. Raises KeyError where nothing looks after it."""
        return self._vpn.down(domain_id, tunnel)

    def log(self, domain_id: str, tunnel: str) -> list[LogLine]:
        """Return the latest lines of a tunnel's log. Raises KeyError where nothing looks after it."""
        return self._vpn.log(domain_id, tunnel)
