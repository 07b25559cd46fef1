"""The eBPF datapath: compiled, loaded, fed, attached and replaced."""
