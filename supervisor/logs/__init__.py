"""Events, and the log files of services."""
