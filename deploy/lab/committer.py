"""Commits a routing domain again and again, in two versions by turns.

python -m deploy.lab.committer CONFIGURATION POLICY DOMAIN COUNT
    runs beside a gateway and prints the number of commits that were programmed
"""

import copy
import ssl
import sys
from pathlib import Path
from typing import Any

import httpx
import yaml

from gateway.configuration import load


def two_versions(domain: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the domain as it is, and with one more machine, route and access list; what streams use is in both."""
    changed = copy.deepcopy(domain)
    vsid, record = domain["virtual_subnets"][0]["vsid"], domain["lookup_records"][0]
    network, _, _ = record["customer_address"].rpartition(".")
    added = {**record, "customer_address": f"{network}.200", "mac": "02-00-00-00-02-00", "name": "added"}
    changed["lookup_records"].append(added)
    changed.setdefault("customer_routes", []).append({"prefix": "172.16.0.0/12", "next_hop": added["customer_address"]})
    rule = {"priority": 100, "direction": "inbound", "action": "deny", "protocol": "tcp", "destination_ports": "9999"}
    lists = changed.setdefault("access_control_lists", [])
    lists.append({"name": "added", "applies_to": [{"vsid": vsid}], "rules": [rule]})
    return domain, changed


def commit(configuration: Path, policy: Path, name: str, count: int) -> int:
    settings = load(configuration)
    domains = yaml.safe_load(policy.read_text())["routing_domains"]
    versions = two_versions(next(domain for domain in domains if domain["name"] == name))
    trust = ssl.create_default_context(cafile=str(settings.state_dir / "tls" / "ca.pem"))
    token = (settings.state_dir / "admin.token").read_text().strip()
    programmed = 0
    url, headers = f"https://{settings.api.listen}", {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=url, verify=trust, headers=headers, timeout=60, trust_env=False) as client:
        for turn in range(count):
            version = versions[(turn + 1) % 2]
            path = f"/v1/routing-domains/{version['id']}"
            answer = client.put(path, json=version, params={"wait": "programmed", "timeout": 30})
            answer.raise_for_status()
            programmed += bool(answer.json()["programmed"])
    return programmed


if __name__ == "__main__":
    print(commit(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])))
