"""Which tokens are hidden from the model, and what stands in their places."""

from tfmodel.tokens.masking.masks import Masked, Masking

__all__ = ["Masked", "Masking"]
