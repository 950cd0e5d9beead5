"""Call an agent over gRPC from Python, as an internal service would. `penstock up` must be running."""

import asyncio
import sys

import penstock


async def main(address: str) -> None:
    async with penstock.Client(address) as client:
        run = await client.create("echo", "one log serves every protocol")
        async for event in client.watch(run.id):
            if event.WhichOneof("payload") == "part_delta":
                print(event.part_delta.text, end="", flush=True)
        print()


asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:50051"))
