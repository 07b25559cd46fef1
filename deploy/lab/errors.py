"""What can go wrong with a lab; every message is for the person who asked for it."""


class LabError(RuntimeError):
    """A lab that cannot be built or used as asked; says why and how to mend it."""


class CommandError(LabError):
    """A command on a node failed; the message holds its words."""


class ProcessError(LabError):
    """A process did not become ready or died; the message holds the end of its log."""
