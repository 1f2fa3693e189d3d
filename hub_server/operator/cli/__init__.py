"""`jtnt`: the operator's command line. Each verb's module is loaded when it is used, so that the program is quick."""
