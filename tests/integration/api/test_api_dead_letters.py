"""Dead letters as people work with them: found by what they have in common, looked at, mended, sent after all."""

import asyncio
import secrets
import uuid
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
import pytest_asyncio

from tests.integration.api.rig import Api
from tests.integration.api.test_api_history import lived, sent, someone, story_of
from tidings.domain.claimed import Claimed
from tidings.domain.dispatch import Bury
from tidings.domain.ids import Slot, compose
from tidings.domain.lanes import Channel, Class, lane_of
from tidings.domain.outcome import Refused, TryNext
from tidings.storage.dispatches import DispatchStore

PATH = "/api/v1/dead-letters"
AWAY = (Bury("attempts_used"), TryNext("http_503", "come back later"))
REFUSED = (Bury("attempts_used"), Refused("http_418", "no coffee"))
NO_PLAN = (Bury("template_error", "order is undefined"), None)


async def buried(api: Api, *ends, **more) -> list[str]:
    """The deliveries of notifications that ended so, in the order of their burials."""
    found = []
    for end in ends:
        id_ = await sent(api, someone(), **more)
        await lived(api, id_, end)
        found.append((await story_of(api, id_))["deliveries"][0]["id"])
    return found


async def nothing(api: Api) -> None:
    """No dead letters from before."""
    await api.system.rows("DELETE FROM dispatch WHERE lane = 3")


@pytest_asyncio.fixture
async def board(api: Api) -> Api:
    await nothing(api)
    return api


async def each(api: Api, query: str = "") -> list[str]:
    said = await api.call("GET", f"{PATH}/each?{query}")
    assert said.status == 200, said.body
    return [one["id"] for one in said.body["items"]]


async def letter(api: Api, id_: str) -> dict:
    said = await api.call("GET", f"{PATH}/{id_}")
    assert said.status == 200, said.body
    return said.body


async def edited(api: Api, id_: str, **body) -> dict:
    said = await api.call("PATCH", f"{PATH}/{id_}", body)
    assert said.status == 200, said.body
    return said.body


async def due_s(api: Api, *ids: str) -> list[float]:
    """When they are due, in seconds from now."""
    rows = await api.system.rows("SELECT id, extract(epoch FROM due_at - now()) AS s FROM dispatch WHERE state = 0")
    found = {str(row["id"]): float(row["s"]) for row in rows}
    return [found[id_] for id_ in ids]


async def test_letters_are_counted_by_reason_provider_code_and_template(board: Api):
    await buried(board, AWAY, AWAY, REFUSED, NO_PLAN)
    templated = await board.send({"to": {"user": someone(), "email": "a@b.example"}, "template": "order_confirmation"})
    await lived(board, templated.body["id"], NO_PLAN)
    said = (await board.call("GET", PATH)).body
    shown = {(one["reason"], one["provider"], one["code"], one["template"]): one["count"] for one in said["items"]}
    assert shown == {
        ("attempts_used", "sendgrid", "http_503", None): 2,
        ("attempts_used", "sendgrid", "http_418", None): 1,
        ("template_error", None, None, None): 1,
        ("template_error", None, None, "order_confirmation"): 1,
    }
    assert said["complete"] is True and said["next"] is None
    assert said["items"][0]["count"] == 2, "the most frequent first"
    assert all(one["first_at"] <= one["last_at"] for one in said["items"])


async def test_all_versions_of_a_template_are_one_cause(board: Api):
    name = f"t-{uuid.uuid4().hex}"
    for n in range(2):
        body = {"content": {"subject": f"{n}", "text": "{{ absent.field }}"}}
        assert (await board.call("PUT", f"/api/v1/templates/{name}", body)).status == 200
        said = await board.send({"to": {"user": someone(), "email": "a@b.example"}, "template": name})
        await lived(board, said.body["id"], NO_PLAN)
    [cause] = (await board.call("GET", f"{PATH}?template={name}")).body["items"]
    assert (cause["template"], cause["count"]) == (name, 2)
    assert len(await each(board, f"template={name}")) == 2
    assert cause["latest"] == (await each(board, f"template={name}"))[0]


