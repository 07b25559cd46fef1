"""The first process of an emulated machine: runs what /commands says until something fails, then switches it off.

Where /commands names a service manager, that becomes the first process, and runs this once more.
"""

import ctypes
import json
import os
import platform
import subprocess
from pathlib import Path

FILE_SYSTEMS = {"/proc": "proc", "/sys": "sysfs", "/dev": "devtmpfs", "/tmp": "tmpfs", "/run": "tmpfs"}
BOOTED = "Linux "
FINISHED = "finished with status"
_INIT_MODULE = 175  # x86-64's number
_POWER_OFF = 0x4321FEDC
_libc = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    wanted = json.loads(Path("/commands").read_text())
    if os.getpid() == 1:
        prepare()
        if wanted["service_manager"]:
            os.execv(wanted["service_manager"][0], wanted["service_manager"])
    print(f"{BOOTED}{platform.release()}", flush=True)
    for command in wanted["commands"]:
        status = subprocess.run(command, cwd=wanted["directory"], env=wanted["environment"], check=False).returncode
        print(f"{command[2]} {FINISHED} {status}", flush=True)
        if status:
            break


def prepare() -> None:
    for place, kind in FILE_SYSTEMS.items():
        Path(place).mkdir(exist_ok=True)
        _libc.mount(kind.encode(), place.encode(), kind.encode(), 0, None)
    for module in sorted(Path("/modules").iterdir()):
        content = module.read_bytes()
        failed = _libc.syscall(_INIT_MODULE, content, len(content), b"")
        assert not failed, f"{module.name}: {os.strerror(ctypes.get_errno())}"


if __name__ == "__main__":
    try:
        main()
    finally:
        _libc.reboot(_POWER_OFF)
