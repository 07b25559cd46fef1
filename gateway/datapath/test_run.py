"""Packets through a loaded program without a network: BPF_PROG_TEST_RUN (Documentation/bpf/bpf_prog_run.rst)."""

import ctypes
import threading

from gateway.datapath.libbpf import BpfError, TestRunOptions, XdpContext, library

_FRAME_MAX = 1 << 17
_LIVE_FRAMES = 1 << 1


class _Buffers(threading.local):
    """What a call needs, made once per thread: a call is then little more than the system call."""

    def __init__(self) -> None:
        self.frame_out = ctypes.create_string_buffer(_FRAME_MAX)
        self.context = XdpContext()
        self.options = TestRunOptions(
            data_out=ctypes.addressof(self.frame_out),
            ctx_in=ctypes.addressof(self.context),
            ctx_size_in=ctypes.sizeof(self.context),
        )
        self.reference = ctypes.byref(self.options)


_buffers = _Buffers()


def run(prog_fd: int, frame: bytes, ifindex: int = 0, rx_queue: int = 0, repeat: int = 1) -> tuple[int, bytes]:
    """Run an XDP program on a frame (at least 14 bytes); return its XDP action and the frame as it left it.

    `ifindex` is where the frame comes in, in this network namespace; with 0 the kernel says 1, the loopback.
    """
    buffers = _buffers
    options, context = buffers.options, buffers.context
    size = len(frame)
    context.data_end, context.ingress_ifindex, context.rx_queue_index = size, ifindex, rx_queue
    options.data_in = frame
    options.data_size_in, options.data_size_out, options.repeat = size, _FRAME_MAX, repeat
    result = library.bpf_prog_test_run_opts(prog_fd, buffers.reference)
    if result:
        raise BpfError(-result, f"running a frame of {size} bytes through program {prog_fd} from interface {ifindex}")
    return options.retval, ctypes.string_at(buffers.frame_out, options.data_size_out)


def live_frames(prog_fd: int, frame: bytes, repeat: int, batch: int = 64, ifindex: int = 0) -> int:
    """Send `repeat` copies of a frame through a program with its actions carried out; return ns per frame.

    XDP_TX sends on `ifindex`; `batch` (at most 256) frames are worked on at a time.
    """
    context = XdpContext(data_end=len(frame), ingress_ifindex=ifindex)
    options = TestRunOptions(
        data_in=frame,
        data_size_in=len(frame),
        ctx_in=ctypes.addressof(context),
        ctx_size_in=ctypes.sizeof(context),
        repeat=repeat,
        flags=_LIVE_FRAMES,
        batch_size=batch,
    )
    result = library.bpf_prog_test_run_opts(prog_fd, ctypes.byref(options))
    if result:
        raise BpfError(-result, f"sending {repeat} frames of {len(frame)} bytes through program {prog_fd}")
    return int(options.duration)
