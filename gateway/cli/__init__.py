"""The command `tgw`. Its modules import what is heavy only inside the commands, so that `tgw --help` stays quick."""
