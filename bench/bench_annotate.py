"""Questions about pictures to a server that takes 200 ms, against a bare asynchronous loop.

Both have the same number of requests under way. The bare loop posts ready requests; the annotator hashes,
encodes, asks, reads and keeps. Five alternations; the median of each side counts. BENCH_QUESTIONS sets how
many questions each round has.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from multiprocessing.connection import Connection

import aiohttp
import numpy as np
from aiohttp import web
from PIL import Image

from got_core.annotate import t2i
from got_core.annotate.config import OpenAIConfig
from got_core.annotate.ledger import Ledger
from got_core.annotate.openai_annotator import OpenAIAnnotator
from got_core.annotate.pictures import Picture
from got_core.annotate.prompt_files import prompt
from got_core.annotate.schemas import ENTITIES
from got_core.corpus.schemas import RAW_IMAGES, frame_of
from got_core.storage import Storage

ROWS = int(os.environ.get("BENCH_QUESTIONS", "1024"))
CONCURRENCY, LATENCY, SIDE, ROUNDS = 32, 0.2, 384, 5
REPLY = {
    "choices": [
        {"message": {"content": '{"found": true, "box": [10, 20, 300, 400]}'}, "finish_reason": "stop"}
    ],
    "usage": {"prompt_tokens": 400, "completion_tokens": 20},
}


def serve(port: Connection) -> None:
    """A server that answers every request after LATENCY seconds; sends its port."""

    async def answer(request: web.Request) -> web.Response:
        await request.read()
        await asyncio.sleep(LATENCY)
        return web.json_response(REPLY)

    async def run() -> None:
        app = web.Application(client_max_size=1 << 26)
        app.router.add_post("/v1/chat/completions", answer)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port.send(runner.addresses[0][1])
        await asyncio.Event().wait()

    asyncio.run(run())


def picture(path: str) -> Image.Image:
    """A smooth picture of its own for each path."""
    coarse = np.random.default_rng(int(path)).integers(0, 255, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BILINEAR)


def annotate(url: str, pictures: list[Image.Image]) -> tuple[float, float]:
    """Questions a second of the annotator, one picture and one name a row; processor time of each in ms."""
    raw = [{"image_id": str(k), "path": str(k)} for k in range(ROWS)]
    rows = [{"image_id": str(k), "entities": ["ball"]} for k in range(ROWS)]
    tables = [frame_of([{n: row.get(n) for n in c} for row in some], c) for some, c in
              ((rows, ENTITIES), (raw, RAW_IMAGES))]  # fmt: skip
    config = OpenAIConfig(url=url, vision_model="eyes", box_unit="thousandths", concurrency=CONCURRENCY)
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(Storage(folder), "bench")
        with OpenAIAnnotator(config, ledger) as annotator:
            started, begun = time.perf_counter(), time.process_time()
            frame = t2i.ground_entities(*tables, lambda path: pictures[int(path)], annotator)
            seconds, worked = time.perf_counter() - started, time.process_time() - begun
            assert annotator.requests == ROWS and not frame["error"].count()
    return ROWS / seconds, 1000 * worked / ROWS


async def bare(url: str, bodies: list[bytes]) -> tuple[float, float]:
    """The same of the plainest loop with as many requests under way."""
    slots = asyncio.Semaphore(CONCURRENCY)
    headers = {"Content-Type": "application/json"}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), headers=headers) as session:

        async def ask(body: bytes) -> None:
            async with slots, session.post(f"{url}/chat/completions", data=body) as response:
                json.loads((await response.json())["choices"][0]["message"]["content"])

        started, begun = time.perf_counter(), time.process_time()
        await asyncio.gather(*(ask(body) for body in bodies))
        seconds, worked = time.perf_counter() - started, time.process_time() - begun
        return len(bodies) / seconds, 1000 * worked / len(bodies)


def requests_of(pictures: list[Image.Image]) -> list[bytes]:
    """Requests of the same form and size as the annotator's."""
    config = OpenAIConfig(url="http://127.0.0.1/v1", vision_model="eyes", box_unit="thousandths")
    asked = prompt("ground")
    text = asked.filled(phrase="ball", which="first", unit="thousandths")
    form = {"type": "json_schema", "json_schema": {"name": "ground", "schema": asked.schema}}
    bodies = []
    for image in pictures:
        shown = {"type": "image_url", "image_url": {"url": Picture(image, config).data_url}}
        messages = [{"role": "user", "content": [shown, {"type": "text", "text": text}]}]
        bodies.append(json.dumps({"model": "eyes", "messages": messages, "response_format": form}).encode())
    return bodies


def main() -> dict[str, float | str]:
    """Questions a second of both, and their ratio."""
    ours, theirs = [], []
    pictures = [picture(str(k)) for k in range(ROWS)]
    bodies = requests_of(pictures)
    receive, send = multiprocessing.Pipe(duplex=False)
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(send,), daemon=True)
    server.start()
    try:
        url = f"http://127.0.0.1:{receive.recv()}/v1"
        for _ in range(ROUNDS):
            ours.append(annotate(url, pictures))
            theirs.append(asyncio.run(bare(url, bodies)))
    finally:
        server.terminate()
        server.join()
    asked, looped = (statistics.median(rate for rate, _ in side) for side in (ours, theirs))
    return {
        "annotator, questions a second": asked,
        "bare loop, requests a second": looped,
        "ratio": asked / looped,
        "annotator, processor ms a question": statistics.median(worked for _, worked in ours),
        "bare loop, processor ms a request": statistics.median(worked for _, worked in theirs),
        "under way at once": str(CONCURRENCY),
        "limit by latency alone": CONCURRENCY / LATENCY,
    }
