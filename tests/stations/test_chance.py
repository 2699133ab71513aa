"""Ids are UUIDs of version 4, and jitter covers what it is given."""

from __future__ import annotations

import uuid

from tallyd.chance import between, random_uuid


def test_an_id_is_a_uuid_of_version_4_each_time_another():
    made = [random_uuid() for _ in range(1000)]

    told = [uuid.UUID(one) for one in made]
    assert {(one.version, one.variant) for one in told} == {(4, uuid.RFC_4122)}
    assert ([str(one) for one in told], len(set(made))) == (made, 1000)
    # Each of the other 122 bits is drawn.
    drawn = 0
    for one in told[:100]:
        drawn |= one.int ^ told[0].int
    assert drawn.bit_count() == 122


def test_jitter_lies_between_and_all_over():
    made = [between(2.0, 4.0) for _ in range(1000)]

    assert (min(made) >= 2.0, max(made) < 4.0) == (True, True)
    assert {round(one * 2) for one in made} == {4, 5, 6, 7, 8}
