"""What services used and did over time: bounded files in the data folder."""
