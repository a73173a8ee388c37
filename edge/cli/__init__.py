"""The `edge` command line: a file a subcommand."""
