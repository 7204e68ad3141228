"""Pools of threads: a service that hangs is given up in time, and a busy machine is not taken for one."""

import asyncio
import os
import subprocess
import sys
import threading
import time

import pytest

from api.pools import ANSWER_SECONDS, Pool
from common.errors import Unavailable
from tests.processes import slowness

# On one processor that five others keep busy: half a second of work takes three, all of it spent in a queue
CROWD = """
import asyncio, os, subprocess, sys, time
from api.pools import Pool
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(5)]
def work():
    began = time.monotonic()
    while time.thread_time() < 0.5:
        pass
    return time.monotonic() - began
try:
    print(asyncio.run(Pool(1).run(work)))
finally:
    for other in others:
        other.kill()
"""


def test_a_service_that_hangs_is_given_up_in_time() -> None:
    released = threading.Event()

    async def ask() -> float:
        began = time.monotonic()
        with pytest.raises(Unavailable):
            await Pool(1).run(released.wait)
        released.set()
        return time.monotonic() - began

    assert asyncio.run(ask()) < (ANSWER_SECONDS + 0.5) * slowness()


def test_calls_that_wait_for_each_other_in_the_interpreter_are_waited_for() -> None:
    """A burst of requests, each of which computes: none of them has waited for a service."""

    def compute() -> float:
        began, spent = time.monotonic(), time.thread_time()
        while time.thread_time() - spent < 0.25:
            pass
        return time.monotonic() - began

    async def ask() -> list[float]:
        pool = Pool(8)
        return await asyncio.gather(*(pool.run(compute) for _ in range(8)))

    assert max(asyncio.run(ask())) > ANSWER_SECONDS, "it took no longer than a service may"


@pytest.mark.skipif(not os.path.exists("/proc/self/schedstat"), reason="this kernel does not say who waits")
def test_a_call_that_waits_for_the_processor_alone_is_waited_for() -> None:
    done = subprocess.run([sys.executable, "-c", CROWD], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) > ANSWER_SECONDS, "it took no longer than a service may"
