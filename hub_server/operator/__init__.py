"""The Python client of a hub and the `jtnt` command line, on the same socket as the browser.

    from hub_server.operator.client import Operator

    async with Operator.connect("https://hub.example:3000", token="jtntk_…") as hub:
        job = await hub.run(agent_id, ["uptime"])
        async for chunk in job.output():
            ...
        print((await job.result()).exit_code)

It needs what the agent needs (websockets, msgspec, cryptography) and nothing of the hub's own packages.
"""
