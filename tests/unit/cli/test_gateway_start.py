"""`tgw gateway run` where it cannot start or go on: it says why, how to mend it, and ends with code 1."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

TGW = Path(sys.executable).parent / "tgw"


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def start(directory: Path, text: str, *prefix: str) -> str:
    """Return what a gateway with this configuration says before it ends with code 1."""
    file = directory / "gateway.toml"
    file.write_text(text)
    command = [*prefix, TGW, "gateway", "run", "--config", file]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def test_a_configuration_with_faults_names_file_and_fields(tmp_path: Path) -> None:
    output = start(tmp_path, 'nmae = "x"\n[datapath]\nmemory_mb = "much"\n')
    assert f"{tmp_path / 'gateway.toml'}: nmae" in output
    assert "datapath.memory_mb" in output


def test_an_unknown_plugin_is_named_with_those_installed(tmp_path: Path) -> None:
    output = start(tmp_path, f'state_dir = "{tmp_path}"\n[plugins]\nenabled = ["teleport"]\n')
    assert "'teleport'" in output
    assert "policy" in output


def test_a_taken_address_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        output = start(tmp_path, f'state_dir = "{tmp_path}"\n[api]\nlisten = "{listen}"\n')
    assert f"api.listen = '{listen}': Address already in use" in output


def test_a_given_certificate_that_is_none_is_named(tmp_path: Path) -> None:
    given = "".join(f'{field} = "{tmp_path / "nothing.pem"}"\n' for field in ("certificate", "private_key"))
    output = start(tmp_path, f'state_dir = "{tmp_path}"\n[api]\nlisten = "127.0.0.1:0"\n{given}')
    assert f"api.certificate {tmp_path / 'nothing.pem'}" in output


def test_a_state_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert str(tmp_path / "file") in start(tmp_path, f'state_dir = "{tmp_path / "file" / "state"}"\n')


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give its capabilities away")
def test_without_privileges_the_missing_ones_are_named(tmp_path: Path, free_port: int) -> None:
    pins = f"/sys/fs/bpf/{tmp_path.name}"
    text = f'state_dir = "{tmp_path}"\n[api]\nlisten = "127.0.0.1:{free_port}"\n[datapath]\npin_dir = "{pins}"\n'
    try:
        assert "CAP_BPF" in start(tmp_path, text, "setpriv", "--bounding-set=-all", "--inh-caps=-all")
    finally:
        shutil.rmtree(pins, ignore_errors=True)


def test_a_thread_that_dies_ends_the_daemon_and_is_named() -> None:
    script = """
import signal, threading
from gateway import daemon, logs
logs.configure()
daemon.end_with_any_thread()
threading.Thread(target=lambda: {}["the interface"], name="underlay", daemon=True).start()
signal.pause()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    event = json.loads(done.stderr.splitlines()[-1])
    assert (event["event"], event["thread"]) == ("thread_died", "underlay")
    assert "KeyError: 'the interface'" in event["exception"]
