"""Each try comes later than the one before, as the square of a growing number of seconds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmail.sending.schedule import SKIP, next_try

times = st.integers(0, 2**40)


@pytest.mark.parametrize(("age", "local", "remote"), [(0, 100, 400), (100, 400, 900), (399, 841, 1521)])
def test_the_times_of_the_original(age: int, local: int, remote: int) -> None:
    assert (next_try(1000, 1000 + age, 0), next_try(1000, 1000 + age, 1)) == (1000 + local, 1000 + remote)


@given(times, times, st.sampled_from([0, 1]))
def test_the_next_try_is_in_the_future_and_not_too_far(birth: int, age: int, channel: int) -> None:
    now = birth + min(age, 65535**2)
    wait = next_try(birth, now, channel) - now
    root = (now - birth) ** 0.5
    assert 0 < wait <= 2 * root * SKIP[channel] + SKIP[channel] ** 2 + 1


@given(times, times, st.sampled_from([0, 1]))
def test_a_message_from_the_future_is_as_old_as_one_that_just_came(
    birth: int, ahead: int, channel: int
) -> None:
    assert next_try(birth + ahead, birth, channel) == birth + ahead + SKIP[channel] ** 2


def test_a_week_takes_about_as_many_tries_as_the_root_allows() -> None:
    birth = now = 0
    tries = 0
    while now < 604800:
        now = next_try(birth, now, 1)
        tries += 1
    assert tries == 39
