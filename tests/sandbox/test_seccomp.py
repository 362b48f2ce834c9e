"""The filter of system calls: a program that the kernel takes, for each architecture that has a table."""

import ctypes

import pytest

from sandbox.embedded.inside import seccomp
from sandbox.landlock.inside import calls

MOST_INSTRUCTIONS = 4096  # BPF_MAXINSNS


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_every_architecture_has_a_filter(machine: str) -> None:
    assert ctypes.sizeof(ctypes.c_void_p) == 8
    programs = [seccomp.build(machine, memory_files) for memory_files in (True, False)]
    programs += [calls.build(machine, own_user=own, signals=own, times=own) for own in (True, False)]
    for program in programs:
        assert len(program) % 8 == 0
        assert 0 < len(program) // 8 < MOST_INSTRUCTIONS
