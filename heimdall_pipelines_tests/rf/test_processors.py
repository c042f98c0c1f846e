"""The same bytes under emulated processors, and from kernels and libraries that use fewer instructions of this one."""

import json
import os
import platform
import shutil
import subprocess
import sys

import pytest

GENERATION = [sys.executable, "-m", "heimdall_pipelines_tests.rf.small_generation"]
# Each compiles some forty kernels for another processor: 12 s of processor time, as much again where it is emulated.
pytestmark = pytest.mark.timeout(1800)
EMULATOR = shutil.which("qemu-x86_64")
# Prints the name and features by which numba compiles, as LLVM finds them where this runs.
TARGET = "from numba.core import codegen as c; print(c.ll.get_host_cpu_name()); print(c.get_host_cpu_features())"


def output_of(command, **environment):
    """What a command prints, with numba's machine code in the folder that the environment names."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("NUMBA_", "OPENBLAS_"))}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=inherited | environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def digests(command=GENERATION, **environment):
    return json.loads(output_of(command, **environment))


@pytest.fixture(scope="module")
def expected():
    """Digests of this processor."""
    return digests()


@pytest.mark.slow
@pytest.mark.skipif(EMULATOR is None, reason="qemu-x86_64 is missing (Debian: apt-get install qemu-user)")
@pytest.mark.parametrize("processor", ["Nehalem", "Haswell"])  # SSE4.2; AVX2 with fused multiply-add
def test_an_emulated_processor_makes_the_same_bytes(processor, expected, tmp_path):
    emulated = [EMULATOR, "-cpu", processor]
    name, features = output_of([*emulated, sys.executable, "-c", TARGET]).splitlines()
    cache = {"NUMBA_CACHE_DIR": str(tmp_path)}
    # Compiled here for that processor: the compiler itself would be twenty times slower under emulation.
    digests(**cache, NUMBA_CPU_NAME=name, NUMBA_CPU_FEATURES=features)
    compiled = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nbc")}
    assert digests([*emulated, *GENERATION], **cache) == expected
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nbc")} == compiled  # that code ran there


@pytest.mark.slow
@pytest.mark.parametrize("processor", ["generic", "nehalem"])
def test_kernels_compiled_for_a_plain_processor_make_the_same_bytes(processor, expected, tmp_path):
    if processor != "generic" and platform.machine() != "x86_64":
        pytest.skip(f"{processor} is an x86-64 processor, this one is {platform.machine()}")
    plain = digests(
        NUMBA_CACHE_DIR=str(tmp_path),
        NUMBA_CPU_NAME=processor,
        NUMBA_CPU_FEATURES="",  # those of the name, not of this processor
        NPY_DISABLE_CPU_FEATURES="AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL AVX2 FMA3",
        GLIBC_TUNABLES="glibc.cpu.hwcaps=-AVX512F,-AVX2,-AVX2_Usable,-FMA,-FMA_Usable,-FMA4_Usable",
    )
    assert plain == expected
