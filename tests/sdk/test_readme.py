"""The example in `penstock/README.md` works as it stands there."""

import re
from pathlib import Path

import penstock
from tests.sdk.conftest import StartWorker
from tests.sdk.scripted_core import ScriptedCore


async def test_the_example_of_the_readme_serves_an_agent(core: ScriptedCore, start_worker: StartWorker) -> None:
    readme = Path(penstock.__path__[0], "README.md").read_text(encoding="utf-8")
    example, _ = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    names: dict[str, object] = {}
    exec(example, names)
    app = names["app"]
    assert isinstance(app, penstock.App)
    start_worker(app)
    session = await core.welcomed()

    await session.assign("refund", "order 7")
    await session.end()

    assert session.text() == "One moment. Done."
    assert [kind for kind in session.kinds() if kind != "text"] == ["tool_call", "tool_result", "end"]
