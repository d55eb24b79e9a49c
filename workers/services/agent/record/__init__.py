"""The agent's record of answers: what was decided, run and sent, on disk before it is sent.

`rows` is what is recorded, `resume` decides how an interrupted answer goes on, `schema` has the
tables, `store` the file.
"""
