"""The rollout stops of this package: where imagined rollouts are truncated."""
