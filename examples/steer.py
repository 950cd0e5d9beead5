"""Start a run, and tell it where to go. `penstock up examples/steering.py` must be running."""

import asyncio
import sys

import penstock


async def main(address: str) -> None:
    orders, awaited = ["left", "right", "stop"], "ahead"
    async with penstock.Client(address) as client:
        run = await client.create("walk", "Go.")
        async for event in client.watch(run.id):
            if event.WhichOneof("payload") == "part_delta":
                print(event.part_delta.text, end="", flush=True)
                if orders and event.part_delta.text.strip() == awaited:  # the last order has been heard
                    awaited = orders.pop(0)
                    await client.steer(run.id, awaited)
        print()


asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:50051"))
