"""The protocol's own conformance suite and the inspector, against our server; skipped where npm cannot bring them."""

import pytest

from tests.conformance.suite import LEGS, Leg, Unavailable, install, run_inspector, run_leg


@pytest.fixture(scope="module", autouse=True)
def packages() -> None:
    try:
        install()
    except Unavailable as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("leg", LEGS, ids=lambda leg: leg.name)
def test_the_suite_passes_but_for_the_baseline(leg: Leg) -> None:
    outcome = run_leg(leg)
    assert outcome.ok, outcome.output
    assert outcome.scenarios >= 30


@pytest.mark.parametrize("era", ["modern", "legacy"])
def test_the_inspector_finds_no_error_in_our_tools(era: str) -> None:
    outcome = run_inspector(era)
    assert outcome.ok, outcome.output
    assert outcome.scenarios >= 9
