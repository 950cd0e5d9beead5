"""OpenAI's chat completions and models: an agent is a model, a request is a run.

`request.py` and `messages.py` parse, `routes.py` calls, `encoder.py` and `answer.py` encode. What was decided for this
protocol, and what it cannot say, stands in README.md.
"""

from edge.protocols.openai_chat.encoder import ChatEncoder
from edge.protocols.openai_chat.routes import routes

__all__ = ["ChatEncoder", "routes"]
