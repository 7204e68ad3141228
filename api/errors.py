"""Errors in, application/problem+json out (RFC 9457), with the OpenAI client's error object inside."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from api.schemas import Problem
from common.errors import FieldError, InvalidRequest, KilnError, MalformedBody, Overloaded

log = structlog.get_logger()

MOST_TOLD = 100  # fields of one request
PROBLEM = {"application/problem+json": {"schema": Problem.model_json_schema()}}  # as documents describe its content


def install(app: FastAPI) -> None:
    """Answer every error of ``app`` as a problem, ours and the framework's."""

    @app.exception_handler(KilnError)
    def tell(request: Request, error: KilnError) -> JSONResponse:
        if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            log.warning("request failed", code=error.code, reason=error.detail, path=request.url.path)
        retry_after = error.retry_after if error.retryable else None
        return problem(request, error.status, error.code, error.detail, error.errors, retry_after=retry_after)

    @app.exception_handler(RequestValidationError)
    def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        return tell(request, explain(error))

    @app.exception_handler(HTTPException)
    def framework(request: Request, error: HTTPException) -> JSONResponse:
        if isinstance(error.__cause__, KilnError):  # out of the body's receive: see api/request_body.py
            return tell(request, error.__cause__)
        if isinstance(error.__cause__, OSError):  # a form's file that found no room on the disk
            return tell(request, Overloaded("there is no room to keep the body while it is read"))
        if error.status_code == HTTPStatus.BAD_REQUEST:  # raised for bytes that no JSON parser can read
            return tell(request, MalformedBody("the body is not what this call reads: it is not valid JSON"))
        response = problem(request, error.status_code, _code(error.status_code), str(error.detail))
        response.headers.update(error.headers or {})
        return response

    @app.exception_handler(Exception)
    def unexpected(request: Request, error: Exception) -> JSONResponse:
        log.error("unexpected error", path=request.url.path, exc_info=error)
        return problem(request, 500, "internal_error", "something went wrong on our side; the log knows more")


def problem(
    request: Request,
    status: int,
    code: str,
    detail: str,
    errors: tuple[FieldError, ...] = (),
    *,
    retry_after: int | None = None,
) -> JSONResponse:
    """One problem as a response. A final one says so to clients that would otherwise repeat 409, 429 and 5xx."""
    # A field, or a metadata key, may be called what UTF-8 has no bytes for
    detail = _encodable(detail)
    errors = tuple(FieldError(_encodable(error.pointer), _encodable(error.detail)) for error in errors)
    body = Problem(
        type=f"urn:kiln:error:{code}",
        title=_title(status),
        status=status,
        detail=detail,
        instance=request.url.path,
        request_id=request.state.request_id,
        errors=[{"pointer": error.pointer, "detail": error.detail} for error in errors],
        error={
            "message": detail,
            "type": "invalid_request_error" if status < HTTPStatus.INTERNAL_SERVER_ERROR else "server_error",
            "param": errors[0].pointer[1:] if errors else None,
            "code": code,
        },
    )
    headers = {"x-should-retry": "false"} if retry_after is None else {"Retry-After": str(retry_after)}
    if status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(body.model_dump(), status, headers, media_type="application/problem+json")


def explain(error: RequestValidationError) -> KilnError:
    """Pydantic's findings: 400 where the body is not JSON or no object, else 422 with a pointer for each field."""
    found = error.errors()[:MOST_TOLD]
    for each in found:
        if each["type"] == "json_invalid" or (each["loc"] == ("body",) and each["type"] != "missing"):
            return MalformedBody(f"the body is not what this call reads: {_sentence(each)}")
    fields = translate([{**each, "loc": each["loc"][1:]} for each in found])  # without "body", or "query"
    return InvalidRequest(f"{fields[0].pointer[1:] or 'body'}: {fields[0].detail}", fields)


def translate(found: Sequence[Any]) -> tuple[FieldError, ...]:
    """Pydantic's findings in a value, each with a pointer into it."""
    return tuple(FieldError(_pointer(each["loc"]), _sentence(each)) for each in found)


def _pointer(location: tuple[str | int, ...]) -> str:
    return "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in location if part != "[key]")


def _sentence(found: Mapping[str, object]) -> str:
    match found["type"]:
        case "extra_forbidden":
            return "is not a field of this request"
        case "missing":
            return "is required"
        case "string_unicode":
            return "must be valid Unicode, without lone surrogates"
        case "json_invalid":
            return "it is not valid JSON"
        case "datetime_from_date_parsing" | "datetime_parsing" | "timezone_aware":
            return "must be a date and time of RFC 3339 with its offset, as 2030-01-31T06:00:00Z"
        case "enum":
            return f"must be {str(found['msg']).removeprefix('Input should be ')}"
        case _:
            return str(found["msg"]).removeprefix("Input should be ")


def _encodable(text: str) -> str:
    """The text with ``?`` for lone surrogates, which JSON has an escape for and UTF-8 has not."""
    return text.encode(errors="replace").decode()


def _title(status: int) -> str:
    return HTTPStatus(status).phrase


def _code(status: int) -> str:
    return _title(status).lower().replace(" ", "_").replace("'", "")
