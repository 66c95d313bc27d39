"""A small OpenAI-compatible server on a real socket, in a thread: for tests, and as a command over the bundled generator.

What writes is a function of prompt and seed (`Scripted`) or the local core (`OnCore`). What the server does with the protocol
is a `Manner`: each of its fields is a way in which real servers differ, or lie. What goes wrong is a `fault`, asked for each
request by its number and body.

    python tests/openai_server.py --port 8000
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from search.types import Extend, Finish, Row, Sampling, Until


class Token(NamedTuple):
    """One token as a server sees it: its text, ln p, and the likeliest with theirs. The end token has no text."""

    text: str
    logprob: float = -0.5
    end: bool = False


class Writer(Protocol):
    name: str

    def count(self, prompt: str) -> int: ...

    def write(self, prompt: str, seed: int, limit: int, temperature: float) -> AsyncIterator[Token]: ...


@dataclass
class Scripted:
    """Writes what a function of (prompt, seed) says, a token at a time, then the end token. `pause`: seconds between two."""

    script: Callable[[str, int], Sequence[str]]
    pause: float = 0.0
    name: str = "scripted"

    def count(self, prompt: str) -> int:
        return len(prompt.split()) + 1

    async def write(self, prompt: str, seed: int, limit: int, temperature: float) -> AsyncIterator[Token]:
        for text in self.script(prompt, seed if temperature else 0):
            await asyncio.sleep(self.pause)
            yield Token(text, -0.25 * len(text))
        yield Token("", -0.125, end=True)


class OnCore:
    """The local core behind the server: batched over all requests, a token at a time."""

    def __init__(self, model: Any) -> None:
        self.model, self.name = model, "bundled"
        self._queues: dict[int, asyncio.Queue[Token | None]] = {}
        self._sent: dict[int, int] = {}
        self._number, self._turning = 0, False

    def count(self, prompt: str) -> int:
        return len(self.model.tokenizer.encode(prompt))

    async def write(self, prompt: str, seed: int, limit: int, temperature: float) -> AsyncIterator[Token]:
        self._number += 1
        key, ids = self._number, tuple(self.model.tokenizer.encode(prompt))
        self._queues[key], self._sent[key] = asyncio.Queue(), 0
        self.model.engine.submit(key, Extend((Row("0", seed, ids, limit),), Until.END, Sampling(temperature)))
        if not self._turning:
            self._turning = True
            self._turn = asyncio.create_task(self._turns())
        try:
            while (token := await self._queues[key].get()) is not None:
                yield token
        finally:
            self.model.engine.forget(key)
            del self._queues[key], self._sent[key]

    async def _turns(self) -> None:
        engine = self.model.engine
        while engine.busy:
            done = engine.advance()
            for live in engine.live:
                self._tell(
                    live.ticket.search,
                    engine.rows.tokens[live.slot],
                    engine.rows.statistics[live.slot, 0],
                    int(engine.rows.counts[live.slot]),
                )
            for key, reply in done:
                if isinstance(reply, Exception):
                    raise reply
                step = reply.steps[0]
                self._tell(key, step.tokens, step.logprobs, len(step))
                if key in self._queues:
                    self._queues[key].put_nowait(None)
            await asyncio.sleep(0)
        self._turning = False

    def _tell(self, key: int, tokens: Any, logprobs: Any, count: int) -> None:
        if key not in self._queues:
            return
        vocabulary = self.model.engine.vocabulary
        for at in range(self._sent[key], count):
            token, end = int(tokens[at]), int(tokens[at]) in vocabulary.ends
            text = "" if end else vocabulary.pieces[token]
            self._queues[key].put_nowait(Token(text, float(logprobs[at]), end))
        self._sent[key] = count


@dataclass
class Manner:
    """How a server keeps the protocol. The defaults are vLLM's."""

    streams: bool = True
    stop: bool = True  # honours stop strings
    tells_stop: bool = True  # ... and which it was
    n: bool = True
    logprobs: int = 20  # most likeliest tokens it tells; 0 = none; more are refused
    usage: Callable[[int], int] | None = lambda count: count  # what it says of its count; None = it does not say
    max_tokens: bool = True
    lists: bool = True  # has /models
    loading: bool = False  # it is up, and has not loaded its model yet
    knows_usage_option: bool = True
    chunk: int = 1  # tokens an event
    done: bool = True  # says [DONE]