@pytest.mark.parametrize(
    ("query", "places"),
    [
        ("reason=attempts_used", [2, 1, 0]),
        ("code=http_503", [1, 0]),
        ("provider=sendgrid&code=http_418", [2]),
        ("reason=template_error", [3]),
        ("channel=email", [3, 2, 1, 0]),
        ("reason=nothing_like_it", []),
        ("until=2020-01-01T00:00:00Z", []),
        ("since=2020-01-01T00:00:00Z", [3, 2, 1, 0]),
    ],
)
async def test_a_filter_leaves_what_is_so(board: Api, query: str, places: list[int]):
    ids = await buried(board, AWAY, AWAY, REFUSED, NO_PLAN)
    assert await each(board, query) == [ids[n] for n in places]
    groups = (await board.call("GET", f"{PATH}?{query}")).body["items"]
    assert sum(one["count"] for one in groups) == len(places)
    body = dict(pair.split("=") for pair in query.split("&"))
    dry = await board.call("POST", f"{PATH}/replay", {**body, "dry_run": True})
    assert dry.body["ids"] == [ids[n] for n in reversed(places)], "the oldest first"


async def test_since_and_until_are_about_the_burial(board: Api):
    first, second = await buried(board, AWAY, AWAY)
    at = (await letter(board, second))["buried_at"]
    for query, found in ((f"until={at}", [first]), (f"since={at}", [second])):
        assert await each(board, query) == found


@pytest.mark.parametrize(
    ("query", "code", "pointer"),
    [
        ("provider=nobody", "unknown_provider", "?provider"),
        ("template=nothing", "unknown_template", "?template"),
        ("channel=pigeon", "unknown_channel", "?channel"),
        ("after=somewhere", "invalid", "?after"),
        ("colour=blue", "unknown_field", "?colour"),
        ("since=yesterday", "invalid", "?since"),
    ],
)
async def test_a_filter_that_cannot_be_is_refused(api: Api, query: str, code: str, pointer: str):
    said = await api.call("GET", f"{PATH}/each?{query}")
    assert (said.status, said.code, said.pointers) == (422, code, [pointer])


async def test_the_list_is_paged_to_its_end(board: Api):
    ids = await buried(board, *[AWAY] * 7)
    seen, after = [], ""
    while True:
        said = (await board.call("GET", f"{PATH}/each?limit=3{after}")).body
        seen += [one["id"] for one in said["items"]]
        assert len(said["items"]) <= 3
        if said["next"] is None:
            break
        after = f"&after={said['next']}"
    assert seen == ids[::-1]


async def test_a_letter_shows_what_it_would_be_sent_with_and_the_last_answer(board: Api):
    [id_] = await buried(board, AWAY)
    told = await letter(board, id_)
    assert (told["address"], told["content"]["subject"], told["template"]) == ("a@example.com", "Hi", None)
    assert told["preview"] == {"content": {"subject": "Hi", "text": "Hello"}, "fault": None}
    last = told["last_attempt"]
    assert (last["provider"], last["code"], last["detail"]) == ("sendgrid", "http_503", "come back later")


async def test_the_address_of_a_stored_user_is_the_one_they_have_now(board: Api):
    user = someone()
    await board.call("PUT", f"/api/v1/users/{user}", {"emails": ["old@example.com"]})
    said = await board.send({"to": user, "content": {"subject": "Hi", "text": "Hello"}})
    await lived(board, said.body["id"], AWAY)
    await board.call("PUT", f"/api/v1/users/{user}", {"emails": ["new@example.com"]})
    [id_] = await each(board)
    assert (await letter(board, id_))["address"] == "new@example.com"


async def test_the_preview_of_a_template_says_what_is_wrong_until_the_data_is_mended(board: Api):
    name = f"t-{uuid.uuid4().hex}"
    body = {"content": {"subject": "Order {{ order.number }}", "text": "for {{ name }}"}}
    assert (await board.call("PUT", f"/api/v1/templates/{name}", body)).status == 200
    to = {"user": someone(), "email": "a@b.example"}
    said = await board.send({"to": to, "template": name, "data": {"name": "Ada"}})
    await lived(board, said.body["id"], NO_PLAN)
    [id_] = await each(board)
    assert "undefined" in (await letter(board, id_))["preview"]["fault"]
    told = await edited(board, id_, data={"order": {"number": 7}})
    assert told["preview"] == {"content": {"subject": "Order 7", "text": "for Ada"}, "fault": None}
    assert (told["template"], told["data"]) == (name, {"name": "Ada", "order": {"number": 7}})
    assert told["notification"]["data"] == {"name": "Ada"}, "a notification never changes"


