"""The README's service of one's own: made as it says, asked by another one, and told to stop."""

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

from tests.integration.service_rig import asking
from tests.integration.services_rig import Process
from tests.services import environment_of, settings_for

GREETED = "greeted"
"""Whoever asks: other tests have the topics of their own asker."""
README = (Path(__file__).parents[2] / "README.md").read_text()


async def test_it_answers_is_registered_and_stops(broker: str, tmp_path: Path) -> None:
    code = next(block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "GreetingService" in block)
    (tmp_path / "greetings.py").write_text(code)
    own = settings_for(broker, tmp_path / "data", service="greetings:GreetingService")
    for arguments in ((), ("--service", "greetings"), ("--service", GREETED)):
        command = [sys.executable, "-m", "emis_streams", "topics", *arguments]
        await asyncio.to_thread(subprocess.run, command, env={**os.environ, **environment_of(own)}, check=True)
    run = ("-c", f"import os; os.chdir({str(tmp_path)!r}); from emis_streams.cli import main; main()")
    greetings = Process("greetings", own, (*run, "run", own.service))
    async with greetings.running(), asking(broker, name=GREETED) as asker:
        assert await asker.client.send("greetings", "greet", {"name": "Lan"}) == {"text": "Chào Lan!"}
        status, info = await greetings.ask("/info")
        assert (status, info["service"]["patterns"]) == (200, ["greet"])
