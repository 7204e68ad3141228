"""One HTTP call to the API in, its answer or a ClientError out. Repeats a call whose connection breaks."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from client.address import is_loopback
from client.errors import ConnectionCut, KilnApiError, Unreachable
from common.errors import FieldError

ATTEMPTS = 4
PATIENCE, CONNECT_PATIENCE = 60.0, 5.0  # seconds
LONGEST_PAUSE = 10.0  # seconds between two attempts, whatever Retry-After says


class Transport:
    """A connection to one API, kept open between calls."""

    def __init__(self, base_url: str, api_key: str | None) -> None:
        self.base_url = base_url
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        timeout = httpx2.Timeout(PATIENCE, connect=CONNECT_PATIENCE)
        self._http = httpx2.Client(
            base_url=base_url, headers=headers, timeout=timeout, trust_env=not is_loopback(base_url)
        )

    def close(self) -> None:
        self._http.close()

    @contextmanager
    def lines(
        self, path: str, *, headers: dict[str, str] | None = None, silence: float = PATIENCE
    ) -> Iterator[Iterator[str]]:
        """The lines of an answer as they come. Raises as call() does, also in the middle; repeats nothing.

        ``silence``: seconds without a byte, after which the connection counts as broken.
        """
        try:
            timeout = httpx2.Timeout(PATIENCE, connect=CONNECT_PATIENCE, read=silence)
            with self._http.stream("GET", path, headers=headers, timeout=timeout) as answer:
                if not answer.is_success:
                    answer.read()
                    raise api_error(answer)
                yield answer.iter_lines()
        except httpx2.ConnectError as error:
            raise Unreachable(_nobody_there(self.base_url, self.base_url)) from error
        except httpx2.TransportError as error:
            raise ConnectionCut(f"The connection to {self.base_url} broke in the middle of {path}.") from error

    def call(
        self,
        method: str,
        path: str,
        *,
        params: dict[str, Any] | None = None,
        body: dict[str, Any] | None = None,
        content: bytes | None = None,
        headers: dict[str, str] | None = None,
        accept: tuple[int, ...] = (),
        follow: bool = False,
    ) -> httpx2.Response:
        """The answer, if it is a 2xx (or in ``accept``). Everything called through here must be safe to repeat."""
        sent = dict(headers or {})
        if body is not None:
            # Not httpx's own encoder: it refuses NaN and lone surrogates, which the API refuses by field name.
            content, sent["Content-Type"] = json.dumps(body).encode(), "application/json"
        request = self._http.build_request(method, path, params=params, content=content, headers=sent)
        attempts = Retrying(
            stop=stop_after_attempt(ATTEMPTS), wait=_pause, retry=retry_if_exception(_may_help), reraise=True
        )
        return attempts(self._once, request, accept, follow)

    def _once(self, request: httpx2.Request, accept: tuple[int, ...], follow: bool) -> httpx2.Response:
        try:
            answer = self._http.send(request, follow_redirects=follow)
        except httpx2.ConnectError as error:
            raise Unreachable(_nobody_there(str(error.request.url.copy_with(query=None)), self.base_url)) from error
        except httpx2.TransportError as error:
            reason = str(error) or type(error).__name__
            raise ConnectionCut(f"The connection to {self.base_url} broke ({reason}).") from error
        if answer.is_success or answer.status_code in accept:
            return answer
        raise api_error(answer)


def api_error(answer: httpx2.Response) -> KilnApiError:
    """What a problem+json answer says; one in another form (a proxy's, another server's) is named by its status."""
    try:
        problem = answer.json()
        code = str((problem.get("error") or {}).get("code") or answer.status_code)
        detail = str(problem.get("detail") or problem.get("title") or f"The API answered {answer.status_code}.")
        errors = tuple(FieldError(str(e["pointer"]), str(e["detail"])) for e in problem.get("errors") or ())
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError):  # the last: lists in lists without end
        address = answer.url.copy_with(query=None)
        detail = f"{address} answered {answer.status_code} in a form that is not Kiln's; is this the right address?"
        code, errors = "unexpected_answer", ()
    final = answer.headers.get("x-should-retry") == "false"
    return KilnApiError(answer.status_code, code, detail, errors, None if final else retry_after(answer))


def answered_object(answer: httpx2.Response) -> dict[str, Any]:
    """The JSON object that was answered. Raises Unreachable: whatever else answers there is not Kiln."""
    try:
        data = answer.json()
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict):
        raise Unreachable(f"What answers at {answer.url.copy_with(query=None)} is not Kiln; is this the right address?")
    return data


def retry_after(answer: httpx2.Response) -> float | None:
    """Seconds that the answer asks to wait, or None."""
    try:
        return max(0.0, float(answer.headers["Retry-After"]))
    except (KeyError, ValueError):
        return None


def _nobody_there(url: str, base_url: str) -> str:
    if not url.startswith(base_url):
        return f"Nobody answers at {url}, where the API keeps its pictures."
    return (
        f"Nobody answers at {base_url}. Start Kiln with `kiln up`, or say where it runs: KILN_API_URL=http://host:port."
    )


def _may_help(error: BaseException) -> bool:
    if isinstance(error, KilnApiError):
        return error.status in (502, 503, 504) and error.retry_after is not None
    return isinstance(error, ConnectionCut)


def _pause(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    asked = error.retry_after if isinstance(error, KilnApiError) else None
    backoff = wait_random_exponential(multiplier=0.2, max=LONGEST_PAUSE)
    return min(LONGEST_PAUSE, asked) if asked is not None else backoff(state)
