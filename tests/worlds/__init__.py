"""Worlds and frames for comparing the datapath's programs with the reference model."""

from tests.worlds.random_frames import random_frame
from tests.worlds.random_worlds import random_world
from tests.worlds.small import small_frames, small_worlds

__all__ = ["random_frame", "random_world", "small_frames", "small_worlds"]
