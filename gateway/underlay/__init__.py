"""The provider network as Linux sees it: how each provider address is reached, kept true by netlink."""
