"""A share of users is as large as it says, grows without losing anybody, and is drawn apart for each channel."""

from hypothesis import given
from hypothesis import strategies as st

from tidings.domain.ids import TenantId, UserId, slot_of
from tidings.domain.lanes import Channel
from tidings.domain.rollout import EVERYBODY, reaches

CROWD = [UserId(f"user-{n}") for n in range(10_000)]
percents = st.floats(0, 100)
tenants = st.integers(1, 2**31 - 1).map(TenantId)
channels = st.sampled_from(Channel)
users = st.text(min_size=1, max_size=128).map(UserId)


def share(percent: float, tenant: TenantId, channel: Channel, crowd: list[UserId] = CROWD) -> float:
    """In percent."""
    return 100 * sum(reaches(percent, tenant, channel, user) for user in crowd) / len(crowd)


@given(percents, percents, tenants, channels, users)
def test_a_larger_share_takes_nobody_out(one, other, tenant, channel, user):
    low, high = sorted((one, other))
    assert reaches(low, tenant, channel, user) <= reaches(high, tenant, channel, user)


@given(tenants, channels, users)
def test_nobody_is_in_at_0_and_everybody_at_100(tenant, channel, user):
    assert not reaches(0, tenant, channel, user)
    assert reaches(EVERYBODY, tenant, channel, user)


def test_the_share_is_as_large_as_it_says():
    for tenant in range(1, 6):
        for channel in Channel:
            for percent in (1, 10, 50, 90):
                # five standard deviations of 10,000 draws
                assert (
                    abs(share(percent, TenantId(tenant), channel) - percent)
                    < 5 * (percent * (100 - percent)) ** 0.5 / 100
                )


def test_channels_tenants_and_slots_are_drawn_apart():
    first = [user for user in CROWD if reaches(10, TenantId(1), Channel.sms, user)]
    assert abs(share(10, TenantId(1), Channel.whatsapp, first) - 10) < 5
    assert abs(share(10, TenantId(2), Channel.sms, first) - 10) < 5
    low_slots = [user for user in CROWD if slot_of(TenantId(1), user) < 2048]
    assert abs(share(10, TenantId(1), Channel.sms, low_slots) - 10) < 3


def test_a_user_keeps_the_place_from_one_release_to_the_next():
    first = [n for n in range(40) if reaches(10, TenantId(1), Channel.whatsapp, UserId(f"user-{n}"))]
    assert first == [1, 15, 16, 17, 20, 25, 36, 37, 38]
