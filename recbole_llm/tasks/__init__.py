"""The implementation of each command, in one file or folder per command."""
