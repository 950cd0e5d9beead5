"""AG-UI 1.0, and the dialect before it that CopilotKit's client reads: a run there is a leg of a run here.

`request.py` and `messages.py` parse, `history.py` tells what is new, `routes.py` calls, `encoder.py` encodes. What was
decided for this protocol, and what it cannot say, stands in README.md.
"""

from edge.protocols.ag_ui.encoder import AgUiEncoder, View
from edge.protocols.ag_ui.paths import routes

__all__ = ["AgUiEncoder", "View", "routes"]
