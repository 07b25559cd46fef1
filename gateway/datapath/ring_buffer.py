"""Records that programs send through a BPF ring buffer."""

import ctypes
import errno

from gateway.datapath.libbpf import RingBufferCallback, check, check_pointer, library
from gateway.datapath.maps import Map

MOST_AT_ONCE = 4096  # so that taking records ends where programs send them faster


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
        """Wait for records for up to `timeout_ms` (-1: for ever) and take up to `MOST_AT_ONCE` of them."""
        return self._take(library.ring_buffer__poll(self._handle, timeout_ms), "waiting for records")

    def consume(self) -> list[bytes]:
        """Take records that are there, up to `MOST_AT_ONCE`."""
        return self._take(library.ring_buffer__consume(self._handle), "taking records")

    def close(self) -> None:
        library.ring_buffer__free(self._handle)

    def _receive(self, _context: int, data: int, size: int) -> int:
        self._records.append(ctypes.string_at(data, size))
        return -errno.ENOBUFS if len(self._records) == MOST_AT_ONCE else 0

    def _take(self, result: int, attempted: str) -> list[bytes]:
        if result != -errno.ENOBUFS:
            check(result, f"map {self._name}: {attempted}")
        records, self._records = self._records, []
        return records
