"""Why an outbox's events were not sent, in words: what the brokers answered, or that they did not."""

import pytest
from aiokafka.errors import (
    NotEnoughReplicasError,
    ProducerFenced,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
)

from emis_streams.services.errors import Denied, NotSent
from emis_streams.services.outbox_producer import _reason


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (ProducerFenced(), NotSent, "another instance"),
        (TimeoutError(), NotSent, "for 20 s"),
        (NotEnoughReplicasError(), NotSent, "NotEnoughReplicas"),
        (OSError("no route"), NotSent, "no route"),
        (TopicAuthorizationFailedError("emis.user-activity"), Denied, "topic emis.user-activity"),
        (TransactionalIdAuthorizationFailed("emis.outbox.lessons.1"), Denied, "transactional id emis.outbox.lessons.1"),
    ],
)
def test_what_the_brokers_say_is_told(error: Exception, kind: type[NotSent], text: str) -> None:
    reason = _reason(error, 20)
    assert type(reason) is kind
    assert text in str(reason)


def test_a_mistake_of_ours_is_no_reason_to_wait() -> None:
    assert _reason(KeyError("a mistake"), 20) is None
