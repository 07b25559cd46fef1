"""Load balancers and tunnels as Prometheus' metrics."""

from collections.abc import Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from gateway.api.services import DomainServices


def families(served: Mapping[str, DomainServices], names: Mapping[str, str]) -> Iterator[Metric]:
    """Yield what is counted of pools and tunnels. `names`: of the routing domains, by RDID."""
    yield from _tunnels(served, names)
    yield _members(served, names)


def _tunnels(served: Mapping[str, DomainServices], names: Mapping[str, str]) -> Iterator[Metric]:
    labels = ("domain", "domain_id", "tunnel")
    up = GaugeMetricFamily("tenant_gateway_tunnel_up", "1 while the tunnel is connected.", labels=labels)
    octets = CounterMetricFamily(
        "tenant_gateway_tunnel_bytes", "Bytes of inner packets by direction.", labels=(*labels, "direction")
    )
    rekeys = CounterMetricFamily("tenant_gateway_tunnel_rekeys", "Rekeyings by SA.", labels=(*labels, "sa"))
    for domain_id, services in served.items():
        for tunnel in services.tunnels:
            place = (names[domain_id], domain_id, tunnel.name)
            up.add_metric(place, tunnel.state == "connected")
            octets.add_metric((*place, "in"), tunnel.bytes_in)
            octets.add_metric((*place, "out"), tunnel.bytes_out)
            rekeys.add_metric((*place, "ike"), tunnel.ike_rekeys)
            rekeys.add_metric((*place, "esp"), tunnel.esp_rekeys)
    yield up
    yield octets
    yield rekeys


def _members(served: Mapping[str, DomainServices], names: Mapping[str, str]) -> Metric:
    members = GaugeMetricFamily(
        "tenant_gateway_pool_members",
        "Members of a pool by what is done with them: active, draining or down.",
        labels=("domain", "domain_id", "load_balancer", "pool", "probe", "state"),
    )
    for domain_id, services in served.items():
        for pool in services.pools:
            place = (names[domain_id], domain_id, pool.load_balancer, pool.pool, pool.probe or "")
            for state in ("active", "draining", "down"):
                members.add_metric((*place, state), sum(member.state == state for member in pool.members))
    return members
