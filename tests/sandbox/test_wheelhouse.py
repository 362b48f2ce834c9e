"""What of a wheelhouse is told, and which one is refused."""

import os
from pathlib import Path

import pytest

from sandbox.errors import SandboxUnavailable
from sandbox.wheelhouse import check_wheelhouse, offered
from tests.sandbox.wheels import make_source, make_wheel


def test_names_of_packages(tmp_path: Path) -> None:
    make_wheel(tmp_path, "two_words", "1.0", {})
    make_wheel(tmp_path, "two_words", "1.1", {})
    make_source(tmp_path, "with-dashes", "2.0", {})
    (tmp_path / "notes.txt").write_text("")
    assert offered(tmp_path) == ("two-words", "with-dashes")
    assert offered(tmp_path / "absent") == ()


def test_a_link_to_a_wheelhouse_is_followed(tmp_path: Path) -> None:
    house = tmp_path / "house"
    house.mkdir(mode=0o755)
    make_wheel(house, "ward", "1.0", {})
    (tmp_path / "link").symlink_to(house)
    assert check_wheelhouse(tmp_path / "link") == house.resolve()


@pytest.mark.skipif(os.geteuid() != 0, reason="sessions of other users' servers run as that user")
def test_what_sessions_cannot_read_is_refused_with_the_remedy(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    wheel = make_wheel(tmp_path, "ward", "1.0", {})
    assert check_wheelhouse(tmp_path)
    wheel.chmod(0o600)
    with pytest.raises(SandboxUnavailable, match=r"chmod -R a\+rX"):
        check_wheelhouse(tmp_path)
    wheel.chmod(0o644)
    tmp_path.chmod(0o700)
    with pytest.raises(SandboxUnavailable, match=r"chmod -R a\+rX"):
        check_wheelhouse(tmp_path)
