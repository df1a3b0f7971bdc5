"""Looking at an environment: versions, the machine, and the services that the settings name.

Belongs here: checks that leave nothing behind, each with what was found and what to do. Not here: printing.
"""
