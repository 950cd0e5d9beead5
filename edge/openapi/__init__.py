"""The description of this edge's routes, OpenAPI 3.1 at `/openapi.json`, and a page that shows it.

`operation.py` is what a handler says of itself, `schemas.py` the contract as JSON Schema, `document.py` puts both
together for the routes that are served, `routes.py` serves it.
"""
