"""Pure decisions: restart policy, services, dependencies and limits."""
