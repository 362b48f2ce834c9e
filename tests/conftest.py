"""Fixtures shared by all tests."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# The machines that run this may stand still for a moment, and a failure that comes and goes helps nobody.
settings.register_profile("steady", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")

# Here, and not beside the attacks: with several workers the process that reports loads this file alone.
pytest_plugins = ["tests.sandbox.attacks.summary"]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real, openly licensed input beside the checkout; the test is skipped where it is absent."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("real input is not beside this checkout (../shared/data)")
    return folder
