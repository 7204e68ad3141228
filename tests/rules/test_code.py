"""What may stand where in our code, and how much of it."""

import ast
from collections.abc import Iterator

import pytest

from tests.rules.source import Module, modules

FILE_LINES = 250
FUNCTION_LINES = 40

# A migration lists columns once and is never read on the way to anything else.
LONG_FUNCTIONS = {"migrations"}

SQL_PLACES = ("common/jobs/", "common/db.py", "migrations/")
# It asks a server that it just started whether it answers.
PSYCOPG = ("common/local/postgres.py",)
DATABASE = ("sqlalchemy", "psycopg", "alembic")
HARMLESS = ("sqlalchemy.Engine", "sqlalchemy.exc.")  # a handle that is passed on; errors that are told

each_module = pytest.mark.parametrize("module", modules().values(), ids=lambda module: module.place)


@each_module
def test_sql_lives_in_the_folder_of_the_domain(module: Module) -> None:
    """A status changed by an endpoint's own UPDATE, past the token and past the table of transitions."""
    if module.place.startswith(SQL_PLACES):
        return
    imports = [name for name in _database_imports(module) if not name.startswith(HARMLESS)]
    assert not imports or module.place in PSYCOPG, f"{module.place} imports {imports}"
    for call in _calls(module, "execute", "exec_driver_sql", "executemany"):
        pytest.fail(f"{module.place}:{call.lineno} executes SQL")


@each_module
def test_one_place_commits(module: Module) -> None:
    """A message published before its row is committed, or half a unit of work made to stay."""
    if module.place in ("common/db.py", "migrations/env.py"):  # requests and tasks; migrations, each as one
        return
    found = [call.lineno for call in _calls(module, "commit", "begin", "begin_nested")]
    assert not found, f"{module.place}: lines {found}; use common.db.transaction"


@each_module
def test_one_module_publishes(module: Module) -> None:
    """A second producer that waits half a minute for a broker that is away, because it knows no limit."""
    if module.place == "common/queue.py":
        return
    found = [call.lineno for call in _calls(module, "send_task", "apply_async", "delay", "lpush", "rpush")]
    assert not found, f"{module.place}: lines {found}; use common.queue.Doorbell"


@each_module
def test_only_the_command_prints(module: Module) -> None:
    """A forgotten print in a worker: a line without time, level or job, perhaps with a prompt in it."""
    if module.place.startswith("client/"):
        return
    prints = [
        node.lineno
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert not prints, f"{module.place}: lines {prints}"


@each_module
def test_a_file_and_its_functions_stay_short(module: Module) -> None:
    """The thousand-line file and the function that nobody dares to touch, both of which began as one more line."""
    lines = len(module.path.read_text().splitlines())
    assert lines <= FILE_LINES, f"{module.place} has {lines} lines"
    if module.name.split(".")[0] in LONG_FUNCTIONS:
        return
    for function in ast.walk(module.tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            length = _body_lines(function)
            assert length <= FUNCTION_LINES, f"{module.place}: {function.name} has {length} lines"


@each_module
def test_a_module_is_named_for_what_it_holds(module: Module) -> None:
    """The drawer into which everything goes, and out of which everybody imports."""
    assert not set(module.path.stem.split("_")) & {"utils", "util", "helpers", "helper", "misc", "shared", "tools"}


@each_module
def test_a_module_begins_by_saying_what_it_is(module: Module) -> None:
    """A newcomer who has to read a file to learn whether to read it."""
    if module.path.stat().st_size:
        assert ast.get_docstring(module.tree), module.place


def _body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of what a function does: the signature and the docstring are its contract, and may take their space."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def _database_imports(module: Module) -> Iterator[str]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(DATABASE):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith(DATABASE))


def _calls(module: Module, *methods: str) -> Iterator[ast.Call]:
    """Calls of a method of one of these names, on whatever."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in methods:
            yield node
