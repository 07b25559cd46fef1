"""Policy's algorithms as strongSwan's proposals, and what each adds to a packet in bytes."""

from dataclasses import dataclass

from gateway.policy.model import EspProposal, IkeProposal

TUN_MTU = 1400  # strongSwan's libipsec reads no more from its TUN device and silently loses the rest
_ICV_BYTES = {"sha256": 16, "sha384": 24, "sha512": 32}  # RFC 4868 section 2.3: half of the digest
_GCM_IV_BYTES, _GCM_ICV_BYTES, _GCM_ALIGNMENT = 8, 16, 4  # RFC 4106
_CBC_IV_BYTES, _CBC_ALIGNMENT = 16, 16  # RFC 3602
_ESP_HEADER_BYTES, _ESP_TRAILER_BYTES, _UDP_HEADER_BYTES = 8, 2, 8  # RFC 4303 section 2, RFC 3948
_IP_HEADER_BYTES = {4: 20, 6: 40}
_DEFAULT_INTEGRITY = "sha256"


@dataclass(frozen=True, slots=True)
class Overhead:
    """What ESP adds to a packet: fixed bytes, and the alignment of what is encrypted."""

    fixed: int
    alignment: int

    def inner_mtu(self, path_mtu: int) -> int:
        """Return the largest inner packet, in bytes, that fits a path's MTU."""
        return (path_mtu - self.fixed) // self.alignment * self.alignment - _ESP_TRAILER_BYTES


def ike_proposal(ike: IkeProposal) -> str:
    """Return strongSwan's words for an IKE proposal; with AES-GCM the integrity names the PRF (RFC 5282)."""
    return f"{ike.encryption}-{'prf' if _is_aead(ike.encryption) else ''}{ike.integrity}-{ike.dh_group}"


def esp_proposal(esp: EspProposal) -> str:
    """Return strongSwan's words for an ESP proposal."""
    integrity = None if _is_aead(esp.encryption) else esp.integrity or _DEFAULT_INTEGRITY
    return "-".join(word for word in (esp.encryption, integrity, esp.pfs_group) if word)


def overhead(esp: EspProposal, outer_version: int, encapsulated: bool) -> Overhead:
    """Return what tunnel mode adds around an inner packet, with or without UDP encapsulation."""
    outer = _IP_HEADER_BYTES[outer_version] + _ESP_HEADER_BYTES + (_UDP_HEADER_BYTES if encapsulated else 0)
    if _is_aead(esp.encryption):
        return Overhead(outer + _GCM_IV_BYTES + _GCM_ICV_BYTES, _GCM_ALIGNMENT)
    return Overhead(outer + _CBC_IV_BYTES + _ICV_BYTES[esp.integrity or _DEFAULT_INTEGRITY], _CBC_ALIGNMENT)


def _is_aead(encryption: str) -> bool:
    return "gcm" in encryption
