"""`python -m bench`: the numbers of DESIGN.md, section 8, measured on this machine.

Owns the load client, the scenarios and the report. It knows Penstock from outside only: the three processes started as
an operator starts them, their HTTP and gRPC addresses, and what they left in the database.
"""
