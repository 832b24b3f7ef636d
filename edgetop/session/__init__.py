"""A recorded session: its types, journal, store and the snapshot that every figure is read from."""
