"""Types and ranges of the keys that every run has: RecBole's, and this package's own."""
