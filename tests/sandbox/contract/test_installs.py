"""Installing packages in a session: from the operator's wheelhouse alone, and into that session alone."""

import dataclasses
from collections.abc import AsyncIterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from sandbox.base import Execution, Sandbox, SandboxConfig, Session, SessionSpec
from tests.sandbox.contract.conftest import MIB, TIGHT, good, need, serving
from tests.sandbox.wheels import make_source, make_wheel

pytestmark = pytest.mark.anyio

WARD = "import clinic\n\ndef main():\n    print('beds', clinic.BEDS)\n"
ROOM = dataclasses.replace(TIGHT, call_seconds=60, disk=32 * MIB, inodes=400)
SECRET = "not for sessions"


@pytest.fixture(scope="module")
def wheelhouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("operator")
    root.chmod(0o755)
    (root / "secret.txt").write_text(SECRET)
    (root / "secret.txt").chmod(0o600)
    house = root / "wheelhouse"
    house.mkdir(mode=0o755)
    requires = ("clinic >= 1", "numpy", "pandas")
    make_wheel(house, "ward", "1.0", {"ward/__init__.py": WARD}, requires, "ward = ward:main")
    make_wheel(house, "clinic", "1.2", {"clinic.py": "BEDS = 7\n"})
    make_wheel(house, "orphan", "1.0", {"orphan.py": ""}, ("nowhere_to_be_found",))
    make_wheel(house, "pytz", "9999.0", {"pytz/__init__.py": "replaced = True\n"})
    make_wheel(house, "heavy", "1.0", {"heavy.py": f"'{'x' * (48 * MIB)}'"})
    make_source(house, "surgery", "0.5", {"surgery.py": "THEATRES = 3\n"})
    (house / "out").symlink_to(root / "secret.txt")
    return house


@pytest.fixture(scope="module")
async def sandbox(backend: str, sources: dict[str, Path], wheelhouse: Path) -> AsyncIterator[Sandbox]:
    config = SandboxConfig(
        sources=sources, packages=("numpy", "pandas"), preload=("numpy",), pool=0, wheelhouse=wheelhouse
    )
    async with serving(backend, config) as one:
        yield one


@pytest.fixture
async def session(sandbox: Sandbox) -> AsyncIterator[Session]:
    opened = await sandbox.open(SessionSpec(source="one", database="x.sqlite", limits=ROOM))
    yield opened
    await opened.close()


async def shell(session: Session, command: str) -> Execution:
    return await session.execute(command, language="shell")


def installed(module: str) -> Path:
    """The file of a module of this process's own environment."""
    spec = find_spec(module)
    assert spec is not None
    return Path(str(spec.origin))


async def test_what_was_installed_is_there_at_once_and_nowhere_else(
    sandbox: Sandbox, session: Session, wheelhouse: Path
) -> None:
    before = sorted(path.name for path in wheelhouse.iterdir())
    assert (await session.execute("import ward")).error is not None
    said = good(await shell(session, "pip install ward")).stdout.text
    assert "Successfully installed clinic-1.2 ward-1.0" in said
    assert "already satisfied: numpy" in said
    assert good(await session.execute("import ward, clinic\nclinic.BEDS")).value == "7"
    assert good(await shell(session, "cd /tmp && ward && python -m ward.__init__; command -v ward")).stdout.text == (
        "beds 7\n/tmp/.venv/bin/ward\n"
    )
    other = await sandbox.open(SessionSpec(source="one"))
    try:
        assert (await other.execute("import ward")).error is not None
        assert (await shell(other, "python3 -c 'import clinic' || ward")).status == "error"
    finally:
        await other.close()
    assert sorted(path.name for path in wheelhouse.iterdir()) == before


async def test_a_program_installs_what_it_lacks_and_goes_on(session: Session) -> None:
    code = """
try:
    import surgery
except ImportError:
    import subprocess, sys
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "surgery"], check=True)
    import surgery
surgery.THEATRES
"""
    assert good(await session.execute(code)).value == "3"


@pytest.mark.parametrize("name", ["orphan", "--index-url https://registry.example/simple absent"])
async def test_what_the_wheelhouse_lacks(session: Session, wheelhouse: Path, name: str) -> None:
    done = await shell(session, f"pip install {name}")
    assert done.status == "error"
    assert "No matching distribution found for" in done.stderr.text
    assert str(wheelhouse) not in done.stdout.text + done.stderr.text


async def test_no_registry_and_no_path_of_the_machine_is_told(session: Session, wheelhouse: Path) -> None:
    done = good(await shell(session, "pip config list; env"))
    assert "find-links='/wheels'" in done.stdout.text
    assert "://" not in done.stdout.text
    assert str(wheelhouse) not in done.stdout.text
    listed = good(await shell(session, "pip list --format freeze; pip show pytz")).stdout.text
    assert "numpy==" in listed
    assert str(installed("pytz").parents[1]) not in listed
    assert "pytest" not in listed, "only what is declared is there"


async def test_what_is_provided_is_shadowed_and_never_changed(sandbox: Sandbox, session: Session) -> None:
    good(await shell(session, "pip install pytz==9999.0; pip uninstall --yes numpy"))
    assert good(await shell(session, "python -c 'import pytz, numpy; print(pytz.replaced)'")).stdout.text == "True\n"
    assert good(await shell(session, "pip uninstall --yes pytz; python -c 'import pytz; pytz.utc'")).status == "ok"
    for module in ("pytz", "numpy"):
        assert installed(module).is_file()
    other = await sandbox.open(SessionSpec())
    good(await other.execute("import pytz, numpy\npytz.utc"))
    await other.close()


async def test_the_wheelhouse_cannot_be_written_or_left(backend: str, session: Session, wheelhouse: Path) -> None:
    assert "ward-1.0-py3-none-any.whl" in good(await shell(session, "ls /wheels/")).stdout.text
    need(backend, "read-only data")
    for command in ("echo x > /wheels/new", "rm -f /wheels/clinic-1.2-py3-none-any.whl", "cat /wheels/out"):
        done = await shell(session, command)
        assert done.status == "error", command
        assert SECRET not in done.stdout.text
    assert not (wheelhouse / "new").exists()
    assert (wheelhouse / "clinic-1.2-py3-none-any.whl").exists()


async def test_installs_count_against_the_disk(backend: str, session: Session) -> None:
    need(backend, "disk")
    assert (await shell(session, "pip install heavy")).status == "error"
    assert (await session.execute("import heavy")).error is not None
    assert good(await shell(session, "rm -r /tmp/.venv/lib && echo room")).stdout.text == "room\n"


async def test_without_a_wheelhouse(backend: str, sources: dict[str, Path]) -> None:
    config = SandboxConfig(sources=sources, packages=("numpy",), preload=(), pool=0)
    async with serving(backend, config) as started:
        session = await started.open(SessionSpec())
        done = await shell(session, "pip install clinic")
        assert "No matching distribution found for clinic" in done.stderr.text
        assert "numpy" in good(await shell(session, "pip list; test ! -e /wheels")).stdout.text


async def test_a_module_written_in_the_same_moment_is_found(session: Session) -> None:
    """As fast as a client may be: the folder looks as it did when the module was looked for in vain."""
    code = "import os\ntry:\n    import late\nexcept ImportError:\n    print(os.stat('.').st_mtime_ns)"
    moment = good(await session.execute(code)).stdout.text.strip()
    later = f"echo 'x = 5' > late.py; python -c 'import os; os.utime(\".\", ns=({moment}, {moment}))'"
    await shell(session, later)
    assert good(await session.execute("import late\nlate.x")).value == "5"
