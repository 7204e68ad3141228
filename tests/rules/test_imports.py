"""Who may import whom."""

from graphlib import CycleError, TopologicalSorter

import pytest

from tests.rules.source import PACKAGES, brought_along, imported_anywhere, loaded_by, modules

HEAVY = {"accelerate", "diffusers", "safetensors", "torch", "transformers"}


def names_in(package: str) -> list[str]:
    return [name for name in modules() if name.split(".")[0] == package]


@pytest.mark.parametrize("name", [*names_in("api"), *names_in("client"), "worker.sweeper", "worker.health"])
def test_nothing_but_a_worker_loads_torch(name: str) -> None:
    """An API that starts in ten seconds and takes a gigabyte, because one import far below it brought torch along."""
    heavy = {target: asker for target, asker in brought_along(name).items() if target in HEAVY}
    assert not heavy, f"{name} brings along {heavy}"


@pytest.mark.parametrize("name", names_in("api"))
def test_the_api_never_imports_the_worker(name: str) -> None:
    """An API that can only be deployed where a worker can, and a worker's change that breaks the API."""
    ours = {target.split(".")[0] for target in imported_anywhere(modules()[name])}
    assert not ours & {"worker", "client", *HEAVY}


@pytest.mark.parametrize("name", names_in("client"))
def test_the_command_loads_workers_and_torch_only_inside_the_functions_that_need_them(name: str) -> None:
    """`kiln --help` taking six seconds."""
    assert not {target.split(".")[0] for target in brought_along(name)} & {"worker", "api", *HEAVY}


@pytest.mark.parametrize("name", names_in("common"))
def test_common_knows_neither_side(name: str) -> None:
    """What both sides agree on coming to depend on one of them, and so on everything."""
    ours = {target.split(".")[0] for target in imported_anywhere(modules()[name])}
    assert not ours & {"api", "client", "worker", "demo", "migrations"}


def test_no_module_imports_itself_by_a_detour() -> None:
    """Code that works or fails by the order in which modules happen to be imported."""
    graph = {name: loaded_by(module) & modules().keys() for name, module in modules().items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_the_reader_of_imports_sees_what_there_is_to_see() -> None:
    """Every rule above passing because the reader went blind."""
    assert {name.split(".")[0] for name in modules()} == set(PACKAGES)
    assert "torch" in brought_along("worker.celery_app")
    assert "common.jobs.lease" in brought_along("worker.run")
    assert {"worker.pull"} <= imported_anywhere(modules()["client.models"]) - loaded_by(modules()["client.models"])
