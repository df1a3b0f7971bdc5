"""Slots of a model server that are busy while shards are annotated, and its requests a picture.

The server has SLOTS slots and takes LATENCY seconds a reply; what comes beyond waits there. On one side
several processes take the shards from a queue and keep to its slots together, with the boxes of a picture in
one request; on the other side one process annotates shard after shard, with a request for each box.
BENCH_SHARDS, BENCH_ROWS and BENCH_PROCESSES set how much there is to do.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import multiprocessing
import os
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from queue import Empty
from typing import Any

from aiohttp import web
from PIL import Image

from got_core.annotate import t2i
from got_core.annotate.config import OpenAIConfig
from got_core.annotate.ledger import Ledger
from got_core.annotate.openai_annotator import OpenAIAnnotator
from got_core.corpus.schemas import RAW_IMAGES, frame_of
from got_core.storage import Storage

SHARDS = int(os.environ.get("BENCH_SHARDS", "24"))
ROWS = int(os.environ.get("BENCH_ROWS", "200"))
PROCESSES = int(os.environ.get("BENCH_PROCESSES", "3"))
SLOTS, LATENCY = 64, 0.3
NAMES = ("red ball", "old dog", "cart", "green tree")
"""As many as the published sets have boxes a picture."""


class Counted:
    """What the server does: requests, and seconds of slots that were busy."""

    def __init__(self) -> None:
        self.free = asyncio.Semaphore(SLOTS)
        self.reset()

    def reset(self) -> None:
        self.requests = self.waiting = self.most_waiting = 0
        self.busy, self.first, self.last = 0.0, 0.0, 0.0

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.waiting += 1
        self.most_waiting = max(self.most_waiting, self.waiting)
        async with self.free:
            started = time.monotonic()
            self.first = self.first or started
            await asyncio.sleep(LATENCY)
            self.last = time.monotonic()
            self.busy += self.last - started
        self.waiting -= 1
        self.requests += 1
        return web.json_response(completion(reply(body)))

    async def figures(self, _: web.Request) -> web.Response:
        share = self.busy / (SLOTS * (self.last - self.first)) if self.requests else 0.0
        found = {"busy": share, "requests": self.requests, "most": self.most_waiting}
        found["seconds"] = self.last - self.first
        self.reset()
        return web.json_response(found)


def completion(text: str) -> dict[str, Any]:
    choice = {"message": {"content": text}, "finish_reason": "stop"}
    return {"choices": [choice], "usage": {"prompt_tokens": 400, "completion_tokens": 20}}


def reply(body: dict[str, Any]) -> str:
    content = body["messages"][0]["content"]
    text = content if isinstance(content, str) else content[-1]["text"]
    if text.startswith("Look at the image"):
        return "a dog and a ball"
    if text.startswith("Describe"):
        own = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]
        return f"A {NAMES[0]}, an {NAMES[1]} and a {NAMES[2]} beside a {NAMES[3]}, taken as number n{own}."
    if text.startswith("List the objects"):
        return json.dumps({"entities": NAMES})
    if text.startswith("Find this object"):
        return '{"found": true, "box": [10, 20, 300, 400]}'
    names = re.findall(r"^- (.*)$", text, re.M)
    return json.dumps({"boxes": [{"bbox_2d": [10, 20, 300, 400], "label": name} for name in names]})


def serve(port: Connection) -> None:
    """The server; sends its port."""

    async def run() -> None:
        counted = Counted()
        app = web.Application(client_max_size=1 << 26)
        app.router.add_post("/v1/chat/completions", counted.answer)
        app.router.add_get("/figures", counted.figures)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port.send(runner.addresses[0][1])
        await asyncio.Event().wait()

    asyncio.run(run())


@contextmanager
def server() -> Iterator[str]:
    """The URL of a server in a process of its own."""
    receive, send = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(send,), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{receive.recv()}/v1"
    finally:
        process.terminate()
        process.join()


def picture(path: str) -> Image.Image:
    """A plain picture of its own for each path."""
    number = int(path)
    return Image.new("RGB", (64, 48), (number % 256, number // 256 % 256, number // 65536))


def annotate(url: str, folder: Path, shard: int, config: OpenAIConfig, slots: Path | None) -> None:
    """Three steps, as the graph does them: the annotator is opened for each."""
    storage, rows = Storage(str(folder)), range(shard * ROWS, (shard + 1) * ROWS)
    wanted = [{"image_id": str(k), "path": str(k)} for k in rows]
    raw = frame_of([{name: row.get(name) for name in RAW_IMAGES} for row in wanted], RAW_IMAGES)

    def opened() -> OpenAIAnnotator:
        return OpenAIAnnotator(config, Ledger(storage, f"images-{shard:05d}"), slots=slots)

    with opened() as annotator:
        captions = t2i.caption_images(raw, picture, annotator)
    with opened() as annotator:
        entities = t2i.extract_entities(captions, annotator)
    with opened() as annotator:
        boxes = t2i.ground_entities(entities, raw, picture, annotator)
    assert not boxes["error"].count() and boxes["boxes"].list.len().sum() == ROWS * len(NAMES)


def work(url: str, folder: Path, shards: Any, settings: dict[str, Any], slots: Path | None) -> None:
    """Shards from a queue until there are none."""
    config = OpenAIConfig(url=url, vision_model="eyes", box_unit="thousandths", concurrency=SLOTS, **settings)
    while True:
        try:
            shard = shards.get(timeout=1.0)
        except Empty:
            return
        annotate(url, folder, shard, config, slots)


def side(url: str, processes: int, settings: dict[str, Any], shared: bool) -> dict[str, float]:
    """What the server counted while so many processes annotated all shards."""
    import urllib.request

    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        shards = spawn.Queue()
        for shard in range(SHARDS):
            shards.put(shard)
        slots = Path(folder) / "slots" if shared else None
        workers = [
            spawn.Process(target=work, args=(url, Path(folder), shards, settings, slots))
            for _ in range(processes)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert all(worker.exitcode == 0 for worker in workers)
    with urllib.request.urlopen(url.removesuffix("/v1") + "/figures") as response:
        return json.load(response)


def main() -> dict[str, float | str]:
    """Shares of busy slots and requests a picture of both sides."""
    with server() as url:
        together = side(url, PROCESSES, {}, shared=True)
        alone = side(url, 1, {"boxes": "one by one"}, shared=False)
    pictures = SHARDS * ROWS
    return {
        "slots busy": together["busy"],
        "slots busy, shard after shard": alone["busy"],
        "requests a picture": together["requests"] / pictures,
        "requests a picture, one by one": alone["requests"] / pictures,
        "ratio of requests": together["requests"] / alone["requests"],
        "requests at the server at once, at most": together["most"],
        "ratio of seconds": alone["seconds"] / together["seconds"],
        "processes": str(PROCESSES),
    }
