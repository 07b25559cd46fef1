"""Entering a network namespace, by a thread, a socket or a command, and only for that long."""

import socket
import subprocess
from pathlib import Path

import pytest
from compartment_rig import SERVICE

from gateway.compartments.entering import command_in, run_in, socket_in
from gateway.compartments.specification import Compartment

HERE = Path("/proc/thread-self/ns/net")


def test_a_function_runs_there_and_the_caller_stays_here(compartment: Compartment) -> None:
    here = HERE.stat().st_ino
    there = run_in(compartment.namespace, lambda: HERE.stat().st_ino)
    assert there == Path(compartment.namespace).stat().st_ino != here
    assert HERE.stat().st_ino == here


def test_a_functions_error_is_the_callers(compartment: Compartment) -> None:
    with pytest.raises(ZeroDivisionError):
        run_in(compartment.namespace, lambda: 1 // 0)


def test_a_socket_made_there_has_that_namespaces_addresses(compartment: Compartment) -> None:
    with socket_in(compartment.namespace, socket.AF_INET, socket.SOCK_STREAM) as there:
        there.bind((SERVICE, 0))
    with socket.socket() as here, pytest.raises(OSError, match="assign"):
        here.bind((SERVICE, 0))


def test_a_command_runs_there_under_the_same_process_id(compartment: Compartment) -> None:
    command = command_in(compartment.namespace, "sh", "-c", "echo $$; stat -L -c %i /proc/self/ns/net")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        out, _ = process.communicate()
    assert out.split() == [str(process.pid), str(Path(compartment.namespace).stat().st_ino)]


@pytest.mark.parametrize("path", ["/run/netns/tgc-nothing", "/proc/self/ns/uts"])
def test_what_cannot_be_entered_is_told(path: str) -> None:
    with pytest.raises(OSError) as told:
        socket_in(path, socket.AF_INET, socket.SOCK_DGRAM)
    assert told.value.filename
