"""Board profiles, one TOML file a board, and their loader. This version has none: it runs on what it finds."""
