"""Load for a hub, from processes of its own: simulated agents on the real protocol, and dashboards that watch."""
