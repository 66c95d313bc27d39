"""The HTTP of it: one streamed POST a request, and what a status code means."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from email.utils import parsedate_to_datetime
from typing import Any, cast

import httpx

from pipelines.remote.address import KEYS, Place, api_key
from pipelines.remote.errors import BadSetup, Broken, Rejected, WrongKey
from pipelines.remote.wire import Piece, Usage, Wish, body, events, message, read, shown

AGAIN = (408, 409, 425, 429)  # and all from 500 on
AWAY = (*AGAIN, 502, 503, 504)  # of the server itself; 500 may be of what it was asked
CONNECT = 10.0  # seconds
DRAIN = 0.5  # seconds for the end of a stream that is over
SAID = 1 << 16  # bytes of an error that are read
log = logging.getLogger("pipelines.remote")


class Client:
    """One server. Belongs to the event loop it is first used in."""

    def __init__(self, place: Place) -> None:
        self.place, self._key = place, api_key()
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        if self._key and place.url.startswith("http:") and not place.local:
            log.warning("the key is sent to %s unencrypted; use https", place.url)
        most = place.options.concurrency
        self.http = httpx.AsyncClient(
            headers=headers,
            timeout=httpx.Timeout(place.options.timeout, connect=CONNECT, pool=None),
            limits=httpx.Limits(max_connections=most + 1, max_keepalive_connections=most + 1),
        )

    def clean(self, text: object) -> str:
        """Words that may hold a server's, without the key."""
        said = str(text)
        return said.replace(self._key, "***") if self._key else said

    async def models(self) -> list[dict[str, Any]]:
        """What GET /models lists. Raises as `stream` does."""
        async with self._open("GET", "/models") as response:
            try:
                said = json.loads(await response.aread())
                return [each for each in said["data"] if isinstance(each.get("id"), str)]
            except (ValueError, KeyError, TypeError, AttributeError):
                raise Broken("malformed JSON (no list of models)") from None

    async def stream(self, model: str, wish: Wish) -> AsyncGenerator[tuple[list[Piece], Usage | None], None]:
        """Pieces as they come, until the server says that it is done. Closing the generator closes the connection.

        Raises Broken, Rejected, Away, BadSetup; Broken too where the connection ends before the server is done."""
        api = self.place.options.api
        async with self._open(
            "POST", "/chat/completions" if api == "chat" else "/completions", body(model, api, wish)
        ) as response:
            if "json" in response.headers.get("content-type", ""):  # it does not stream
                yield read(await response.aread())
                return
            buffer, over = bytearray(), False
            async with aclosing(cast("AsyncGenerator[bytes, None]", response.aiter_bytes())) as stream:
                async for some in stream:
                    buffer += some
                    for event in events(buffer):
                        if event == b"[DONE]":
                            await _drained(stream)
                            return
                        found = read(event)
                        over = over or any(piece.finish for piece in found[0])
                        yield found
            if not over:  # some end without [DONE]
                raise Broken("the connection was cut in mid-stream")

    @asynccontextmanager
    async def _open(self, method: str, path: str, sent: dict[str, Any] | None = None) -> AsyncIterator[httpx.Response]:
        try:
            async with self.http.stream(method, self.place.url + path, json=sent) as response:
                if response.status_code != 200:
                    raise self._refused(response, await _beginning(response))
                yield response
        except httpx.TimeoutException as error:
            silent = f"no answer in {CONNECT if isinstance(error, httpx.ConnectTimeout) else self.place.options.timeout:g} s"
            raise Broken(silent, away=True) from None
        except httpx.HTTPError as error:
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                raise BadSetup(
                    f"the certificate of {self.place.url} is not trusted here; name its authority in SSL_CERT_FILE"
                ) from None
            raise Broken(f"the connection failed ({shown(self.clean(error)) or type(error).__name__})", away=True) from None
        except httpx.InvalidURL:
            raise BadSetup(f"{self.place.url} is no URL") from None

    def _refused(self, response: httpx.Response, raw: bytes) -> Exception:
        """What a status other than 200 means."""
        code, at = response.status_code, self.place.url
        try:
            said = message(json.loads(raw))
        except (ValueError, RecursionError):
            said = raw.decode(errors="replace")
        why = shown(self.clean(said))  # cut when the key is out of it: half of one is one too
        if code in AGAIN or code >= 500:
            return Broken(f"HTTP {code} ({why})", _after(response), code in AWAY)
        if code in (401, 403):
            have = "the one that is set" if self._key else "none is set"
            return WrongKey(f"{at} refuses the key, HTTP {code} ({why}); {have}: see {' or '.join(KEYS)}")
        if code in (404, 405) or 300 <= code < 400:
            where = f"; it points to {shown(self.clean(response.headers.get('location')))}" if 300 <= code < 400 else ""
            return BadSetup(f"{at} does not know what is asked of it, HTTP {code} ({why}){where}; check URL, model= and api=")
        return Rejected(f"the server at {at} does not take the request, HTTP {code} ({why})")


async def _drained(stream: AsyncGenerator[bytes, None]) -> None:
    """Reads what is left, which is next to nothing, so that the connection can be used again."""
    with suppress(TimeoutError):
        async with asyncio.timeout(DRAIN):
            async for _ in stream:
                pass


async def _beginning(response: httpx.Response) -> bytes:
    raw = b""
    async for some in response.aiter_bytes():
        raw += some
        if len(raw) >= SAID:
            break
    return raw[:SAID]


def _after(response: httpx.Response) -> float | None:
    """Seconds of a Retry-After, in either of its forms."""
    said = response.headers.get("retry-after", "")
    try:
        return max(float(int(float(said))), 0.0)
    except (ValueError, OverflowError):
        pass
    try:
        return max(parsedate_to_datetime(said).timestamp() - time.time(), 0.0)
    except (TypeError, ValueError, OverflowError):
        return None


__all__ = ["Client"]
