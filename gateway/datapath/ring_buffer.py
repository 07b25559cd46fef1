"""Records that programs send through a BPF ring buffer."""

import ctypes

from gateway.datapath.libbpf import RingBufferCallback, check, check_pointer, library
from gateway.datapath.maps import Map


class RingBuffer:
    """The reading end of a ring buffer map; there must be only one reader."""

    def __init__(self, map_: Map) -> None:
        self._name, self._records = map_.name, list[bytes]()
        self._callback = RingBufferCallback(self._receive)  # libbpf calls it for as long as the buffer lives
        handle = library.ring_buffer__new(map_.fd, self._callback, None, None)
        self._handle = check_pointer(handle, f"map {map_.name}: opening the ring buffer")

    @property
    def epoll_fd(self) -> int:
        """A file descriptor that is readable when there are records."""
        return int(library.ring_buffer__epoll_fd(self._handle))

    def poll(self, timeout_ms: int) -> list[bytes]:
        """Wait for records for up to `timeout_ms` (-1: for ever) and take them."""
        check(library.ring_buffer__poll(self._handle, timeout_ms), f"map {self._name}: waiting for records")
        return self._take()

    def consume(self) -> list[bytes]:
        """Take all records that are there."""
        check(library.ring_buffer__consume(self._handle), f"map {self._name}: taking records")
        return self._take()

    def close(self) -> None:
        library.ring_buffer__free(self._handle)

    def _receive(self, _context: int, data: int, size: int) -> int:
        self._records.append(ctypes.string_at(data, size))
        return 0

    def _take(self) -> list[bytes]:
        records, self._records = self._records, []
        return records
