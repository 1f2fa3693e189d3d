"""The one connection to the hub: opened, kept, lost and opened again."""
