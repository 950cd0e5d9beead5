"""Approve whatever waits for it, as somebody's inbox would. `penstock up examples/approval.py` must be running."""

import asyncio
import sys

import penstock


async def main(address: str) -> None:
    async with penstock.Client(address) as client:
        async for question in client.inputs():
            request = question.request
            print(request.message, request.arguments_json)
            await client.answer(question.run_id, request.id, {"approved": True}, answered_by="answer.py")


asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:50051"))
