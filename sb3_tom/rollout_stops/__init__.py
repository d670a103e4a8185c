"""Where imagined rollouts stop beside terminations: the stops that the package brings along."""
