"""A chat server on this machine that counts its requests, and annotation against it."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import json
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
from aiohttp import web
from PIL import Image

from got_core.annotate import t2i
from got_core.annotate.config import OpenAIConfig
from got_core.annotate.ledger import Ledger
from got_core.annotate.openai_annotator import OpenAIAnnotator
from got_core.corpus.schemas import RAW_IMAGES
from got_core.storage import Storage
from tests.got_core.annotate.scenes_on_hand import table

SCOPE = "images-00000"
Answer = Callable[[dict[str, Any]], str | web.StreamResponse]


class ChatServer:
    """Answers by `answer(body)`: the text of a reply, or a whole response. `requests` names each one."""

    def __init__(self, answer: Answer | None = None, latency: float = 0.0) -> None:
        self.answer, self.latency = answer or sensible, latency
        self.requests: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        self.at_once = self.most_at_once = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> ChatServer:
        self._thread.start()
        self.port = asyncio.run_coroutine_threadsafe(self._start(), self._loop).result()
        self.url = f"http://127.0.0.1:{self.port}/v1"
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _start(self) -> int:
        app = web.Application(client_max_size=1 << 26)
        app.router.add_post("/v1/chat/completions", self._handle)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        return self._runner.addresses[0][1]

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.requests.append(name_of(body))
        self.bodies.append(body)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await asyncio.sleep(self.latency)
            reply = self.answer(body)
            if isinstance(reply, web.Response):
                return reply
            if isinstance(reply, str):
                return web.json_response(completion(reply))
            await reply.prepare(request)
            while True:  # an endless response
                await reply.write(b" " * 65536)
        finally:
            self.at_once -= 1


def completion(text: str | None, tokens_in: int = 100, tokens_out: int = 10, finish: str = "stop") -> dict:
    """The envelope of a reply."""
    message = {"role": "assistant", "content": text}
    usage = {"prompt_tokens": tokens_in, "completion_tokens": tokens_out}
    return {"choices": [{"index": 0, "message": message, "finish_reason": finish}], "usage": usage}


def name_of(body: dict[str, Any]) -> str:
    """A word that names the question: `q` and eight letters."""
    digest = hashlib.sha256(json.dumps([body["model"], body["messages"]]).encode()).hexdigest()
    return "q" + "".join(chr(ord("a") + int(digit, 16)) for digit in digest[:8])


def text_of(body: dict[str, Any]) -> str:
    """The prompt of a request."""
    content = body["messages"][0]["content"]
    return content if isinstance(content, str) else content[-1]["text"]


def is_plain(body: dict[str, Any]) -> bool:
    """Whether a request is the plain one that is sent behind a refused one."""
    content = body["messages"][0]["content"]
    if isinstance(content, str):
        return "make the ball red" in content
    data = content[0]["image_url"]["url"].partition(",")[2]
    picture = Image.open(io.BytesIO(base64.b64decode(data)))
    red, green, blue = picture.getpixel((picture.width // 2, picture.height // 2))
    return picture.size == (252, 252) and red > 200 and green < 60 and blue < 60


def sensible(body: dict[str, Any]) -> str:
    """A good reply to any text-to-image question; it holds the question's name."""
    text, name = text_of(body), name_of(body)
    if "make the ball red" in text:
        return json.dumps({"steps": ["make the ball red"]})
    if text.startswith("Look at the image"):
        return f"a {name} cat and a ball"
    if text.startswith("Describe the image in one dense"):
        return f"A {name} cat sits beside a red ball."
    if text.startswith("List the objects"):
        caption = re.search(r"^Caption: (A q\w+ cat .*)$", text, re.M)[1]
        return json.dumps({"entities": [caption.split()[1] + " cat", "red ball"], "name": name})
    if text.startswith("Find this object"):
        left = 10 * (ord(name[1]) - ord("a"))
        return json.dumps({"found": True, "box": [left, 50, left + 300, 700], "name": name})
    if text.startswith("Find each of these objects"):
        left = 10 * (ord(name[1]) - ord("a"))
        names = re.findall(r"^- (.*)$", text, re.M)
        boxes = [
            {"bbox_2d": [left + 20 * k, 50, left + 300, 700], "label": one} for k, one in enumerate(names)
        ]
        return json.dumps({"boxes": boxes, "name": name})
    raise AssertionError(text[:80])


def config_for(url: str, **settings: Any) -> OpenAIConfig:
    """Settings with short waits."""
    usual: dict[str, Any] = {
        "vision_model": "eyes",
        "box_unit": "thousandths",
        "text_model": "words",
        "concurrency": 4,
        "timeout": 20.0,
        "first_wait": 0.01,
        "longest_wait": 0.05,
        "patience": 20.0,
    }
    return OpenAIConfig(url=url, **(usual | settings))


def annotator_for(server: ChatServer, storage: Storage, **settings: Any) -> OpenAIAnnotator:
    return OpenAIAnnotator(config_for(server.url, **settings), Ledger(storage, SCOPE))


def plain_picture(path: str) -> Image.Image:
    """A picture of its own for each path `<number>.png`."""
    number = int(path.partition(".")[0])  # colours far enough apart to be other JPEGs
    return Image.new("RGB", (64, 48), (number % 13 * 20, number // 13 % 13 * 20, number // 169 * 20))


def raw_table(count: int) -> pl.DataFrame:
    rows = [{"image_id": f"image-{k}", "path": f"{k}.png"} for k in range(count)]
    return table(rows, RAW_IMAGES)


def annotate_shard(
    url: str, storage_url: str, count: int, settings: dict[str, Any], slots: Path | None = None
) -> None:
    """What the graph does with a shard: three steps, each a table that is written when it is complete."""
    storage, raw = Storage(storage_url), raw_table(count)
    with OpenAIAnnotator(config_for(url, **settings), Ledger(storage, SCOPE), slots=slots) as annotator:
        captions = t2i.caption_images(raw, plain_picture, annotator)
        storage.write_table("captions", captions)
        entities = t2i.extract_entities(captions, annotator)
        storage.write_table("entities", entities)
        boxes = t2i.ground_entities(entities, raw, plain_picture, annotator)
        storage.write_table("boxes", boxes)
        storage.write_table("t2i_chains", t2i.assemble_chains(captions, boxes, annotator))
