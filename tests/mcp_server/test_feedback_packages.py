"""What an agent is told of packages that are not there."""

import pytest

from mcp_server.feedback import explain, explain_text
from mcp_server.feedback_packages import lacks_package
from sandbox.base import CodeError, Execution, Output

PIP = (
    "ERROR: Could not find a version that satisfies the requirement shiny==3 (from versions: none)\n"
    "ERROR: No matching distribution found for shiny==3\n"
)


@pytest.mark.parametrize(
    ("offered", "told"), [(None, "--wheelhouse DIR"), (("other", "shiny"), "wheelhouse holds: other, shiny.")]
)
def test_pip_finds_nothing(offered: tuple[str, ...] | None, told: str) -> None:
    found = explain_text(PIP, language="shell", offered=offered)
    assert found.missing == "shiny==3"
    assert "no network" in found.fixes[0]
    assert told in found.fixes[0]


def test_a_module_that_the_wheelhouse_has() -> None:
    error = CodeError("ModuleNotFoundError", "No module named 'two_words'", missing="two_words")
    found = explain(error, language="python", code=None, catalog=None, offered=("Two-Words",))
    assert found.fixes[0] == "run_terminal: pip install Two-Words"
    found = explain(error, language="python", code=None, catalog=None)
    assert "--wheelhouse DIR" in found.fixes[-1]


def test_an_option_that_is_not_needed() -> None:
    text = "ERROR: Can not perform a '--user' install. User site-packages are not visible in this virtualenv."
    assert explain_text(text, language="shell").fixes[0].startswith("Leave --user out")


@pytest.mark.parametrize(
    ("done", "lacks"),
    [
        (Execution("error", stderr=Output(PIP)), True),
        (Execution("ok", stdout=Output(PIP)), True),
        (Execution("error", error=CodeError("ModuleNotFoundError", "No module named 'shiny'")), True),
        (Execution("error", error=CodeError("ModuleNotFoundError", "No module named 'pandas.shiny'")), False),
        (Execution("error", error=CodeError("NameError", "name 'shiny' is not defined")), False),
    ],
)
def test_when_a_remark_is_made(done: Execution, lacks: bool) -> None:
    assert lacks_package(done) is lacks
