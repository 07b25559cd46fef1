"""What routing domains need besides the datapath: compartments, the probing of pools, and tunnels."""
