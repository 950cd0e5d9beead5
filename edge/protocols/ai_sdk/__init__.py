"""The Vercel AI SDK, versions 6 and 7: a chat is a thread, an answer is a run.

`request.py` and `messages.py` parse, `turns.py` decides what a request asks of the core, `routes.py` calls,
`encoder.py`, `chunks.py` and `text.py` encode. What was decided for this protocol stands in README.md.
"""

from edge.protocols.ai_sdk.encoder import MessageEncoder
from edge.protocols.ai_sdk.routes import routes

__all__ = ["MessageEncoder", "routes"]
