# Accepted, no effect: there is nothing to change in the stand-in.
{ }
