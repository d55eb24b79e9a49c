"""`garrison chaos`: a schedule of faults, load, and what is counted. Its verb alone imports it."""
