"""Settings: who wins, what is refused, what is shown."""

from pathlib import Path

import msgspec
import pytest

from tidings.settings import SettingsError, env_name, env_value, load
from tidings.storage.migrate import migrate
from tidings.storage.secrets import NoMasterKey, Secrets
from tidings.storage.shards import open_pool

SECRETS = {
    "TIDINGS_MASTER_KEY": "5ec2e7" + "0" * 58,
    "TIDINGS_CONTROL_DSN": "postgresql://tidings:5ec2e7@db/control",
    "TIDINGS_SHARD_DSNS": "postgresql://db/s1?password=5ec2e7,postgresql://u:5ec2e7@db/s2",
    "TIDINGS_VALKEY_URL": "redis://:5ec2e7@cache:6379/0",
}


def test_without_anything_every_setting_has_the_default_of_the_manual(tmp_path):
    settings = load({}, {}, tmp_path)
    assert settings.worker.retry_schedule_s == (60.0, 300.0, 900.0)
    assert settings.data_dir == tmp_path / ".tidings"
    assert {one.source for one in settings.describe()} == {"default"}


def test_a_flag_wins_over_the_environment_and_that_over_the_file_and_that_over_the_default(tmp_path):
    (tmp_path / "tidings.toml").write_text("[worker]\nlease_s = 70\nfence_s = 0.5\npoll_s = 2\n")
    env = {"TIDINGS_WORKER_LEASE_S": "80", "TIDINGS_WORKER_FENCE_S": "0.6"}
    settings = load({"worker.lease_s": 90, "worker.mark_limit": None}, env, tmp_path)
    worker = settings.worker
    assert (worker.lease_s, worker.fence_s, worker.poll_s, worker.mark_limit) == (90, 0.6, 2, 50)
    sources = {one.key: one.source for one in settings.describe()}
    assert sources["worker.lease_s"] == "--lease-s"
    assert sources["worker.fence_s"] == "TIDINGS_WORKER_FENCE_S"
    assert sources["worker.poll_s"] == str(tmp_path / "tidings.toml")
    assert sources["worker.mark_limit"] == "default"


@pytest.mark.parametrize("by_flag", [True, False])
def test_the_file_can_be_named(tmp_path, by_flag):
    (tmp_path / "other.toml").write_text('public_url = "https://n.example"\n')
    flags, env = ({"config": "other.toml"}, {}) if by_flag else ({}, {"TIDINGS_CONFIG": "other.toml"})
    assert load(flags, env, tmp_path).public_url == "https://n.example"


def test_a_named_file_that_is_not_there_stops_the_start(tmp_path):
    with pytest.raises(SettingsError, match=r"other\.toml"):
        load({"config": "other.toml"}, {}, tmp_path)


def test_an_unknown_key_in_the_file_stops_the_start_with_a_suggestion(tmp_path):
    (tmp_path / "tidings.toml").write_text("[worker]\nleese_s = 70\n")
    with pytest.raises(SettingsError, match=r"'worker\.leese_s' in .*tidings\.toml; did you mean 'worker\.lease_s'"):
        load({}, {}, tmp_path)


def test_an_unknown_variable_stops_the_start_with_a_suggestion(tmp_path):
    with pytest.raises(SettingsError, match=r"TIDINGS_WORKER_LEASES.*did you mean 'TIDINGS_WORKER_LEASE_S'"):
        load({}, {"TIDINGS_WORKER_LEASES": "70"}, tmp_path)


def test_what_clients_read_and_what_others_set_is_left_alone(tmp_path):
    settings = load({}, {"TIDINGS_URL": "http://x", "TIDINGS_API_KEY": "td_live_1", "HOME": "/"}, tmp_path)
    assert settings.sources == {}


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("TIDINGS_WORKER_LEASE_S", "soon"),
        ("TIDINGS_WORKER_POLL_S", "-1"),
        ("TIDINGS_WORKER_POLL_S", "nan"),
        ("TIDINGS_WORKER_RETRY_SCHEDULE_S", "60,x"),
        ("TIDINGS_WORKER_RETRY_SCHEDULE_S", "60,-1"),
        ("TIDINGS_SHARD_DSNS", "[1"),
        ("TIDINGS_SHARD_DSNS", "[1]"),
        ("TIDINGS_HINTS", "carrier-pigeon"),
        ("TIDINGS_DURABILITY_ACCEPT", "off"),
    ],
)
def test_a_value_that_cannot_be_used_stops_the_start_and_is_named(tmp_path, variable, value):
    with pytest.raises(SettingsError) as refused:
        load({}, {variable: value}, tmp_path)
    key = next(one.key for one in load({}, {}, tmp_path).describe() if env_name(one.key) == variable)
    assert key in str(refused.value)


def test_a_lease_shorter_than_its_reserve_is_refused(tmp_path):
    with pytest.raises(SettingsError, match=r"worker\.send_reserve_s.*below worker\.lease_s"):
        load({"worker.lease_s": 15}, {}, tmp_path)


def test_secrets_show_neither_in_the_description_nor_in_the_repr(tmp_path):
    settings = load({}, SECRETS, tmp_path)
    assert settings.master_key == SECRETS["TIDINGS_MASTER_KEY"]
    assert settings.shard_dsns[1] == "postgresql://u:5ec2e7@db/s2"
    assert "5ec2e7" not in repr(settings) + repr(settings.describe())
    assert "postgresql://tidings:***@db/control" in repr(settings)


@pytest.mark.parametrize("key", ["5ec2e7", "5ec2e7" * 11, "z" * 64, " " * 64, "5e " * 21 + "5"])
def test_a_master_key_that_is_none_is_refused_without_being_shown(tmp_path, key):
    with pytest.raises(SettingsError, match=r"^master_key \(from TIDINGS_MASTER_KEY\) must be 64 hex") as refused:
        load({}, {"TIDINGS_MASTER_KEY": key}, tmp_path)
    assert key not in str(refused.value)


@pytest.mark.parametrize("key", ["", "00" * 31, "00" * 33, "not hexadecimal"])
def test_nothing_is_derived_from_a_key_that_is_none(key):
    with pytest.raises(NoMasterKey, match="TIDINGS_MASTER_KEY to 64"):
        Secrets(key)


async def test_without_a_dsn_no_other_database_is_looked_for():
    with pytest.raises(SettingsError, match="TIDINGS_CONTROL_DSN"):
        await open_pool("", 1, {})
    with pytest.raises(SettingsError, match="TIDINGS_CONTROL_DSN"):
        await migrate("", "control")


def test_lists_may_be_words_or_json(tmp_path):
    words = load({}, {"TIDINGS_WORKER_LANES": "email.transactional, email.promotional"}, tmp_path)
    json = load({}, {"TIDINGS_WORKER_LANES": '["email.transactional", "email.promotional"]'}, tmp_path)
    assert words.worker.lanes == json.worker.lanes == ("email.transactional", "email.promotional")


def test_what_a_parent_writes_into_the_environment_its_child_reads_back(tmp_path):
    flags = {"shard_dsns": ["postgresql:///a,b", "postgresql:///c"], "api.port": 0, "worker.poll_s": 0.25}
    env = {env_name(key): env_value(value) for key, value in flags.items()}
    child, parent = load({}, env, tmp_path), load(flags, {}, tmp_path)
    assert msgspec.structs.replace(child, sources={}) == msgspec.structs.replace(parent, sources={})


def test_no_two_settings_share_a_variable(tmp_path):
    keys = [one.key for one in load({}, {}, Path("/")).describe()]
    assert len({env_name(key) for key in keys}) == len(keys)
