"""Matrices with named rows: their files, their order by ids, and what is computed from them."""
