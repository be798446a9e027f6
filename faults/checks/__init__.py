"""What must hold after a campaign; each check returns what violates it, with the evidence."""
