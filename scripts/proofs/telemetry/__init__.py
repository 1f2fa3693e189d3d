"""Telemetry: nothing acknowledged is lost, nobody is called offline wrongly, and what is live stays live."""
