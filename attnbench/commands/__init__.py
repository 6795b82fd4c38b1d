"""The subcommands, one module each; `attnbench NAME` runs the `command` of module NAME."""
