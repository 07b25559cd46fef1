"""Load the datapath and print how many instructions the verifier followed in each program."""

import ctypes

from gateway.datapath import libbpf
from gateway.datapath.build import object_path
from gateway.datapath.object_file import ObjectFile

BUDGET = 1_000_000  # BPF_COMPLEXITY_LIMIT_INSNS


class VerifiedProgramInfo(libbpf.ProgramInfo):
    """`struct bpf_prog_info` of linux/bpf.h, as of Linux 5.16."""

    _fields_ = [("unread", ctypes.c_uint32 * 34), ("verified_instructions", ctypes.c_uint32)]


def main() -> None:
    with ObjectFile.open(object_path()) as datapath:
        datapath.load()
        for name, handle in datapath.programs.items():
            fd = libbpf.library.bpf_program__fd(handle)
            info = libbpf.object_info(fd, VerifiedProgramInfo, f"asking about program {name}")
            print(f"program {name}: {info.verified_instructions:,} of {BUDGET:,} instructions")


if __name__ == "__main__":
    main()
