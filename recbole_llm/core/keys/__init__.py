"""RecBole's keys, and ours that every run has: types and ranges."""
