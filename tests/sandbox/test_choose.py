"""Which level is chosen, on this machine and where user namespaces, or Landlock too, are denied by a filter."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sandbox import choose as chooser
from sandbox.choose import choose, embedded_failure, landlock_failure
from sandbox.errors import SandboxUnavailable

ROOT = Path(__file__).resolve().parents[2]
# As in a container: no namespaces, no mounts. Arguments: "landlock" to deny that too or "-", then the command.
DENIED = """
import os, struct, sys
sys.path.insert(0, sys.argv[1])
from sandbox.embedded.inside import seccomp
arm = os.uname().machine == "aarch64"
def one(code, constant, yes=0, no=0):
    return struct.pack("=HBBI", code, yes, no, constant)
program = [one(0x20, 0)]
program += [one(0x15, 435, 0, 1), one(0x06, 0x50000 | 38)]  # clone3: ENOSYS
program += [one(0x15, 220 if arm else 56, 0, 4), one(0x20, 16), one(0x45, 0x7E020000, 0, 1)]  # clone: EPERM
program += [one(0x06, 0x50000 | 1), one(0x06, 0x7FFF0000)]
for number in (97 if arm else 272, 40 if arm else 165, 442):  # unshare, mount, mount_setattr: EPERM
    program += [one(0x15, number, 0, 1), one(0x06, 0x50000 | 1)]
if sys.argv[2] == "landlock":
    program += [one(0x15, 444, 0, 1), one(0x06, 0x50000 | 38)]
program.append(one(0x06, 0x7FFF0000))
seccomp.install(b"".join(program))
os.execv(sys.argv[3], sys.argv[3:])
"""


def denied(what: str, *command: str, timeout: float = 280) -> "subprocess.CompletedProcess[str]":
    """Run a Python command where user namespaces are denied."""
    wrapped = [sys.executable, "-c", DENIED, str(ROOT), what, sys.executable, *command]
    environment = {**os.environ, "COLUMNS": "200"}
    return subprocess.run(
        wrapped, capture_output=True, text=True, timeout=timeout, env=environment, stdin=subprocess.DEVNULL
    )


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
    done = denied("-", "-c", program)
    assert done.stdout.startswith("sandbox: landlock, because the level embedded cannot start here (user namespaces"), (
        done.stderr
    )


def test_the_demonstration_works_without_namespaces(needs_landlock: None, tmp_path: Path) -> None:
    done = denied("-", str(ROOT / "med_copilot.py"), "demo", "--data", str(tmp_path / "data"), "--tasks", "1")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "sandbox: landlock" in done.stderr
    records = [path.read_text() for path in (tmp_path / "data").rglob("attempts-*.jsonl")]
    assert records
    assert all('"sandbox":"landlock"' in line for text in records for line in text.splitlines())


def test_without_landlock_too_nothing_is_started(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    command = [str(ROOT / "med_copilot.py"), "serve", "--data", str(tmp_path / "data"), "--transport", "http"]
    done = denied("landlock", *command, "--port", "0")
    assert done.returncode == 2, done.stderr
    for word in ("user namespaces", "Landlock", "Remedies", "docker"):
        assert word in done.stderr
