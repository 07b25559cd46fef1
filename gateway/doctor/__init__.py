"""Device preflight: whether this machine and its interfaces are fit for the datapath, and how to mend what is not."""

from gateway.doctor.examination import examine
from gateway.doctor.finding import Finding

__all__ = ["Finding", "examine"]
