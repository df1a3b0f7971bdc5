"""A team's cluster on one machine without containers: real servers, each with its own address and folder."""
