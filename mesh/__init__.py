"""The mesh: topology, supervisor, command line. Reads contracts and topology, never service code."""
