"""How the supervisor's own machine is named where nodes are: a module that commands import."""

SUPERVISOR = "supervisor"
