"""The one checker: every kind of violation, planted, is found, and a clean run is called clean."""

import time
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidings.bench.ledger import (
    SAMPLES,
    Attempt,
    Call,
    Database,
    Delivery,
    Ledgers,
    Receipt,
    Rules,
    Taken,
    check,
)
from tidings.bench.standin import credential_hash
from tidings.domain.delivery import Mark, State

TENANT, OTHER_TENANT, ACCOUNT, OTHER_ACCOUNT = 1, 2, 5, 6
KEY, OTHER_KEY = credential_hash("Bearer a"), credential_hash("Bearer b")
RULES = Rules(
    accounts={ACCOUNT: TENANT, OTHER_ACCOUNT: OTHER_TENANT}, credentials={KEY: TENANT, OTHER_KEY: OTHER_TENANT}
)


def notification(i: int) -> bytes:
    return UUID(int=(i << 80) | 1).bytes


def delivery(i: int) -> bytes:
    return UUID(int=(i << 80) | 2).bytes


def clean_run(count: int = 5) -> Ledgers:
    everyone = range(1, count + 1)
    return Ledgers(
        Database(
            {notification(i): TENANT for i in everyone},
            {delivery(i): Delivery(notification(i), TENANT, Mark.delivered) for i in everyone},
            {},
            {(delivery(i), 1): Attempt(ACCOUNT, sent=True) for i in everyone},
            [Receipt(delivery(i), Mark.delivered) for i in everyone],
        ),
        [Call(f"key-{i}", 202, notification(i)) for i in everyone],
        [Taken(delivery(i), 1, i, 1, KEY) for i in everyone],
    )


def found(ledgers: Ledgers, rules: Rules = RULES) -> dict[str, int]:
    return dict(check(ledgers, rules).found)


def with_delivery(ledgers: Ledgers, id_: bytes, **changes: object) -> Ledgers:
    rows = ledgers.database
    changed = {**rows.deliveries, id_: rows.deliveries[id_]._replace(**changes)}
    return with_rows(ledgers, deliveries=changed)


def with_rows(ledgers: Ledgers, **changes: object) -> Ledgers:
    return msgspec.structs.replace(ledgers, database=msgspec.structs.replace(ledgers.database, **changes))


def with_client(ledgers: Ledgers, *more: Call) -> Ledgers:
    return msgspec.structs.replace(ledgers, client=[*ledgers.client, *more])


def with_taken(ledgers: Ledgers, *more: Taken) -> Ledgers:
    return msgspec.structs.replace(ledgers, provider=[*ledgers.provider, *more])


def without(rows: dict, *keys: object) -> dict:
    return {key: row for key, row in rows.items() if key not in keys}


def test_a_clean_run_is_called_clean_and_everything_was_checked():
    report = check(clean_run(), RULES)
    assert (report.clean, report.lost, report.repeated, report.violations, report.unchecked) == (True, 0, 0, (), ())
    assert report.counts["answered_202"] == report.counts["references_taken"] == report.counts["attempts"] == 5


def test_what_was_not_given_is_named_as_unchecked():
    report = check(Ledgers(clean_run().database))
    assert report.clean
    assert len(report.unchecked) == 4
    assert report.skipped == {"I", "D", "A"}


# L


def test_an_id_that_was_answered_and_is_not_on_record_is_a_loss():
    assert found(with_client(clean_run(), Call("lost", 202, notification(99)))) == {"L": 1}


@pytest.mark.parametrize("state", [State.ready, State.leased, State.inflight, State.in_doubt])
def test_a_delivery_that_did_not_come_to_its_end_is_a_loss(state):
    run = with_rows(
        with_delivery(clean_run(), delivery(1), mark=Mark.pending), dispatches={delivery(1): state}, receipts=[]
    )
    unfinished = with_rows(run, attempts=without(run.database.attempts, (delivery(1), 1)))
    assert found(msgspec.structs.replace(unfinished, provider=run.provider[1:])) == {"L": 1}


def test_a_delivery_with_no_status_and_nothing_left_to_do_is_a_loss():
    run = clean_run()
    run = with_delivery(run, delivery(1), mark=Mark.pending)
    run = with_rows(run, attempts=without(run.database.attempts, (delivery(1), 1)), receipts=[])
    assert found(msgspec.structs.replace(run, provider=run.provider[1:])) == {"L": 1}


def test_a_notification_without_a_delivery_is_a_loss():
    run = clean_run()
    more = with_rows(run, notifications={**run.database.notifications, notification(9): TENANT})
    assert found(with_client(more, Call("key-9", 202, notification(9)))) == {"L": 1}


def test_what_is_called_sent_and_is_with_no_provider_is_a_loss_and_an_attempt_that_was_no_call():
    run = clean_run()
    assert found(msgspec.structs.replace(run, provider=run.provider[1:])) == {"L": 1, "A": 1}


