"""The parts of the SQL store. `store_sql.py` puts them together; nothing else outside imports from here."""
