"""What the daemon has done in a process of its own, because the libraries for it would stay in its memory.

`python -m agent_client.errands` reads one errand as JSON from standard input, writes its outcome to standard output,
and ends. It opens no file of the agent and keeps nothing: what comes of it, the daemon saves.
"""
