"""The exception family: one root, what happened and what to do, and a JSON form."""

import pytest

from autodir import errors
from autodir.errors import AutodirError, ContractError

FAMILY = sorted(
    (member for member in vars(errors).values() if isinstance(member, type)),
    key=lambda cls: cls.__name__,
)


def test_module_defines_nothing_but_the_family() -> None:
    assert len(FAMILY) == 8
    assert all(issubclass(cls, AutodirError) for cls in FAMILY)


@pytest.mark.parametrize("cls", FAMILY)
def test_error_carries_what_happened_and_what_to_do(cls: type[AutodirError]) -> None:
    error = cls("a.jpg is empty", "give another file")
    assert str(error) == error.message == "a.jpg is empty"
    assert error.hint == "give another file"
    assert error.to_dict() == {
        "kind": cls.__name__,
        "message": "a.jpg is empty",
        "hint": "give another file",
    }


@pytest.mark.parametrize("cls", FAMILY)
def test_hint_may_be_left_out(cls: type[AutodirError]) -> None:
    assert cls("what happened").hint == ""


@pytest.mark.parametrize("cls", FAMILY)
def test_error_is_in_the_tree_drawn_at_the_top(cls: type[AutodirError]) -> None:
    assert errors.__doc__ is not None
    assert cls.__name__ in errors.__doc__


def test_broken_contract_is_also_a_value_error() -> None:
    with pytest.raises(ValueError, match="wrong shape"):
        raise ContractError("wrong shape")
