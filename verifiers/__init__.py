"""Judgement: rewards during the search, which see text only, and grading against the reference after it."""
