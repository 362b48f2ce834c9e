"""The same seed gives the same run: random numbers, hashes, time zone, threads."""

import pytest

from sandbox.base import Sandbox, SessionSpec
from tests.sandbox.contract.conftest import good

pytestmark = pytest.mark.anyio


async def values(sandbox: Sandbox, code: str, seeds: tuple[int, ...]) -> list[str | None]:
    found = []
    for seed in seeds:
        session = await sandbox.open(SessionSpec(seed=seed))
        found.append(good(await session.execute(code)).value)
        await session.close()
    return found


async def test_random_numbers_follow_the_seed(sandbox: Sandbox) -> None:
    for code in ("import random\nrandom.random()", "import numpy\nfloat(numpy.random.rand())"):
        first, second, third = await values(sandbox, code, (1, 1, 2))
        assert first == second != third


async def test_a_large_seed(sandbox: Sandbox) -> None:
    first, second = await values(sandbox, "import random, numpy\nrandom.random()", (2**62 + 1, 2**62 + 1))
    assert first == second


async def test_hashes_are_the_same_in_each_session(sandbox: Sandbox) -> None:
    first, second = await values(sandbox, "hash('admission'), list({'a', 'b', 'c', 'd'})", (1, 2))
    assert first == second


async def test_hashes_are_the_same_in_a_child(sandbox: Sandbox) -> None:
    code = "import subprocess\nsubprocess.check_output(['python3', '-c', 'print(hash(\"x\"))'])"
    first, second = await values(sandbox, code, (1, 1))
    assert first == second


async def test_time_zone_and_locale(sandbox: Sandbox) -> None:
    code = "import time, sys\n(time.tzname[0], time.localtime(0).tm_hour, sys.getfilesystemencoding())"
    assert await values(sandbox, code, (1,)) == ["('UTC', 0, 'utf-8')"]


async def test_one_thread_for_numeric_libraries(sandbox: Sandbox) -> None:
    code = "import os\n{os.environ.get(n) for n in ('OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'MKL_NUM_THREADS')}"
    assert await values(sandbox, code, (1,)) == ["{'1'}"]


async def test_numeric_work_starts_no_thread(sandbox: Sandbox) -> None:
    code = "import numpy, os\n_ = numpy.ones((300, 300)) @ numpy.ones((300, 300))\nlen(os.listdir('/proc/self/task'))"
    assert await values(sandbox, code, (1,)) == ["1"]
