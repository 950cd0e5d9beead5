"""One WebSocket that controls runs: create, watch, steer, answer, cancel; events are the native ones.

`frames.py` parses and encodes, `requests.py` calls, `socket.py` moves events and bounds what waits, `routes.py` opens
and closes. What was decided for this protocol stands in README.md.
"""

from edge.protocols.websocket.frames import SocketEncoder
from edge.protocols.websocket.routes import routes

__all__ = ["SocketEncoder", "routes"]
