"""Pure rules: no I/O, no clock, no asyncio. Everything here can be tested with plain values."""
