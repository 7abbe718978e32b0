"""The work of each command, a file or a folder each."""
