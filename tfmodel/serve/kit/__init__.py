"""Everything around TF Serving, generated from the models it is to serve, and checked."""

from tfmodel.serve.kit.settings import KitSettings, kit_settings
from tfmodel.serve.kit.writing import write_kit

__all__ = ["KitSettings", "kit_settings", "write_kit"]
