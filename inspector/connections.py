"""Connections that nobody uses are closed: uvicorn waits for a request for as long as it takes.

Uvicorn closes a connection that idles between two requests. One that has never sent anything, or
half a request, it keeps for ever, and enough of them leave no room for the people who inspect.
"""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

#: Seconds from the opening of a connection to the first byte of a request, and from there until it
#: is whole. The page's requests are a few kilobytes at most.
REQUEST_SECONDS = 10.0


class ImpatientProtocol(H11Protocol):
    """Uvicorn's HTTP protocol, which closes a connection whose request does not become whole.

    An answer may take as long as it does: time counts only while the client has to say more. It is
    not given more time for each byte, so that a request cannot be drawn out.

    Of uvicorn's own only `conn`, h11's connection, is used; what h11 tells of it is public.
    """

    #: Seconds to wait for a request, and for the rest of it.
    patience = REQUEST_SECONDS
    _cut: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for the first request."""
        super().connection_made(transport)  # type: ignore[arg-type]
        self._wait_for_more(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        self._wait_no_longer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take in what has come, and wait for the rest of a request that is not whole."""
        if self.conn.their_state is h11.IDLE and not self._has_begun:
            self._wait_no_longer()  # for its first byte; the rest has a time of its own
        super().data_received(data)
        self._look()

    def on_response_complete(self) -> None:
        """Go on with what had come before the answer was given: it may be half a request."""
        super().on_response_complete()
        self._look()

    @property
    def _has_begun(self) -> bool:
        """Whether something has come that is not a whole request's head."""
        return bool(self.conn.trailing_data[0])

    def _look(self) -> None:
        state = self.conn.their_state
        if state is h11.SEND_BODY or (state is h11.IDLE and self._has_begun):
            self._wait_for_more(self.transport)
        else:
            self._wait_no_longer()

    def _wait_for_more(self, transport: asyncio.BaseTransport) -> None:
        if self._cut is None:
            loop = asyncio.get_running_loop()
            self._cut = loop.call_later(self.patience, transport.close)

    def _wait_no_longer(self) -> None:
        if self._cut is not None:
            self._cut.cancel()
            self._cut = None


def impatient(seconds: float) -> type[ImpatientProtocol]:
    """Return the protocol for uvicorn's ``http``, with `seconds` for a request."""
    kind: Any = type("ImpatientProtocol", (ImpatientProtocol,), {"patience": seconds})
    return kind
