"""The edge: every protocol that clients speak, translated to the gRPC contract and back.

Owns sockets, frames and the words of HTTP. It keeps no run state, takes no decision, and touches no database: any edge
can serve any request and any reconnect.
"""
