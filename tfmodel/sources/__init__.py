"""Where bytes come from: a source named in a config -> a local file or folder.

`schemes.py` knows the kinds of sources; each has a file of its own.
"""

from tfmodel.sources.cache import cache_folder
from tfmodel.sources.schemes import SCHEMES, fetch, is_remote, split_of
from tfmodel.sources.wheel import DEFAULT_ENCODER

__all__ = ["DEFAULT_ENCODER", "SCHEMES", "cache_folder", "fetch", "is_remote", "split_of"]
