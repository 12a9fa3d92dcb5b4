"""What an error of MySQL means: that one row cannot be kept, or that there is nothing to do but wait."""

import pytest
from sqlalchemy.exc import OperationalError

from emis_streams.database_faults import Fault, fault_of


@pytest.mark.parametrize(
    ("code", "fault"),
    [
        pytest.param(1406, Fault.ROW, id="data too long"),
        pytest.param(1366, Fault.ROW, id="incorrect value"),
        pytest.param(1146, Fault.SCHEMA, id="no such table"),
        pytest.param(1213, Fault.AWAY, id="deadlock"),
        pytest.param(1290, Fault.AWAY, id="read only"),
        pytest.param(1153, Fault.AWAY, id="packet too large: a matter of the server's settings, whatever the row"),
        pytest.param(2013, Fault.AWAY, id="connection lost"),
    ],
)
def test_an_error_is_of_the_row_or_waited_for(code: int, fault: Fault) -> None:
    assert fault_of(OperationalError("INSERT …", {}, Exception(code, "said"))) is fault
