"""`Platform`, the base of every chat platform: takes each message once, sends each answer once."""
