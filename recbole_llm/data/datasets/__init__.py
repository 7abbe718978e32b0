"""RecBole's data sets, as this package reads, filters, numbers and splits them."""
