"""Which level is chosen, on this machine and where user namespaces, or Landlock too, are denied by a filter."""

import pytest

from sandbox import choose as chooser
from sandbox import remedies
from sandbox.choose import choose, embedded_failure, landlock_failure
from sandbox.errors import SandboxUnavailable
from tests.sandbox.blocked import ROOT, run_blocked


@pytest.fixture
def needs_landlock() -> None:
    if missing := landlock_failure():
        pytest.skip(missing)


def test_a_named_level_is_taken() -> None:
    for name in ("embedded", "landlock", "unsafe-subprocess"):
        assert choose(name).name == name
    with pytest.raises(KeyError):
        choose("none")


def test_auto_takes_the_strongest(needs_landlock: None) -> None:
    choice = choose()
    assert choice.name == ("embedded" if embedded_failure() is None else "landlock")
    assert choice.name in choice.line


def test_auto_is_never_unsafe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chooser, "embedded_failure", lambda: "no namespaces")
    monkeypatch.setattr(chooser, "landlock_failure", lambda: "no Landlock")
    with pytest.raises(SandboxUnavailable, match=r"no namespaces.*no Landlock.*Remedies"):
        choose()


def test_without_namespaces_it_is_landlock(needs_landlock: None) -> None:
    program = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from sandbox.choose import choose; print(choose().line)"
    done = run_blocked("-c", program)
    assert done.stdout.startswith("sandbox: landlock, because the level embedded cannot start here (user namespaces"), (
        done.stderr
    )
    assert "only with --allow-restricted" in done.stdout


@pytest.mark.parametrize("contained", [True, False])
def test_the_remedies_fit_where_they_are_told(contained: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remedies, "in_container", lambda: contained)
    text = remedies.for_namespaces()
    assert {"--security-opt", "sysctl"} <= set(text.split())
    assert (text.index("--security-opt") < text.index("sysctl")) == contained
    assert ("docker run" in remedies.for_control_groups()) == contained
