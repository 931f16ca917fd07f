"""An analyst that asks a language model about numbers of the snapshot; optional, off by default."""
