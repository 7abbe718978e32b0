"""Reading atomic files, with one line for what is wrong in them."""
