"""The table of a compartment for its tunnels."""

import shutil
import subprocess

import pytest

from vpn.firewall import Marked, table

ANY = "0.0.0.0/0"


def test_longer_prefixes_override_shorter_ones() -> None:
    text = table([Marked(ANY, "10.2.0.0/24", "ipsec0", 1400, 2), Marked(ANY, "10.0.0.0/8", "ipsec0", 1380, 1)])
    assert text.index("daddr 10.0.0.0/8 meta priority set 1:1") < text.index("daddr 10.2.0.0/24 meta priority set 1:2")


def test_longer_sources_override_shorter_ones_whatever_the_prefix() -> None:
    text = table(
        [Marked("10.1.1.0/25", "10.0.0.0/8", "ipsec0", 1380, 1), Marked(ANY, "10.2.0.0/24", "ipsec0", 1400, 2)]
    )
    wide, narrow = "ip daddr 10.2.0.0/24 meta", "ip saddr 10.1.1.0/25 ip daddr 10.0.0.0/8 meta"
    assert text.index(f'oifname "ipsec0" {wide}') < text.index(f'oifname "ipsec0" {narrow}')


def test_segments_fit_the_tunnel_in_both_directions() -> None:
    text = table([Marked(ANY, "10.2.0.0/24", "ipsec0", 1400, 0), Marked("::/0", "fd00::/64", "ipsec0", 1400, 0)])
    assert 'iifname "ipsec0" ip saddr 10.2.0.0/24 tcp flags syn tcp option maxseg size set 1360' in text
    assert 'iifname "ipsec0" ip6 saddr fd00::/64 tcp flags syn tcp option maxseg size set 1340' in text
    assert "size set rt mtu" in text


def test_what_has_no_rate_has_no_class() -> None:
    assert "priority set" not in table([Marked(ANY, "10.2.0.0/24", "ipsec0", 1400, 0)])


@pytest.mark.skipif(not shutil.which("nft"), reason="nftables is not installed")
def test_nft_understands_it() -> None:
    text = table([Marked("10.1.0.0/25", "10.2.0.0/24", "ipsec0", 1400, 3), Marked("::/0", "fd00::/64", "xf", 1400, 0)])
    checked = subprocess.run(
        ["unshare", "--net", "--map-root-user", "nft", "--check", "-f", "-"], input=text, capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stderr
