"""Load for a hub beside that of hub_server/bench: dashboards that watch, and agents that renew their certificates."""
