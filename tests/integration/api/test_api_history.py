"""What became of it: one notification's story, a user's history, searching."""

import uuid
from datetime import UTC, datetime, timedelta

from tests.integration.api.rig import Api
from tidings.domain.delivery import Mark
from tidings.domain.dispatch import Again, Bury, Doubt, Finish
from tidings.domain.ids import ShardNumber, slot_in
from tidings.domain.lanes import Channel, Class, lane_of
from tidings.domain.outcome import Receipt, Sent, TryLater, Unsure
from tidings.ports import Settled
from tidings.storage.dispatches import DispatchStore
from tidings.storage.receipts import ReceiptStore

CONTENT = {"subject": "Hi", "text": "Hello"}


def someone():
    return f"user-{uuid.uuid4().hex}"


async def sent(api: Api, user: str, **more) -> str:
    said = await api.send({"to": {"user": user, "email": "a@example.com"}, "content": CONTENT, **more})
    assert said.status == 202, said.body
    return said.body["id"]


async def lived(api: Api, id_: str, *ends) -> None:
    """The delivery of a notification goes through calls that end so."""
    async with api.system.open() as shards:
        store = DispatchStore(shards, shards, 60.0, 20.0)
        delivery = (await api.call("GET", f"/api/v1/notifications/{id_}")).body["deliveries"][0]["id"]
        shard = api.system.catalog.shard(slot_in(uuid.UUID(id_)))
        for token, (to, said) in enumerate(ends, 1):
            await shards.fetch(shard, "UPDATE dispatch SET due_at = now() WHERE id = $1", uuid.UUID(delivery))
            held = await store.claim(shard, {lane_of(Channel.email, Class.transactional): 1_000}, token)
            [mine] = [one for one in held if str(one.id) == delivery]
            n = 0
            if said is not None:
                [marked] = await store.mark(shard, [mine.id], [token], [1])
                n = marked.n
            settled = Settled(mine.id, token, n, to, 1, said, started_at=mine.now, took_ms=5)
            assert await store.settle(shard, [settled]) == [mine.id]
            others = [one for one in held if str(one.id) != delivery]
            await store.give_back(shard, [one.id for one in others], [token] * len(others))


async def story_of(api: Api, id_: str):
    said = await api.call("GET", f"/api/v1/notifications/{id_}")
    assert said.status == 200, said.body
    return said.body


async def test_the_timeline_tells_attempts_and_receipts_in_order(api: Api):
    id_ = await sent(api, someone())
    later = TryLater("rate_limited", "slow down")
    await lived(api, id_, (Again(60.0, "rate_limited", spent=1), later), (Finish(Mark.sent), Sent("m-1")))
    story = await story_of(api, id_)
    [delivery] = story["deliveries"]
    async with api.system.open() as shards:
        shard = api.system.catalog.shard(slot_in(uuid.UUID(id_)))
        reference = uuid.UUID(delivery["id"]).hex + "-2"
        receipt = Receipt(reference, "e-1", "delivered", "delivered", None, "m-1", datetime.now(UTC), b"{}")
        account = next(one for one in api.core.catalog().accounts.values() if one.tenant == api.system.tenant)
        await ReceiptStore(shards, api.core.address_hash).file(shard, account, [receipt])
    story = await story_of(api, id_)
    [delivery] = story["deliveries"]
    assert (story["status"], delivery["status"], delivery["due_at"]) == ("delivered", "delivered", None)
    assert [(one["n"], one["outcome"], one["code"]) for one in delivery["attempts"]] == [
        (1, "try_later", "rate_limited"),
        (2, "sent", "accepted"),
    ]
    assert delivery["receipts"][0]["kind"] == "delivered" and delivery["receipts"][0]["provider"] == "sendgrid"
    lines = [line["what"] for line in story["timeline"]]
    assert lines[0] == "accepted" and lines[-1] == "receipt: delivered"
    assert lines.index("try 1: try_later") < lines.index("try 2: sent")
    assert [line["at"] for line in story["timeline"]] == sorted(line["at"] for line in story["timeline"])


async def test_every_state_is_shown_as_callers_know_it(api: Api):
    ends = {
        "sent": (Finish(Mark.sent), Sent("m")),
        "failed": (Finish(Mark.failed, "provider_refused"), TryLater("x")),
        "suppressed": (Finish(Mark.suppressed, "no_address"), None),
        "expired": (Finish(Mark.expired, "expired"), None),
        "in_doubt": (Doubt("timeout", 60.0), Unsure("timeout")),
        "dead": (Bury("attempts_used"), TryLater("x")),
        "queued": (Again(0.0, "breaker_open"), None),
    }
    for status, end in ends.items():
        id_ = await sent(api, someone())
        await lived(api, id_, end)
        story = await story_of(api, id_)
        assert (story["status"], story["deliveries"][0]["reason"]) == (status, end[0].reason), status


async def test_a_users_history_is_newest_first_and_paged_to_the_end(api: Api):
    user = someone()
    made = [await sent(api, user) for _ in range(7)]
    path, seen = f"/api/v1/users/{user}/notifications?limit=3", []
    page = (await api.call("GET", path)).body
    while page["next"]:
        seen += page["items"]
        page = (await api.call("GET", f"{path}&after={page['next']}")).body
    seen += page["items"]
    assert [one["id"] for one in seen] == sorted(made, reverse=True)
    same = (await api.call("GET", f"/api/v1/notifications?user={user}&limit=200")).body
    assert [one["id"] for one in same["items"]] == [one["id"] for one in seen] and same["next"] is None


