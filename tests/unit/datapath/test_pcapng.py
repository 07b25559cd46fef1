"""pcapng as scapy reads it."""

import io

from scapy.layers.l2 import Ether
from scapy.utils import PcapNgReader

from gateway.datapath.pcapng import Writer

TIME = 1_800_000_000_123_456_789
FRAME = bytes(Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02", type=0x9000)) + b"sixty"


def test_frames_keep_interface_time_length_direction_and_comment() -> None:
    stream = io.BytesIO()
    writer = Writer(stream, 256, "tenant-gateway 1")
    first, second = writer.interface("eth1"), writer.interface("eth2-ünder")
    writer.packet(first, TIME, FRAME, len(FRAME), False, "forwarded; domain blüe; before")
    writer.packet(second, TIME + 1, FRAME[:15], 1500, True, "")
    stream.seek(0)
    came, left = PcapNgReader(stream)
    assert bytes(came) == FRAME
    assert [bytes(each).decode() for each in came.comments] == ["forwarded; domain blüe; before"]
    assert (came.direction, left.direction) == (1, 2)
    assert (came.sniffed_on, left.sniffed_on) == ("eth1", "eth2-ünder")
    assert int(came.time * 10**9) == TIME
    assert int(left.time * 10**9) == TIME + 1
    assert (len(bytes(left)), left.wirelen) == (15, 1500)
