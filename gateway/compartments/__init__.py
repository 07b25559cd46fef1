"""A routing domain's network namespace, for what needs a Linux network stack: IKE, probes."""
