"""The reference model: a frame's way through the gateway in plain Python, for clarity and not for speed."""
