"""Which IPsec this kernel has: its own ESP, or strongSwan's in user space over a TUN device."""

import subprocess
from dataclasses import dataclass

_ZEROS = "0x" + "00" * 20  # nothing is ever sent under it
_STATE = ("src", "192.0.2.1", "dst", "192.0.2.2", "proto", "esp", "spi", "0x1000", "reqid", "1", "mode", "tunnel")
_PROBES = (
    ("ESP", ("ip", "xfrm", "state", "add", *_STATE, "aead", "rfc4106(gcm(aes))", _ZEROS, "128")),
    ("XFRM interfaces", ("ip", "link", "add", "probe", "type", "xfrm", "dev", "lo", "if_id", "1")),
)


@dataclass(frozen=True, slots=True)
class Backend:
    """How ESP is done: `in_user_space`, by kernel-libipsec, or by kernel-netlink; and a sentence of why."""

    in_user_space: bool
    why: str

    @property
    def name(self) -> str:
        """The plug-in of strongSwan that does it."""
        return "kernel-libipsec" if self.in_user_space else "kernel-netlink"


def probe() -> Backend:
    """Try in a network namespace of its own, which also loads the kernel's modules, what endpoints will need."""
    for what, command in _PROBES:
        result = subprocess.run(["unshare", "--net", *command], capture_output=True, text=True, check=False)
        if result.returncode:
            why = (result.stderr.strip().splitlines() or ["no reason given"])[0]
            return Backend(True, f"this kernel has no {what} ({why}): strongSwan encrypts in user space, far slower")
    return Backend(False, "this kernel has ESP and XFRM interfaces")
