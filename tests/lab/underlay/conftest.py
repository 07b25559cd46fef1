"""What the tests of the underlay stand on."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from underlay_rig import GATEWAY, HOST, Watched, gateway, host, in_gateway, run, wire

from gateway.underlay.underlay import Underlay


@pytest.fixture
def namespaces() -> Iterator[None]:
    """Make a gateway and a host, 192.168.6.2 and .4, fd06::2 and ::4, on one wire."""
    if os.geteuid():
        pytest.skip("network namespaces need root")
    with made(GATEWAY), made(HOST):
        wire("eth1", "eth0")
        gateway("addr add 192.168.6.2/24 dev eth1")
        gateway("addr add fd06::2/64 dev eth1 nodad")
        host("addr add 192.168.6.4/24 dev eth0")
        host("addr add fd06::4/64 dev eth0 nodad")
        yield


@contextmanager
def made(namespace: str) -> Iterator[None]:
    run(f"ip netns add {namespace}")
    try:
        run(f"ip -n {namespace} link set lo up")
        yield
    finally:
        run(f"ip netns del {namespace}")


@pytest.fixture
def watch(namespaces: None) -> Iterator[Callable[..., Watched]]:
    underlays: list[Underlay] = []

    def start(*provider_addresses: str) -> Watched:
        watched = Watched()
        watched.underlay = in_gateway(lambda: Underlay(provider_addresses, watched.on_change, watched.on_link_change))
        underlays.append(watched.underlay)
        return watched

    yield start
    for underlay in underlays:
        underlay.close()
