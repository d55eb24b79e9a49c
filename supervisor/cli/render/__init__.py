"""How answers of the supervisor look on a terminal."""
