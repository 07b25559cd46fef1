"""What iperf3 measures in a lab is whole, or its own words say why not."""

import pytest

from deploy.lab import iperf3, probes
from deploy.lab.errors import LabError
from deploy.lab.running import RunningLab

CORPNET = "157.1.0.10"


def test_a_test_that_does_not_run_says_why(corpnet_vlans: RunningLab) -> None:
    with pytest.raises(LabError, match=f"{CORPNET} .*Connection refused"):
        probes.throughput(corpnet_vlans, "BlueVM1", CORPNET, 1, "--port", str(iperf3.PORT + 1))


def test_a_test_may_follow_another_at_once(corpnet_vlans: RunningLab) -> None:
    for _ in range(10):
        assert "error" not in iperf3.run(corpnet_vlans, "BlueVM1", CORPNET, "--bytes", "1K")
