"""What an agent is made of: components, models, content and the calls between plugins."""
