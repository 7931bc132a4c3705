"""The stable figure of the fan-out's cost: instructions per delivery may not creep up."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

import harness
from conftest import needs

SCRIPT = harness.ROOT / "bench/instructions"
CANNOT = 77


def is_plain():
    """The figures are those of a build without sanitizers."""
    program = Path(harness.TRAMLINE).read_bytes()
    return not any(mark in program for mark in (b"__asan_init", b"__tsan_init", b"__ubsan_handle"))


@pytest.mark.parametrize("engine", ["epoll", "io_uring"])
def test_instructions_per_delivery_do_not_grow_by_a_tenth(engine):
    needs(shutil.which("valgrind"), "valgrind")
    if not is_plain():
        pytest.skip("a build with sanitizers")
    done = subprocess.run([str(SCRIPT), "--tramline", harness.TRAMLINE, "--engine", engine],
                          capture_output=True, timeout=4 * harness.DEADLINE,
                          env=dict(os.environ, LC_ALL="C"))
    text = (done.stdout + done.stderr).decode()
    if done.returncode == CANNOT:
        pytest.skip(text)
    assert done.returncode == 0, text
