"""Files of any format to a stream of rows: `readers.open_source` is the one call."""