async def test_a_letter_can_take_the_newest_version_of_its_template_or_content_of_its_own(board: Api):
    name = f"t-{uuid.uuid4().hex}"

    async def published(subject: str) -> None:
        body = {"content": {"subject": subject, "text": "Hello"}}
        assert (await board.call("PUT", f"/api/v1/templates/{name}", body)).status == 200

    await published("{{ absent.field }}")
    said = await board.send({"to": {"user": someone(), "email": "a@b.example"}, "template": name})
    await lived(board, said.body["id"], NO_PLAN)
    await published("Mended")
    [id_] = await each(board)
    assert (await letter(board, id_))["preview"]["fault"]
    assert (await edited(board, id_, template=name))["preview"]["content"]["subject"] == "Mended"
    told = await edited(board, id_, content={"subject": "By hand", "text": "Dear you"})
    assert told["preview"]["content"] == {"subject": "By hand", "text": "Dear you"}
    assert told["template"] is None
    assert (await edited(board, id_, content={"subject": "Shorter"}))["content"]["text"] == "Dear you"
    assert (await edited(board, id_, template=name))["preview"]["content"]["subject"] == "Mended"


async def test_an_edited_address_is_the_one_that_a_worker_is_given(board: Api):
    [id_] = await buried(board, AWAY)
    told = await edited(board, id_, address="Ada@Example.ORG", content={"subject": "Again"})
    assert (told["address"], told["content"]) == ("Ada@example.org", {"subject": "Again", "text": "Hello"})
    await board.call("POST", f"{PATH}/replay", {"ids": [id_]})
    held = await claimed(board, id_)
    assert held.address == "Ada@example.org"
    assert held.address_hash == board.edge.address_hash(held.tenant, held.channel, "ada@example.org")
    assert b'"Again"' in held.payload and held.template_version is None


async def test_what_was_done_is_told_in_the_story(board: Api):
    [id_] = await buried(board, AWAY)
    await edited(board, id_, address="b@example.com")
    notification = (await letter(board, id_))["notification"]["id"]
    await board.call("POST", f"{PATH}/replay", {"ids": [id_]})
    lines = [line for line in (await story_of(board, notification))["timeline"] if line["delivery"] == id_]
    assert [line["what"] for line in lines[2:]] == ["buried", "edited", "replayed", "due"]
    buried_, edit, replay, _ = lines[2:]
    key = f"by the key {board.key.split('_')[2]}"
    assert (buried_["why"], edit["why"], edit["detail"], replay["detail"]) == ("attempts_used", "address", key, key)


@pytest.mark.parametrize(
    ("body", "code", "pointer"),
    [
        ({}, "missing_field", "/address"),
        ({"address": "nobody"}, "invalid", "/address"),
        ({"address": 5}, "invalid", "/address"),
        ({"content": {"subject": None}}, "invalid", "/content/subject"),
        ({"content": {"subject": "a\nb"}}, "invalid", "/content/subject"),
        ({"content": {"colour": "blue"}}, "unknown_field", "/content/colour"),
        ({"template": "nothing"}, "unknown_template", "/template"),
        ({"template": "order_confirmation", "content": {"text": "x"}}, "invalid", "/template"),
        ({"status": "sent"}, "unknown_field", "/status"),
    ],
)
async def test_an_edit_that_could_not_be_sent_is_refused_and_changes_nothing(board: Api, body, code, pointer):
    [id_] = await buried(board, AWAY)
    before = await letter(board, id_)
    said = await board.call("PATCH", f"{PATH}/{id_}", body)
    assert (said.status, said.code, said.pointers) == (422, code, [pointer])
    assert await letter(board, id_) == before


async def test_only_what_is_dead_can_be_edited(api: Api):
    story = await story_of(api, await sent(api, someone()))
    said = await api.call("PATCH", f"{PATH}/{story['deliveries'][0]['id']}", {"address": "b@example.com"})
    assert (said.status, said.code) == (404, "not_found")


