"""The worked deployments of HNV that the labs rebuild."""

from deploy.lab.topology import Lab, Office, Site


def _corpnet(name: str, domain: str, *cloud_prefixes: str, port: str = "", vlan: int = 0) -> Site:
    """CorpNet's server is also the router to 198.18.0.0/15, of which it has an address."""
    return Site(
        name=name,
        domain=domain,
        addresses=("157.1.0.10/16", "fd00:157::10/64", "198.18.0.1/32"),
        routes=tuple((prefix, "fd00:157::fe" if ":" in prefix else "157.1.0.254") for prefix in cloud_prefixes),
        port=port or name,
        vlan=vlan,
    )


def _corpnets_on_vlans() -> tuple[Site, ...]:
    return tuple(
        _corpnet(f"{tenant}-corpnet", tenant, *TENANT_PREFIXES, port="corpnet", vlan=vlan)
        for tenant, vlan in (("blue", 20), ("red", 30))
    )


def _office(name: str, domain: str) -> Site:
    routes = (("10.1.1.0/24", "10.9.0.254"),)
    return Site(name=name, domain=domain, addresses=("10.9.0.10/24",), routes=routes, port=name)


def _headquarters(tenant: str, address: str) -> Office:
    """What stayed on premises, at the addresses that it has at every tenant's: database and DNS server are one."""
    return Office(
        name=f"{tenant}-hq",
        domain=tenant,
        address=address,
        networks=("10.1.1.1/24", "10.2.0.1/24"),
        server_addresses=("10.1.1.12/24", "10.1.1.53/24", "10.2.0.10/24"),
        dns=((f"sql.{tenant}.example", "10.1.1.12"), (f"www.{tenant}.example", "10.1.1.11")),
    )


TENANT_PREFIXES = ("10.1.0.0/16", "fd00:1::/64", "fd00:6::/64")
PRIVATE_CLOUD_PREFIXES = ("157.2.0.0/16", "157.3.0.0/16", "157.4.0.0/16")

LABS = {
    lab.name: lab
    for lab in (
        Lab(
            name="blue-red",
            title="two tenants with equal addresses, NVGRE and VXLAN, each with its own CorpNet",
            policy="blue-red.yaml",
            gateway_address="192.168.6.2/24",
            sites=(
                _corpnet("blue-corpnet", "blue", *TENANT_PREFIXES),
                _corpnet("red-corpnet", "red", *TENANT_PREFIXES),
            ),
        ),
        Lab(
            name="contoso-fabrikam",
            title="two customers whose servers kept their equal addresses, each reached from its own office",
            policy="contoso-fabrikam.yaml",
            gateway_address="192.168.6.2/24",
            sites=(_office("contoso-office", "contoso"), _office("fabrikam-office", "fabrikam")),
        ),
        Lab(
            name="two-networks-one-owner",
            title="two networks of one owner that never meet",
            policy="two-networks-one-owner.yaml",
            gateway_address="192.168.6.2/24",
            sites=(),
        ),
        Lab(
            name="private-cloud",
            title="one routing domain and CorpNet, two network cards, a provider network without room for the overhead",
            policy="private-cloud.yaml",
            gateway_address="192.168.6.2/24",
            sites=(_corpnet("corpnet", "private-cloud", *PRIVATE_CLOUD_PREFIXES),),
            provider_mtu=1500,
        ),
        Lab(
            name="private-cloud-one-nic",
            title="the same with one network card for the provider network and CorpNet",
            policy="private-cloud.yaml",
            gateway_address="192.168.6.2/24",
            sites=(_corpnet("corpnet", "private-cloud", *PRIVATE_CLOUD_PREFIXES),),
            one_nic=True,
        ),
        Lab(
            name="private-cloud-figure1",
            title="a private cloud in the corporation's own address plan",
            policy="private-cloud-figure1.yaml",
            gateway_address="10.60.6.2/24",
            sites=(
                Site(
                    name="corpnet",
                    domain="private-cloud",
                    addresses=("10.229.1.10/24",),
                    routes=(("10.229.0.0/16", "10.229.1.254"),),
                    port="corpnet",
                ),
            ),
        ),
        Lab(
            name="corpnet-vlans",
            title="two tenants whose CorpNets of equal addresses are two VLANs of the gateway's only network card",
            policy="corpnet-vlans.yaml",
            gateway_address="192.168.6.2/24",
            sites=_corpnets_on_vlans(),
            one_nic=True,
        ),
        Lab(
            name="provider-vlan",
            title="the same, where the provider network is a VLAN of that card too (the kernel needs 802.1Q devices)",
            policy="corpnet-vlans.yaml",
            gateway_address="192.168.6.2/24",
            sites=_corpnets_on_vlans(),
            one_nic=True,
            provider_vlan=10,
        ),
        Lab(
            name="ipv6-provider",
            title="a provider network of IPv6 alone under IPv4 and IPv6",
            policy="ipv6-provider.yaml",
            gateway_address="fd00:a:6::2/64",
            sites=(_corpnet("corpnet", "tenant", *TENANT_PREFIXES),),
        ),
        Lab(
            name="rewrite",
            title="a host that rewrites addresses in place of a tunnel, and CorpNet",
            policy="rewrite.yaml",
            gateway_address="192.168.6.2/24",
            sites=(
                Site(
                    name="corpnet",
                    domain="tenant",
                    addresses=("10.1.1.99/29",),
                    routes=(("10.1.1.0/24", "10.1.1.97"),),
                    port="corpnet",
                ),
            ),
        ),
        Lab(
            name="load-balancer",
            title="two tenants' services behind public addresses, and behind one equal internal address in both",
            policy="load-balancer.yaml",
            gateway_address="192.168.6.2/24",
            sites=(
                Site(
                    name="internet",
                    domain="internet",
                    addresses=("198.51.100.254/24", "2001:db8:100::fe/64", "203.0.113.10/32", "203.0.113.11/32"),
                    routes=(),
                    port="internet",
                    port_addresses=("198.51.100.1/24", "2001:db8:100::1/64"),
                ),
            ),
        ),
        Lab(
            name="hybrid-cloud",
            title="two tenants of equal addresses, whose clouds and premises are one network each, by IKEv2 tunnels",
            policy="hybrid-cloud.yaml",
            gateway_address="192.168.6.2/24",
            sites=(
                Site(
                    name="internet",
                    domain="internet",
                    addresses=("198.51.100.254/24",),
                    routes=(),
                    port="internet",
                    port_addresses=("198.51.100.1/24",),
                ),
            ),
            offices=(
                _headquarters("red", "203.0.113.20/28"),
                Office(
                    name="red-branch",
                    domain="red",
                    address="203.0.113.36/28",
                    networks=("10.3.0.1/24",),
                    server_addresses=("10.3.0.10/24",),
                    certified=("branch.red.example", "red.gateway.example"),
                ),
                _headquarters("blue", "203.0.113.52/28"),
            ),
        ),
        Lab(
            name="complex-routing",
            title="a tenant whose default route points to a virtual machine",
            policy="complex-routing.yaml",
            gateway_address="192.168.6.2/24",
            sites=(
                Site(
                    name="internet",
                    domain="tenant",
                    addresses=("203.0.113.10/24",),
                    routes=(("10.0.0.0/8", "203.0.113.1"),),
                    behind_machine="GW",
                    machine_addresses=("203.0.113.1/24",),
                ),
            ),
        ),
    )
}
