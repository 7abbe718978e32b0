"""Reading atomic files, with one-line errors for what is wrong in them."""
