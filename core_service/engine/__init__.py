"""Use cases: what the core does, in terms of the ports and the domain."""
