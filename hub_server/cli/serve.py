"""`jtnt-hub serve`."""

from __future__ import annotations

import sys

from hub_server import app, logs
from hub_server.cli.failures import explained
from hub_server.cli.local_hub import Place, make_data_dir
from hub_server.cli.lock import only_hub_in

if sys.platform == "win32":
    import winloop as uvloop
else:
    import uvloop


def serve(*, place: Place | None = None) -> None:
    """Run the hub until SIGTERM or Ctrl-C. It makes what it needs at its first start.

    Settings come from hub.toml, the environment (JTNT_PEOPLE__PORT=8080) and these options.
    """
    with explained():
        settings = (place or Place()).settings()
    logs.configure(settings.log_level)
    with explained(settings):
        make_data_dir(settings)
        with only_hub_in(settings.data_dir):
            uvloop.run(app.serve(settings))
