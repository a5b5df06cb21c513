import signal

import pytest

from emotion_jax.errors import Interrupted, NonFiniteError, UserError, choose, listed


def test_exit_statuses():
    assert UserError("x").exit_code == 2
    assert NonFiniteError("x").exit_code == 1
    assert isinstance(NonFiniteError("x"), UserError)
    assert Interrupted(signal.SIGINT).exit_code == 130
    assert Interrupted(signal.SIGTERM).exit_code == 143


def test_an_interruption_is_not_swallowed_by_what_handles_exceptions():
    assert not issubclass(Interrupted, Exception)


@pytest.mark.parametrize(
    ("names", "limit", "sentence"),
    [
        ([], 10, ""),
        (["a"], 10, "a"),
        (["a", "b"], 2, "a, b"),
        (["a", "b", "c"], 2, "a, b and 1 more"),
        ({"a": 1, "b": 2}, 1, "a and 1 more"),
        ([str(i) for i in range(12)], 10, "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more"),
    ],
)
def test_listed_cuts_a_long_list_short(names, limit, sentence):
    assert listed(names, limit) == sentence


def test_choose_gives_the_entry_or_names_the_setting_and_what_there_is():
    table = {"sgd": 1, "adam": 2}
    assert choose(table, "sgd", "training.optimizer") == 1
    expected = r"^training\.optimizer: 'sdg' is not one of adam, sgd\.$"
    with pytest.raises(UserError, match=expected):
        choose(table, "sdg", "training.optimizer")
