"""What services share that fetch from addresses of others."""
