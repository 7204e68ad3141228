"""What a call through the client can end in: one class and one sentence each, and the exit code of `kiln`."""

from collections.abc import Mapping
from typing import Any

from common.errors import FieldError


class ClientError(Exception):
    """Something that the user is told in one sentence. ``exit_code`` is what `kiln` ends with."""

    code = "client_error"
    exit_code = 2

    def document(self) -> dict[str, Any]:
        """The same for scripts: the document that `kiln --json` prints."""
        return {"error": {"code": self.code, "detail": str(self)}}


class InvalidUse(ClientError):
    """The command cannot be carried out as it was given."""

    code = "invalid_use"


class Unreachable(ClientError):
    """No connection, or it broke and trying again did not help."""

    code, exit_code = "unreachable", 3


class ConnectionCut(Unreachable):
    """The connection broke after the request was sent: whether the request was carried out is unknown."""

    code = "connection_cut"


class DamagedPicture(ClientError):
    """The bytes that arrived are not those that the worker stored."""

    code, exit_code = "damaged_picture", 1


class KilnApiError(ClientError):
    """The API answered, but not with what was asked for. The message names each field that it refused."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        errors: tuple[FieldError, ...] = (),
        retry_after: float | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.errors = errors
        self.retry_after = retry_after  # seconds; None: the API did not ask to come back
        self.exit_code = 3 if status >= 500 else 2

    def __str__(self) -> str:
        return self.sentence({})

    def sentence(self, names: Mapping[str, str]) -> str:
        """The refusal in words; ``names`` says what a reader calls a field, such as its option."""
        if not self.errors:
            return self.detail
        fields = [_call(error.pointer, names) for error in self.errors]
        return "; ".join(
            f"{field}: {error.detail}" if field else error.detail
            for field, error in zip(fields, self.errors, strict=True)
        )

    def document(self) -> dict[str, Any]:
        fields = [{"pointer": error.pointer, "detail": error.detail} for error in self.errors]
        return {"error": {"code": self.code, "detail": self.detail, "status": self.status, "errors": fields}}


def _call(pointer: str, names: Mapping[str, str]) -> str:
    """A field as a reader knows it: "--steps", "line 17, style", "metadata.album"."""
    head, *rest = pointer.lstrip("/").split("/")
    if head == "lines" and rest:
        return ", ".join([f"line {rest[0]}", *rest[1:]])
    if head in names and all(part.isdigit() for part in rest):  # of a list: the detail quotes which
        return names[head]
    return ".".join([head, *rest])
