"""Turn of the month, an agent."""
