"""What OpenAI's protocols share: routes, bodies, tools, files, and the error object.

Owns the forms that chat completions and responses have in common, so that the protocols need not know each other.
It knows neither of them, and calls nobody.
"""
