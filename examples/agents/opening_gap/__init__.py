"""Opening gap, an agent."""
