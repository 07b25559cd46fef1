"""The rig: routers to compare, each in a namespace between two wires whose other ends both send and count.

bench-outside:  generator ─▶ NAME-p ═══ provider : bench-NAME : external ═══ NAME-e ─▶ sink        (and the other way)
"""

from contextlib import ExitStack
from dataclasses import dataclass

from deploy.lab.namespaces import configure, connect, create, remove, set_sysctls
from tests.bench import plan
from tests.bench.plan import Plan
from tests.bench.programs import Programs

OUTSIDE = "bench-outside"
PROVIDER_MAC, EXTERNAL_MAC = "02:be:00:00:00:01", "02:be:00:00:00:02"
HOST_MAC, CORPNET_MAC = "02:be:00:00:00:11", "02:be:00:00:00:12"  # at the other ends
MTU = 1600


@dataclass(frozen=True, slots=True)
class Router:
    """Something that forwards; `ports` are the generator's device keys towards its two interfaces."""

    name: str
    ports: dict[str, int]

    @property
    def namespace(self) -> str:
        return f"bench-{self.name}"

    def far_end(self, port: str) -> str:
        """Name the interface outside that is wired to the port."""
        return f"{self.name}-{port[0]}"


class Rig:
    """Generator and sink; all that it makes is gone when `lifetime` ends."""

    def __init__(self, lifetime: ExitStack) -> None:
        self.lifetime = lifetime
        self._make_namespace(OUTSIDE)
        self.generator = Programs("generator", lifetime)
        self.sink = Programs("sink", lifetime)
        self._ports = 0

    def add(self, name: str) -> Router:
        """Make a namespace for a router and wire it up."""
        router = Router(name, {port: self._ports + index for index, port in enumerate(("provider", "external"))})
        self._ports += len(router.ports)
        self._make_namespace(router.namespace)
        near, far = (
            {"provider": PROVIDER_MAC, "external": EXTERNAL_MAC},
            {"provider": HOST_MAC, "external": CORPNET_MAC},
        )
        for port, key in router.ports.items():
            outside = router.far_end(port)
            connect((router.namespace, port), (OUTSIDE, outside), mtu=MTU, near_mac=near[port])
            configure(OUTSIDE, [f"link set {outside} address {far[port]}"])
            self.generator.set_device(key, OUTSIDE, outside)
            self.sink.attach("sink", OUTSIDE, outside)
        return router

    def _make_namespace(self, namespace: str) -> None:
        remove(namespace)
        create(namespace)
        self.lifetime.callback(remove, namespace)
        set_sysctls(namespace, ipv6__conf__all__disable_ipv6=1, ipv6__conf__default__disable_ipv6=1)


def address_provider_side(router: Router, policy: Plan) -> None:
    """Add the gateway's PA, and all hosts as neighbours that need no resolution."""
    prefix_length = plan.PROVIDER_NETWORK.prefixlen
    neighbours = (f"neigh replace {policy.provider_address(host)} lladdr {HOST_MAC} dev provider nud permanent"
                  for host in range(policy.hosts))  # fmt: skip
    configure(router.namespace, [f"addr add {plan.GATEWAY_PA}/{prefix_length} dev provider", *neighbours])


def add_bare_redirect(rig: Rig, name: str, turn_back: bool = False) -> Router:
    """Find the limit of the rig: redirect, unread, to the other port, or to the one that the packet came in by."""
    router = rig.add(name)
    programs = Programs("redirect", rig.lifetime)
    for key, (port, other) in enumerate((("provider", "external"), ("external", "provider"))):
        programs.set_device(key, router.namespace, port if turn_back else other)
        programs.attach(f"redirect_{port}", router.namespace, port)
    return router
