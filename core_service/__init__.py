"""The core: agent registry, threads, runs, the event log and dispatch, behind gRPC."""
