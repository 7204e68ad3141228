"""Routes for OpenAI's clients: what is wrong with a request is a 400 to them, and names the parameter."""

from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

from fastapi import Header, Request, Response
from fastapi.exceptions import RequestValidationError

from api.errors import explain
from api.route import Route
from common.errors import BadParameter, InvalidRequest

Retries = Annotated[int, Header(ge=0, description="which retry of a call this is: set by OpenAI's clients")]


class OpenAIRoute(Route):
    """One call of OpenAI's API."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handler(request: Request) -> Response:
            with as_bad_parameters():
                return await handle(request)

        return handler


class OpenAILongRoute(OpenAIRoute):
    """One whose body may be lines."""

    lines = True


@contextmanager
def as_bad_parameters() -> Iterator[None]:
    """Tell of wrong fields as OpenAI's clients expect it."""
    try:
        yield
    except InvalidRequest as error:
        raise BadParameter(error.detail, error.errors) from error
    except RequestValidationError as error:
        told = explain(error)
        raise (BadParameter(told.detail, told.errors) if isinstance(told, InvalidRequest) else told) from error
