"""Attributes that are replaced for a while."""

import pytest

from pixpro_d2.utils.patching import replaced


class Owner:
    number = 1

    @staticmethod
    def name():
        return "owner"


@pytest.mark.parametrize("name", ["number", "name", "new"])
@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("kind", ["class", "object"])
def test_an_owner_is_as_before(kind, own, name):
    owner = type("Sub", (Owner,), {}) if kind == "class" else Owner()
    if own:
        setattr(owner, name, [])
    before = dict(vars(owner))
    with pytest.raises(KeyError), replaced(owner, name, 2):
        assert getattr(owner, name) == 2
        raise KeyError
    assert dict(vars(owner)) == before and Owner.number == 1


def test_a_static_method_stays_one():
    with replaced(Owner, "name", None):
        assert Owner.name is None
    assert Owner().name() == "owner"
