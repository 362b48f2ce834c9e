"""The code that runs inside a session: it executes the agent's Python, SQL and shell code and answers over a socket.

This folder is mounted alone in a session, as the top-level package `interpreter`: it imports the standard library
and itself, nothing else. Its process belongs to the agent, so nothing that it sends is trusted by the supervisor.
"""
