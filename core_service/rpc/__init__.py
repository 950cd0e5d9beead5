"""gRPC: servicers that call the engine, the table of refusals, health, reflection and metrics."""
