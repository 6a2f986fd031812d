"""Answers to a better model: what was asked, what was answered, and what is right."""
