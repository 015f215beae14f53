"""What every part of the library stands on: choices, seeds, files, processes, threads, numerical linear algebra."""
