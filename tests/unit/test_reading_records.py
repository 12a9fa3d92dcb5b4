"""Records of strangers are read in one way: aiokafka's own raises at header names that are not UTF-8, for ever."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("emis_streams", "agents", "tables", "web")
AIOKAFKAS_OWN = re.compile(r"\.get(one|many)\(|async for \w+ in \w*consumer\b")


def test_every_reader_takes_records_by_fetch() -> None:
    sources = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
    assert len(sources) > 100
    reading = [path.relative_to(ROOT) for path in sources if AIOKAFKAS_OWN.search(path.read_text())]
    assert reading == [], "read by `emis_streams.engine.fetch` or `emis_streams.read_topic`"
