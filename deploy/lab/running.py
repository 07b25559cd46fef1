"""A lab on this machine: its namespaces, its directory and its processes."""

from dataclasses import dataclass
from pathlib import Path

from deploy.lab import namespaces
from deploy.lab.processes import Processes
from deploy.lab.topology import Lab

DIRECTORY = Path("/run/tgw-lab")


@dataclass(frozen=True, slots=True)
class RunningLab:
    """A lab that is being built or up; nodes are named as in `topology.nodes()`."""

    topology: Lab

    @property
    def directory(self) -> Path:
        return DIRECTORY / self.topology.name

    @property
    def processes(self) -> Processes:
        return Processes(self.directory)

    def namespace(self, node: str) -> str:
        return f"tgw-{self.topology.name}-{node}"

    def inside(self, node: str, *command: str) -> list[str]:
        """Give the command line that runs a command on a node."""
        return namespaces.enter(self.namespace(node), *command)

    def run(self, node: str, *command: str, text: str = "", seconds: float = 30) -> str:
        """Return the output of a command on a node that must succeed. Errors: CommandError."""
        return namespaces.execute(self.inside(node, *command), text=text, seconds=seconds)

    def configure(self, node: str, *commands: str) -> None:
        """Run commands of `ip` on a node. Errors: CommandError."""
        namespaces.configure(self.namespace(node), commands)

    def connect(self, near: str, near_name: str, far: str, far_name: str, mtu: int = 1500, mac: str = "") -> None:
        """Join two nodes by a veth pair; `mac` is of the near end."""
        ends = (self.namespace(near), near_name), (self.namespace(far), far_name)
        namespaces.connect(*ends, mtu=mtu, near_mac=mac)
