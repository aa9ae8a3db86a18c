"""One file that holds what would be missed: the SQLite database and the adapters; made while all goes on."""
