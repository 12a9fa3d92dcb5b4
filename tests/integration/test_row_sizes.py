"""The largest rows, on real brokers: what fits is taken, what does not is refused before it is kept."""

from pathlib import Path

import pytest

from emis_streams.engine import MOST_ROW_BYTES, RowTooLarge
from tests.integration.engine_rig import Rig, row
from tests.services import until


async def test_the_largest_row_is_taken_and_a_larger_one_keeps_nothing(broker: str, tmp_path: Path) -> None:
    rig = Rig(broker, tmp_path)
    await rig.make_topics()
    async with rig.running():
        await rig.produce({"small": row(1)})
        await until(lambda: rig.slices)
        batch = rig.slices[0]
        largest = {b"large": bytes(MOST_ROW_BYTES - len(b"large"))}
        await rig.table.write(batch, largest)
        assert (await rig.kept_in_changelog())["large"] == largest[b"large"]
        with pytest.raises(RowTooLarge, match="table kept: 1 row"):
            rig.table.write(batch, {b"large": bytes(MOST_ROW_BYTES), b"other": row(2)})
        assert sorted(rig.kept_in_table()) == ["large", "small"]
        assert rig.kept_in_table()["large"] == largest[b"large"]
