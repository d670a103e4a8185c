"""Policy updates, each independent of the others, and what they share."""