async def test_history_is_filtered_by_status_category_channel_and_time(api: Api):
    user = someone()
    plain = await sent(api, user)
    news = await sent(api, user, category="news")
    await lived(api, plain, (Finish(Mark.sent), Sent("m")))
    base = f"/api/v1/users/{user}/notifications?"
    hour = timedelta(hours=1)
    for query, wanted in {
        "status=sent": [plain],
        "status=queued": [news],
        "category=news": [news],
        "channel=email": [news, plain],
        "channel=sms": [],
        f"since={(datetime.now(UTC) + hour).isoformat()}": [],
        f"until={(datetime.now(UTC) - hour).isoformat()}": [],
        f"since={(datetime.now(UTC) - hour).isoformat()}": [news, plain],
        "since=0001-01-01T00:00:00Z&until=9999-12-31T23:59:59Z": [news, plain],
    }.items():
        found = await api.call("GET", base + query)
        assert [one["id"] for one in found.body["items"]] == wanted, (query, found.body)


async def test_a_reference_is_found_whoever_it_went_to(api: Api):
    reference = f"order {uuid.uuid4()}"
    made = [await sent(api, someone(), reference=reference) for _ in range(6)]
    shards = {api.system.catalog.shard(slot_in(uuid.UUID(one))) for one in made}
    assert shards == {ShardNumber(0), ShardNumber(1)}
    found = (await api.call("GET", "/api/v1/notifications", params={"reference": reference})).body
    assert [one["id"] for one in found["items"]] == sorted(made, reverse=True)


async def test_a_search_over_all_users_has_a_window(api: Api):
    made = await sent(api, someone())
    recent = (await api.call("GET", "/api/v1/notifications?limit=5")).body
    assert recent["items"][0]["id"] == made and recent["next"]
    week = (datetime.now(UTC) - timedelta(days=7)).isoformat()
    assert (await api.call("GET", "/api/v1/notifications", params={"since": week})).status == 200
    longer = (datetime.now(UTC) - timedelta(days=7, minutes=2)).isoformat()
    said = await api.call("GET", "/api/v1/notifications", params={"since": longer})
    assert (said.status, said.code) == (422, "window_too_long")
    assert (await api.call("GET", "/api/v1/notifications", params={"until": "0001-01-01T00:00:00Z"})).status == 200


async def test_a_time_that_is_due_never_lies_behind_the_expiry(api: Api):
    made = await sent(api, someone(), expires_after_s=3600)
    shard = api.system.catalog.shard(slot_in(uuid.UUID(made)))
    for state, shown in ((0, True), (1, True), (2, True), (3, True), (4, False)):
        async with api.system.open() as shards:
            late = (
                "UPDATE dispatch SET state = $2, due_at = now() + interval '2 hours' WHERE id IN "
                "(SELECT id FROM delivery WHERE notification_id = $1)"
            )
            await shards.fetch(shard, late, uuid.UUID(made), state)
        story = (await api.call("GET", f"/api/v1/notifications/{made}")).body
        assert (story["deliveries"][0]["due_at"] == story["expires_at"]) == shown, story


async def test_a_list_takes_no_parameter_that_it_does_not_know(api: Api):
    for query, pointer in (("limit=0", "?limit"), ("limit=201", "?limit"), ("nonsense=1", "?nonsense"),
                           ("after=x", "?after"), ("since=x", "?since"), ("status=x", "?status")):  # fmt: skip
        said = await api.call("GET", f"/api/v1/notifications?{query}")
        assert (said.status, said.pointers) == (422, [pointer]), said.body


async def test_a_user_id_may_hold_any_character(api: Api):
    for user in ("org/7 ä?&#%", "a+b", "..", "%2F"):
        made = await sent(api, user)
        found = await api.call("GET", f"/api/v1/users/{quoted(user)}/notifications")
        assert found.body["items"][0]["id"] == made, user


def quoted(user: str) -> str:
    return "".join(f"%{byte:02X}" for byte in user.encode())


async def test_dead_letters_are_grouped_replayed_and_discarded(api: Api):
    first, second = [await sent(api, someone()) for _ in range(2)]
    for id_ in (first, second):
        await lived(api, id_, (Bury("template_error", "line 3"), None))
    groups = (await api.call("GET", "/api/v1/dead-letters")).body["items"]
    group = next(one for one in groups if one["reason"] == "template_error")
    assert group["count"] >= 2 and group["channel"] == "email"
    story = await story_of(api, first)
    assert story["deliveries"][0]["detail"] == "line 3" and story["timeline"][-1]["what"] == "buried"
    delivery = story["deliveries"][0]["id"]
    letter = f"/api/v1/dead-letters/{delivery}"
    told = (await api.call("GET", letter)).body
    assert (told["reason"], told["detail"], told["notification"]["id"]) == ("template_error", "line 3", first)
    assert (await api.call("GET", letter, key=api.other)).status == 404
    dry = await api.call("POST", "/api/v1/dead-letters/replay", {"ids": [delivery], "dry_run": True})
    assert (dry.body["ids"], dry.body["more"]) == ([delivery], False)
    assert (await story_of(api, first))["status"] == "dead"
    assert (await api.call("POST", "/api/v1/dead-letters/replay", {"ids": [delivery]})).body["ids"] == [delivery]
    assert (await story_of(api, first))["status"] == "queued"
    assert (await api.call("GET", letter)).code == "not_found"
    gone = await api.call("POST", "/api/v1/dead-letters/discard", {"reason": "template_error"})
    assert len(gone.body["ids"]) >= 1
    assert (await story_of(api, second))["status"] == "dead"
    assert all(
        one["reason"] != "template_error" for one in (await api.call("GET", "/api/v1/dead-letters")).body["items"]
    )


async def test_replaying_needs_a_choice(api: Api):
    said = await api.call("POST", "/api/v1/dead-letters/replay", {})
    assert (said.status, said.code) == (422, "missing_field")
