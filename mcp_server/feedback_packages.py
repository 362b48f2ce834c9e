"""Rules for packages that are not there: sessions have no network, and pip knows the operator's wheelhouse alone."""

import re

from mcp_server.feedback_base import Facts, Finding, folded, listed, shown
from sandbox.base import Execution

_PIP = re.compile(r"No matching distribution found for (?P<wanted>[^\s;]{1,120})")
_IMPORT = re.compile(r"No module named '[^'.]{1,120}'")
_USER = re.compile(r"Can not perform a '--user' install")
_TAIL = 4_000


def remedy(offered: tuple[str, ...] | None) -> str:
    """Where packages come from. `offered`: what the wheelhouse holds; None where the server was started without one."""
    if offered is None:
        return (
            "Nothing can be installed here: there is no network. `pip list` shows what is there. The operator can "
            "start the server with --wheelhouse DIR, a folder of packages."
        )
    return (
        "There is no network: pip installs (run_terminal: pip install NAME) only what the operator's wheelhouse holds: "
        f"{listed(offered, 40)}. `pip list` shows what is there already."
    )


def lacks_package(done: Execution) -> bool:
    """Whether a call failed to import or to install a package, as far as its texts tell."""
    texts = (done.error.message if done.error else "", done.stderr.text, done.stdout.text)
    return any(rule.search(text[-_TAIL:]) for text in texts for rule in (_PIP, _IMPORT))


def install_fix(module: str, offered: tuple[str, ...] | None) -> str | None:
    """How to get the module, where the wheelhouse holds a package of that name."""
    name = next((name for name in offered or () if folded(name) == folded(module)), None)
    return None if name is None else f"run_terminal: pip install {shown(name)}"


def find(facts: Facts) -> Finding | None:
    if match := _PIP.search(facts.message):
        wanted = match["wanted"]
        return Finding(f"pip found no {shown(wanted)!r}.", (remedy(facts.offered),), missing=wanted)
    if _USER.search(facts.message):
        fix = "Leave --user out: what pip installs lands in this session in any case."
        return Finding("pip does not install with --user here.", (fix,))
    return None
