"""What a connection may cost before its request has a whole head: uvicorn's protocol, with a limit of size and time."""

from asyncio import TimerHandle, Transport

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_BYTES = 64 << 10
HEAD_SECONDS = 20.0


class Protocol(HttpToolsProtocol):
    """Closes connections whose head is too long or too slow. uvicorn keeps what comes, for as long as it comes."""

    _bytes = 0
    _in_head = True
    _timer: TimerHandle | None = None

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        super().connection_made(transport)
        self._begin_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_head()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        self._end_head()
        self._begin_head()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._end_head()
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        was_in_head = self._in_head
        super().data_received(data)
        if was_in_head and self._in_head:
            self._bytes += len(data)
            if self._bytes > HEAD_BYTES and not self.transport.is_closing():
                self.send_400_response(f"The head has more than {HEAD_BYTES} bytes.")

    def _begin_head(self) -> None:
        self._in_head, self._bytes = True, 0
        self._timer = self.loop.call_later(HEAD_SECONDS, self._give_up)

    def _end_head(self) -> None:
        self._in_head = False
        if self._timer is not None:
            self._timer.cancel()

    def _give_up(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()
