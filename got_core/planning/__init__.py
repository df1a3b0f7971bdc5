"""Between planning and drawing: what a prompt asks of a plan, where a plan falls short, and its repair."""
