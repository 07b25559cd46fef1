"""Linux's own load balancing: nftables translates, connection tracking remembers, VXLAN devices carry."""

from collections.abc import Iterator

from deploy.lab.namespaces import enter, execute, set_sysctls
from tests.bench import plan
from tests.bench.kernel import add_kernel
from tests.bench.plan import Plan
from tests.bench.rig import Rig, Router

_LONG = 600  # seconds: no connection ends while it is measured


def add_nftables(rig: Rig, policy: Plan, name: str = "nftables") -> Router:
    """Its clients' packets meet a map from VIP to pool, and there a map from a hash to the member."""
    router = add_kernel(rig, policy, name)
    set_sysctls(router.namespace, netfilter__nf_conntrack_udp_timeout=_LONG)
    set_sysctls(router.namespace, netfilter__nf_conntrack_udp_timeout_stream=_LONG)
    execute(enter(router.namespace, "nft", "-f", "-"), text="\n".join(_rules(policy)))
    return router


def _rules(policy: Plan) -> Iterator[str]:
    domains = range(policy.domains)
    yield "table ip balance {"
    for hook in ("prerouting", "output"):  # nobody wants to remember tunnels' packets
        yield f"chain tunnels_{hook} {{ type filter hook {hook} priority raw; udp dport {plan.VXLAN_PORT} notrack; }}"
    for domain in domains:
        members = (
            f"{index} : {policy.customer_address(domain, index)} . {plan.MEMBER_PORT}" for index in range(plan.MEMBERS)
        )
        hashed = f"jhash ip saddr . udp sport mod {plan.MEMBERS}"
        yield f"chain pool{domain} {{ dnat ip addr . port to {hashed} map {{ {', '.join(members)} }}; }}"
    vips = ", ".join(f"{policy.vip(domain)} : goto pool{domain}" for domain in domains)
    yield "chain incoming { type nat hook prerouting priority dstnat;"
    yield f"udp dport {plan.VIP_PORT} ip daddr vmap {{ {vips} }}; }}"
    yield "}"