def test_a_dead_letter_is_an_end():
    run = with_rows(
        with_delivery(clean_run(), delivery(1), mark=Mark.pending),
        dispatches={delivery(1): State.dead},
        receipts=[],
    )
    run = with_rows(run, attempts={**run.database.attempts, (delivery(1), 1): Attempt(ACCOUNT, sent=False)})
    assert found(msgspec.structs.replace(run, provider=run.provider[1:])) == {}


@pytest.mark.parametrize("mark", [Mark.failed, Mark.suppressed, Mark.cancelled, Mark.expired, Mark.unknown])
def test_what_was_decided_not_to_be_sent_is_an_end(mark):
    run = with_rows(with_delivery(clean_run(), delivery(1), mark=mark), receipts=[])
    run = with_rows(run, attempts=without(run.database.attempts, (delivery(1), 1)))
    assert found(msgspec.structs.replace(run, provider=run.provider[1:])) == {}


# D


def test_one_reference_taken_twice_is_a_duplicate_and_one_call_too_many():
    run = clean_run()
    twice = [run.provider[0]._replace(times=2), *run.provider[1:]]
    assert found(msgspec.structs.replace(run, provider=twice)) == {"D": 1, "A": 1}


def test_two_tries_that_were_both_taken_are_a_duplicate():
    assert found(second_try(clean_run())) == {"D": 1}


def test_a_flagged_duplicate_is_allowed_as_often_as_the_policy_says():
    run = with_delivery(second_try(clean_run()), delivery(1), duplicate_possible=True)
    assert found(run, msgspec.structs.replace(RULES, duplicates_allowed=1)) == {}
    assert found(run, msgspec.structs.replace(RULES, duplicates_allowed=0)) == {"D": 1}


def second_try(run: Ledgers) -> Ledgers:
    attempts = {**run.database.attempts, (delivery(1), 2): Attempt(ACCOUNT, sent=True)}
    return with_taken(with_rows(run, attempts=attempts), Taken(delivery(1), 2, 9, 1, KEY))


# P


def test_a_message_of_no_delivery_is_a_phantom():
    assert "P" in found(with_taken(clean_run(), Taken(delivery(77), 1, 9, 1, KEY)))


def test_a_delivery_of_no_notification_is_a_phantom():
    run = clean_run()
    orphaned = with_rows(run, notifications=without(run.database.notifications, notification(1)))
    client = [call for call in run.client if call.id != notification(1)]
    assert found(msgspec.structs.replace(orphaned, client=client)) == {"P": 1}


@pytest.mark.parametrize(("status", "phantoms"), [(0, {}), (503, {}), (409, {}), (422, {"P": 1}), (401, {"P": 1})])
def test_a_row_without_a_202_is_explained_only_by_a_client_without_an_answer(status, phantoms):
    run = clean_run()
    client = [Call("key-1", status), *run.client[1:]]
    assert found(msgspec.structs.replace(run, client=client)) == phantoms


def test_a_row_is_a_phantom_when_the_client_that_got_no_answer_was_told_another_id_later():
    run = clean_run()
    client = [Call("key-2", 0), *run.client[1:]]
    assert found(msgspec.structs.replace(run, client=client)) == {"P": 1}


# I


def test_one_key_with_two_ids_is_found():
    run = clean_run()
    client = [*run.client, Call("key-1", 202, notification(2))]
    assert found(msgspec.structs.replace(run, client=client))["I"] >= 1


def test_a_replay_that_tells_the_same_id_is_no_violation():
    assert found(with_client(clean_run(), Call("key-1", 202, notification(1)), Call("key-1", 422))) == {}


def test_one_key_with_two_accepted_bodies_is_found():
    assert found(with_client(clean_run(), Call("key-1", 202, notification(1), body=7))) == {"I": 1}


def test_two_keys_with_one_id_are_found_unless_they_were_deduplicated():
    again = Call("key-other", 202, notification(1))
    assert found(with_client(clean_run(), again)) == {"I": 1}
    assert found(with_client(clean_run(), again._replace(deduplicated=True))) == {}


# A


def test_a_call_without_an_attempt_row_is_found():
    run = clean_run()
    assert found(with_rows(run, attempts=without(run.database.attempts, (delivery(1), 1)))) == {"A": 1}


def test_an_attempt_that_says_sent_without_a_call_is_found():
    run = clean_run()
    attempts = {**run.database.attempts, (delivery(1), 2): Attempt(ACCOUNT, sent=True)}
    assert found(with_rows(run, attempts=attempts)) == {"A": 1}


def test_an_attempt_that_was_not_taken_needs_no_call():
    run = clean_run()
    attempts = {**run.database.attempts, (delivery(1), 2): Attempt(ACCOUNT, sent=False)}
    assert found(with_rows(run, attempts=attempts)) == {}


# M