@dataclass
class Fault:
    """What goes wrong with one request: a status with headers, or a stream that is cut or spoilt after some events."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: str = '{"error": {"message": "as asked"}}'
    cut_after: int | None = None  # events, then the connection is closed
    spoil_after: int | None = None  # events, then one that is no JSON
    silent: float = 0.0  # seconds before the answer
    instead: bool = False  # the body is the whole answer, also with status 200


@dataclass
class Seen:
    """One request as the server saw it."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    tokens: int = 0  # written
    closed: bool = False  # by the client, before it was done
    began: float = field(default_factory=time.monotonic)
    ended: float = 0.0


class Closed(Exception):
    """The client is gone."""


class OpenAIServer:
    """`with OpenAIServer(writer) as server: server.url`."""

    def __init__(
        self,
        writer: Writer,
        manner: Manner | None = None,
        fault: Callable[[int, dict[str, Any]], Fault | None] = lambda number, body: None,
        key: str = "",
        port: int = 0,
    ) -> None:
        self.writer, self.manner, self.fault, self.key, self.port = writer, manner or Manner(), fault, key, port
        self.seen: list[Seen] = []
        self.running = self.most = 0
        self._ready = threading.Event()

    def __enter__(self) -> OpenAIServer:
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), daemon=True)
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(10)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def asked(self) -> list[Seen]:
        """The completions that were asked for after the probe of the generator."""
        return [each for each in self.seen if each.path != "/v1/models" and "Count: 1, 2" not in json.dumps(each.body)]

    async def _main(self) -> None:
        self._loop, self._over, self._peers = asyncio.get_running_loop(), asyncio.Event(), set[asyncio.Task[Any]]()
        server = await asyncio.start_server(self._peer, "127.0.0.1", self.port)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._over.wait()
        server.close()
        for task in list(self._peers):
            task.cancel()
        await asyncio.gather(*self._peers, return_exceptions=True)

    async def _peer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._peers.add(task)
        try:
            while head := await _head(reader):
                method, path, headers = head
                raw = await reader.readexactly(int(headers.get("content-length", 0)))
                if not await self._answer(method, path, headers, json.loads(raw or b"{}"), reader, writer):
                    break
        except (asyncio.IncompleteReadError, ConnectionError, Closed, asyncio.CancelledError):
            pass
        finally:
            self._peers.discard(task)
            writer.close()
            with suppress(ConnectionError, asyncio.CancelledError):
                await writer.wait_closed()

    async def _answer(
        self,
        method: str,
        path: str,
        headers: dict[str, str],
        body: dict[str, Any],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> bool:
        """Whether the connection may be used again."""
        seen = Seen(path, headers, body)
        self.seen.append(seen)
        if self.key and headers.get("authorization") != f"Bearer {self.key}":
            return await _plain(writer, 401, json.dumps({"error": {"message": f"wrong key {headers.get('authorization')}"}}))
        if self.manner.loading:
            return await _plain(writer, 503, json.dumps({"error": {"message": "Loading model"}}))
        if path == "/v1/models":
            listed = {"data": [{"id": self.writer.name, "object": "model", "created": int(time.time())}]}
            return await _plain(writer, *((200, json.dumps(listed)) if self.manner.lists else (500, "Internal Server Error")))
        fault = (self.fault(len(self.asked), body) if self.asked[-1:] == [seen] else None) or Fault()
        await asyncio.sleep(fault.silent)
        if fault.status != 200 or fault.instead:
            return await _plain(writer, fault.status, fault.body, fault.headers)
        if refused := self._refused(path, body):
            return await _plain(writer, refused[0], json.dumps({"error": {"message": refused[1]}}))
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            return await self._write(seen, fault, reader, writer)
        finally:
            self.running -= 1
            seen.ended = time.monotonic()

    def _refused(self, path: str, body: dict[str, Any]) -> tuple[int, str] | None:
        asked = body.get("top_logprobs" if path.endswith("chat/completions") else "logprobs") or 0
        if path not in ("/v1/completions", "/v1/chat/completions"):
            return 404, f"no route {path}"
        if body["model"] != self.writer.name:
            return 404, f"the model '{body['model']}' does not exist"
        if "stream_options" in body and not self.manner.knows_usage_option:
            return 400, "unknown field stream_options"
        return (400, f"{asked} logprobs are too many") if self.manner.logprobs and asked > self.manner.logprobs else None

    async def _write(self, seen: Seen, fault: Fault, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        body, manner = seen.body, self.manner
        chat = seen.path.endswith("chat/completions")
        prompt = "".join(each["content"] for each in body["messages"]) + "\n\n" if chat else body["prompt"]
        n = body.get("n", 1) if manner.n else 1
        parts = [_Part(self, index, prompt, body, chat) for index in range(n)]
        stream = body.get("stream") and manner.streams
        if not stream:
            for part in parts:
                async with aclosing(part.events()) as events:
                    async for _ in events:
                        pass
            seen.tokens = sum(part.count for part in parts)
            return await _plain(
                writer, 200, json.dumps({"choices": [part.whole() for part in parts], **self._usage(prompt, parts)})
            )
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        gone = asyncio.create_task(reader.read(1))
        sent = 0
        queue: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()

        async def pump(part: _Part) -> None:
            async with aclosing(part.events()) as events:
                async for event in events:
                    await queue.put(event)
            await queue.put(None)

        pumps = [asyncio.create_task(pump(part)) for part in parts]
        left = len(parts)
        try:
            while left:
                get = asyncio.create_task(queue.get())
                await asyncio.wait([get, gone], return_when=asyncio.FIRST_COMPLETED)
                if gone.done():
                    get.cancel()
                    seen.closed = True
                    raise Closed
                event = get.result()
                if event is None:
                    left -= 1
                    continue
                if fault.cut_after == sent:
                    raise Closed
                spoilt = fault.spoil_after == sent
                _chunk(
                    writer,
                    b'data: {"choices": [{"te\n\n'
                    if spoilt
                    else b"data: " + json.dumps({"choices": [event]}, ensure_ascii=False).encode() + b"\n\n",
                )
                await writer.drain()
                seen.tokens = sum(part.count for part in parts)
                sent += 1
            usage = self._usage(prompt, parts)
            if usage and body.get("stream_options", {}).get("include_usage"):
                _chunk(writer, b"data: " + json.dumps({"choices": [], **usage}).encode() + b"\n\n")
            _chunk(writer, b"data: [DONE]\n\n" if manner.done else b": over\n\n")
            writer.write(b"0\r\n\r\n")
            await writer.drain()
            return True
        finally:
            gone.cancel()
            for each in pumps:
                each.cancel()
            await asyncio.gather(gone, *pumps, return_exceptions=True)

    def _usage(self, prompt: str, parts: Sequence[_Part]) -> dict[str, Any]:
        if self.manner.usage is None:
            return {}
        many, count = self.manner.usage(sum(part.count for part in parts)), self.writer.count(prompt)
        return {"usage": {"prompt_tokens": count, "completion_tokens": many, "total_tokens": many + count}}


@dataclass
class _Part:
    """One completion: what the writer writes, as events of the protocol."""

    server: OpenAIServer
    index: int
    prompt: str
    body: dict[str, Any]
    chat: bool
    count: int = 0
    text: str = ""
    said: str = ""  # of the text: in events
    finish: str = ""
    stop: str | None = None
    tokens: list[Token] = field(default_factory=list)

    async def events(self) -> AsyncIterator[dict[str, Any]]:
        manner, body = self.server.manner, self.body
        stops = body.get("stop") or [] if manner.stop else []
        held = max(map(len, stops), default=1) - 1
        limit = body["max_tokens"] if manner.max_tokens else 10 * body["max_tokens"]
        fresh: list[Token] = []
        tokens = self.server.writer.write(self.prompt, body["seed"] + self.index, limit, body["temperature"])
        async with aclosing(tokens) as writing:  # type: ignore[type-var]
            async for token in writing:
                self.count += 1
                fresh.append(token)
                self.text += token.text
                found = [(self.text.index(stop), stop) for stop in stops if stop in self.text]
                if found:
                    at, self.stop = min(found)
                    self.text, self.finish = self.text[:at], "stop"
                elif token.end or self.count >= limit:
                    self.finish = "stop" if token.end else "length"
                if self.finish:
                    break
                if len(fresh) >= manner.chunk and len(self.text) - held > len(self.said):
                    yield self._event(self.text[len(self.said) : len(self.text) - held], fresh)
                    fresh = []
        yield self._event(self.text[len(self.said) :], fresh, self.finish or "length")

    def _event(self, text: str, fresh: list[Token], finish: str | None = None) -> dict[str, Any]:
        self.said += text
        self.tokens += fresh
        event: dict[str, Any] = {
            "index": self.index,
            "finish_reason": finish,
            **({"delta": {"content": text}} if self.chat else {"text": text}),
        }
        if finish and self.server.manner.tells_stop:
            event["stop_reason"] = self.stop
        return event | self._logprobs(fresh)

    def _logprobs(self, tokens: list[Token]) -> dict[str, Any]:
        k = self.body.get("top_logprobs" if self.chat else "logprobs")
        if not k or not self.server.manner.logprobs:
            return {"logprobs": None}
        tops = [{f"<{i}>" if i else token.text: token.logprob - i for i in range(k)} for token in tokens]
        if self.chat:
            rows = [
                {"token": t.text, "logprob": t.logprob, "top_logprobs": [{"token": a, "logprob": p} for a, p in top.items()]}
                for t, top in zip(tokens, tops, strict=True)
            ]
            return {"logprobs": {"content": rows}}
        return {
            "logprobs": {
                "tokens": [t.text for t in tokens],
                "token_logprobs": [t.logprob for t in tokens],
                "top_logprobs": tops,
            }
        }

    def whole(self) -> dict[str, Any]:
        """The completion as one that is not streamed."""
        event = self._event("", [], self.finish or "length") | self._logprobs(self.tokens)
        event.pop("delta", None)
        return event | ({"message": {"content": self.text}} if self.chat else {"text": self.text})


async def _head(reader: asyncio.StreamReader) -> tuple[str, str, dict[str, str]] | None:
    raw = await reader.readuntil(b"\r\n\r\n")
    first, *lines = raw.decode("latin-1").strip().split("\r\n")
    method, path, _ = first.split(" ")
    return method, path, {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


async def _plain(writer: asyncio.StreamWriter, status: int, body: str, headers: dict[str, str] | None = None) -> bool:
    raw = body.encode()
    more = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
    writer.write(
        f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n{more}Content-Length: {len(raw)}\r\n\r\n".encode() + raw
    )
    await writer.drain()
    return True


def _chunk(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")


def main() -> None:
    """Serves the bundled generator until it is interrupted."""
    import argparse

    from pipelines.models import load_generator

    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--port", type=int, default=8000)
    with OpenAIServer(OnCore(load_generator()), port=options.parse_args().port), suppress(KeyboardInterrupt):
        threading.Event().wait()


__all__ = ["Fault", "Finish", "Manner", "OnCore", "OpenAIServer", "Scripted", "Seen", "Token"]

if __name__ == "__main__":
    main()