async def test_edits_side_by_side_do_not_undo_each_other(board: Api):
    [id_] = await buried(board, AWAY)
    edits = [{"data": {f"n{n}": n}} for n in range(6)]
    said = await asyncio.gather(*(board.call("PATCH", f"{PATH}/{id_}", edit) for edit in edits))
    done = [n for n, one in enumerate(said) if one.status == 200]
    assert {one.code for one in said if one.status != 200} <= {"precondition_failed"} and done
    assert (await letter(board, id_))["data"] == {f"n{n}": n for n in done}


async def test_a_replay_at_a_rate_spreads_them_over_time_the_oldest_first(board: Api):
    ids = await buried(board, *[AWAY] * 6)
    dry = (await board.call("POST", f"{PATH}/replay", {"reason": "attempts_used", "rate": 0.5, "dry_run": True})).body
    assert (dry["ids"], dry["more"], dry["next"]) == (ids, False, None)
    first, last = (datetime.fromisoformat(dry[name]) for name in ("first_due_at", "last_due_at"))
    assert last - first == timedelta(seconds=10)
    assert await each(board) == ids[::-1], "a dry run changes nothing"
    done = (await board.call("POST", f"{PATH}/replay", {"reason": "attempts_used", "rate": 0.5})).body
    assert done["ids"] == ids
    due = await due_s(board, *ids)
    assert [later - earlier for earlier, later in pairwise(due)] == pytest.approx([2.0] * 5, abs=0.5)
    assert due[-1] - due[0] == pytest.approx(10.0, abs=0.5)
    assert due[0] <= 0, "the first one at once"


async def test_a_replay_can_start_later_and_never_passes_an_expiry(board: Api):
    [short] = await buried(board, AWAY, expires_after_s=600)
    [free] = await buried(board, AWAY)
    start_at = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    said = (await board.call("POST", f"{PATH}/replay", {"ids": [free, short], "start_at": start_at})).body
    assert (said["ids"], said["expiring"]) == ([short, free], 1)
    due = await due_s(board, short, free)
    assert due[0] <= 600 and 3_500 < due[1] <= 3_600


async def test_a_replay_with_the_newest_template_leaves_others_as_they_are(board: Api):
    name = f"t-{uuid.uuid4().hex}"
    ids = await buried(board, AWAY)
    for subject in ("{{ absent.field }}", "Mended"):
        body = {"content": {"subject": subject, "text": "Hello"}}
        assert (await board.call("PUT", f"/api/v1/templates/{name}", body)).status == 200
        said = await board.send({"to": {"user": someone(), "email": "a@b.example"}, "template": name, "data": {"a": 1}})
        await lived(board, said.body["id"], NO_PLAN)
        ids.append(said.body["deliveries"][0]["id"])
    newest = board.edge.catalogs().templates[board.system.tenant, name].version
    assert (await board.call("POST", f"{PATH}/replay", {"ids": ids, "newest_template": True})).body["ids"] == ids
    held = [await claimed(board, id_) for id_ in ids]
    assert [one.template_version for one in held] == [None, newest, newest]
    assert b'"a":1' in held[1].payload


async def test_more_than_one_call_takes_go_on_where_the_last_one_ended(board: Api):
    ids = await many(board, 1_100)
    body, seen, start = {"reason": "flood", "rate": 100, "dry_run": True}, [], []
    while body is not None:
        said = (await board.call("POST", f"{PATH}/replay", body)).body
        seen += said["ids"]
        start.append((said["first_due_at"], said["last_due_at"]))
        body = body | said["next"] if said["more"] else None
    assert seen == ids
    (_, ended), (began, _) = (map(datetime.fromisoformat, span) for span in start)
    assert timedelta(milliseconds=9) <= began - ended <= timedelta(milliseconds=11)


async def test_a_letter_behind_many_of_others_is_found(board: Api):
    [mine] = await buried(board, AWAY)
    await many(board, 25_000, tenant=999_999, ago_s=0.0)
    said = (await board.call("GET", f"{PATH}/each")).body
    calls = 1
    while not said["items"]:
        said = (await board.call("GET", f"{PATH}/each?after={said['next']}")).body
        calls += 1
    assert [one["id"] for one in said["items"]] == [mine] and calls <= 3
    assert [one["count"] for one in (await board.call("GET", PATH)).body["items"]] == [1]


async def test_too_many_to_count_are_counted_as_far_as_it_goes(board: Api, monkeypatch):
    monkeypatch.setattr("tidings.storage.dead_letters._PIECES_COUNTED", 2)
    await many(board, 5_000)
    said = (await board.call("GET", PATH)).body
    assert said["complete"] is False
    assert said["items"][0]["count"] >= 2_000


