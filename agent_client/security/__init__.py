"""How well the machine is guarded: firewall, antivirus, updates. Asked in a process of its own."""
