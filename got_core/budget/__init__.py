"""What a recipe's training needs, worked out from shapes alone: parameters, memory, operations, hours, cost.

Nothing here trains anything; the numbers come from the training code itself, run without data.
"""
