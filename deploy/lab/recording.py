"""What passes an interface of a node, recorded by tcpdump: at the peers' ends and on the Internet between them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from deploy.lab import namespaces
from deploy.lab.processes import end
from deploy.lab.running import RunningLab


@dataclass(frozen=True, slots=True)
class Recording:
    """A capture file, whole when the recording has ended."""

    file: Path

    def packets(self, expression: str = "") -> list[str]:
        """Return a line for each packet that a filter of pcap-filter(7) lets through."""
        return namespaces.execute(["tcpdump", "-n", "-r", str(self.file), *expression.split()]).splitlines()

    def holds(self, words: str) -> bool:
        """Tell whether the words are in the packets as they are."""
        return words.encode() in self.file.read_bytes()


@contextmanager
def recorded(lab: RunningLab, node: str, interface: str = "any") -> Iterator[Recording]:
    """Record around the block."""
    name = f"{node}-{interface}-tcpdump"
    recording = Recording(lab.directory / f"{name}.pcap")
    lab.processes.log(name).unlink(missing_ok=True)
    options = ("-n", "-U", "--immediate-mode", "-Z", "root", "-i", interface, "-w", str(recording.file))
    process = lab.processes.start(name, lab.namespace(node), "tcpdump", *options)
    lab.processes.wait(process, lambda: "listening on" in lab.processes.log(name).read_text(), "listened")
    try:
        yield recording
    finally:
        end(process)
