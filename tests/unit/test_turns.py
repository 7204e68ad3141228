"""Large requests take turns: a few at a time, one of each owner's, and no more than will fit."""

import asyncio

import pytest

from api.turns import AT_ONCE, OF_ALL, OF_OWNER, Turns
from common.errors import Overloaded, TooManyOpen


class Requests:
    """Requests that take their turn, and keep it until they are let go."""

    def __init__(self) -> None:
        self.running: set[str] = set()
        self._turns = Turns()
        self._gates: dict[str, asyncio.Event] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def come(self, owner: str, number: int = 0, *, large: bool = True) -> str:
        """Its name, once it runs, waits, or was refused."""
        name = f"{owner} {number}"
        self._gates[name] = asyncio.Event()

        async def run() -> None:
            async with self._turns.taken(owner, large=large):
                self.running.add(name)
                await self._gates[name].wait()
                self.running.discard(name)

        self._tasks[name] = asyncio.create_task(run())
        for _ in range(5):
            await asyncio.sleep(0)
        if self._tasks[name].done():
            await self._tasks[name]
        return name

    async def let_go(self, name: str) -> None:
        self._gates[name].set()
        await self._tasks[name]
        for _ in range(5):
            await asyncio.sleep(0)


def test_an_owner_with_much_to_do_keeps_nobody_else_waiting() -> None:
    async def scene() -> None:
        requests = Requests()
        ann = [await requests.come("ann", number) for number in range(OF_OWNER)]
        assert requests.running == {ann[0]}
        with pytest.raises(TooManyOpen, match=f"{OF_OWNER} large requests"):
            await requests.come("ann", OF_OWNER)
        bob = await requests.come("bob")
        small = await requests.come("ann", 99, large=False)
        assert requests.running == {ann[0], bob, small}
        await requests.let_go(bob)
        for name in ann:
            assert name in requests.running
            await requests.let_go(name)
        assert await requests.come("ann") in requests.running

    asyncio.run(scene())


def test_only_so_many_run_and_only_so_many_wait() -> None:
    async def scene() -> None:
        requests = Requests()
        names = [await requests.come(f"owner {number}") for number in range(OF_ALL)]
        assert requests.running == set(names[:AT_ONCE])
        with pytest.raises(Overloaded):
            await requests.come("one more")
        for name in names:
            assert len(requests.running) <= AT_ONCE
            await requests.let_go(name)

    asyncio.run(scene())


def test_what_fails_gives_its_turn_back() -> None:
    async def scene() -> None:
        turns = Turns()

        async def fail() -> None:
            async with turns.taken("ann", large=True):
                raise ZeroDivisionError

        for _ in range(2 * OF_OWNER):
            with pytest.raises(ZeroDivisionError):
                await fail()

    asyncio.run(scene())
