"""Many clients at once, some of which die: no answer is lost, and none is another request's."""

import asyncio
import json
import random
from typing import Any

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("prometheus_client")
from kjcm.keys.commands.serving import Batching, Limits
from tests.serving.conftest import Echo, Served, service_of, serving

REQUESTS, CLIENTS = 10_000, 64
HEAD = "POST /code HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n"


async def answer(reader: asyncio.StreamReader) -> tuple[int, Any]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
    return int(head.split()[1]), json.loads(await reader.readexactly(length))


async def client(port: int, numbers: Any, draw: random.Random, done: dict[str, int]) -> None:
    """Send requests on a connection until it dies, then on another; compare each answer with its own texts."""
    line = None
    for number in numbers:
        line = line or await asyncio.open_connection("127.0.0.1", port)
        reader, writer = line
        texts = [f"{number}번째 글 {part}" for part in range(draw.randint(1, 3))]
        body = json.dumps({"texts": texts}).encode()
        request = HEAD.format(len(body)).encode() + body
        fate = draw.random()
        if fate < 0.05:  # dies in the middle of its request
            writer.write(request[: draw.randrange(1, len(request))])
        else:
            writer.write(request)
        if fate < 0.1:  # dies before its answer
            await asyncio.sleep(draw.choice([0, 0, 0.002, 0.02]))
            writer.transport.abort()
            line = None
            done["died"] += 1
            continue
        status, found = await answer(reader)
        assert status == 200, found
        assert [row["decision_code"] for row in found["rows"]] == texts
        done["answered"] += 1
    if line:
        line[1].close()


@pytest.mark.slow
def test_no_answer_is_lost_or_mixed_while_clients_die() -> None:
    coder = Echo(seconds=0.001)
    limits = Limits(rows=10, characters=100, bytes=2000, waiting=1000, seconds=30)
    done, numbers = {"answered": 0, "died": 0}, iter(range(REQUESTS))

    async def clients(served: Served) -> None:
        async with asyncio.timeout(900), asyncio.TaskGroup() as group:
            for seed in range(CLIENTS):
                group.create_task(client(served.port, numbers, random.Random(seed), done))

    with serving(service_of(coder, limits=limits, batching=Batching(rows=32, wait_ms=2))) as served:
        asyncio.run(clients(served))
        assert served.client.get("/health").json() == {"ready": True}
        assert "kjcm_waiting_rows 0.0" in served.client.get("/metrics").text
    assert sum(done.values()) == REQUESTS and 500 < done["died"] < 2000
    assert max(coder.batches) <= 32 and len(coder.batches) < REQUESTS / 4  # they did share batches
