"""Load balancers and tunnels in status, on paths of their own, and in metrics."""

from documents import WEB, blue, policy, tunnel
from live_gateway import BLUE, LiveGateway
from prometheus_client.parser import text_string_to_metric_families

NAME = "head/quarters 1"  # a name may have anything in it
DOMAIN = blue(network_connections=[tunnel(NAME)], load_balancers=[WEB])
MEMBER = {
    "customer_address": "10.1.1.11",
    "weight": 3,
    "state": "active",
    "status": "healthy",
    "since": "1970-01-01T00:00:03.000+00:00",
    "reason": "ok",
    "latest": "ok",
}
PATH = f"/v1/routing-domains/{BLUE}"
TUNNEL = f"{PATH}/tunnels/head%2Fquarters%201"


def test_status_and_the_domains_own_paths_tell_the_same(gateway: LiveGateway) -> None:
    gateway.services.fault = "no compartment"
    with gateway.client() as client:
        client.put("/v1/policy", json=policy(DOMAIN)).raise_for_status()
        status = client.get("/v1/status").json()
        pools = client.get(f"{PATH.upper().replace('/V1/ROUTING-DOMAINS', '/v1/routing-domains')}/pools").json()
        tunnels = client.get(f"{PATH}/tunnels").json()
    assert status["ipsec"] == {"backend": "kernel-netlink", "why": "this kernel has ESP"}
    (domain,) = status["routing_domains"]
    pool = {"pool": "vms", "probe": "tcp", "members": [MEMBER]}
    assert domain["load_balancers"] == [{"name": "web", "pools": [pool]}]
    assert pools == {"pools": [{"load_balancer": "web", **pool}], "fault": "no compartment"}
    assert tunnels == {"tunnels": domain["tunnels"], "fault": "no compartment"}
    (headquarters,) = tunnels["tunnels"]
    assert (headquarters["name"], headquarters["state"]) == (NAME, "connecting")
    assert headquarters["since"] == "1970-01-01T00:00:01.000+00:00"
    assert headquarters["last_error"] == {
        "code": "silent",
        "text": "the peer 198.51.100.20 does not answer",
        "at": "1970-01-01T00:00:02.000+00:00",
    }
    assert "staple" not in str(domain)


def test_a_tunnel_is_taken_up_and_down_and_its_log_read(gateway: LiveGateway) -> None:
    with gateway.client() as client:
        client.put("/v1/policy", json=policy(DOMAIN)).raise_for_status()
        assert client.post(f"{TUNNEL}/down").json()["state"] == "down"
        assert gateway.services.states == {(BLUE, NAME): "down"}
        assert client.post(f"{TUNNEL}/up").json()["state"] == "connected"
        (line,) = client.get(f"{TUNNEL}/log").json()["lines"]
        assert line == {"at": "1970-01-01T00:00:01.500+00:00", "text": f"initiating IKE_SA {NAME}"}


def test_what_is_not_there_or_not_looked_after_is_refused(gateway: LiveGateway) -> None:
    nobody = "/v1/routing-domains/11111111-2222-3333-4444-0000000000ff"
    with gateway.client() as client:
        client.put("/v1/policy", json=policy(DOMAIN)).raise_for_status()
        assert client.get(f"{nobody}/tunnels").status_code == 404
        assert client.get(f"{nobody}/pools").status_code == 404
        unknown = client.post(f"{PATH}/tunnels/branch/up")
        assert (unknown.status_code, NAME in unknown.json()["detail"]) == (404, True)
        gateway.services.unattended.add(NAME)
        assert client.post(f"{TUNNEL}/up").status_code == 409
        assert client.get(f"{TUNNEL}/log").status_code == 409


def test_metrics_count_tunnels_members_and_connections(gateway: LiveGateway) -> None:
    with gateway.client() as client:
        client.put("/v1/policy", json=policy(DOMAIN), params={"wait": "programmed"}).raise_for_status()
        client.post(f"{TUNNEL}/up")
        text = client.get("/metrics").text
    samples = {
        (sample.name.removeprefix("tenant_gateway_"), *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert samples["tunnel_up", BLUE, "blue", NAME] == 1
    assert samples["tunnel_bytes_total", BLUE, "blue", NAME, "in"] == 700
    assert samples["tunnel_bytes_total", BLUE, "blue", NAME, "out"] == 1400
    assert samples["tunnel_rekeys_total", BLUE, "blue", "esp", NAME] == 2
    assert samples["pool_members", BLUE, "active", "blue", "tcp", "vms", "web"] == 1
    assert samples["pool_members", BLUE, "blue", "down", "tcp", "vms", "web"] == 0
    assert samples["connections", BLUE, "blue"] == 5
    assert samples["connection_places", BLUE, "blue"] == 256
