"""Synthetic degradations: the physics that turns a clean photo into a training pair."""
