"""`python -m emis_streams` is `emis-streams`."""

from emis_streams.cli import main

if __name__ == "__main__":
    main()
