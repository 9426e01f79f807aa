"""The ground floor: it imports nothing else of the package."""
