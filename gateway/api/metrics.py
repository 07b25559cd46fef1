"""GET /metrics: the same counters for Prometheus, read at the moment of the scrape."""

from collections.abc import Iterator

from fastapi import APIRouter, Response
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from gateway.api import service_metrics
from gateway.api.machine import Counters, Machine
from gateway.api.services import Services
from gateway.policy.internet import INTERNET
from gateway.transactions import Transactions

OUTSIDE = ""  # the label `domain` of what belongs to no routing domain


class GatewayCollector(Collector):
    """Turns the counters of the datapath and the revisions into metrics."""

    def __init__(self, transactions: Transactions, machine: Machine, services: Services) -> None:
        self._transactions = transactions
        self._machine = machine
        self._services = services

    def describe(self) -> Iterator[Metric]:
        """Name no metrics at registration, so that nothing is read then."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        counters = self._machine.counters()
        domains = self._transactions.held.policy.routing_domains
        names = {domain.id: domain.name for domain in domains} | {INTERNET: "internet"}
        yield from _traffic(counters, names)
        yield _drops(counters, names)
        yield _ordered(counters, names)
        yield from _fill(counters)
        yield from _connections(counters, names)
        yield from service_metrics.families(self._services.report(domains), names)
        unresolved = len(self._machine.unresolved())
        yield self._ports()
        yield _gauge("unresolved_provider_addresses", "Provider addresses in use without a way to them.", unresolved)
        yield from self._revisions()

    def _ports(self) -> Metric:
        help_text = "1 while the datapath takes the packets of a port."
        attached = GaugeMetricFamily("tenant_gateway_port_attached", help_text, labels=("port", "interface"))
        for port in self._machine.ports():
            attached.add_metric((port.name, port.interface), port.state == "attached")
        return attached

    def _revisions(self) -> Iterator[Metric]:
        programmed = self._transactions.programmed
        accepted_revision = self._transactions.held.snapshot.revision
        yield _gauge("accepted_revision", "Number of the last accepted transaction.", accepted_revision)
        yield _gauge("programmed_revision", "Last revision that the datapath held whole.", programmed.revision)
        yield _gauge("domains_not_programmed", "Domains that forward by an older policy.", len(programmed.errors))
        yield _gauge("store_usable", "1 while the policy store can be read.", int(not self._transactions.store_fault))


def _traffic(counters: Counters, names: dict[str, str]) -> Iterator[Metric]:
    labels = ("domain", "domain_id", "direction")
    packets = CounterMetricFamily("tenant_gateway_packets", "Packets by routing domain and direction.", labels=labels)
    octets = CounterMetricFamily("tenant_gateway_bytes", "Bytes by routing domain and direction.", labels=labels)
    for domain_id, of_domain in counters.domains.items():
        for direction, traffic in of_domain.traffic.items():
            values = (names.get(domain_id, domain_id), domain_id, direction)
            packets.add_metric(values, traffic.packets)
            octets.add_metric(values, traffic.bytes)
    yield packets
    yield octets


def _drops(counters: Counters, names: dict[str, str]) -> Metric:
    help_text = "Dropped packets by routing domain (empty: outside all) and reason."
    drops = CounterMetricFamily("tenant_gateway_drops", help_text, labels=("domain", "domain_id", "reason"))
    for reason, packets in counters.drops.items():
        drops.add_metric((OUTSIDE, OUTSIDE, reason), packets)
    for domain_id, of_domain in counters.domains.items():
        for reason, packets in of_domain.drops.items():
            drops.add_metric((names.get(domain_id, domain_id), domain_id, reason), packets)
    return drops


def _ordered(counters: Counters, names: dict[str, str]) -> Metric:
    help_text = "Fragments that went to be put in order, by routing domain."
    ordered = CounterMetricFamily("tenant_gateway_fragments_put_in_order", help_text, labels=("domain", "domain_id"))
    for domain_id, of_domain in counters.domains.items():
        if of_domain.ordered:
            ordered.add_metric((names.get(domain_id, domain_id), domain_id), of_domain.ordered)
    return ordered


def _fill(counters: Counters) -> Iterator[Metric]:
    labels = ("map", "unit")
    used = GaugeMetricFamily("tenant_gateway_map_used", "How much of a map's memory is in use.", labels=labels)
    capacity = GaugeMetricFamily("tenant_gateway_map_capacity", "How much a map can hold.", labels=labels)
    for name, fill in counters.fill.items():
        used.add_metric((name, fill.unit), fill.used)
        capacity.add_metric((name, fill.unit), fill.capacity)
    yield used
    yield capacity


def _connections(counters: Counters, names: dict[str, str]) -> Iterator[Metric]:
    labels = ("domain", "domain_id")
    used = GaugeMetricFamily("tenant_gateway_connections", "Entries in use of a domain's connections.", labels=labels)
    places = GaugeMetricFamily("tenant_gateway_connection_places", "How many it can have.", labels=labels)
    for domain_id, of_domain in counters.domains.items():
        if of_domain.connections is not None:
            used.add_metric((names.get(domain_id, domain_id), domain_id), of_domain.connections.used)
            places.add_metric((names.get(domain_id, domain_id), domain_id), of_domain.connections.capacity)
    yield used
    yield places


def _gauge(name: str, help_text: str, value: int) -> Metric:
    return GaugeMetricFamily(f"tenant_gateway_{name}", help_text, value=value)


def router(transactions: Transactions, machine: Machine, services: Services) -> APIRouter:
    registry = CollectorRegistry()
    registry.register(GatewayCollector(transactions, machine, services))
    router = APIRouter(tags=["operation"])

    @router.get("/metrics", summary="Counters in Prometheus' text format", response_class=Response)
    def get_metrics() -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return router
