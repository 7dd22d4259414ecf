"""Accepting over real HTTP: what is promised, and what comes back."""

import asyncio
import uuid
from datetime import UTC, datetime, timedelta

from tests.integration.api.rig import Api
from tidings.domain import ids

CONTENT = {"subject": "Hi", "text": "Hello"}
HELLO = {"to": {"user": "ada", "email": "ada@example.com"}, "content": CONTENT}


def someone(**more):
    return {"to": f"user-{uuid.uuid4().hex}", "content": CONTENT, **more}


async def told(api: Api, id_: str):
    answer = await api.call("GET", f"/api/v1/notifications/{id_}")
    assert answer.status == 200, answer.body
    return answer.body


async def test_an_accepted_notification_is_in_its_users_shard(api: Api):
    said = await api.send(HELLO)
    assert (said.status, said.body["status"]) == (202, "queued")
    [delivery] = said.body["deliveries"]
    assert delivery["channel"] == "email" and delivery["due_at"].endswith("Z")
    id_ = uuid.UUID(said.body["id"])
    assert ids.slot_in(id_) == ids.slot_of(api.system.tenant, "ada")
    rows = await api.system.rows("SELECT user_id, tenant FROM notification WHERE id = $1", id_)
    assert [tuple(row) for row in rows] == [("ada", api.system.tenant)]


async def test_every_answer_has_a_request_id_and_a_sane_one_is_kept(api: Api):
    assert len((await api.send(HELLO)).headers["x-request-id"]) >= 16
    assert (await api.send(HELLO, X_Request_Id="mine-1")).headers["x-request-id"] == "mine-1"
    assert (await api.send(HELLO, X_Request_Id="not sane!")).headers["x-request-id"] != "not sane!"
    refused = await api.send({}, X_Request_Id="mine-2", traceparent="00-" + "a" * 32 + "-" + "b" * 16 + "-01")
    assert refused.body["request_id"] == refused.headers["x-request-id"] == "mine-2"


async def test_a_template_is_fixed_at_accept_and_brings_its_category(api: Api):
    said = await api.send({"to": "ada", "template": "order_confirmation", "data": {"order": 1}})
    assert said.status == 202
    story = await told(api, said.body["id"])
    assert story["category"] == "general" and story["template_version"] is not None
    assert story["data"] == {"order": 1} and story["content"] is None


async def test_what_the_caller_gave_comes_back(api: Api):
    body = someone(reference="order-7", metadata={"order": "7"}, reply_to="reply@example.com", category="news")
    story = await told(api, (await api.send(body)).body["id"])
    assert (story["reference"], story["metadata"], story["category"]) == ("order-7", {"order": "7"}, "news")
    assert story["reply_to"] == "reply@example.com" and story["content"] == CONTENT


async def test_a_recipient_without_a_user_id_is_known_by_the_address(api: Api):
    first = await api.send({"to": {"email": "Stranger@example.com"}, "content": CONTENT})
    second = await api.send({"to": {"email": "stranger@example.com"}, "content": CONTENT})
    users = {(await told(api, one.body["id"]))["user"] for one in (first, second)}
    assert len(users) == 1 and users.pop().startswith("~")


async def test_a_repeated_key_gets_the_first_answer_and_stores_nothing(api: Api):
    body = someone()
    first = await api.send(body, Idempotency_Key="key-1")
    again = await api.send(dict(reversed(body.items())), X_Idempotency_Key="key-1")
    assert (first.status, again.status) == (202, 202)
    assert "idempotent-replayed" not in first.headers and again.headers["idempotent-replayed"] == "true"
    assert first.body["id"] == again.body["id"]
    assert again.body["deliveries"][0]["id"] == first.body["deliveries"][0]["id"]
    assert again.body["status"] == "queued"
    rows = await api.system.rows("SELECT 1 FROM notification WHERE user_id = $1", body["to"])
    assert len(rows) == 1


async def test_the_same_key_with_another_body_is_refused(api: Api):
    body = someone()
    await api.send(body, Idempotency_Key="key-2")
    other = await api.send({**body, "data": {"n": 2}}, Idempotency_Key="key-2")
    assert (other.status, other.code) == (422, "idempotency_key_reused")


async def test_a_key_belongs_to_one_user_of_one_tenant(api: Api):
    body = {"to": "shared", "content": CONTENT}
    first = await api.send(body, Idempotency_Key="key-3")
    other_user = await api.send(someone(), Idempotency_Key="key-3")
    other_tenant = await api.send(body, api.other, Idempotency_Key="key-3")
    answers = (first, other_user, other_tenant)
    assert len({one.body["id"] for one in answers}) == 3
    assert all("idempotent-replayed" not in one.headers for one in answers)


async def test_many_at_once_with_one_key_are_one_notification(api: Api):
    body = someone()
    answers = await asyncio.gather(*(api.send(body, Idempotency_Key="key-4") for _ in range(40)))
    assert {one.status for one in answers} <= {202, 409}
    assert len({one.body["id"] for one in answers if one.status == 202}) == 1
    assert sum("idempotent-replayed" not in one.headers for one in answers if one.status == 202) == 1


