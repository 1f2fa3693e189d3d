"""The signer: a process of its own that alone can open the key of the orders, and what the hub asks it.

`service.py` and `worker.py` are the hub's side. Everything else runs in the signer's process, which imports neither the
database nor the web server.
"""
