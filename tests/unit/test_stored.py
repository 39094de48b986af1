"""Stored values: what they keep of JSON that another version wrote."""

from __future__ import annotations

import json
from random import Random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from poussetaches.core.progress import Progress
from poussetaches.core.queue import OVERRIDES, QueueOverrides, RetentionOverrides
from poussetaches.core.retry import RETRY, RetryOverrides
from poussetaches.core.stored import decode, encode
from poussetaches.core.task import Attempt, DeliveryForm, Task
from poussetaches.store.export_records import TaskRecord
from tests.factories import NOW, make_attempt, make_task

MARK = "~unknown"  # the name under which the unknown members are encoded before they are merged
# Members of a later version, in the order of this one's; numbers that no float can hold.
RETRY_JSON = (
    b'{"max_attempts":5,"dead_on":[404,"5xx"],"until":1e400,"exact":0.10000000000000000001,'
    b'"big":123456789012345678901234567890,"deep":{"~unknown": {"a":[1.10, null]}}}'
)
QUEUE_JSON = (
    b'{"burst":2,"retry":{"jitter":0.5,"spread":true},"keep_dead":{"age":1.0,"bytes":7},'
    b'"window":"9-17"}'
)

NAMES = {*RetryOverrides.__struct_fields__, MARK}
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("decoder", "text"), [(RETRY, RETRY_JSON), (OVERRIDES, QUEUE_JSON)], ids=["retry", "queue"]
)
def test_unknown_members_are_written_again_as_they_were(
    decoder: msgspec.json.Decoder[object], text: bytes
) -> None:
    assert encode(decode(decoder, text)) == text


def test_unknown_members_stay_when_others_change() -> None:
    retry = decode(RETRY, RETRY_JSON)

    changed = msgspec.structs.replace(retry, max_attempts=None, dead_on=(410,))

    assert encode(changed) == RETRY_JSON.replace(b'"max_attempts":5,', b"").replace(
        b'404,"5xx"', b"410"
    )


def test_members_that_are_known_are_read() -> None:
    queue = decode(OVERRIDES, QUEUE_JSON)

    assert (queue.burst, queue.keep_dead and queue.keep_dead.age) == (2, 1.0)
    assert queue.retry is not None
    assert queue.retry.jitter == 0.5


@given(
    st.dictionaries(st.text().filter(lambda name: name not in NAMES), values),
    st.fixed_dictionaries({}, optional={"jitter": st.floats(0, 9), "dead_on": st.just([404])}),
    st.randoms(use_true_random=False),
)
def test_any_member_of_another_version_is_written_again(
    unknown: dict[str, object], known: dict[str, object], random: Random
) -> None:
    members = [*unknown.items(), *known.items()]
    random.shuffle(members)
    text = json.dumps(dict(members))

    assert json.loads(encode(decode(RETRY, text))) == dict(members)


def test_values_differ_when_their_unknown_members_do() -> None:
    retry = decode(RETRY, b'{"jitter":0.5,"a":1}')

    assert retry == decode(RETRY, b'{ "a": 1, "jitter": 0.5 }')
    assert retry != decode(RETRY, b'{"jitter":0.5,"a":2}')
    assert retry != RetryOverrides(jitter=0.5)


def test_text_in_another_form_has_no_unknown_members() -> None:
    assert decode(RETRY, '{ "dead_on": [404], "jitter": 5e-1, "max_age": null }') == (
        RetryOverrides(jitter=0.5, dead_on=(404,))
    )


def test_members_of_another_version_are_kept_within_a_list_of_values() -> None:
    text = encode(
        TaskRecord(
            task=make_task(labels={MARK: f'"{MARK}":'}, retry=RetryOverrides()),
            attempts=[make_attempt(), make_attempt(2, progress=Progress(done=1, at=NOW))],
            ordinals=[1, 2],
        )
    )
    foreign = text.replace(b'"done":1', b'"done":1,"unit":"MB"').replace(
        b'"retry":{', b'"retry":{"spread":{"~unknown":{}}'
    )

    record = decode(msgspec.json.Decoder(TaskRecord), foreign)

    assert json_of(encode(record)) == json_of(foreign)
    assert record.attempts[0] == make_attempt()
    assert record.task.labels == {MARK: f'"{MARK}":'}


def test_text_that_looks_like_a_mark_is_written_as_it_is() -> None:
    task = make_task(labels={MARK: f'"{MARK}":{{'}, headers={f'"{MARK}"': f'{{"{MARK}":{{}}}}'})

    assert json_of(encode(task)) == json_of(msgspec.json.encode(task))


@pytest.mark.parametrize(
    "text",
    [
        '{"max_attempts":1000000,"min_backoff":-1.0,"multiplier":0.5,"jitter":7.5}',
        '{"dead_on":[600,99,"6xx","any"]}',
    ],
)
def test_stored_retry_policy_has_no_limits(text: str) -> None:
    assert encode(decode(RETRY, text)) == text.encode()


def test_stored_settings_of_a_queue_have_no_limits() -> None:
    text = '{"rate":1e9,"burst":2000000,"concurrency":0,"timeout":1e9,"keep_dead":{"count":-1}}'

    assert decode(OVERRIDES, text) == QueueOverrides(
        rate=1e9,
        burst=2_000_000,
        concurrency=0,
        timeout=1e9,
        keep_dead=RetentionOverrides(count=-1),
    )


@pytest.mark.parametrize("text", ['{"rate":0}', '{"rate":-1}', '{"burst":"2"}', "[]", "{"])
def test_settings_that_nothing_can_be_computed_with_are_refused(text: str) -> None:
    with pytest.raises(msgspec.MsgspecError):
        decode(OVERRIDES, text)


def test_attempt_without_unknown_members_is_as_it_was() -> None:
    attempt = make_attempt(progress=Progress(done=1, total=2, note="x", at=NOW))

    assert decode(msgspec.json.Decoder(Attempt), encode(attempt)) == attempt


def json_of(text: bytes) -> object:
    return msgspec.json.decode(text)


@pytest.mark.parametrize(
    ("envelope", "form"), [("true", DeliveryForm.ENVELOPE), ("false", DeliveryForm.PLAIN)]
)
def test_task_of_an_earlier_version_has_the_form_that_its_envelope_says(
    envelope: str, form: DeliveryForm
) -> None:
    task = make_task(delivery=form)
    members = encode(task).replace(f'"delivery":"{form}"'.encode(), b'"envelope":%b')
    earlier = members.replace(b"%b", envelope.encode())

    found = decode(msgspec.json.Decoder(Task), earlier)

    assert found == task


def test_envelope_of_an_earlier_version_leaves_other_unknown_members() -> None:
    text = encode(make_task()).replace(b'"delivery":"plain"', b'"envelope":true,"later":1')

    found = decode(msgspec.json.Decoder(Task), text)

    assert found.delivery is DeliveryForm.ENVELOPE
    assert found.unknown == {"later": msgspec.Raw(b"1")}


def test_record_of_an_earlier_export_holds_a_task_with_its_form() -> None:
    record = TaskRecord(task=make_task(delivery=DeliveryForm.ENVELOPE))
    text = encode(record).replace(b'"delivery":"envelope"', b'"envelope":true')

    assert decode(msgspec.json.Decoder(TaskRecord), text) == record
