"""`Platform`, the base of every chat platform: hears each message once, says each answer once."""
