"""What one call leaves for the next, and what it does not."""

import pytest

from sandbox.base import Sandbox, Session, SessionSpec
from tests.sandbox.contract.conftest import good

pytestmark = pytest.mark.anyio


async def test_names_persist(session: Session) -> None:
    good(await session.execute("x = 20\ndef double(n): return 2 * n"))
    assert good(await session.execute("double(x) + 1")).value == "41"


async def test_imports_persist(session: Session) -> None:
    good(await session.execute("import collections as c"))
    assert good(await session.execute("c.Counter('aab')['a']")).value == "2"


async def test_an_error_leaves_the_state(session: Session) -> None:
    result = await session.execute("y = 1\ny / 0")
    assert result.status == "error"
    assert good(await session.execute("y")).value == "1"


async def test_files_and_the_working_folder_persist_between_languages(session: Session) -> None:
    good(await session.execute("mkdir deep; cd deep; echo 7 > n; export WORD=seven", language="shell"))
    code = "import os\n(open('n').read(), os.environ['WORD'], os.path.basename(os.getcwd()))"
    assert good(await session.execute(code)).value == "('7\\n', 'seven', 'deep')"


async def test_the_session_starts_empty(session: Session) -> None:
    assert good(await session.execute("import os\nos.listdir('.')")).value == "[]"


async def test_sessions_do_not_share(sandbox: Sandbox) -> None:
    first, second = await sandbox.open(SessionSpec()), await sandbox.open(SessionSpec())
    good(await first.execute("x = 1\nopen('f', 'w').write('1')\nimport os\nos.environ['LEFT'] = '1'"))
    assert good(await second.execute("import os\n(os.listdir('.'), os.environ.get('LEFT'))")).value == "([], None)"
    assert (await second.execute("x")).status == "error"
    await first.close()
    await second.close()


async def test_a_closed_session_leaves_nothing_to_the_next(sandbox: Sandbox) -> None:
    first = await sandbox.open(SessionSpec())
    good(await first.execute("open('left', 'w').write('1')\nimport builtins\nbuiltins.left = 1"))
    await first.close()
    second = await sandbox.open(SessionSpec())
    assert good(await second.execute("import os\n(os.listdir('.'), 'left' in dir(__builtins__))")).value == (
        "([], False)"
    )
    await second.close()


async def test_patched_builtins_do_not_break_the_loop(session: Session) -> None:
    code = "import builtins, json, os\nbuiltins.len = None\njson.dumps = None\nos.write = os.read = None"
    await session.execute(code)
    assert good(await session.execute("1 + 1")).value == "2"


async def test_sys_exit_ends_the_call_and_not_the_session(session: Session) -> None:
    result = await session.execute("import sys\nz = 3\nsys.exit(0)")
    assert result.status in ("ok", "error")
    assert good(await session.execute("z")).value == "3"
