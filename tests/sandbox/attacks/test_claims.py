"""The table of what is not claimed names attacks that exist and agrees with the documentation; all others are many."""

import pytest

from tests.sandbox.attacks.claims import NOT_CLAIMED
from tests.sandbox.attacks.conftest import attack_name
from tests.sandbox.attacks.world import PROJECT

LEAST = 60
MODULES = {"test_exhaustion", "test_neighbours", "test_protocol", "test_secrets", "test_transfer"}


@pytest.fixture(autouse=True)
def unharmed() -> None:
    """Nothing is attacked here."""


@pytest.fixture
def attacks(request: pytest.FixtureRequest) -> set[str]:
    """The names of all attacks. Skips where only some of them are run."""
    items = [item for item in request.session.items if "unharmed" in getattr(item, "fixturenames", ())]
    found = {item.path.stem: item for item in items}
    if not found.keys() >= MODULES or request.config.option.keyword or request.config.option.deselect:
        pytest.skip("only some of the attacks are run")
    return {attack_name(item) for item in items if item.path.stem in MODULES}


def test_the_table_names_attacks(attacks: set[str]) -> None:
    assert {name for name, _ in NOT_CLAIMED} <= attacks


def test_there_are_many_attacks(attacks: set[str]) -> None:
    kinds = {name.partition("[")[0] for name in attacks}
    assert len(attacks) - len(NOT_CLAIMED) >= LEAST
    assert len(kinds) >= LEAST // 2


def test_the_documentation_says_what_gets_through() -> None:
    text = " ".join((PROJECT / "docs" / "security.md").read_text().split())
    assert [reason for reason in set(NOT_CLAIMED.values()) if reason not in text] == []
