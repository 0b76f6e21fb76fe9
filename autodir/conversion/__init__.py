"""Published checkpoints to model folders; the only place where a pickle is ever opened."""
