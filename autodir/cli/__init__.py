"""The command ``autodir``: parse, build options, make one library call, show the result."""
