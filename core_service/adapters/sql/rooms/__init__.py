"""The rooms of the SQL store: a class for each port of `core_service/ports`, one method for one operation of `sql/`.

Nothing is decided here. A room knows the database it is given, and no other room.
"""