def test_a_finished_delivery_with_something_left_to_do_is_found():
    assert found(with_rows(clean_run(), dispatches={delivery(1): State.ready})) == {"M": 1}


def test_a_status_below_what_a_receipt_said_is_found():
    run = with_delivery(clean_run(), delivery(1), mark=Mark.sent)
    assert found(run) == {"M": 1}


def test_a_status_below_what_an_attempt_said_is_found():
    run = with_rows(with_delivery(clean_run(), delivery(1), mark=Mark.unknown), receipts=[])
    assert found(run) == {"M": 1}


def test_a_status_that_was_seen_going_back_is_found():
    seen = [(delivery(1), Mark.sent), (delivery(1), Mark.pending), (delivery(1), Mark.delivered)]
    assert found(msgspec.structs.replace(clean_run(), sightings=seen)) == {"M": 1}


def test_a_status_that_ends_below_where_it_was_seen_is_found():
    seen = [(delivery(1), Mark.sent), (delivery(1), Mark.undelivered)]
    assert found(msgspec.structs.replace(clean_run(), sightings=seen)) == {"M": 1}


def test_a_status_that_was_seen_going_forward_is_right():
    seen = [(delivery(1), Mark.pending), (delivery(1), Mark.sent), (delivery(1), Mark.delivered)]
    assert found(msgspec.structs.replace(clean_run(), sightings=seen)) == {}


# T


def test_another_tenants_account_is_found():
    run = clean_run()
    attempts = {**run.database.attempts, (delivery(1), 1): Attempt(OTHER_ACCOUNT, sent=True)}
    assert found(with_rows(run, attempts=attempts)) == {"T": 1}


@pytest.mark.parametrize("credential", [OTHER_KEY, "unheard of", ""])
def test_another_tenants_credentials_are_found(credential):
    run = clean_run()
    provider = [run.provider[0]._replace(credential=credential), *run.provider[1:]]
    assert found(msgspec.structs.replace(run, provider=provider)) == {"T": 1}


def test_a_delivery_of_another_tenant_than_its_notification_is_found():
    run = with_delivery(clean_run(), delivery(1), tenant=OTHER_TENANT)
    assert found(run)["T"] >= 1


# the report


def test_all_violations_are_counted_and_the_first_few_shown():
    report = check(msgspec.structs.replace(clean_run(500), provider=[]), RULES)
    assert report.found == {"L": 500, "A": 500}
    assert report.lost == 500
    assert len(report.violations) == 2 * SAMPLES


def test_the_report_is_json_that_names_what_was_found():
    shown = msgspec.json.decode(msgspec.json.encode(check(second_try(clean_run()), RULES).summary()))
    assert (shown["clean"], shown["lost"], shown["repeated"], shown["violations"]) == (False, 0, 1, {"D": 1})
    assert shown["examples"][0]["id"] == delivery(1).hex()


def test_a_hundred_thousand_are_compared_in_a_moment():
    run = clean_run(100_000)
    began = time.process_time()
    assert check(run, RULES).clean
    assert time.process_time() - began < 6


@given(st.integers(0, 30))
def test_any_clean_run_is_clean(count):
    assert check(clean_run(count), RULES).clean


PLANTS = {
    "L": lambda run, i: with_client(run, Call(f"lost-{i}", 202, notification(1000 + i))),
    "D": lambda run, i: with_taken(run, Taken(delivery(i), 1, 9, 1, KEY)),
    "P": lambda run, i: with_taken(run, Taken(delivery(1000 + i), 1, 9, 1, KEY)),
    "I": lambda run, i: with_client(run, Call(f"key-{i}", 202, notification(i), body=1)),
    "A": lambda run, i: with_rows(
        run, attempts={**run.database.attempts, (delivery(i), 7): Attempt(ACCOUNT, sent=True)}
    ),
    "M": lambda run, i: with_rows(run, dispatches={**run.database.dispatches, delivery(i): State.leased}),
    "T": lambda run, i: with_rows(
        run, attempts={**run.database.attempts, (delivery(i), 8): Attempt(OTHER_ACCOUNT, sent=False)}
    ),
}


@given(st.dictionaries(st.sampled_from(sorted(PLANTS)), st.sets(st.integers(1, 10), min_size=1)))
def test_whatever_is_planted_is_found_by_its_letter(planted):
    run = clean_run(10)
    for letter, places in planted.items():
        for i in places:
            run = PLANTS[letter](run, i)
    report = check(run, RULES)
    assert report.clean == (not planted)
    assert all(report.found[letter] >= len(places) for letter, places in planted.items())


@given(st.permutations(range(5)), st.permutations(range(5)))
def test_the_order_of_the_ledgers_does_not_matter(calls, taken):
    run = second_try(clean_run())
    shuffled = Ledgers(run.database, [run.client[i] for i in calls], [run.provider[i] for i in (*taken, 5)])
    assert found(shuffled) == {"D": 1}