async def test_a_discard_keeps_its_reason_and_the_story(board: Api):
    first, second = await buried(board, AWAY, AWAY)
    notification = (await letter(board, first))["notification"]["id"]
    dry = await board.call("POST", f"{PATH}/discard", {"code": "http_503", "dry_run": True})
    assert dry.body["ids"] == [first, second] == (await each(board))[::-1]
    done = await board.call("POST", f"{PATH}/discard", {"ids": [first], "because": "the order was cancelled"})
    assert done.body["ids"] == [first]
    assert await each(board) == [second]
    [delivery] = (await story_of(board, notification))["deliveries"]
    assert (delivery["status"], delivery["reason"]) == ("dead", "the order was cancelled")
    lines = [line for line in (await story_of(board, notification))["timeline"] if line["delivery"] == first]
    assert [(line["what"], line["why"]) for line in lines[2:]] == [
        ("buried", "attempts_used"), ("discarded", None), ("dead", "the order was cancelled"),
    ]  # fmt: skip


@pytest.mark.parametrize("act", ["replay", "discard"])
@pytest.mark.parametrize("body", [{}, {"dry_run": True}, {"rate": 5}])
async def test_an_act_needs_a_choice(api: Api, act: str, body: dict):
    said = await api.call("POST", f"{PATH}/{act}", body)
    assert said.status == 422
    if act == "replay" or "rate" not in body:
        assert (said.code, said.pointers) == ("missing_field", ["/ids"])


async def test_ids_and_a_filter_together_mean_both(board: Api):
    first, second = await buried(board, AWAY, REFUSED)
    body = {"ids": [second, first, second], "code": "http_503", "dry_run": True}
    assert (await board.call("POST", f"{PATH}/replay", body)).body["ids"] == [first]
    body = {"ids": [second, first], "reason": "template_error", "dry_run": True}
    assert (await board.call("POST", f"{PATH}/replay", body)).body["ids"] == []


async def test_reading_is_not_deciding(api: Api):
    key = await api.system.control.create_key(api.system.tenant, "reader", ["read"])
    await api.edge.reload()
    assert (await api.call("GET", PATH, key=key)).status == 200
    for method, path in (("POST", "replay"), ("POST", "discard"), ("PATCH", str(uuid.uuid4()))):
        said = await api.call(method, f"{PATH}/{path}", {"reason": "x"} if method == "POST" else {"data": {}}, key)
        assert (said.status, said.code) == (403, "scope")


async def claimed(api: Api, delivery: str) -> Claimed:
    """As a worker gets it."""
    found = dict[str, Claimed]()
    async with api.system.open() as shards:
        store = DispatchStore(shards, shards, 60.0, 20.0)
        for shard in shards.numbers:
            held = await store.claim(shard, {lane_of(Channel.email, Class.transactional): 10_000}, 77)
            await store.give_back(shard, [one.id for one in held], [77] * len(held))
            found |= {str(one.id): one for one in held}
    return found[delivery]


FILL = """
WITH n AS (INSERT INTO notification (id, slot, tenant, user_id, category, payload)
           SELECT id, 1, $2, 'flood', 1, '{}' FROM unnest($1::uuid[]) id),
     v AS (INSERT INTO delivery (id, notification_id, tenant, channel, address)
           SELECT id, id, $2, 1, 'a@b.example' FROM unnest($1::uuid[]) id)
INSERT INTO dispatch (id, home, lane, state, reason, due_at)
SELECT id, 10, 3, 4, 'flood', now() - $3 * interval '1 s' + n * interval '1 ms'
FROM unnest($1::uuid[]) WITH ORDINALITY AS d(id, n)
"""


async def many(api: Api, count: int, tenant: int | None = None, ago_s: float = 3_600.0) -> list[str]:
    """Letters of one shard, buried one after the other."""
    now_ms = int(datetime.now(UTC).timestamp() * 1000)
    made = [compose(Slot(1), now_ms, secrets.randbits(62)) for _ in range(count)]
    async with api.system.open() as shards:
        await shards.fetch(shards.numbers[0], FILL, made, tenant or api.system.tenant, ago_s)
    return [str(id_) for id_ in made]
