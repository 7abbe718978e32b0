"""Matrices whose rows are named: their files, their order by ids, what is made of them."""
