"""The agent, the parts that it owns, and the checks of its arguments."""
