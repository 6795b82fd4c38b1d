"""What is measured: a request becomes every cell of a plan, with its protocol and how long it will take."""
