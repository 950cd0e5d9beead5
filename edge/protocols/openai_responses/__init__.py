"""OpenAI's responses and conversations: a leg of a run is a response, a thread is a conversation.

`request.py`, `input.py` and `contents.py` parse; `place.py`, `messages.py` and `answers.py` find out what a request
means to the core; `responses.py` and `conversations.py` call; `encoder.py` and `response.py` encode. What was decided
for this protocol, and what it cannot say, stands in README.md.
"""

from edge.protocols.openai_responses.encoder import ResponsesEncoder
from edge.protocols.openai_responses.routes import routes

__all__ = ["ResponsesEncoder", "routes"]
