"""The service on Ray Serve: replicas on one machine or on a cluster, with one store.

python on_ray_serve.py DEFENSE STORE PORT
"""

import asyncio
import sys
import time

from fastapi import FastAPI, HTTPException, Request
from ray import serve

from uap_lightning import Guard, StreamGuard
from uap_lightning.jobs.classify import short_side
from uap_lightning.networks.tiny import tiny
from uap_lightning.service.answering import Answer, Answering, Question
from uap_lightning.service.receiving import Receiver
from uap_lightning.streams.store import PatternStore

app = FastAPI()


@serve.deployment(num_replicas=2, ray_actor_options={"num_cpus": 1}, max_ongoing_requests=64)
@serve.ingress(app)
class Service:
    """One replica: classifier, defence and memory."""

    def __init__(self, defense: str, store: str) -> None:
        guard = Guard.load(defense, tiny())  # your network here
        size = guard.defense.size
        names = [f"class {number}" for number in range(guard.network.classes(size))]
        remembering = StreamGuard(guard, store=PatternStore(store, size))
        self.answering = Answering(remembering, names)
        short = short_side(guard, None)  # as in training
        self.receiver = Receiver(size, short, most_bytes=10_000_000, most_pixels=25_000_000)

    @serve.batch(max_batch_size=16, batch_wait_timeout_s=0.005)
    async def answers(self, questions: list[Question]) -> list[Answer | None]:
        """Of several requests at once."""
        return await asyncio.to_thread(self.answering, questions)

    @app.post("/predict")
    async def predict(self, request: Request) -> Answer:
        """Of one request."""
        body = await self.receiver.read(request.stream(), request.headers.get("content-length"))
        pixels = await asyncio.to_thread(self.receiver.pixels, body)
        answer = await self.answers(Question(pixels))
        if answer is None:
            raise HTTPException(500, "what was computed is not finite.")
        return answer


if __name__ == "__main__":
    defense, store, port = sys.argv[1:]
    serve.start(http_options={"host": "127.0.0.1", "port": int(port)})
    serve.run(Service.bind(defense, store))
    while True:
        time.sleep(1)
