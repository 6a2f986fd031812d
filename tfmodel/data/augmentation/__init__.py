"""New versions of training rows, made word by word; off unless a config asks for them."""

from tfmodel.data.augmentation.augment import Augmented, augment, augment_split
from tfmodel.data.augmentation.methods import METHODS
from tfmodel.data.augmentation.settings import AugmentSettings

__all__ = ["METHODS", "AugmentSettings", "Augmented", "augment", "augment_split"]
