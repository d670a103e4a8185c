"""What each kind of plug is, what it may see of the agent, and how a plug is made of a name."""
