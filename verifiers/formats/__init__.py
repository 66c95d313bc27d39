"""Reward-model formats: one declaration a family, one reader for all."""
