"""Tables of users' own making as data sets."""
