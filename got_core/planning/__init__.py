"""Between planning and drawing: what a prompt requires, where a plan falls short of it, and its repair."""
