"""The process of `garrison node`: runs workers on this machine for a supervisor on another one."""
