"""IKEv2 endpoints: one strongSwan daemon for each routing domain, in its compartment, driven over VICI."""
