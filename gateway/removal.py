"""Taking the gateway off a machine: tunnels' daemons, compartments, the datapath, the forwarding guard."""

import shutil
from pathlib import Path

from gateway.compartments.compartments import Compartments
from gateway.configuration import GatewayConfiguration
from gateway.datapath.pins import PinDirectory
from gateway.services.services import vpn_directory
from gateway.underlay import forwarding_guard
from vpn.service import VpnService


def remove(configuration: GatewayConfiguration) -> None:
    """Remove all that outlives the daemon but for `state_dir`; what is not there is no fault.

    Peers of tunnels are told first, while the datapath still takes the word to them. Raises PinsBusyError while the
    daemon runs, OSError, and ForwardingGuardError.
    """
    with PinDirectory.hold(configuration.datapath.pin_dir, lock_file_of(configuration)):
        _end_tunnels(configuration)
        Compartments(configuration.name, configuration.router_mac).reconcile({})
        shutil.rmtree(configuration.datapath.pin_dir)
        forwarding_guard.remove()


def lock_file_of(configuration: GatewayConfiguration) -> Path:
    """Return the file that the running daemon holds locked."""
    return configuration.state_dir / "datapath.lock"


def _end_tunnels(configuration: GatewayConfiguration) -> None:
    directory = vpn_directory(configuration)
    if directory.exists():
        vpn = VpnService(directory)
        vpn.reconcile({})
        vpn.close()
        directory.rmdir()
