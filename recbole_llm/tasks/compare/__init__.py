"""Models compared by one command: cells, statistics, tables, a page; and their tuning."""
