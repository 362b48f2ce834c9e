"""Paths of the contract as text, there and back."""

import os
from pathlib import Path

import pytest

from sandbox.landlock.places import Places, held_back_chmod

ROOT = "/tmp/med-copilot-x/abc"
PLACES = Places(ROOT, "/srv/data/one")


@pytest.mark.parametrize(
    ("given", "real"),
    [
        ("/data/x", f"{ROOT}/data/x"),
        ("/work", f"{ROOT}/work"),
        ("/tmp/f", f"{ROOT}/tmp/f"),
        ("//work/../data/x", f"{ROOT}/data/x"),
        (b"/work/f", f"{ROOT}/work/f".encode()),
        ("/worker", "/worker"),
        ("/usr/data", "/usr/data"),
        ("work/f", "work/f"),
        (f"{ROOT}/work/f", f"{ROOT}/work/f"),
        ("/tmp/med-copilot-x/packages/numpy", "/tmp/med-copilot-x/packages/numpy"),
        (3, 3),
        (None, None),
    ],
)
def test_inward(given: object, real: object) -> None:
    assert PLACES.inward(given) == real


@pytest.mark.parametrize(
    ("given", "real"),
    [
        ("cat /data/x >/work/y", f"cat {ROOT}/data/x >{ROOT}/work/y"),
        ("cd /work; ls '/data'", f"cd {ROOT}/work; ls '{ROOT}/data'"),
        ("tool --out=/work/y", f"tool --out={ROOT}/work/y"),
        ("ls ./data /usr/work $HOME/data ${X}/tmp ../data/x", "ls ./data /usr/work $HOME/data ${X}/tmp ../data/x"),
        ("awk '/data/ {print}' /data/x", f"awk '/data/ {{print}}' {ROOT}/data/x"),
        ("sed s/data/work/ /work/f", f"sed s/data/work/ {ROOT}/work/f"),
        (f"cat {ROOT}/work/f /srv/data/one/g", f"cat {ROOT}/work/f /srv/data/one/g"),
        ("/database /data.csv /data-set", "/database /data.csv /data-set"),
    ],
)
def test_commands(given: str, real: str) -> None:
    assert PLACES.text_inward(given) == real
    assert PLACES.text_inward(real) == real
    assert PLACES.text_outward(real) == given.replace("/srv/data/one", "/data").replace(ROOT, "")


def test_databases() -> None:
    assert PLACES.database("file:/data/x.db?mode=ro") == f"file:{ROOT}/data/x.db?mode=ro"
    assert PLACES.database("file:///data/x.db") == f"file:{ROOT}/data/x.db"
    assert PLACES.database(":memory:") == ":memory:"
    assert PLACES.database("/work/y.db") == f"{ROOT}/work/y.db"


def test_without_a_root_nothing_changes() -> None:
    assert Places().inward("/data/x") == "/data/x"
    assert Places().text_inward("ls /data") == "ls /data"
    assert Places().text_outward(ROOT) == ROOT


def test_what_lies_behind_is_shown_as_the_contract_names_it() -> None:
    places = Places(ROOT, "/srv/data", "/srv/data/wheels")
    assert places.text_outward("ls /srv/data/wheels/a.whl /srv/data/x") == "ls /wheels/a.whl /data/x"
    assert places.text_inward("ls /wheels") == f"ls {ROOT}/wheels"


def test_a_file_becomes_a_program_where_no_mode_can_be_changed(tmp_path: Path) -> None:
    script = tmp_path / "work" / "script"
    script.parent.mkdir()
    script.write_text("#!/bin/sh\nexit 3\n")
    script.chmod(0o644)
    chmod = held_back_chmod(lambda *_: None, Places(str(tmp_path)))
    chmod(script, 0o644)
    assert script.stat().st_mode & 0o777 == 0o644
    chmod(str(script), 0o755)
    assert script.stat().st_mode & 0o777 == 0o755
    assert os.waitstatus_to_exitcode(os.system(str(script))) == 3
    assert [path.name for path in script.parent.iterdir()] == ["script"]
