"""XDP programs on interfaces, by bpf_link: owned, pinned, replaced in one step, never taken over silently."""

import errno
import os
import socket
from ctypes import byref, c_uint32
from dataclasses import dataclass

from gateway.datapath import libbpf
from gateway.datapath.libbpf import BpfError, check, library, object_info

_BPF_XDP = 37
_XDP_FLAGS_SKB_MODE = 1 << 1
_XDP_FLAGS_DRV_MODE = 1 << 2
_BPF_LINK_TYPE_XDP = 6

_MENDS = {
    errno.EOPNOTSUPP: "its driver cannot run XDP as it is set up (LRO or hardware GRO on, too few queues, MTU too "
    "large, or no native XDP at all): run `tgw doctor`",
    errno.EINVAL: "its driver refuses XDP with its present MTU or features: run `tgw doctor`",
    errno.ERANGE: "its MTU, or its peer's, is too large for XDP: run `tgw doctor`",
    errno.ENOSPC: "it has too few queues, or those of its peer do not match: run `tgw doctor`",
}


class AttachError(BpfError):
    """An XDP program could not be attached; the message says who holds the interface or how to mend it."""


@dataclass(frozen=True, slots=True)
class LinkState:
    """What the kernel says of a link; interface 0 when its interface is gone."""

    id: int
    program_id: int
    ifindex: int


def create(program_fd: int, ifindex: int, name: str, generic: bool) -> int:
    """Attach a program and return the link's file descriptor: closing it detaches, unless the link is pinned."""
    options = libbpf.LinkCreateOptions(flags=_XDP_FLAGS_SKB_MODE if generic else _XDP_FLAGS_DRV_MODE)
    result: int = library.bpf_link_create(program_fd, ifindex, _BPF_XDP, byref(options))
    if result < 0:
        attempted = f"attaching {'generic' if generic else 'native'} XDP to {name} (interface {ifindex})"
        raise AttachError(-result, attempted, _mend(-result, ifindex))
    return result


def replace_program(link_fd: int, program_fd: int, name: str) -> None:
    """Let a link run another program from the next packet on; nothing to do if its interface is gone."""
    result = library.bpf_link_update(link_fd, program_fd, None)
    if result != -errno.ENOLINK:
        check(result, f"replacing the XDP program of {name}")


def detach(link_fd: int, name: str) -> None:
    """Take a link's program off its interface, whoever else holds the link."""
    check(library.bpf_link_detach(link_fd), f"detaching XDP from {name}")


def state(link_fd: int) -> LinkState:
    """Ask the kernel about a link."""
    info = object_info(link_fd, libbpf.LinkInfo, "reading an XDP link")
    return LinkState(id=info.id, program_id=info.prog_id, ifindex=info.ifindex)


def program_name(program_id: int) -> str:
    """Return the kernel's name of a program: the first 15 characters of the C function's."""
    fd = check(library.bpf_prog_get_fd_by_id(program_id), f"opening program {program_id}")
    try:
        name: bytes = program_info(fd).name
        return name.decode()
    finally:
        os.close(fd)


def program_info(program_fd: int) -> libbpf.ProgramInfo:
    """Ask the kernel about a program."""
    return object_info(program_fd, libbpf.ProgramInfo, "reading a BPF program")


def _mend(code: int, ifindex: int) -> str:
    if ifindex not in dict(socket.if_nameindex()):
        return "there is no such interface in this network namespace"
    return _holder(ifindex) if code == errno.EBUSY else _MENDS.get(code, "")


def _holder(ifindex: int) -> str:
    query = libbpf.XdpQueryOptions()
    check(library.bpf_xdp_query(ifindex, 0, byref(query)), f"asking who holds interface {ifindex}")
    program = query.prog_id or query.drv_prog_id or query.skb_prog_id
    if not program:
        return "another kind of user holds it"
    held = f"program {program} ({program_name(program)}) holds it"
    link = next((link for link in _links() if link.ifindex == ifindex and link.program_id == program), None)
    if link:
        return f"{held} by link {link.id}: `bpftool link detach id {link.id}`, or stop the daemon that made it"
    return f"{held} without a link: `ip link set dev INTERFACE xdp off`, or stop whoever attached it"


def _links() -> list[LinkState]:
    found, number = [], c_uint32(0)
    while library.bpf_link_get_next_id(number.value, byref(number)) == 0:
        fd = library.bpf_link_get_fd_by_id(number.value)
        if fd < 0:
            continue  # gone since
        try:
            info = object_info(fd, libbpf.LinkInfo, f"reading link {number.value}")
        finally:
            os.close(fd)
        if info.type == _BPF_LINK_TYPE_XDP:
            found.append(LinkState(id=info.id, program_id=info.prog_id, ifindex=info.ifindex))
    return found