async def test_a_deduplication_key_answers_with_the_first_id(api: Api):
    body = someone(deduplication_key="order-9")
    first, second = await api.send(body), await api.send(body)
    assert "deduplicated" not in first.body
    assert (second.status, second.body["deduplicated"], second.body["id"]) == (202, True, first.body["id"])
    assert second.body["deliveries"][0]["id"] == first.body["deliveries"][0]["id"]
    by_template = {"to": body["to"], "template": "order_confirmation", "deduplication_key": "order-9"}
    assert "deduplicated" not in (await api.send(by_template)).body


async def test_a_list_of_recipients_is_answered_like_a_batch(api: Api):
    body = {"to": ["one", {"user": "two"}, {"email": "no address"}], "content": CONTENT}
    said = await api.send(body, Idempotency_Key="list-1")
    assert (said.status, said.body["accepted"], said.body["refused"]) == (202, 2, 1)
    good, _, bad = said.body["results"]
    assert good["replayed"] is False and good["status"] == "queued"
    assert bad["problem"]["errors"][0]["pointer"] == "/to/2/email"
    again = await api.send(body, Idempotency_Key="list-1")
    assert [one.get("id") for one in again.body["results"]] == [one.get("id") for one in said.body["results"]]
    assert again.body["results"][0]["replayed"] is True


async def test_a_batch_accepts_the_good_ones_in_order(api: Api):
    items = [someone(), {"content": CONTENT}, someone(nonsense=1), someone(idempotency_key="own"), someone()]
    said = await api.call("POST", "/api/v1/notifications/batch", {"notifications": items})
    assert (said.status, said.body["accepted"], said.body["refused"]) == (202, 3, 2)
    problems = [one["problem"] for one in said.body["results"] if "problem" in one]
    assert [(one["code"], one["status"], one["errors"][0]["pointer"]) for one in problems] == [
        ("missing_field", 422, "/notifications/1/to"),
        ("unknown_field", 422, "/notifications/2/nonsense"),
    ]
    for item, result in zip(items, said.body["results"], strict=True):
        if "id" in result:
            assert (await told(api, result["id"]))["user"] == item["to"]


async def test_a_batch_may_be_empty_or_all_wrong(api: Api):
    empty = await api.call("POST", "/api/v1/notifications/batch", {"notifications": []})
    assert (empty.status, empty.body) == (202, {"accepted": 0, "refused": 0, "results": []})
    wrong = await api.call("POST", "/api/v1/notifications/batch", {"notifications": [{}, 7]})
    assert (wrong.status, wrong.body["accepted"], wrong.body["refused"]) == (202, 0, 2)


async def test_a_repeated_batch_replays_what_it_had(api: Api):
    body = {"notifications": [someone(), someone(idempotency_key="mine"), {"to": "x"}]}
    headers = {"Idempotency-Key": "batch-1"}
    first = await api.call("POST", "/api/v1/notifications/batch", body, headers=headers)
    body["notifications"].append(someone())
    again = await api.call("POST", "/api/v1/notifications/batch", body, headers=headers)
    assert [one.get("replayed") for one in again.body["results"]] == [True, True, None, False]
    assert [one.get("id") for one in first.body["results"]] == [one.get("id") for one in again.body["results"][:3]]


async def test_one_key_twice_in_a_batch_is_one_notification(api: Api):
    item = someone(idempotency_key="twice")
    said = await api.call("POST", "/api/v1/notifications/batch", {"notifications": [item, item]})
    first, second = said.body["results"]
    assert first["id"] == second["id"] and {first["replayed"], second["replayed"]} == {True, False}


async def test_a_flood_with_one_key_takes_a_few_statements_and_holds_up_nobody(api: Api):
    user, key = f"user-{uuid.uuid4().hex}", uuid.uuid4().hex
    bodies = [
        {"to": user, "content": {**CONTENT, "text": f"Hello {n % 3}"}, "idempotency_key": key} for n in range(999)
    ]
    before = flushed(api)
    flood = [api.call("POST", "/api/v1/notifications/batch", {"notifications": bodies}) for _ in range(5)]
    *batches, other = await asyncio.gather(*flood, api.send(someone()))
    assert other.status == 202
    results = [one for said in batches for one in said.body["results"]]
    taken = [one for one in results if "id" in one]
    assert len({one["id"] for one in taken}) == 1
    assert [one["replayed"] for one in taken].count(False) == 1, "the first one"
    assert len(taken) == len(results) / 3
    assert {one["problem"]["code"] for one in results if "problem" in one} == {"idempotency_key_reused"}
    assert flushed(api) - before < 20


