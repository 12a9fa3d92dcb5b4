"""The application with one mistake each, as patches; each has to turn a row red."""
