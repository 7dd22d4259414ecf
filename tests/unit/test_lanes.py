import pytest

from tidings.domain.lanes import (
    DEAD,
    IN_DOUBT,
    Channel,
    Class,
    channel_of,
    class_of,
    lane_name,
    lane_named,
    lane_of,
    sending_lanes,
)

ALL = (*sending_lanes(), IN_DOUBT, DEAD)


def test_every_channel_and_class_has_a_lane_of_its_own_that_leads_back():
    pairs = [(channel, class_) for channel in Channel for class_ in Class]
    assert len({lane_of(*pair) for pair in pairs}) == len(pairs)
    assert [(channel_of(lane_of(*pair)), class_of(lane_of(*pair))) for pair in pairs] == pairs


def test_parked_lanes_stand_apart_from_the_sending_ones():
    assert len(set(ALL)) == len(ALL) == len(Channel) * len(Class) + 2


def test_every_lane_has_a_name_that_leads_back():
    assert [lane_named(lane_name(lane)) for lane in ALL] == list(ALL)
    assert len({lane_name(lane) for lane in ALL}) == len(ALL)


def test_lanes_are_small_enough_to_store():
    assert all(0 < lane < 2**15 for lane in ALL)


def test_transactional_lanes_go_before_promotional_ones():
    classes = [class_of(lane) for lane in sending_lanes()]
    assert classes == sorted(classes)
    assert set(classes) == set(Class)


def test_numbers_are_stored_and_so_never_change():
    assert {lane_name(lane): int(lane) for lane in ALL} == {
        "email.transactional": 10,
        "email.promotional": 11,
        "sms.transactional": 20,
        "sms.promotional": 21,
        "push.transactional": 30,
        "push.promotional": 31,
        "whatsapp.transactional": 40,
        "whatsapp.promotional": 41,
        "in_doubt": 2,
        "dead": 3,
    }


@pytest.mark.parametrize("name", ["", "email", "email.", "email.urgent", "fax.transactional", "EMAIL.transactional"])
def test_an_unknown_lane_is_answered_with_the_names_that_exist(name):
    with pytest.raises(ValueError, match=r"there are dead, email\.promotional"):
        lane_named(name)
