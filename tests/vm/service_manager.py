"""systemd as this machine has it, for an emulated machine: PID 1 there, with the units that every service stands on."""

from pathlib import Path

from tests.vm.initramfs import Initramfs

PROGRAM = Path("/usr/lib/systemd/systemd")
_COMMANDS_UNIT = "commands.service"
COMMAND = (str(PROGRAM), f"--unit={_COMMANDS_UNIT}")
_UNITS = Path("/usr/lib/systemd/system")
_PROGRAMS = (
    PROGRAM,
    PROGRAM.with_name("systemd-executor"),
    PROGRAM.with_name("systemd-journald"),
    Path("/usr/bin/systemctl"),
)
_LOADED_BY_NAME = "libseccomp.so.2"  # newer versions do not link it
_COPIED = (
    "sysinit.target",
    "basic.target",
    "sockets.target",
    "network.target",
    "shutdown.target",
    "systemd-journald.service",
    "systemd-journald.socket",
    "systemd-journald-dev-log.socket",
)
_RUNS_COMMANDS = """\
[Service]
Type=oneshot
ExecStart={python} /init
StandardOutput=tty
StandardError=tty
TTYPath=/dev/ttyS0
FailureAction=poweroff-immediate
"""


def add_to(root: Initramfs, python: Path) -> None:
    """Add systemd, and the unit that runs /commands."""
    root.copy_programs([program for program in _PROGRAMS if program.exists()])
    root.copy_programs(Path("/usr/lib").glob(f"*-linux-gnu/{_LOADED_BY_NAME}"))
    for name in _COPIED:
        root.copy(_UNITS / name)
    root.file(Path("/etc/machine-id"), b"uninitialized\n")
    root.file(Path("/etc/systemd/system") / _COMMANDS_UNIT, _RUNS_COMMANDS.format(python=python).encode())
