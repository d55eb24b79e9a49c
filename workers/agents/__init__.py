"""What an agent is made of: components, models, content, and calls to those of other workers."""
