"""Linux's own VXLAN device and IP forwarding, as fast as they get for the same diversity.

A device for each VSID, with its records as static neighbours and forwarding entries: faster than one device in external
mode with a tunnel route for each record. No UDP checksums, no early demultiplexing, no GRO, no VLANs; and since one
routing table cannot tell tenants apart, every tenant has other addresses.
"""

from collections.abc import Iterator

from deploy.lab.namespaces import configure, enter, execute, set_sysctls
from tests.bench import plan
from tests.bench.plan import Plan
from tests.bench.rig import CORPNET_MAC, Rig, Router, address_provider_side

_ROUTER_MAC = plan.ROUTER_MAC.replace("-", ":")


def add_kernel(rig: Rig, policy: Plan, name: str = "kernel") -> Router:
    router = rig.add(name)
    set_sysctls(
        router.namespace,
        ipv4__ip_forward=1,
        ipv4__ip_early_demux=0,
        ipv4__conf__all__rp_filter=0,
        ipv4__conf__default__rp_filter=0,
    )
    address_provider_side(router, policy)
    configure(router.namespace, [*_corpnet(), *_devices(policy), *_neighbours(policy)])
    execute(enter(router.namespace, "bridge", "-batch", "-"), text="\n".join(_forwarding_entries(policy)))
    for interface in (*router.ports, *_device_names(policy)):
        execute(enter(router.namespace, "ethtool", "-K", interface, "gro", "off"))
    for port in router.ports:
        rig.sink.attach("pass", router.namespace, port)
    return router


def _corpnet() -> Iterator[str]:
    yield f"addr add {plan.CORPNET_LOCAL}/{plan.CORPNET_PREFIX_LENGTH} dev external"
    yield f"neigh replace {plan.CORPNET_NEXT_HOP} lladdr {CORPNET_MAC} dev external nud permanent"
    yield f"route add default via {plan.CORPNET_NEXT_HOP}"


def _device_names(policy: Plan) -> list[str]:
    return [_device(policy, domain, subnet) for domain in range(policy.domains) for subnet in range(plan.SUBNETS)]


def _device(policy: Plan, domain: int, record: int) -> str:
    return f"vx{policy.vsid(domain, record % plan.SUBNETS)}"


def _devices(policy: Plan) -> Iterator[str]:
    for domain in range(policy.domains):
        for subnet in range(plan.SUBNETS):
            device = _device(policy, domain, subnet)
            options = f"local {plan.GATEWAY_PA} dstport 4789 nolearning noudpcsum"
            yield f"link add {device} address {_ROUTER_MAC} type vxlan id {policy.vsid(domain, subnet)} {options}"
            yield f"link set {device} up"
            yield f"route add {policy.subnet_prefix(domain, subnet)} dev {device}"


def _neighbours(policy: Plan) -> Iterator[str]:
    for domain in range(policy.domains):
        for record in range(policy.records_per_domain):
            address, mac = policy.customer_address(domain, record), policy.mac(domain, record).replace("-", ":")
            yield f"neigh replace {address} lladdr {mac} dev {_device(policy, domain, record)} nud permanent"


def _forwarding_entries(policy: Plan) -> Iterator[str]:
    for domain in range(policy.domains):
        for record in range(policy.records_per_domain):
            mac, host = policy.mac(domain, record).replace("-", ":"), policy.host(domain, record)
            device = _device(policy, domain, record)
            yield f"fdb append {mac} dev {device} dst {policy.provider_address(host)}"
