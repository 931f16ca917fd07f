"""The command line: one module a command, which is imported when it is run. `app` lists them all."""
