"""Explicit congestion notification through tunnels (RFC 6040, section 4.2)."""

from gateway.datapath.model.verdict import DropReason, dropped

NOT_ECT, ECT_1, ECT_0, CE = 0, 1, 2, 3
MASK = 0x03


def combined(inner_class: int, outer_class: int) -> int:
    """The inner packet's traffic class after the outer header's mark has joined it; raises `ecn_not_capable`."""
    inner, outer = inner_class & MASK, outer_class & MASK
    if outer == CE:
        if inner == NOT_ECT:
            raise dropped(DropReason.ECN_NOT_CAPABLE)
        return inner_class | CE
    if outer == ECT_1 and inner == ECT_0:
        return inner_class & ~MASK | ECT_1
    return inner_class