async def test_a_flood_with_one_deduplication_key_takes_a_few_statements(api: Api):
    body = someone(deduplication_key="d")
    before = flushed(api)
    said = await api.call("POST", "/api/v1/notifications/batch", {"notifications": [body] * 1_000})
    assert len({one["id"] for one in said.body["results"]}) == 1
    assert [one["deduplicated"] for one in said.body["results"]] == [False] + [True] * 999
    assert flushed(api) - before < 20


def flushed(api: Api) -> float:
    """Rows that the acceptor's statements have carried so far."""
    lines = api.core.telemetry.exposition().decode().splitlines()
    return sum(float(line.split()[1]) for line in lines if line.startswith("tidings_flushed_rows_total "))


async def test_a_batch_has_at_most_a_thousand(api: Api):
    said = await api.call("POST", "/api/v1/notifications/batch", {"notifications": [someone()] * 1001})
    assert (said.status, said.pointers) == (422, ["/notifications"])


async def test_a_later_instant_is_scheduled_and_a_past_one_is_now(api: Api):
    later = (datetime.now(UTC) + timedelta(days=2)).isoformat(timespec="milliseconds")
    said = await api.send(someone(send_at=later))
    assert said.body["status"] == said.body["deliveries"][0]["status"] == "scheduled"
    assert said.body["deliveries"][0]["due_at"] == later.replace("+00:00", "Z")
    assert (await told(api, said.body["id"]))["status"] == "scheduled"
    for past in ("2001-01-01T00:00:00Z", "0001-01-01T00:00:00+05:00"):
        assert (await api.send(someone(send_at=past))).body["status"] == "queued"


async def test_a_year_ahead_is_not_too_far(api: Api):
    year = datetime.now(UTC) + timedelta(days=365)
    assert (await api.send(someone(send_at=year.isoformat()))).status == 202
    said = await api.send(someone(send_at=(year + timedelta(days=1, minutes=2)).isoformat()))
    assert (said.status, said.code, said.pointers) == (422, "too_far_ahead", ["/send_at"])


async def test_an_address_that_cannot_be_used_is_left_out_beside_a_user(api: Api):
    said = await api.send({"to": {"user": "nobody-known", "email": "not an address"}, "content": CONTENT})
    assert said.status == 202, said.body
    assert (await told(api, said.body["id"]))["deliveries"][0]["address"] is None


async def test_a_wall_time_means_its_zone(api: Api):
    local = (datetime.now(UTC) + timedelta(days=30)).strftime("%Y-%m-%dT12:00")
    tokyo = await api.send(someone(send_at={"local": local, "zone": "Asia/Tokyo"}))
    assert tokyo.body["deliveries"][0]["due_at"] == local[:11] + "03:00:00.000Z"
    own = {"to": {"user": "ada", "zone": "Asia/Tokyo"}, "content": CONTENT, "send_at": {"local": local, "zone": "user"}}
    assert (await api.send(own)).body["deliveries"][0]["due_at"] == local[:11] + "03:00:00.000Z"


async def test_expiry_counts_from_the_time_of_sending(api: Api):
    later = datetime.now(UTC) + timedelta(hours=3)
    said = await api.send(someone(send_at=later.isoformat(), expires_after_s=60))
    story = await told(api, said.body["id"])
    assert datetime.fromisoformat(story["expires_at"]) - later < timedelta(seconds=61)


async def test_cancelling_stops_what_has_not_left(api: Api):
    later = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    said = await api.send(someone(send_at=later))
    path = f"/api/v1/notifications/{said.body['id']}"
    stopped = await api.call("POST", path + "/cancel")
    assert stopped.status == 200, stopped.body
    assert stopped.body["status"] == "cancelled"
    assert stopped.body["cancelled"] == [said.body["deliveries"][0]["id"]]
    again = await api.call("POST", path + "/cancel")
    assert (again.status, again.code) == (409, "too_late")
    story = await told(api, said.body["id"])
    assert story["deliveries"][0]["reason"] == "cancelled" and story["timeline"][-1]["what"] == "cancelled"


async def test_a_client_that_goes_away_does_not_stop_the_commit(api: Api):
    body = someone()
    for _ in range(20):
        asking = asyncio.create_task(api.send(body, Idempotency_Key="gone"))
        await asyncio.sleep(0)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
    last = await api.send(body, Idempotency_Key="gone")
    assert last.status == 202
    assert len(await api.system.rows("SELECT 1 FROM notification WHERE user_id = $1", body["to"])) == 1


async def test_a_duplicate_with_a_key_of_its_own_is_a_duplicate_first_and_a_replay_later(api: Api):
    body = someone(deduplication_key="parcel-1")
    first = await api.send(body, Idempotency_Key="mine-1")
    duplicate = await api.send(body, Idempotency_Key="mine-2")
    replay = await api.send(body, Idempotency_Key="mine-2")
    assert {one.body["id"] for one in (first, duplicate, replay)} == {first.body["id"]}
    assert duplicate.body["deduplicated"] and "idempotent-replayed" not in duplicate.headers
    assert replay.headers["idempotent-replayed"] == "true"
