"""What an edit changed where it should have changed nothing.

Belongs here: two pictures outside a region (`changes`), the pictures of a benchmark (`rows`), and SmartEdit's
own figures of Reason-Edit (`masked`, `reason_edit`). Not here: verdicts; nothing of `rows` is part of a
protocol or of promotion.
"""
