"""What the services that offer models share; none of them is a service itself."""
