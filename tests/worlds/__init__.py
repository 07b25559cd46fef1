"""Worlds and frames for comparing the datapath's programs with the reference model."""

from tests.worlds.random_frames import random_frame
from tests.worlds.random_worlds import random_world

__all__ = ["random_frame", "random_world"]
