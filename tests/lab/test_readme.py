"""A newcomer who types what the README says sees what it says."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from deploy.lab import main

ROOT = Path(__file__).parents[2]
SETUP = "sudo deploy/setup\n"
AS_ROOT = 'sudo() { "$@"; }\n'


@pytest.mark.skipif(os.geteuid() != 0, reason="labs need root for their network namespaces")
def test_the_first_policy_of_the_readme_does_what_it_says() -> None:
    section = (ROOT / "README.md").read_text().partition("## A first policy\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", section, re.M | re.S)
    commands = "".join(text for language, text in blocks if language == "sh")
    (explained,) = (text for language, text in blocks if not language)
    assert SETUP in commands, "the tests run after it"
    script = AS_ROOT + commands.replace(SETUP, "")
    try:
        ran = subprocess.run(["bash", "-c", script], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    finally:
        main.down("blue-red")
    assert ran.stderr == ""
    assert "+ routing domain blue, access control list web-only\n" in ran.stdout
    assert "revision 2 programmed\nblue BlueVM3\n" in ran.stdout
    assert "1 packets transmitted, 0 received, 100% packet loss" in ran.stdout
    assert explained in ran.stdout
    assert re.search(r"│ blue +│ access_list_inbound +│ +1 │", ran.stdout)
    assert "revision 3 programmed\n" in ran.stdout
    assert "1 packets transmitted, 1 received, 0% packet loss" in ran.stdout
    assert ran.stdout.endswith("blue-red: down\n")
