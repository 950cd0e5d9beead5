"""Durable steps: what was done is not done again, whatever fails. Start it with `penstock up examples/steps.py`.

The first attempt fails between the two steps. The second one gets the recorded receipt: nobody is charged twice.
"""

from collections.abc import AsyncIterator

import penstock

app = penstock.App("shop")
charged: list[str] = []


async def charge(step: penstock.Step, order: str) -> dict[str, str]:
    await step.say("Charging. ")
    charged.append(step.key)  # a real one hands the key to the bank: the same one in every attempt
    return {"receipt": f"R-{order}"}


def ship(order: str) -> str:
    return f"P-{order}"  # sync code runs in a thread


@app.agent("order", description="Charges and ships an order.")
async def order(run: penstock.Run) -> AsyncIterator[str]:
    yield f"Order {run.text}. "
    receipt = await run.step("charge", charge, run.text)
    if run.attempt == 1:
        raise ConnectionError("the first attempt fails here")
    parcel = await run.step("ship", ship, run.text)
    yield f"Receipt {receipt['receipt']}, parcel {parcel}, charged {len(charged)} time."


if __name__ == "__main__":
    app.run()
