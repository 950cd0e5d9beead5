"""The agent of the storage scenario: a prose answer of 500 pieces, about as long as the tokens of a language model."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import cycle, islice

import penstock

TOKENS = 500
PROSE = """
A reservoir keeps more water than the valley needs on any one day, and it keeps it high. Between the
reservoir and the turbines runs a pipe with a gate at its upper end. Engineers call the pipe a penstock.
When the gate opens, the column of water in the pipe begins to move, and what moves is heavy: closing the
gate too fast would burst the steel. So the gate is slow on purpose, and a surge tank beside the pipe takes
up what cannot stop at once. The operator in the control room does not see the water. She sees levels,
pressures and the frequency of the grid, each drawn as a line over the last hour, and she trusts them
because every instrument is read twice. If a turbine trips at night, its valve closes by itself, the others
take over its share, and the log of the station says what happened, in order, with nothing left out. In the
morning somebody reads that log from its first line. Most of it is dull, which is how it should be. The
interesting part is a pause of four seconds, in which the pressure rose, stayed below the mark, and fell
again. Nobody had to decide anything in these four seconds. That had been done thirty years before, on
paper, by people who asked what would break first, and then made sure that it would not. Their drawings hang
in the corridor now. They are clear, they are short, and where a number was uncertain they say so, and say
by how much.
"""

app = penstock.App("bench")


@app.agent("answer")
def answer(run: penstock.Run) -> Iterator[str]:
    """Answers with prose."""
    words = " ".join(PROSE.split())
    # Long words are more than one token; a token brings the blank before it along.
    yield from islice(cycle(re.findall(r" ?\w{1,6}|\W", words)), TOKENS)
