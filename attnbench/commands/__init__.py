"""The subcommands, one file each: `command` is what `attnbench NAME` runs."""
