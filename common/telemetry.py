"""What to tell and what never to tell in; one log line per event on stderr, and the process's /metrics, out."""

import errno
import logging
import re
import sys
import threading
from collections.abc import Callable, Collection
from functools import partial
from typing import Any

import structlog
from prometheus_client import start_http_server
from structlog.typing import EventDict, Processor

from common.settings import Settings

QUIET = (
    "alembic.runtime",
    "botocore",
    "celery.worker.strategy",
    "httpcore2",
    "httpx2",
    "kombu",
    "urllib3",
    "uvicorn.access",
)
_PORTS = 64  # tried, from KILN_METRICS_PORT on
_SHORTEST_SECRET = 8  # characters: hiding a shorter one, such as a password "0", would hide half of every line
_KEPT = ("timestamp", "level", "job", "attempt", "worker")  # ours, whatever somebody writes into a prompt

# What gives a secret or a prompt away wherever it stands
_HIDDEN = (
    (re.compile(r"\b(kiln_[0-9a-f]{12})_[0-9a-f]{64}\b"), r"\1_***"),
    (re.compile(r"\bwhsec_[\w+/=-]+"), "whsec_***"),
    (re.compile(r"(?i)\b(bearer|basic) [\w.~+/=-]+"), r"\1 ***"),
    (re.compile(r"(://[^:/@\s]*:)[^@/\s]+@"), r"\1***@"),
    (re.compile(r"(?i)\b((?:x-amz-)?(?:signature|credential|security-token)=)[^&\s\"'<>]+"), r"\1***"),
    # PostgreSQL quotes the whole row, and pydantic the value that they refuse
    (re.compile(r"(\bDETAIL: ).*?(?=\n\n|\n\[SQL|\n(?:CONTEXT|HINT|QUERY):|\Z)", re.S), r"\1***"),
    (re.compile(r"(\binput_value=).*?(?=, input_type=)", re.S), r"\1***"),
)


def log_as(settings: Settings, **fields: str) -> None:
    """Tell what ``settings`` ask for and hide what they hide, each line with ``fields``."""
    configure_logging(
        settings.log_level, settings.log_format, prompts=settings.log_prompts, secrets=settings.secrets, **fields
    )


def configure_logging(
    level: str, form: str, *, prompts: bool = False, secrets: Collection[str] = (), **fields: str
) -> None:
    """Console lines for people or JSON lines for machines, each with ``fields``; other libraries' take the same way.

    ``secrets`` are shown nowhere, nor is what looks like a key, a password in a URL or a URL's signature. A ``prompt``
    that is bound to the context stands on its lines only where ``prompts`` asks for it; else it is hidden in them too.
    """
    told: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        partial(_add, fields),
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    shown: list[Processor] = [
        structlog.processors.format_exc_info,  # before the renderer, which would show every local variable with it
        partial(_hide, tuple(secret for secret in secrets if len(secret) >= _SHORTEST_SECRET), prompts),
        *([structlog.processors.JSONRenderer()] if form == "json" else [_disarm, _console()]),
    ]
    structlog.configure(
        processors=[
            *told,
            structlog.processors.format_exc_info,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=told,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *shown],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    _take_over()
    for name in QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    _log_what_nobody_catches()


def _take_over() -> None:
    """Send through our handler what the libraries that are loaded by now would print by handlers of their own."""
    for known in logging.root.manager.loggerDict.values():
        if isinstance(known, logging.Logger):
            known.handlers.clear()
            known.propagate = True
    logging.captureWarnings(True)


def serve_metrics(settings: Settings) -> None:
    """Show Prometheus what this process counts, at the first free port from the settings' on; nothing where it is 0.

    Several workers of one machine have the same settings, and each its own port. SystemExit where none can be had.
    """
    if not settings.metrics_port:
        return
    host, first = settings.metrics_host, settings.metrics_port
    for port in range(first, min(first + _PORTS, 65536)):
        try:
            start_http_server(port, host)
        except OSError as error:
            reason = error.strerror or str(error)
            if error.errno != errno.EADDRINUSE:
                break
        else:
            structlog.get_logger().info("metrics served", host=host, port=port)
            return
    raise SystemExit(f"KILN_METRICS_HOST and KILN_METRICS_PORT: cannot listen at {host}, port {port}: {reason}")


def _console() -> Processor:
    return structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)


def _disarm(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """The event without what could steer a terminal or feign a line: paths and names are other people's text."""
    traces = {name: str(event.pop(name)).splitlines() for name in ("exception", "stack") if name in event}
    told = {_printable(name): _each_text(value, _printable) for name, value in event.items()}
    return told | {name: "\n".join(f"    {_printable(line)}" for line in trace) for name, trace in traces.items()}


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def _log_what_nobody_catches() -> None:
    """The interpreter's own last words would be lines without time or worker, and with whatever the error quotes."""
    log = structlog.get_logger()

    def last_words(kind: type[BaseException], error: BaseException, _: Any) -> None:
        if issubclass(kind, KeyboardInterrupt):
            return
        log.critical("not caught", exc_info=error)

    sys.excepthook = last_words
    sys.unraisablehook = lambda ended: last_words(ended.exc_type, ended.exc_value or ended.exc_type(), None)
    threading.excepthook = lambda ended: last_words(ended.exc_type, ended.exc_value or ended.exc_type(), None)


def _add(fields: dict[str, str], _logger: Any, _method: str, event: EventDict) -> EventDict:
    event.update(fields)
    return event


def _hide(secrets: tuple[str, ...], prompts: bool, _logger: Any, _method: str, event: EventDict) -> EventDict:
    """The event without secrets, and without its prompt unless that is asked for."""
    if prompts:
        hidden = secrets
    else:
        prompt = str(event.pop("prompt", ""))
        hidden = (*secrets, prompt) if len(prompt) >= _SHORTEST_SECRET else secrets
    clean = partial(_clean, hidden)
    return {name: value if name in _KEPT else _each_text(value, clean) for name, value in event.items()}


def _clean(hidden: tuple[str, ...], text: str) -> str:
    for secret in hidden:
        text = text.replace(secret, "***")
    for pattern, replacement in _HIDDEN:
        text = pattern.sub(replacement, text)
    return text


def _each_text(value: Any, change: Callable[[str], str]) -> Any:
    """``value`` with every text in it changed."""
    match value:
        case str():
            return change(value)
        case dict():
            return {name: _each_text(each, change) for name, each in value.items()}
        case list() | tuple():
            return [_each_text(each, change) for each in value]
        case _:
            return value
