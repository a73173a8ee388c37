"""Board profiles, one TOML file a board, and their loader: none yet, Edgewise runs on what it finds."""
