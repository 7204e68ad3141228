"""Our own modules as syntax trees: which there are, what each imports when it is loaded, and what that brings along."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("api", "client", "common", "demo", "migrations", "worker")


@dataclass(frozen=True, slots=True)
class Module:
    """One file of ours."""

    name: str
    path: Path
    tree: ast.Module

    @property
    def place(self) -> str:
        return self.path.relative_to(ROOT).as_posix()


@cache
def modules() -> dict[str, Module]:
    """Every module of our packages by its dotted name."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found[name] = Module(name, path, ast.parse(path.read_text()))
    return found


def loaded_by(module: Module) -> set[str]:
    """Dotted names of what is imported when ``module`` is: ours to the module, others to the package."""
    names: set[str] = set()
    for statement in _at_load(module.tree):
        names |= _names(statement, module)
    return names


def imported_anywhere(module: Module) -> set[str]:
    """The same, and also what functions and type checkers import."""
    names: set[str] = set()
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names |= _names(node, module)
    return names


def brought_along(name: str) -> dict[str, str]:
    """Everything that importing our module ``name`` imports, each with the module that asks for it."""
    asked: dict[str, str] = {}
    waiting = [name]
    while waiting:
        current = waiting.pop()
        for target in loaded_by(modules()[current]) - asked.keys():
            asked[target] = current
            if target in modules():
                waiting.append(target)
    return asked


def _at_load(node: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """Imports that run when the file does: not those in functions, nor under TYPE_CHECKING."""
    for child in ast.iter_child_nodes(node):
        match child:
            case ast.Import() | ast.ImportFrom():
                yield child
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
                pass
            case ast.If(test=ast.Name(id="TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING")):
                for statement in child.orelse:
                    yield from _at_load(ast.Module([statement], []))
            case _:
                yield from _at_load(child)


def _names(statement: ast.Import | ast.ImportFrom, module: Module) -> set[str]:
    """What one import statement loads. A package's own ancestors are loaded already and do not count."""
    if isinstance(statement, ast.Import):
        targets = [alias.name for alias in statement.names]
    else:
        assert statement.level == 0, f"{module.place}:{statement.lineno}: imports are absolute here"
        assert statement.module is not None
        targets = [f"{statement.module}.{alias.name}" for alias in statement.names]
    loaded: set[str] = set()
    for target in targets:
        parts = target.split(".")
        loaded |= {".".join(parts[: length + 1]) for length in range(len(parts))}
    ours = {name for name in loaded if name in modules()}
    others = {name.split(".")[0] for name in loaded} - set(PACKAGES)
    return {name for name in ours if not f"{module.name}.".startswith(f"{name}.")} | others
