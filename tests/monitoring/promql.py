"""A PromQL expression in; the metrics it names out, each with the labels that are asked of it."""

import re
from collections.abc import Iterator

TOKEN = re.compile(r'"(?:\\.|[^"\\])*"|\[[^\]]*\]|[a-zA-Z_:][\w:]*|\d[\w.]*|[=!<>]=|[=!]~|\S')
WORDS = {"and", "or", "unless", "bool", "offset", "group_left", "group_right"}
GROUPING = {"by", "without", "on", "ignoring"}


def metrics(expression: str) -> dict[str, set[str]]:
    """Each metric's name, with the labels of its selectors."""
    found: dict[str, set[str]] = {}
    for name, labels in _read(expression):
        if name:
            found.setdefault(name, set()).update(labels)
    return found


def grouped(expression: str) -> set[str]:
    """The labels by which the expression groups what it finds."""
    return {label for name, labels in _read(expression) if not name for label in labels}


def _read(expression: str) -> Iterator[tuple[str, set[str]]]:
    """Metrics with the labels in their braces; groupings as the labels in their parentheses, without a name."""
    tokens = TOKEN.findall(expression)
    at = 0
    while at < len(tokens):
        token, then = tokens[at], tokens[at + 1] if at + 1 < len(tokens) else ""
        at += 1
        if not re.match(r"[a-zA-Z_:]", token) or token in WORDS:
            continue
        if token in GROUPING:
            end = tokens.index(")", at)
            yield "", {name for name in tokens[at:end] if re.match(r"\w", name)}
            at = end
        elif then == "{":
            end = tokens.index("}", at)
            names = zip(tokens[at:end], tokens[at + 1 : end], strict=False)
            yield token, {name for name, operator in names if operator in ("=", "=~", "!=", "!~")}
            at = end
        elif then not in ("(", "by", "without"):  # which follow a function
            yield token, set()
